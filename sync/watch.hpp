#pragma once
// A value that changes, and tasks that want to know: a configuration, a state, a progress. Who
// looks seldom sees the latest value, and not those in between.
//
//     rondo::watch<settings> current{load()};
//     group.spawn([&]() -> task<> {
//         auto mine = current.subscribe();
//         for (;;) apply(co_await mine.next());         // each time it has changed
//     });
//     current.set(load());

#include <rondo/runtime/core/detail/frame_recycler.hpp>
#include <rondo/sync/detail/line_wait.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

namespace rondo {

namespace detail {

/// How often something has changed, and those who wait for the next time.
class change_counter {
public:
    change_counter() noexcept = default;
    change_counter(const change_counter&) = delete;
    change_counter& operator=(const change_counter&) = delete;

    std::uint64_t version() const noexcept {
        // Acquire: with the release in count().
        return version_.load(std::memory_order_acquire);
    }

    class [[nodiscard("without co_await nothing happens")]] awaiter : public line_wait<awaiter> {
    public:
        awaiter(change_counter& of, std::uint64_t seen) noexcept : changes_(of), seen_(seen) {}
        std::uint64_t await_resume() const {
            check_cancelled();
            const std::lock_guard guard(changes_.lock);
            return changes_.version();
        }
        void describe(std::FILE* out) const final { std::fputs("a change of a watch", out); }

    private:
        friend class line_wait<awaiter>;
        friend struct select_access;
        short_lock& line_lock() noexcept { return changes_.lock; }
        wait_list& line() noexcept { return changes_.line_; }
        bool has_news() const noexcept { return changes_.version() != seen_; }

        change_counter& changes_;
        std::uint64_t seen_;
    };

    /// Under the lock. Gives those who are to be woken once it is released.
    wake_list count() noexcept {
        wake_list woken;
        woken.take_all(line_);
        // Only under the lock; release: with the load in version().
        version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
        return woken;
    }

    mutable short_lock lock;

private:
    std::atomic<std::uint64_t> version_{1};
    wait_list line_;  // those who have seen the present version: a change takes everybody out
};

}  // namespace detail

/// Thread safety: tasks of any scheduler; all that does not wait, from any thread. It must outlive
/// its receivers.
template <std::move_constructible T>
class watch {
public:
    class receiver;

    explicit watch(T initial) : value_(std::make_shared<const T>(std::move(initial))) {}
    watch(const watch&) = delete;
    watch& operator=(const watch&) = delete;

    /// Puts another value in place and wakes all that wait for one, in the order they came. One
    /// allocation. Where the move of T throws, nothing has changed.
    void set(T value) {
        auto fresh = std::make_shared<const T>(std::move(value));
        detail::wake_list woken;
        {
            const std::lock_guard guard(changes_.lock);
            value_.swap(fresh);
            woken = changes_.count();
        }
        woken.wake_all();
    }

    /// A copy of the value.
    T get() const
        requires std::copy_constructible<T>
    {
        return *share();
    }

    /// The value itself, which stays as it is for as long as it is held.
    std::shared_ptr<const T> share() const noexcept {
        const std::lock_guard guard(changes_.lock);
        return value_;
    }

    /// 1, and one more for each set().
    std::uint64_t version() const noexcept { return changes_.version(); }

    /// Completes when version() is not `seen`, at once if it is not now, and gives it.
    /// Cancellation: stops waiting.
    detail::change_counter::awaiter changed(std::uint64_t seen) noexcept {
        return {changes_, seen};
    }

    /// Somebody who has seen the present value.
    [[nodiscard]] receiver subscribe() noexcept { return receiver{*this}; }

private:
    struct view {
        std::shared_ptr<const T> value;
        std::uint64_t version;
    };
    view look() const noexcept {
        const std::lock_guard guard(changes_.lock);
        return {value_, changes_.version()};
    }

    detail::change_counter changes_;
    std::shared_ptr<const T> value_;
};

/// Remembers which value it has given last. Copies, as a bookmark does.
/// Thread safety: one task at a time.
template <std::move_constructible T>
class watch<T>::receiver {
public:
    class [[nodiscard("without co_await nothing happens")]] next_awaiter final
        : public detail::change_counter::awaiter {
    public:
        explicit next_awaiter(receiver& who) noexcept
            : awaiter(who.of_->changes_, who.seen_), who_(who) {
            detail::refuse_over_aligned<T>();
        }
        T await_resume() const {
            check_cancelled();
            return who_.get();
        }

    private:
        receiver& who_;
    };

    /// Completes when there is a value that this receiver had not given before this call, and gives
    /// the latest: a copy.
    /// Cancellation: stops waiting, and misses nothing.
    next_awaiter next() noexcept
        requires std::copy_constructible<T>
    {
        return next_awaiter{*this};
    }

    /// A copy of the latest value, which counts as seen.
    T get()
        requires std::copy_constructible<T>
    {
        const view now = of_->look();
        T copy = *now.value;
        seen_ = now.version;
        return copy;
    }

    /// Whether there is a value that this receiver has not given yet.
    bool has_changed() const noexcept { return of_->version() != seen_; }

private:
    friend class watch;
    explicit receiver(watch& of) noexcept : of_(&of), seen_(of.version()) {}

    watch* of_;
    std::uint64_t seen_;
};

}  // namespace rondo
