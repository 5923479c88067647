#pragma once
// Waiting until what a mutex protects has changed.
//
//     auto guard = co_await lock.lock();
//     co_await changed.wait(guard, [&] { return !jobs.empty(); });  // others can lock meanwhile
//     take(jobs);
//
//     jobs.push_back(job);                                          // somebody else
//     changed.notify_one();
//
// For tasks of several schedulers. On one scheduler nobody runs between two awaits: there an event
// or a queue does what is wanted, without a mutex.

#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>
#include <rondo/sync/mutex.hpp>

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

namespace rondo {

/// Thread safety: tasks of any scheduler; notify_one() and notify_all() from any thread, with the
/// mutex held or not.
class condition_variable {
public:
    condition_variable() noexcept = default;
    condition_variable(const condition_variable&) = delete;
    condition_variable& operator=(const condition_variable&) = delete;

    /// Unlocks the mutex that `held` holds, waits for a notification, and locks it again. No
    /// notification that comes after the mutex was unlocked is missed, and none is made up.
    /// The mutex is held again in the end, however that comes about: the wait for it cannot be
    /// cancelled.
    /// Cancellation: takes no notification; one that has been given to this task counts, and wait
    /// returns.
    task<> wait(mutex::guard& held, std::source_location where = std::source_location::current());

    /// The same until predicate(args...) holds, which is called with the mutex held; at once if it
    /// holds already. The predicate and the arguments are kept; the arguments are passed as they
    /// are.
    /// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first,
    /// or pass what it captures as arguments.
    template <class Predicate>
        requires std::predicate<std::decay_t<Predicate>&>
    task<> wait(mutex::guard& held, Predicate&& predicate,
                std::source_location where = std::source_location::current()) {
        detail::refuse_what_is_destroyed_twice<Predicate>();
        return wait_until(held, std::decay_t<Predicate>(std::forward<Predicate>(predicate)), where);
    }
    template <class Predicate, class... Args>
        requires(sizeof...(Args) > 0 &&
                 std::predicate<std::decay_t<Predicate>&, std::decay_t<Args>&...>)
    task<> wait(mutex::guard& held, Predicate&& predicate, Args&&... args) {
        detail::refuse_what_is_destroyed_twice<Predicate>();
        return wait_until(held,
                          detail::keep_callable<detail::pass::each_time>(
                              std::forward<Predicate>(predicate), std::forward<Args>(args)...),
                          std::source_location{});
    }

    /// Wakes the task that has waited longest, if there is one.
    void notify_one() noexcept {
        if (has_line()) wake(1);
    }
    /// Wakes all that wait, in the order they came. They get the mutex one after the other.
    void notify_all() noexcept {
        if (has_line()) wake(SIZE_MAX);
    }

private:
    template <class Predicate>
    task<> wait_until(mutex::guard& held, Predicate predicate, std::source_location where) {
        if constexpr (detail::is_kept_call<Predicate>) where = co_await detail::place_of_await{};
        co_await detail::turn_point{};
        while (!std::invoke(predicate)) co_await wait(held, where);
    }

    class waiting;

    // Relaxed: a waiter joins the line before it unlocks the mutex. A task that has locked it
    // since, and changed something, finds the waiter there.
    bool has_line() const noexcept { return in_line_.load(std::memory_order_relaxed) != 0; }
    void wake(std::size_t most) noexcept;
    void join_line(waiting& one) noexcept;
    bool leave_line(waiting& one) noexcept;

    std::atomic<std::size_t> in_line_{0};  // line_.size(); changes under the lock
    detail::short_lock lock_;
    detail::wait_list line_;
};

}  // namespace rondo
