#pragma once
// Completions straight from the kernel.

#include <rondo/runtime/reactor/detail/descriptor_table.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <liburing.h>

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace rondo::detail {

/// Everything that the tasks of one turn submit goes to the kernel in one call, which also collects
/// completions and sleeps until the next deadline. Sets the ring up with the best that the kernel
/// has and works down to Linux 5.15.
class io_uring_reactor final : public reactor {
public:
    /// Throws std::system_error when io_uring cannot be had here, or lacks a request that the
    /// reactor itself needs. Which of the others the kernel has is asked when an operation needs
    /// it.
    io_uring_reactor();
    ~io_uring_reactor() override;

    reactor_kind kind() const noexcept override { return reactor_kind::io_uring; }
    bool sends_without_copy() const noexcept override { return sends_without_copy_; }
    bool polls_before_accept() const noexcept override;
    submission submit(operation& op) noexcept override;
    submission submit_blocking(blocking_operation& op) noexcept override;
    void cancel(operation& op) noexcept override;
    void wait(std::int64_t deadline) noexcept override;
    void wake() noexcept override;
    void opened(int fd) noexcept override;
    void arrived(int fd) noexcept override;
    void hand_over(int fd) noexcept override;
    const operation* first_pending(int fd) const noexcept override;
    void release(int fd) noexcept override;
    void close(int fd) noexcept override;
    void flush() noexcept override;

protected:
    void prepare_buffers(buffer_pool& pool) noexcept override;

private:
    // What is known of one descriptor.
    struct entry {
        operation* pending = nullptr;  // in the order they came
    };

    // operation::reactor_state
    enum : std::uint8_t {
        // a request with its address is in the ring; otherwise it is in backlog_
        in_kernel = 1,
        polling = 2,        // that request asks for readiness: the operation itself gave EAGAIN
        cancel_queued = 4,  // in cancels_
        without_copy = 8,   // that request sends memory in place
        has_result = 16,    // the operation has its result, and the request has not ended yet
        recalled = 32,      // its connection has been broken off, to have the memory back
        listed = 64,        // it is in its descriptor's list
    };

    // FIFO through operation::next_queued.
    struct op_queue {
        operation* first = nullptr;
        operation* last = nullptr;

        bool empty() const noexcept { return first == nullptr; }
        void push(operation& op) noexcept;
        operation& pop() noexcept;
        void remove(operation& op) noexcept;
    };

    void set_up();
    void leave_ring() noexcept;
    void check_operations();
    io_uring_sqe* free_entry() noexcept;
    void mark_unawaited(io_uring_sqe& sqe) const noexcept;
    void send(operation& op) noexcept;
    void send_cancel(operation& op) noexcept;
    static void recall_memory(operation& op) noexcept;
    void send_backlog() noexcept;
    unsigned publish() noexcept;
    int enter(unsigned to_submit, unsigned wait_for, std::int64_t deadline) noexcept;
    void arm_wake() noexcept;
    void collect() noexcept;
    void completed(operation& op, const io_uring_cqe& completion) noexcept;
    void take_flags(operation& op, const io_uring_cqe& completion) noexcept;
    // Not inlined: they are seldom needed, and want room on the stack.
    [[gnu::noinline]] void completed_with_more(operation& op,
                                               const io_uring_cqe& completion) noexcept;
    [[gnu::noinline]] bool knows_request_of(operation& op) const noexcept;
    void retire(operation& op) noexcept;
    void end_pending(entry& at, bool foreign_too) noexcept;

    io_uring ring_{};
    unsigned features_ = 0;
    std::bitset<256> opcodes_;  // that the kernel has
    bool sends_without_copy_ = false;
    bool wake_armed_ = false;
    int wake_fd_ = -1;
    std::uint64_t wake_ups_ = 0;  // where the kernel puts what it reads from it
    op_queue backlog_;            // operations that found the submission queue full
    op_queue cancels_;            // cancel requests that did
    descriptor_table<entry> entries_;

    struct freed {
        void operator()(void* memory) const noexcept { std::free(memory); }
    };
    std::unique_ptr<io_uring_buf_ring, freed> buffer_ring_;  // free buffers, for the kernel to pick
};

}  // namespace rondo::detail
