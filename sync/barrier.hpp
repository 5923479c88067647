#pragma once
// A place where so many tasks meet, again and again.
//
//     rondo::barrier round{3, [&] { std::swap(now, next); }};    // called once each time
//     for (int i = 0; i < 100; ++i) {                            // in each of three tasks
//         co_await compute(now, next);
//         co_await round.arrive_and_wait();                      // goes on when all three are here
//     }
//
// When one of them cannot come any more the others must not wait for ever: a party that is
// cancelled breaks the barrier, as in Python.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <source_location>
#include <stdexcept>

namespace rondo {

/// Thrown to those who wait at a barrier, or come to it, when a party of it is missing for good.
class broken_barrier : public std::runtime_error {
public:
    broken_barrier();
};

/// An arrival takes a lock for a few instructions, also where nobody contends: all but the last
/// party of a round join the line, which needs it. Nothing allocates.
/// Thread safety: tasks of any scheduler; all but waiting from any thread. What a party did before
/// it arrived is seen by the completion function, and by all parties after it.
class barrier {
    enum class outcome : std::uint8_t { passed, broken, cancelled };

public:
    /// For `parties` of them. The last to arrive calls completion(), before anybody goes on. Throws
    /// std::invalid_argument for no parties.
    explicit barrier(std::size_t parties, std::function<void()> completion = {});
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;

    class [[nodiscard("without co_await nothing happens")]] arrive_awaiter final
        : public detail::task_waiter {
    public:
        explicit arrive_awaiter(barrier& of) noexcept : barrier_(of) {}
        bool await_ready() const noexcept { return false; }
        // Throws what the completion function throws.
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) {
            if (detail::current_core->current->should_stop()) {
                outcome_ = outcome::cancelled;
                barrier_.give_up();
            } else if (barrier_.arrive_or_join(*this, where)) {
                detail::block(*this, waiter.promise(), where);
                return true;
            }
            return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
        }
        void await_resume() const {
            if (outcome_ == outcome::cancelled) throw operation_cancelled{};
            if (outcome_ == outcome::broken) throw broken_barrier{};
        }
        bool was_cancelled() const noexcept { return outcome_ == outcome::cancelled; }

        void cancel() noexcept override {
            if (!barrier_.leave_line(*this)) return;
            outcome_ = outcome::cancelled;
            detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override { std::fputs("a barrier", out); }

    private:
        friend class barrier;
        barrier& barrier_;
        outcome outcome_ = outcome::passed;
        bool round_ended_ = false;  // under the lock; it is no longer in the barrier's line
    };

    /// Completes when all parties have arrived. Then the barrier is ready for the next round.
    /// Throws broken_barrier when it is broken, or breaks meanwhile. What the completion function
    /// throws is thrown to the last party, and the barrier is broken for the others.
    /// Cancellation: breaks the barrier, also when the task is cancelled already as it comes here;
    /// but not once all have arrived.
    arrive_awaiter arrive_and_wait() noexcept { return arrive_awaiter{*this}; }

    /// Arrives without waiting, and leaves for good: from now on there is one party less. Throws
    /// what the completion function throws.
    void arrive_and_drop(std::source_location where = std::source_location::current());

    /// Begins anew, whole and with nobody there: those who wait get broken_barrier.
    void reset() noexcept;

    bool is_broken() const noexcept;

    /// How many there are to be.
    std::size_t parties() const noexcept;

    /// How many have arrived and wait, at this moment.
    std::size_t waiting() const noexcept;

private:
    // False: it need not wait.
    bool arrive_or_join(arrive_awaiter& one, std::source_location where);
    bool leave_line(arrive_awaiter& one) noexcept;
    void give_up() noexcept;
    detail::wait_list end_round() noexcept;
    detail::wait_list break_up() noexcept;
    void complete(detail::wait_list arrived);
    static void wake(detail::wait_list waiters, outcome how) noexcept;

    const std::function<void()> completion_;
    mutable detail::short_lock lock_;
    // All below is under the lock. Whoever is in the line has arrived in this round and waits for
    // its end; those of a round that has ended are no longer there, though the completion function
    // may still run.
    detail::wait_list line_;
    std::size_t parties_;
    std::size_t missing_;  // not yet arrived in this round
    bool broken_ = false;  // then the line is empty
};

}  // namespace rondo
