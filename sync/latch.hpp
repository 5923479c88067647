#pragma once
// Waiting until something has been done so many times.
//
//     rondo::latch ready{3};
//     for (int i = 0; i < 3; ++i) group.spawn(load, i, std::ref(ready));    // ready.count_down()
//     co_await ready.wait();                     // all three have loaded
//
// It opens once. A barrier closes again.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <source_location>

namespace rondo {

/// Thread safety: tasks of any scheduler; count_down() and try_wait() from any thread. What was
/// done before a count_down() is seen after the wait. A task that finds the latch open may destroy
/// it if no other task waits; the call that opened it no longer touches it.
class latch {
public:
    explicit latch(std::size_t count) noexcept : state_(count << 1) {}
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;

    /// Takes `n` off the count; at zero the latch opens, and all that wait are woken, in the order
    /// they came. More than the count is misuse.
    void count_down(std::size_t n = 1,
                    std::source_location where = std::source_location::current()) noexcept {
        (void)opens(n, where);
    }

    /// Whether it is open.
    bool try_wait() noexcept {
        const std::size_t seen = state_.load(std::memory_order_acquire);
        return seen == 0 || (seen >> 1 == 0 && is_quiet());
    }

    class [[nodiscard("without co_await nothing happens")]] wait_awaiter final
        : public detail::task_waiter {
    public:
        wait_awaiter(latch& of, std::size_t arriving, std::source_location called_at) noexcept
            : latch_(of), arriving_(arriving), called_at_(called_at) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || !latch_.arrive_and_join(*this)) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = latch_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override { std::fputs("a latch", out); }

    private:
        friend class latch;
        latch& latch_;
        const std::size_t arriving_;
        const std::source_location called_at_;
        bool was_cancelled_ = false;
    };

    /// Completes when the latch is open, at once if it is.
    /// Cancellation: stops waiting.
    wait_awaiter wait() noexcept { return wait_awaiter{*this, 0, {}}; }

    /// count_down(n) and wait() in one.
    /// Cancellation: stops waiting, but what was counted stays so. A task that is cancelled already
    /// as it comes here counts nothing.
    wait_awaiter arrive_and_wait(
        std::size_t n = 1, std::source_location where = std::source_location::current()) noexcept {
        return wait_awaiter{*this, n, where};
    }

private:
    // Twice the count, plus has_line while the waiter queue is not empty. That bit changes under
    // the lock and while the count is not zero; so once the latch is open it tells, for ever, that
    // the call that opened it had a queue to empty.
    static constexpr std::size_t has_line = 1;

    // Counts, and tells whether that has opened it.
    bool opens(std::size_t n, std::source_location where) noexcept {
        // Release and acquire: the call that opens it hands on what all the others did. Nothing of
        // the latch is touched after that unless there is a waiter queue: it may be gone.
        const std::size_t before = state_.fetch_sub(n << 1, std::memory_order_acq_rel);
        if (before >> 1 < n) complain(where);
        if (before >> 1 != n || n == 0) return false;
        if ((before & has_line) != 0) wake_line();
        return true;
    }
    bool arrive_and_join(wait_awaiter& one) noexcept {
        if (one.arriving_ != 0 && opens(one.arriving_, one.called_at_)) return false;
        // Acquire: with the release in count_down().
        return state_.load(std::memory_order_acquire) != 0 && join_line(one);
    }
    [[noreturn]] static void complain(std::source_location where) noexcept;
    void wake_line() noexcept;
    bool is_quiet() noexcept;
    bool join_line(wait_awaiter& one) noexcept;
    bool leave_line(wait_awaiter& one) noexcept;

    std::atomic<std::size_t> state_;
    detail::short_lock lock_;
    detail::wait_list line_;
};

}  // namespace rondo
