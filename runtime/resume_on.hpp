#pragma once
// Going on with a task on another scheduler.
//
//     co_await resume_on(rt.scheduler(1));      // from here on, this task runs over there
//     ...
//     co_await resume_on(home);                 // and back
//
// Most programs never hop: they serve each connection where it was accepted, and use
// task_group::spawn_on or on_each_reactor to spread work.

#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/detail/stay.hpp>

#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <source_location>

namespace rondo {

class scheduler;

namespace detail {

class [[nodiscard("without co_await nothing happens")]] resume_on_awaiter final {
public:
    explicit resume_on_awaiter(scheduler& target) noexcept : target_(target) {}

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) {
        waiter.promise().where = where;
        return depart(waiter.promise()) || !keeps_turn(waiter.promise(), where);
    }
    void await_resume() const;
    bool was_cancelled() const noexcept { return outcome_ == outcome::cancelled; }

private:
    enum class outcome : std::uint8_t { arrived, cancelled, stopped, has_tasks };

    // False: the task is still here.
    bool depart(promise_base& waiter);

    scheduler& target_;
    outcome outcome_ = outcome::arrived;
};

}  // namespace detail

/// Completes on `target`: the task that awaits it, with all its frames, scopes and deadlines, runs
/// there from now on. Its group, its handle and whoever waits for it stay where they are and notice
/// nothing; cancelling it from there reaches it. When it ends, its result is brought home.
/// Operations, timers and sockets are those of the scheduler that runs the task, so nothing may be
/// pending across the hop: a task hops alone. While a task_group that it made itself has tasks,
/// it is std::logic_error.
/// Throws std::system_error with runtime_errc::scheduler_stopped, and stays where it is, when
/// `target` has stopped. A scheduler that stops later cancels its visitors, and waits for them.
/// Cancellation: does not hop.
inline detail::resume_on_awaiter resume_on(scheduler& target) noexcept {
    return detail::resume_on_awaiter{target};
}

}  // namespace rondo
