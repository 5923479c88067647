#pragma once
// For tests: waiting until everything else has come to rest, in place of sleeping and hoping; and
// cancelling a piece of work at every moment of its life, in place of thinking of the bad ones.
//
//     auto waiter = group.spawn(take(lock));
//     co_await settle();                       // the waiter is in the line now
//     CHECK(!waiter.done());
//
//     for (auto& point : cancellation_points{}) {
//         CAPTURE(point.number());
//         run([&]() -> task<> {
//             semaphore two{2};
//             co_await point.run(three_tasks_that_take(two));     // cancelled somewhere inside
//             CHECK(two.available() == 2);                        // however it ended
//         });
//     }

#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/task.hpp>

#include <coroutine>
#include <cstddef>
#include <source_location>

namespace rondo {

namespace detail {

class [[nodiscard("without co_await nothing happens")]] settle_awaiter {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(
        std::coroutine_handle<Promise> waiter,
        std::source_location where = std::source_location::current()) const noexcept {
        scheduler_core& core = *current_core;
        waiter.promise().where = where;
        core.current->leaf = &waiter.promise();
        core.settlers.push(*core.current);
    }
    void await_resume() const noexcept {}
};

}  // namespace detail

/// Completes when every other task of the scheduler is blocked: none is ready, and the kernel has
/// no completion to hand over. Timers may still be running; what another thread or process is about
/// to send does not count. Several tasks that settle go on one after the other. Cancellation does
/// not end it.
inline detail::settle_awaiter settle() noexcept { return {}; }

/// One moment at which a piece of work is cancelled; see cancellation_points.
class cancellation_point {
public:
    cancellation_point() noexcept = default;
    cancellation_point(const cancellation_point&) = delete;
    cancellation_point& operator=(const cancellation_point&) = delete;

    /// Which moment of the work: 1, 2, ...; 0 the first time, when nothing is cancelled.
    std::size_t number() const noexcept { return number_; }

    /// Runs `work` as a task of its own, cancels it at this point, and completes when it has ended:
    /// true, it ran to its end all the same; false, it ended by the cancellation. Throws what it
    /// throws. Tasks that run beside the work are left alone, but what they do makes points too: so
    /// one of several that wait in a line can be the one that is cancelled.
    /// Until the point is reached the scheduler polls instead of sleeping; timers take their time.
    /// Cancellation: passes to the work, waits for it, then throws operation_cancelled.
    /// Thread safety: work on other schedulers is waited for and cancelled as any other, but its
    /// points are not counted.
    task<bool> run(task<> work);

private:
    friend class cancellation_points;

    bool is_reached_with_next() noexcept { return ++passed_ == number_; }

    std::size_t number_ = 0;
    std::size_t passed_ = 0;  // in this round
};

/// A range of all the moments at which something can be cancelled. The body of the loop sets up,
/// calls point.run() once, and checks what must hold afterwards; it runs without a cancellation
/// first, and then once for each point. A point lies before each step that a task of the scheduler
/// makes (it has what it waited for, but has not resumed; others are ready, or stand in lines), and
/// where all of them are blocked. Those are all the states in which a cancellation on the same
/// scheduler can come. The loop ends when the work has ended before its point.
/// Work that nothing can wake makes run() throw deadlock_error, as everywhere.
class cancellation_points {
public:
    /// Work with more points than `most` never ends, presumably: then the loop throws
    /// std::length_error.
    explicit cancellation_points(std::size_t most = 100'000) noexcept : most_(most) {}

    struct end_of_range {};

    class iterator {
    public:
        explicit iterator(cancellation_points& of) noexcept : of_(of) {}
        cancellation_point& operator*() const noexcept { return of_.point_; }
        iterator& operator++() {
            of_.advance();
            return *this;
        }
        bool operator==(end_of_range) const noexcept { return of_.is_over_; }

    private:
        cancellation_points& of_;
    };

    iterator begin() noexcept { return iterator{*this}; }
    end_of_range end() const noexcept { return {}; }

private:
    void advance();

    const std::size_t most_;
    bool is_over_ = false;
    cancellation_point point_;
};

}  // namespace rondo
