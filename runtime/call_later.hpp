#pragma once
// A function that runs when its time has come, without a task that waits for it.
//
//     auto warning = call_later(5s, [] { std::puts("still working"); });
//     co_await work();
//     warning.cancel();

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/scheduler.hpp>

#include <chrono>
#include <concepts>
#include <cstdio>
#include <functional>
#include <utility>

namespace rondo {

namespace detail {

/// A call that is due later. Belongs to its scheduler until it has run or was cancelled, and to its
/// handle.
class scheduled_call : public timer {
public:
    scheduled_call() = default;
    scheduled_call(const scheduled_call&) = delete;
    scheduled_call& operator=(const scheduled_call&) = delete;
    virtual ~scheduled_call() = default;

    void start(std::int64_t at) noexcept;
    bool cancel_call() noexcept;
    void drop_handle() noexcept;
    bool is_pending() const noexcept { return armed(); }

    void expired() noexcept override;
    void cancel() noexcept override {}
    void describe(std::FILE*) const override {}

private:
    virtual void call() = 0;
    void leave_scheduler() noexcept;

    scheduler* home_ = nullptr;
    scheduled_call* next_ = nullptr;
    scheduled_call* previous_ = nullptr;
    bool has_handle_ = true;
};

}  // namespace detail

/// A call that call_later has arranged. Dropping it changes nothing for the call.
/// Thread safety: the scheduler that it was made on.
class timer_handle {
public:
    explicit timer_handle(detail::scheduled_call& call) noexcept : call_(&call) {}
    timer_handle(timer_handle&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
    timer_handle& operator=(timer_handle&& other) noexcept {
        std::swap(call_, other.call_);
        return *this;
    }
    ~timer_handle() {
        if (call_ != nullptr) call_->drop_handle();
    }

    /// The call will not run, if it has not run yet: then this is true.
    bool cancel() noexcept { return call_ != nullptr && call_->cancel_call(); }

    /// Whether the call is still to come.
    bool pending() const noexcept { return call_ != nullptr && call_->is_pending(); }

private:
    detail::scheduled_call* call_;
};

/// Runs f() on this scheduler after `delay`, outside of any task: f must not block. Calls run in
/// the order in which they are due. An exception that leaves f stops the runtime, and is thrown by
/// run(). What is still to come when the scheduler ends does not run.
template <class Rep, class Period, std::invocable F>
timer_handle call_later(std::chrono::duration<Rep, Period> delay, F f) {
    struct call_of final : detail::scheduled_call {
        explicit call_of(F callable) : f(std::move(callable)) {}
        void call() override { std::invoke(f); }
        F f;
    };
    auto* call = new call_of(std::move(f));
    call->start(detail::deadline_after(delay));
    return timer_handle{*call};
}

}  // namespace rondo
