#pragma once
// A flag that tasks wait for.
//
//     rondo::event ready;
//     group.spawn([&]() -> task<> { co_await ready.wait(); use(table); });
//     table = co_await load();
//     ready.set();                              // wakes everybody

#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/one_thread.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <source_location>

namespace rondo {

/// Once set, every wait completes, those in progress and later ones, until it is cleared.
/// Thread safety: tasks of any scheduler; set(), clear() and is_set() from any thread. What was
/// done before set() is seen after the wait that it ends.
class event {
public:
    event() noexcept = default;
    event(const event&) = delete;
    event& operator=(const event&) = delete;

    bool is_set() const noexcept { return state_.load(std::memory_order_acquire) == is_up; }

    /// Sets the flag and wakes all that wait, in the order they came.
    void set() noexcept {
        std::uint32_t seen = state_.load(std::memory_order_relaxed);
        do {
            if (seen == is_awaited) return set_awaited();
            // Release: with the loads that find it up, and with clear(). Also where it is up
            // already: the thread that clears it then sees what this one has done. Nothing of the
            // event is touched after this: a task that finds it up may destroy it.
        } while (!detail::compare_exchange<std::uint32_t>(state_, seen, is_up,
                                                          std::memory_order_release));
    }

    /// Takes the flag down. What was done before the set() that it undoes is seen after it: who
    /// clears, then looks for work, then waits, misses nothing.
    void clear() noexcept {
        std::uint32_t seen = is_up;
        // Acquire: with the release in set().
        detail::compare_exchange<std::uint32_t>(state_, seen, is_down, std::memory_order_acquire);
    }

    class [[nodiscard("without co_await nothing happens")]] wait_awaiter final
        : public detail::task_waiter {
    public:
        explicit wait_awaiter(event& of) noexcept : event_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || event_.is_set() || !event_.join_line(*this)) {
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
            was_cancelled_ = event_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override { std::fputs("an event", out); }

    private:
        friend class event;
        friend struct detail::select_access;
        event& event_;
        bool was_cancelled_ = false;
    };

    /// Completes when the flag is set, at once if it is. A task woken by set() goes on even if
    /// clear() comes before it runs.
    /// Cancellation: stops waiting.
    wait_awaiter wait() noexcept { return wait_awaiter{*this}; }

private:
    friend struct detail::select_access;

    // is_awaited: it is down, and somebody is in the line; into and out of this state only under
    // the lock. So the other changes need no lock, and is_up means that the line is empty.
    enum : std::uint32_t { is_down, is_up, is_awaited };

    void set_awaited() noexcept;
    bool join_line(wait_awaiter& one) noexcept;
    bool leave_line(wait_awaiter& one) noexcept;
    bool join_line_locked(wait_awaiter& one) noexcept;
    bool leave_line_locked(wait_awaiter& one) noexcept;

    std::atomic<std::uint32_t> state_{is_down};
    detail::short_lock lock_;
    detail::wait_list line_;
};

}  // namespace rondo
