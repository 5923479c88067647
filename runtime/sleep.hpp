#pragma once
// Giving way to the other tasks, for a moment or until a time.
//
//     co_await yield();                 // to the back of the ready queue
//     co_await sleep_for(1500us);
//     co_await sleep_until(next_round);

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>

#include <algorithm>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <source_location>

namespace rondo {

namespace detail {

class [[nodiscard("without co_await nothing happens")]] yield_awaiter {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(
        std::coroutine_handle<Promise> waiter,
        std::source_location where = std::source_location::current()) const noexcept {
        scheduler_core& core = *current_core;
        waiter.promise().where = where;
        core.current->leaf = &waiter.promise();
        core.ready.push(*core.current);
    }
    void await_resume() const {
        if (was_cancelled()) throw operation_cancelled{};
    }
    bool was_cancelled() const noexcept {
        scope_node& scope = *current_core->current->innermost;
        if ((scope.flags & (scope_node::cancelled | scope_node::last_turn)) == 0) return false;
        if ((scope.flags & scope_node::last_turn) != 0) end_last_turn(scope);
        return scope.is_cancelled();
    }
};

/// A cancel point, and the place to give way to others, of what may be done without waiting.
class [[nodiscard("without co_await nothing happens")]] turn_point {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        return !keeps_turn(waiter.promise(), where, memory_cost);
    }
    // Asked late: a cancellation may come while the others have their turns.
    void await_resume() const {
        if (was_cancelled()) throw operation_cancelled{};
    }
    bool was_cancelled() const noexcept { return current_core->current->should_stop(); }
};

class [[nodiscard("without co_await nothing happens")]] sleep_awaiter final : public timer {
public:
    explicit sleep_awaiter(std::int64_t at) noexcept { deadline = std::max(at, cancelled + 1); }

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        scheduler_core& core = *current_core;
        if (core.current->should_stop()) {
            deadline = cancelled;
            return !keeps_turn(waiter.promise(), where);
        }
        block(*this, waiter.promise(), where);
        core.timers.arm(*this, deadline);
        return true;
    }
    void await_resume() const {
        if (was_cancelled()) throw operation_cancelled{};
    }
    bool was_cancelled() const noexcept { return deadline == cancelled; }

    void expired() noexcept override { current_core->wake(*task); }
    void cancel() noexcept override;
    void describe(std::FILE* out) const override;

private:
    // A sleep that was cancelled has this in place of its deadline.
    static constexpr std::int64_t cancelled = INT64_MIN;
};

}  // namespace detail

/// Lets every other ready task run first. A cancel point.
inline detail::yield_awaiter yield() noexcept { return {}; }

/// Waits until the steady clock reads `deadline`: never less, and on an idle machine less than 1 ms
/// more. Sleepers wake in the order of their deadlines. A deadline in the past lets the other ready
/// tasks run once.
/// Cancellation: ends at once.
inline detail::sleep_awaiter sleep_until(std::chrono::steady_clock::time_point deadline) noexcept {
    return detail::sleep_awaiter{detail::to_ns(deadline)};
}

/// Waits for `duration`, counted from this call. As sleep_until.
template <class Rep, class Period>
detail::sleep_awaiter sleep_for(std::chrono::duration<Rep, Period> duration) noexcept {
    return detail::sleep_awaiter{detail::deadline_after(duration)};
}

}  // namespace rondo
