#pragma once
// A mutex that its holder may lock again, as Python's RLock: for an object whose methods lock and
// call each other.
//
//     rondo::task<> account::move_to(account& other) {
//         auto guard = co_await lock_.lock();
//         co_await withdraw();                       // locks it, too; no deadlock
//     }

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/sync/detail/guard.hpp>
#include <rondo/sync/mutex.hpp>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <source_location>
#include <utility>

namespace rondo {

/// Belongs to the task that has locked it, until that has given back as many guards as it got; it
/// may hop in between. Fair, as mutex.
/// Thread safety: tasks of any scheduler; try_lock() from any thread, which is then the owner. What
/// the holder did is seen by the next one.
class recursive_mutex {
public:
    recursive_mutex() noexcept = default;
    recursive_mutex(const recursive_mutex&) = delete;
    recursive_mutex& operator=(const recursive_mutex&) = delete;

    struct unlocker {
        void operator()(recursive_mutex* of) const noexcept { of->unlock(); }
    };

    /// One of the holder's locks; gives it back when destroyed, or by unlock() ahead of time. The
    /// order among them does not matter. Moves, does not copy. It belongs to the task that has
    /// called lock(): that another one unlocks is misuse.
    using guard = detail::basic_guard<recursive_mutex, unlocker>;

    class [[nodiscard("without co_await nothing happens")]] lock_awaiter final {
    public:
        explicit lock_awaiter(recursive_mutex& of) noexcept : mutex_(of), first_(of.inner_) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            where_ = where;
            again_ = !detail::current_core->current->should_stop() && mutex_.is_owned_by(self_);
            if (!again_) return first_.await_suspend(waiter, where);
            ++mutex_.depth_;
            return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
        }
        guard await_resume() {
            if (!again_) mutex_.own(first_.await_resume(), self_, where_);
            return guard{mutex_};
        }
        bool was_cancelled() const noexcept { return !again_ && first_.was_cancelled(); }

    private:
        recursive_mutex& mutex_;
        mutex::lock_awaiter first_;
        const void* const self_ = self();
        std::source_location where_;
        bool again_ = false;  // the task holds it already
    };

    /// Completes at once for the task that holds it; any other waits its turn.
    /// Cancellation: leaves the line; a task that has been handed the mutex already has it.
    lock_awaiter lock() noexcept { return lock_awaiter{*this}; }

    /// Locks it if it is free or the caller's own; an empty optional otherwise.
    std::optional<guard> try_lock(
        std::source_location where = std::source_location::current()) noexcept {
        if (is_owned_by(self())) {
            ++depth_;
        } else {
            auto held = inner_.try_lock(where);
            if (!held) return std::nullopt;
            own(*std::move(held), self(), where);
        }
        return guard{*this};
    }

    /// Whether somebody holds it now.
    bool is_locked() const noexcept { return inner_.is_locked(); }

private:
    // What stands for the running task; for a plain thread, some address of its own.
    static const void* self() noexcept {
        const detail::task_state* task = detail::task_identity();
        return task != nullptr ? static_cast<const void*>(task) : this_thread();
    }
    static const void* this_thread() noexcept;

    // Relaxed: nobody else ever writes the name of `self` there.
    bool is_owned_by(const void* self) const noexcept {
        return owner_.load(std::memory_order_relaxed) == self;
    }

    void own(mutex::guard held, const void* self, std::source_location where) noexcept {
        held_.emplace(std::move(held));
        depth_ = 1;
        locked_at_ = where;
        owner_.store(self, std::memory_order_relaxed);
    }
    void unlock() noexcept {
        if constexpr (detail::debug_checks) check_owner();
        if (--depth_ > 0) return;
        owner_.store(nullptr, std::memory_order_relaxed);
        // Out of the object first: the next holder may be here before unlocking has returned.
        mutex::guard held = *std::move(held_);
        held_.reset();
    }
    void check_owner() const noexcept;

    mutex inner_;
    // Who holds inner_, or null. All below it is the owner's alone.
    std::atomic<const void*> owner_{nullptr};
    std::size_t depth_ = 0;  // guards that the owner has
    std::optional<mutex::guard> held_;
    std::source_location locked_at_;  // the first of them; for complaints
};

}  // namespace rondo
