#pragma once
// One task at a time.
//
//     rondo::mutex lock;
//     {
//         auto guard = co_await lock.lock();     // waits its turn, first come first served
//         balance = co_await change(balance);
//     }                                          // the next in line has it now
//
// Tasks of one scheduler need it only around what awaits: between two awaits nobody else runs.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/sync/detail/guard.hpp>
#include <rondo/sync/detail/one_thread.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <source_location>

namespace rondo {

/// Fair: it is handed to the task that has waited longest, and nobody can take it in between.
/// Thread safety: tasks of any scheduler; try_lock() from any thread. What the holder did is seen
/// by the next one.
class mutex {
public:
    mutex() noexcept = default;
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;

    struct unlocker {
        void operator()(mutex* of) const noexcept { of->unlock(); }
    };

    /// Holds the mutex; unlocks it when destroyed, or by unlock() ahead of time. Moves, does not
    /// copy. It belongs to the task that has called lock(): that another one unlocks is misuse.
    using guard = detail::basic_guard<mutex, unlocker>;

    class [[nodiscard("without co_await nothing happens")]] lock_awaiter final
        : public detail::task_waiter {
    public:
        explicit lock_awaiter(mutex& of) noexcept : mutex_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            where_ = where;
            if (was_cancelled_ || !mutex_.lock_or_join(*this)) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            return true;
        }
        guard await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            return guard{mutex_};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = mutex_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override;
        obstacle waits_for() const noexcept override {
            return {mutex_.holder_.load(std::memory_order_relaxed), mutex_.locked_at_};
        }

    private:
        friend class mutex;
        mutex& mutex_;
        const detail::task_state* identity_ = detail::task_identity();
        std::source_location where_;
        bool was_cancelled_ = false;
    };

    /// Waits for the mutex and locks it.
    /// Cancellation: leaves the line; a task that has been handed the mutex already has it.
    lock_awaiter lock() noexcept { return lock_awaiter{*this}; }

    /// Locks it if it is free; an empty optional otherwise.
    std::optional<guard> try_lock(
        std::source_location where = std::source_location::current()) noexcept {
        if (!take()) return std::nullopt;
        hold(detail::task_identity(), where);
        return guard{*this};
    }

    /// Whether somebody holds it now.
    bool is_locked() const noexcept { return state_.load(std::memory_order_relaxed) != is_free; }

private:
    friend class condition_variable;

    static mutex* held_by(const guard& held) noexcept { return held.of_.get(); }

    // is_awaited: it is locked, and somebody is in the line; into and out of this state only under
    // the lock. It never becomes free while somebody waits: unlock() hands it on.
    enum : std::uint32_t { is_free, is_taken, is_awaited };

    bool take() noexcept {
        std::uint32_t seen = is_free;
        // Acquire: with the release in unlock().
        return detail::compare_exchange<std::uint32_t>(state_, seen, is_taken,
                                                       std::memory_order_acquire);
    }
    void hold(const detail::task_state* task, std::source_location where) noexcept {
        holder_.store(task, std::memory_order_relaxed);
        locked_at_ = where;
    }
    void unlock() noexcept {
        if constexpr (detail::debug_checks) check_holder();
        std::uint32_t seen = is_taken;
        // Release: with the acquire in take(). Nothing of the mutex is touched after this: whoever
        // locks it next may destroy it.
        if (!detail::compare_exchange<std::uint32_t>(state_, seen, is_free,
                                                     std::memory_order_release)) {
            hand_on();
        }
    }
    bool lock_or_join(lock_awaiter& one) noexcept {
        if (take()) {
            hold(one.identity_, one.where_);
            return false;
        }
        return join_line(one);
    }
    void check_holder() const noexcept;
    void hand_on() noexcept;
    bool join_line(lock_awaiter& one) noexcept;
    bool leave_line(lock_awaiter& one) noexcept;

    std::atomic<std::uint32_t> state_{is_free};
    detail::short_lock line_lock_;
    detail::wait_list line_;
    // Of the holder, while it is locked; for complaints, and for the dump of a deadlock.
    std::atomic<const detail::task_state*> holder_{nullptr};
    std::source_location locked_at_;
};

}  // namespace rondo
