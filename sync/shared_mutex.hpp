#pragma once
// Many readers or one writer.
//
//     rondo::shared_mutex lock;
//     auto reading = co_await lock.lock_shared();    // together with other readers
//     ...
//     auto writing = co_await lock.lock();           // alone
//     table.insert(row);
//     auto checking = std::move(writing).downgrade();    // no writer gets in between
//
// First come, first served: a reader that comes after a waiting writer waits behind it, so no
// writer starves; readers that stand next to each other go in together. So a task that reads
// already must not lock again: behind a writer, which waits for it, it would wait for ever.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/sync/detail/guard.hpp>
#include <rondo/sync/detail/one_thread.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <source_location>
#include <type_traits>

namespace rondo {

/// Thread safety: tasks of any scheduler; the try_ forms from any thread. What a writer did is seen
/// by all who come after it, and the next writer comes after what the readers did.
class shared_mutex {
public:
    shared_mutex() noexcept = default;
    shared_mutex(const shared_mutex&) = delete;
    shared_mutex& operator=(const shared_mutex&) = delete;

    struct shared_unlocker {
        void operator()(shared_mutex* of) const noexcept { of->unlock_shared(); }
    };
    struct unlocker {
        void operator()(shared_mutex* of) const noexcept { of->unlock(); }
    };

    /// Holds it together with other readers; unlocks it when destroyed, or by unlock() ahead of
    /// time. Moves, does not copy.
    using shared_guard = detail::basic_guard<shared_mutex, shared_unlocker>;

    /// Holds it alone; else the same. It belongs to the task that has called lock(): that another
    /// one unlocks is misuse.
    class [[nodiscard]] guard : public detail::basic_guard<shared_mutex, unlocker> {
    public:
        /// Goes on as a reader, together with the readers at the head of the line. Nobody writes in
        /// between. Precondition: owns_lock().
        shared_guard downgrade() && noexcept {
            shared_mutex& of = *of_.release();
            of.downgrade();
            return shared_guard{of};
        }

    private:
        friend class shared_mutex;
        using basic_guard::basic_guard;
    };

    /// The wait for a Guard.
    template <class Guard>
    class lock_awaiter;

    /// Waits until nobody else holds it, and locks it.
    /// Cancellation: leaves the line, and lets those in who waited for this task alone; a task that
    /// has been handed the mutex already has it.
    lock_awaiter<guard> lock() noexcept;

    /// Waits until no writer holds it and all who came before have had it; locks it for reading.
    /// Cancellation: as lock().
    lock_awaiter<shared_guard> lock_shared() noexcept;

    /// Locks it if it is free; an empty optional otherwise.
    std::optional<guard> try_lock(
        std::source_location where = std::source_location::current()) noexcept {
        if (!take(alone)) return std::nullopt;
        hold(detail::task_identity(), where);
        return guard{*this};
    }

    /// Locks it for reading if no writer holds it and nobody waits; an empty optional otherwise.
    std::optional<shared_guard> try_lock_shared() noexcept {
        if (!take(shared)) return std::nullopt;
        return shared_guard{*this};
    }

private:
    enum mode : bool { shared, alone };

    class waiting : public detail::task_waiter {
    public:
        bool was_cancelled() const noexcept { return was_cancelled_; }
        void cancel() noexcept override {
            was_cancelled_ = mutex_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override;
        obstacle waits_for() const noexcept override;

    protected:
        waiting(shared_mutex& of, mode how) noexcept : mutex_(of), mode_(how) {}
        ~waiting() = default;

        friend class shared_mutex;
        shared_mutex& mutex_;
        const mode mode_;
        bool was_cancelled_ = false;
        const detail::task_state* identity_ = detail::task_identity();
        std::source_location where_;
    };

    // Four times the number of readers, or is_written; plus has_line while somebody waits. With
    // has_line set the state changes only under the lock: so nobody gets past the line.
    static constexpr std::size_t has_line = 1;
    static constexpr std::size_t is_written = 2;
    static constexpr std::size_t one_reader = 4;

    // The state, without has_line, after one more has locked it; 0: it cannot.
    static std::size_t with(std::size_t state, mode how) noexcept {
        if (how == alone) return state == 0 ? is_written : 0;
        return state == is_written ? 0 : state + one_reader;
    }

    bool take(mode how) noexcept {
        std::size_t seen = state_.load(std::memory_order_relaxed);
        while ((seen & has_line) == 0) {
            const std::size_t taken = with(seen, how);
            if (taken == 0) return false;
            // Acquire: with the release in give_back(). Those of the readers before the last one
            // count as well: only read-modify-writes lie between.
            if (detail::compare_exchange(state_, seen, taken, std::memory_order_acquire)) {
                return true;
            }
        }
        return false;
    }
    void hold(const detail::task_state* task, std::source_location where) noexcept {
        holder_.store(task, std::memory_order_relaxed);
        locked_at_ = where;
    }
    void unlock() noexcept {
        if constexpr (detail::debug_checks) check_holder();
        give_back(is_written, 0);
    }
    void unlock_shared() noexcept { give_back(one_reader, 0); }
    void downgrade() noexcept {
        if constexpr (detail::debug_checks) check_holder();
        give_back(is_written, one_reader);
    }
    // What the caller holds becomes `kept` of it.
    void give_back(std::size_t held, std::size_t kept) noexcept {
        std::size_t seen = state_.load(std::memory_order_relaxed);
        while ((seen & has_line) == 0) {
            // Release: with the acquire in take() and in join_line(). Nothing of the mutex is
            // touched after this: whoever locks it next may destroy it.
            if (detail::compare_exchange(state_, seen, seen - held + kept,
                                         std::memory_order_release)) {
                return;
            }
        }
        give_back_to_line(held, kept);
    }
    template <class Guard>
    Guard guard_for() noexcept {
        return Guard{*this};
    }
    bool lock_or_join(waiting& one) noexcept {
        if (!take(one.mode_)) return join_line(one);
        if (one.mode_ == alone) hold(one.identity_, one.where_);
        return false;
    }
    void check_holder() const noexcept;
    void give_back_to_line(std::size_t held, std::size_t kept) noexcept;
    bool join_line(waiting& one) noexcept;
    bool leave_line(waiting& one) noexcept;
    detail::wake_list serve_line(std::size_t state) noexcept;

    std::atomic<std::size_t> state_{0};
    detail::short_lock line_lock_;
    detail::wait_list line_;
    // Of the writer, while there is one; for complaints, and for the dump of a deadlock.
    std::atomic<const detail::task_state*> holder_{nullptr};
    std::source_location locked_at_;
};

template <class Guard>
class [[nodiscard("without co_await nothing happens")]] shared_mutex::lock_awaiter final
    : public shared_mutex::waiting {
public:
    explicit lock_awaiter(shared_mutex& of) noexcept
        : waiting(of, std::is_same_v<Guard, guard> ? alone : shared) {}
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
    Guard await_resume() const {
        if (was_cancelled_) throw operation_cancelled{};
        return mutex_.guard_for<Guard>();
    }
};

inline shared_mutex::lock_awaiter<shared_mutex::guard> shared_mutex::lock() noexcept {
    return lock_awaiter<guard>{*this};
}
inline shared_mutex::lock_awaiter<shared_mutex::shared_guard> shared_mutex::lock_shared() noexcept {
    return lock_awaiter<shared_guard>{*this};
}

}  // namespace rondo
