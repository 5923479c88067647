#pragma once
// So many a second, and a few at once after a pause: a token bucket.
//
//     rondo::rate_limiter requests{100, 10};          // 100 a second, at most 10 in one go
//     for (auto& each : work) {
//         co_await requests.acquire();                // waits its turn, first come first served
//         co_await send(each);
//     }
//
// The bucket fills with `rate` tokens a second and holds `burst` of them; it is full in the
// beginning. J. Turner, "New Directions in Communications", 1986; in the form of the virtual
// scheduling algorithm of ITU-T I.371, where the bucket is one number: when it was last empty.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <algorithm>
#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <source_location>

namespace rondo {

/// A token costs 1 / rate seconds, and what one acquire takes is rounded to a nanosecond: above
/// some millions a second, acquire several at once. Time is the steady clock's.
/// Thread safety: tasks of any scheduler; try_acquire() from any thread.
class rate_limiter {
public:
    /// `rate` tokens a second, at most `burst` of them saved up. Throws std::invalid_argument
    /// unless the rate is above zero, the burst too, and the bucket fills within a hundred years.
    rate_limiter(double rate, std::size_t burst);
    rate_limiter(const rate_limiter&) = delete;
    rate_limiter& operator=(const rate_limiter&) = delete;

    // Whoever is first in line waits for a timer of its own scheduler, the others for that one. It
    // is not in the list any more: it alone decides how its wait ends, on its own thread.
    class [[nodiscard("without co_await nothing happens")]] acquire_awaiter final
        : public detail::timer,
          public detail::waiter,
          private detail::inbox_message {
    public:
        acquire_awaiter(rate_limiter& of, std::int64_t cost) noexcept : limiter_(of), cost_(cost) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            place at = place::served;
            if (!was_cancelled_ && !limiter_.take(cost_)) at = limiter_.join_line(*this);
            if (at == place::served) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            if (at == place::first) arm();
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void expired() noexcept override;
        void cancel() noexcept override;
        void describe(std::FILE* out) const override;
        void wake() noexcept override;

    private:
        friend class rate_limiter;
        // Changes from in_line, which is in the list, under the lock; afterwards on the own thread.
        enum class place : std::uint8_t { in_line, first, served };

        void prepare() noexcept;
        void arm() noexcept;
        void taken_out() noexcept;

        rate_limiter& limiter_;
        std::int64_t cost_;
        detail::scheduler_core* home_ = nullptr;
        place place_ = place::in_line;
        bool was_cancelled_ = false;
    };

    /// Waits until all who came before have their tokens and the bucket holds `count`, and takes
    /// them. Throws std::invalid_argument for more than the burst, which it never holds.
    /// Cancellation: leaves the line and takes nothing; those behind it wait no longer than if it
    /// had not been there.
    acquire_awaiter acquire(std::size_t count = 1);

    /// Takes `count` tokens if they are there and nobody waits.
    bool try_acquire(std::size_t count = 1) noexcept {
        return count <= burst_ && take(cost_of(count));
    }

    double rate() const noexcept { return 1e9 / token_cost_; }
    std::size_t burst() const noexcept { return burst_; }

private:
    std::int64_t cost_of(std::size_t count) const noexcept;

    // The state is twice the time, in nanoseconds, at which the bucket was empty when it filled as
    // fast ever since, plus has_line while somebody waits. That bit, and with it set the time,
    // change only under the lock: so nobody takes a token past the line.
    static constexpr std::int64_t has_line = 1;
    static std::int64_t empty_at(std::int64_t state) noexcept { return state >> 1; }

    /// When it was empty, once what would have overflowed is gone.
    std::int64_t without_overflow(std::int64_t empty, std::int64_t now) const noexcept {
        return std::max(empty, now - full_cost_);
    }

    bool take(std::int64_t cost) noexcept {
        const std::int64_t now = detail::now_ns();
        // Relaxed: tokens carry nothing from one task to another.
        std::int64_t state = state_.load(std::memory_order_relaxed);
        while ((state & has_line) == 0) {
            const std::int64_t next = without_overflow(empty_at(state), now) + cost;
            if (next > now) return false;
            if (state_.compare_exchange_weak(state, 2 * next, std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }
    acquire_awaiter::place join_line(acquire_awaiter& one) noexcept;
    bool leave_line(acquire_awaiter& one) noexcept;
    std::int64_t due(const acquire_awaiter& first) const noexcept;
    void pass_on(std::int64_t cost) noexcept;

    const double token_cost_;  // nanoseconds
    const std::size_t burst_;
    const std::int64_t full_cost_;  // of `burst` tokens
    std::atomic<std::int64_t> state_;
    detail::short_lock lock_;
    detail::wait_list line_;  // behind the first
};

}  // namespace rondo
