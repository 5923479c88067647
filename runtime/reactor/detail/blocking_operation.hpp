#pragma once
// An operation that readiness does not help: what it asks for is never awaited, it blocks the
// thread that calls. Opening a file is one, and reading a regular file.
//
//     class open_operation final : public io_operation<open_operation, file, blocking_operation> {
//         void prepare(io_uring_sqe& sqe) noexcept override;      // io_uring does it in the kernel
//         int attempt() noexcept override;                        // elsewhere a thread calls this
//         ...
//     };
//
// attempt() may block here, and runs on a thread without a scheduler: it touches the operation and
// the kernel, and nothing else.

#include <rondo/runtime/core/detail/inbox.hpp>
#include <rondo/runtime/reactor/detail/operation.hpp>

#include <memory>

namespace rondo::detail {

class blocking_operation;

/// Threads for calls that block. What stands above the reactor gives it one of these.
class call_threads {
public:
    /// A call that was handed over.
    class handle {
    public:
        handle() = default;
        handle(const handle&) = delete;
        handle& operator=(const handle&) = delete;
        virtual ~handle() = default;

        /// Keeps the call from beginning. False: it has begun.
        virtual bool withdraw() noexcept = 0;
    };

    /// Has a thread run op.run_on_thread(), soon. Throws where there is no thread or no memory.
    virtual std::unique_ptr<handle> start(blocking_operation& op) = 0;

protected:
    call_threads() = default;
    call_threads(const call_threads&) = default;
    call_threads& operator=(const call_threads&) = default;
    ~call_threads() = default;
};

class blocking_operation : public operation, private inbox_message {
public:
    /// Calls attempt(), and sends the scheduler the result. Afterwards the operation is the
    /// scheduler's again.
    void run_on_thread() noexcept;

    /// Where a thread was asked for the call: if it has not begun it never does, and ends the
    /// operation with -ECANCELED. If it has begun it is waited for, and its result is given.
    void cancel() noexcept final;

protected:
    explicit blocking_operation(readiness wanted = readiness::any) noexcept : operation(wanted) {}
    // One that has not started is copied.
    blocking_operation(const blocking_operation& other) noexcept
        : operation(other), inbox_message{} {}
    blocking_operation& operator=(const blocking_operation&) = delete;
    ~blocking_operation() = default;

private:
    friend class reactor;

    scheduler_core* home_ = nullptr;
    std::unique_ptr<call_threads::handle> call_;  // not null: a thread was asked
    blocking_operation* next_on_thread_ = nullptr;
    int value_ = 0;           // what attempt() gave
    bool closes_fd_ = false;  // the descriptor was closed meanwhile, and is to be at the end
};

}  // namespace rondo::detail
