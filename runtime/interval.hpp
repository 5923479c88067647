#pragma once
// Something to do at regular times.
//
//     interval beat{1s};
//     for (;;) {
//         co_await beat.tick();                // the first at once, then one each second
//         co_await send_heartbeat();           // however long this takes, the beat is kept
//     }
//
//     interval poll{100ms, missed_ticks::skip};

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/sleep.hpp>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <source_location>

namespace rondo {

/// What becomes of an interval's ticks for which its task had no time.
enum class missed_ticks : std::uint8_t {
    /// They are made up for: each is given at once, until the beat is caught up with. The number of
    /// ticks stays right.
    burst,

    /// The beat begins anew: the next tick comes one period after the late one. Two ticks are never
    /// closer to each other than the period, but for what a sleep may be late.
    delay,

    /// They are left out: the next tick comes at the next of the regular times. The times stay
    /// right.
    skip,
};

/// Ticks that come one period after the other, counted from the first and not from when the last
/// one was awaited: what is done in between, and what a sleep is late, does not add up. A tick that
/// is awaited more than 1 ms late, or a whole period if that is less, has been missed.
/// Thread safety: one task at a time, on any scheduler.
class interval {
    using time_point = std::chrono::steady_clock::time_point;

public:
    /// The first tick comes at once. Throws std::invalid_argument unless the period is longer than
    /// zero.
    template <class Rep, class Period>
    explicit interval(std::chrono::duration<Rep, Period> period,
                      missed_ticks missed = missed_ticks::burst)
        : interval(detail::now_ns(), detail::saturated_ns(period), missed) {}

    /// The first tick comes at `first`.
    template <class Rep, class Period>
    interval(time_point first, std::chrono::duration<Rep, Period> period,
             missed_ticks missed = missed_ticks::burst)
        : interval(detail::to_ns(first), detail::saturated_ns(period), missed) {}

    class [[nodiscard("without co_await nothing happens")]] tick_awaiter {
    public:
        explicit tick_awaiter(interval& of) noexcept : of_(&of), sleep_(of.next_) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            sleep_.deadline = of_->next_;
            return sleep_.await_suspend(waiter, where);
        }
        time_point await_resume() {
            sleep_.await_resume();
            return of_->take_tick();
        }
        bool was_cancelled() const noexcept { return sleep_.was_cancelled(); }

    private:
        interval* of_;
        detail::sleep_awaiter sleep_;
    };

    /// Completes when the next tick is due, with the time at which it was; one that is due already
    /// lets the other ready tasks run once.
    /// Cancellation: ends at once; the tick is still to come.
    tick_awaiter tick() noexcept { return tick_awaiter{*this}; }

    /// Begins the beat anew: the next tick comes one period from now.
    void reset() noexcept { next_ = detail::now_ns() + period_; }

    std::chrono::nanoseconds period() const noexcept { return std::chrono::nanoseconds(period_); }

private:
    interval(std::int64_t first, std::int64_t period, missed_ticks missed);
    time_point take_tick() noexcept;

    std::int64_t next_;  // when the next tick is due, in nanoseconds of the steady clock
    std::int64_t period_;
    missed_ticks missed_;
};

}  // namespace rondo
