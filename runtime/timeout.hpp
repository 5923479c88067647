#pragma once
// A limit on how long something may take, and protection for what must not be cut short.
//
//     auto line = co_await with_timeout(30s, reader.read_line(4096));    // throws timeout_error
//     co_await shield(peer.write_all(goodbye), 1s);                  // a cancellation waits 1 s

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/task.hpp>

#include <chrono>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// How with_timeout and shield run what they are given, once for each way of reporting errors.
struct deadline_policy {
    std::chrono::steady_clock::time_point deadline;

    template <class Awaitable>
    auto run(Awaitable work) const -> task<await_result_t<Awaitable>> {
        return run(deadline, std::move(work));
    }
    template <class Awaitable>
    auto run_as_result(Awaitable work) const -> task<result<await_result_t<Awaitable>>> {
        return run_as_result(deadline, std::move(work));
    }

private:
    template <class Awaitable>
    static auto run(std::chrono::steady_clock::time_point deadline, Awaitable work)
        -> task<await_result_t<Awaitable>> {
        cancel_scope scope;
        scope_entry entry{scope};
        scope.start_with_deadline(deadline);
        try {
            if constexpr (is_result<await_result_t<Awaitable>>) {
                co_return timed_out_or(co_await std::move(work), scope, entry);
            } else {
                co_return co_await std::move(work);
            }
        } catch (const operation_cancelled&) {
            if (!scope.deadline_passed() || !entry.owns_cancellation()) throw;
        }
        throw timeout_error{};
    }

    template <class Awaitable>
    static auto run_as_result(std::chrono::steady_clock::time_point deadline, Awaitable work)
        -> task<result<await_result_t<Awaitable>>> {
        cancel_scope scope;
        scope_entry entry{scope};
        scope.start_with_deadline(deadline);
        co_return timed_out_or(co_await as_result(std::move(work)), scope, entry);
    }

    // A cancellation that is the scope's own, by its deadline, is reported as what it means.
    template <class T>
    static result<T> timed_out_or(result<T> outcome, const cancel_scope& scope,
                                  const scope_entry& entry) {
        if (outcome.error() == std::errc::operation_canceled && scope.deadline_passed() &&
            entry.owns_cancellation()) {
            const timeout_error error;
            return explained_error{error.code(), error.what()};
        }
        return outcome;
    }
};

struct shield_policy {
    std::chrono::nanoseconds grace;

    template <class Awaitable>
    auto run(Awaitable work) const -> task<await_result_t<Awaitable>> {
        return run(grace, std::move(work));
    }
    template <class Awaitable>
    auto run_as_result(Awaitable work) const -> task<result<await_result_t<Awaitable>>> {
        return run(grace, as_result(std::move(work)));
    }

private:
    template <class Awaitable>
    static auto run(std::chrono::nanoseconds grace, Awaitable work)
        -> task<await_result_t<Awaitable>> {
        cancel_scope scope;
        scope_entry entry{scope, grace};
        co_return co_await std::move(work);
    }
};

/// An awaitable together with the scope that it is to run in.
template <class Awaitable, class Policy>
class [[nodiscard("without co_await nothing happens")]] scoped_awaitable {
public:
    using value_type = await_result_t<Awaitable>;

    scoped_awaitable(Awaitable work, Policy policy) : work_(std::move(work)), policy_(policy) {}

    class awaiter {
    public:
        explicit awaiter(task<value_type> work) noexcept : work_(std::move(work)) {}
        bool await_ready() const noexcept { return false; }
        template <rondo_promise Promise>
        std::coroutine_handle<> await_suspend(
            std::coroutine_handle<Promise> waiter,
            std::source_location where = std::source_location::current()) noexcept {
            return work_.operator co_await().await_suspend(waiter, where);
        }
        value_type await_resume() { return work_.operator co_await().await_resume(); }

    private:
        task<value_type> work_;
    };

    awaiter operator co_await() && { return awaiter{policy_.run(std::move(work_))}; }

    /// What as_result awaits in its place.
    auto into_result() && -> task<result<value_type>> {
        return policy_.run_as_result(std::move(work_));
    }

private:
    Awaitable work_;
    Policy policy_;
};

}  // namespace detail

/// Awaits `work` for at most `limit`, counted from this call, then cancels it, waits for its end,
/// and throws timeout_error (std::errc::timed_out under as_result). What completed all the same is
/// given. A limit of zero or less, or one that has run out when the await begins, gives what can be
/// had without waiting (data that is there, a lock that is free); else the time is up after one
/// turn of the scheduler, or when `work` gives its turn up by a yield().
/// Cancellation from outside passes through as operation_cancelled: only the limit that ran out
/// becomes an error.
template <class Rep, class Period, class Awaitable>
    requires detail::awaitable<Awaitable>
auto with_timeout(std::chrono::duration<Rep, Period> limit, Awaitable&& work) {
    const auto deadline = detail::as_time_point(detail::deadline_after(limit));
    return detail::scoped_awaitable{detail::hold(std::forward<Awaitable>(work)),
                                    detail::deadline_policy{deadline}};
}

/// Awaits `work` out of reach of any cancellation from outside. Its own deadlines and groups work
/// as ever. Only where the runtime stops, and nothing in the process can wake the work any more,
/// does the cancellation reach it: then the tasks that are left are shown on standard error.
template <class Awaitable>
    requires detail::awaitable<Awaitable>
auto shield(Awaitable&& work) {
    return detail::scoped_awaitable{detail::hold(std::forward<Awaitable>(work)),
                                    detail::shield_policy{std::chrono::nanoseconds::max()}};
}

/// The same, for a limited time: once cancellation has come from outside, `work` has `grace` left
/// to end by itself.
template <class Awaitable, class Rep, class Period>
    requires detail::awaitable<Awaitable>
auto shield(Awaitable&& work, std::chrono::duration<Rep, Period> grace) {
    return detail::scoped_awaitable{
        detail::hold(std::forward<Awaitable>(work)),
        detail::shield_policy{std::chrono::nanoseconds{detail::saturated_ns(grace)}}};
}

}  // namespace rondo
