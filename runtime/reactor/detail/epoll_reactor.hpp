#pragma once
// Readiness turned into completions.

#include <rondo/runtime/reactor/detail/descriptor_table.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <cstddef>
#include <cstdint>

struct epoll_event;

namespace rondo::detail {

/// Tries each operation first and waits only after EAGAIN. A descriptor is registered once,
/// edge-triggered for both directions, at its first EAGAIN; epoll(7) calls for trying until EAGAIN,
/// which every operation does. A registration ends when the descriptor is closed; where the file
/// lives on, under another number or in another process, its events go on coming. They are told
/// from those of the number's new owner, and where they become many the set is made afresh.
class epoll_reactor final : public reactor {
public:
    epoll_reactor();
    ~epoll_reactor() override;

    reactor_kind kind() const noexcept override { return reactor_kind::epoll; }
    bool needs_nonblocking() const noexcept override { return true; }
    submission submit(operation& op) noexcept override;
    void cancel(operation& op) noexcept override;
    void wait(std::int64_t deadline) noexcept override;
    void wake() noexcept override;
    void opened(int fd) noexcept override;
    void arrived(int fd) noexcept override;
    void hand_over(int) noexcept override {}
    const operation* first_pending(int fd) const noexcept override;
    void release(int fd) noexcept override;
    void close(int fd) noexcept override;
    void flush() noexcept override {}

private:
    // What is known of one descriptor.
    struct entry {
        operation* waiting = nullptr;     // in the order they came
        std::uint32_t registrations = 0;  // so far; events carry the number of theirs
        bool registered = false;
        // the last read took all there was: until an event says otherwise, do not try. To register
        // is to be told afresh, so this counts before it, too
        bool drained = false;
        bool ended = false;  // a short read no longer means that (see end_events)
    };

    static submission submit_without_entry(operation& op) noexcept;
    int watch(int fd, entry& at) noexcept;
    void unwatch_if_foreign(const operation& op, entry& at) noexcept;
    void forget(entry& at) noexcept;
    void end_waiting(entry& at, int error, bool foreign_too) noexcept;
    void retry(const epoll_event& event) noexcept;
    void unregister_moved(int fd, entry& at) noexcept;
    void count_stray() noexcept;
    void renew_set() noexcept;
    int wait_for_events(std::int64_t deadline, epoll_event* events, int room) noexcept;

    int epoll_ = -1;
    int wake_fd_ = -1;
    std::size_t waiting_ = 0;     // operations in all entries' lists
    std::size_t registered_ = 0;  // entries that are
    std::size_t strays_ = 0;      // events of descriptors that were closed, since the set was made
    bool has_pwait2_ = true;
    descriptor_table<entry> entries_;
};

}  // namespace rondo::detail
