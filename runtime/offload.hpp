#pragma once
// Computing, and calls that block, away from the reactor.
//
//     auto digest = co_await offload([&] { return sha256(file); });
//     auto primes = co_await offload([n](std::stop_token stop) { return sieve(n, stop); });

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_local.hpp>
#include <rondo/runtime/threads/detail/future_state.hpp>
#include <rondo/runtime/threads/future.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>

#include <concepts>
#include <coroutine>
#include <functional>
#include <source_location>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// Waits for a job of the pool, and passes a cancellation on to it. The job's end ends the wait in
/// every case.
template <class T>
class offload_wait final : public future_wait {
public:
    offload_wait(future<T> job, std::stop_source* stop) noexcept
        : future_wait(&future_access::state(job)), job_(std::move(job)), stop_(stop) {}

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) {
        return start(waiter.promise(), where);
    }
    T await_resume() {
        let_go();
        if (told_to_stop_ && !future_access::state(job_).has_failed()) throw operation_cancelled{};
        return std::move(job_).get();
    }

    void cancel() noexcept override {
        if (state_->cancel() || stop_ == nullptr) return;
        told_to_stop_ = true;
        stop_->request_stop();
    }
    void describe(std::FILE* out) const override {
        std::fputs(state_->running() ? "a thread of the pool" : "its turn in the pool", out);
    }

private:
    future<T> job_;
    std::stop_source* stop_;  // null: the job cannot be told
    bool told_to_stop_ = false;
};

template <class F>
auto run_offloaded(F f) -> task<std::invoke_result_t<F&>> {
    co_await turn_point{};
    offload_wait wait{submit_job(this_runtime().pool(), inheriting_call{std::move(f)}), nullptr};
    co_return co_await wait;
}

template <class F>
auto run_stoppable(F f) -> task<std::invoke_result_t<F&, std::stop_token>> {
    co_await turn_point{};
    std::stop_source stop;
    auto job = [f = std::move(f), token = stop.get_token()]() mutable {
        return std::invoke(f, std::move(token));
    };
    offload_wait wait{submit_job(this_runtime().pool(), inheriting_call{std::move(job)}), &stop};
    co_return co_await wait;
}

}  // namespace detail

/// Runs f(args...) on a thread of the runtime's own pool (runtime_options::pool_threads) and gives
/// its result or exception. The pool's threads yield to the reactors where cores are scarce: they
/// run ten steps nicer (sched(7)). Jobs start in the order in which they come. The callable and the
/// arguments are kept, and passed as task_group::spawn passes them.
/// If f takes a std::stop_token before the arguments, a cancellation reaches it: see below.
/// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first, or
/// pass what it captures as arguments.
/// Cancellation: what has not started never does. What runs is waited for, since f may use what the
/// task owns, and its result is given. An f that takes a std::stop_token is asked to stop, waited
/// for, and then operation_cancelled is thrown, or f's own exception. Callbacks of the token run on
/// the reactor. f sees the task_local values that the task sees.
template <class F, class... Args>
auto offload(F&& f, Args&&... args) {
    detail::refuse_what_is_destroyed_twice<F>();
    using call = detail::kept_t<detail::pass::once, F, Args...>;
    constexpr bool is_plain = std::invocable<call&>;
    constexpr bool is_stoppable = std::invocable<call&, std::stop_token>;
    static_assert(is_plain || is_stoppable,
                  "offload: f cannot be called as f(args...), nor as f(std::stop_token, args...)");
    if constexpr (is_plain) {
        return detail::run_offloaded<call>(
            detail::keep_callable(std::forward<F>(f), std::forward<Args>(args)...));
    } else if constexpr (is_stoppable) {
        return detail::run_stoppable<call>(
            detail::keep_callable(std::forward<F>(f), std::forward<Args>(args)...));
    }
}

}  // namespace rondo
