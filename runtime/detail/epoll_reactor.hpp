#pragma once
// Readiness turned into completions.

#include <rondo/runtime/detail/descriptor_table.hpp>
#include <rondo/runtime/detail/reactor.hpp>

#include <cstddef>

struct epoll_event;

namespace rondo::detail {

/// Tries each operation first and waits only after EAGAIN. A descriptor is registered once,
/// edge-triggered for both directions, at its first EAGAIN; epoll(7) calls for trying until EAGAIN,
/// which every operation does.
class epoll_reactor final : public reactor {
public:
    epoll_reactor();
    ~epoll_reactor() override;

    reactor_kind kind() const noexcept override { return reactor_kind::epoll; }
    submission submit(operation& op) noexcept override;
    void cancel(operation& op) noexcept override;
    void wait(std::int64_t deadline) noexcept override;
    void wake() noexcept override;
    void opened(int fd) noexcept override;
    void disown(int fd) noexcept override;
    void release(int fd) noexcept override;
    void close(int fd) noexcept override;
    void flush() noexcept override {}

private:
    // What is known of one descriptor.
    struct entry {
        operation* waiting = nullptr;  // in the order they came
        bool registered = false;
        // the last read took all there was: until an event says otherwise, do not try. To register
        // is to be told afresh, so this counts before it, too
        bool drained = false;
        bool ended = false;  // a short read no longer means that (see end_events)
    };

    int watch(const operation& op, entry& at) noexcept;
    void unwatch_if_foreign(const operation& op, entry& at) noexcept;
    void retry(int fd, std::uint32_t events) noexcept;
    int wait_for_events(std::int64_t deadline, epoll_event* events, int room) noexcept;

    int epoll_ = -1;
    int wake_fd_ = -1;
    std::size_t waiting_ = 0;  // operations in all entries' lists
    bool has_pwait2_ = true;
    descriptor_table<entry> entries_;
};

}  // namespace rondo::detail
