#pragma once
// A counting semaphore for tasks: at most `count` of them hold a permit at a time.
//
//     rondo::semaphore connections{100};
//     auto permit = co_await connections.acquire();   // waits its turn, first come first served
//     co_await talk_to_the_database();                // the permit goes back when it leaves scope

#include <rondo/runtime/core/errors.hpp>
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

namespace rondo {

/// Thread safety: tasks of any scheduler; release() and try_acquire() from any thread. What was
/// done before a release is seen by who gets the permit.
class semaphore {
public:
    /// At most so many permits.
    static constexpr std::size_t most = SIZE_MAX / 2;

    explicit semaphore(std::size_t count) noexcept : semaphore(count, most) {}
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    struct releaser {
        std::size_t count;
        void operator()(semaphore* of) const noexcept { of->take_back(count); }
    };

    /// Some permits held; gives them back when destroyed. Moves, does not copy.
    class [[nodiscard]] permit : private detail::basic_guard<semaphore, releaser> {
    public:
        /// Gives them back ahead of time.
        void release() noexcept { unlock(); }
        /// Keeps them taken: semaphore::release() is to be called for them, some time.
        void dismiss() noexcept { of_.release(); }

        std::size_t count() const noexcept { return owns_lock() ? of_.get_deleter().count : 0; }

    private:
        friend class semaphore;
        permit(semaphore& of, std::size_t count) noexcept : basic_guard(of, releaser{count}) {}
    };

    class [[nodiscard("without co_await nothing happens")]] acquire_awaiter final
        : public detail::task_waiter {
    public:
        acquire_awaiter(semaphore& of, std::size_t count) noexcept
            : semaphore_(of), count_(count) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || semaphore_.take(count_) || !semaphore_.join_line(*this)) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            return true;
        }
        permit await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            return permit{semaphore_, count_};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = semaphore_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override {
            std::fprintf(out, "%zu permits of a semaphore", count_);
        }

    private:
        friend class semaphore;
        semaphore& semaphore_;
        std::size_t count_;
        bool was_cancelled_ = false;
    };

    /// Waits until `count` permits are free and all who came before have theirs, and takes them,
    /// all at once.
    /// Cancellation: the waiter leaves the queue and takes nothing; one that has been given permits
    /// already keeps them.
    acquire_awaiter acquire(std::size_t count = 1) noexcept {
        return acquire_awaiter{*this, count};
    }

    /// Takes `count` permits if they are free and nobody waits; an empty optional otherwise.
    std::optional<permit> try_acquire(std::size_t count = 1) noexcept {
        if (!take(count)) return std::nullopt;
        return permit{*this, count};
    }

    /// Adds `count` permits, but not more than `most` altogether, and gives them to those who wait,
    /// in the order in which they came.
    void release(std::size_t count = 1) noexcept { take_back(count); }

    /// How many permits are free, at this moment.
    std::size_t available() const noexcept { return state_.load(std::memory_order_relaxed) >> 1; }

private:
    friend class bounded_semaphore;

    // Twice the number of free permits, plus has_line while somebody waits. That bit, and with it
    // set the number, change only under the lock: so nobody takes a permit past the line.
    static constexpr std::size_t has_line = 1;

    bool take(std::size_t count) noexcept {
        std::size_t seen = state_.load(std::memory_order_relaxed);
        while ((seen & has_line) == 0 && seen >> 1 >= count) {
            // Acquire: with the release in try_release().
            if (detail::compare_exchange(state_, seen, seen - (count << 1),
                                         std::memory_order_acquire)) {
                return true;
            }
        }
        return false;
    }
    semaphore(std::size_t count, std::size_t limit) noexcept : state_(count << 1), limit_(limit) {}

    // Of a permit, or of a release() that cannot throw.
    void take_back(std::size_t count) noexcept {
        if (!try_release(count)) complain();
    }
    // False, and nothing is released: there would be more than the limit.
    bool try_release(std::size_t count) noexcept {
        std::size_t seen = state_.load(std::memory_order_relaxed);
        while ((seen & has_line) == 0) {
            if (count > limit_ - (seen >> 1)) return false;
            // Release: with the acquire in take(). Nothing of the semaphore is touched after this:
            // whoever gets the permits may destroy it.
            if (detail::compare_exchange(state_, seen, seen + (count << 1),
                                         std::memory_order_release)) {
                return true;
            }
        }
        return release_to_line(count);
    }
    bool release_to_line(std::size_t count) noexcept;
    static void complain() noexcept;
    bool join_line(acquire_awaiter& one) noexcept;
    bool leave_line(acquire_awaiter& one) noexcept;
    detail::wake_list serve_line(std::size_t available) noexcept;

    std::atomic<std::size_t> state_;
    detail::short_lock lock_;
    detail::wait_list line_;
    const std::size_t limit_;  // never more free permits than that
};

/// A semaphore that never has more permits than it began with: a release too many is a bug, and
/// said to be one. A permit that is given back too late, once release() was called for it, is
/// misuse.
class bounded_semaphore {
public:
    using permit = semaphore::permit;

    explicit bounded_semaphore(std::size_t count) noexcept : inner_(count, count) {}

    /// As semaphore::acquire.
    semaphore::acquire_awaiter acquire(std::size_t count = 1) noexcept {
        return inner_.acquire(count);
    }
    std::optional<permit> try_acquire(std::size_t count = 1) noexcept {
        return inner_.try_acquire(count);
    }

    /// As semaphore::release. Throws std::logic_error, and releases nothing, when there would be
    /// more permits than in the beginning.
    void release(std::size_t count = 1);

    std::size_t available() const noexcept { return inner_.available(); }

private:
    semaphore inner_;
};

}  // namespace rondo
