#pragma once
// Every item to every receiver. The sender never waits: a receiver that falls behind loses the
// oldest items, and is told how many.
//
//     rondo::broadcast<line> chat{64};                       // keeps the last 64
//     auto mine = chat.subscribe();                          // sees what is sent from now on
//     while (auto next = co_await mine.receive()) {          // empty: closed, and all seen
//         if (next->missed != 0) warn(next->missed);         // so many were lost before this one
//         show(next->item);
//     }

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/sync/detail/line_wait.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace rondo {

/// Thread safety: tasks of any scheduler; all that does not wait, from any thread. It must outlive
/// its receivers.
template <std::copy_constructible T>
class broadcast {
public:
    class receiver;

    /// What a receiver gets.
    struct received {
        T item;
        std::uint64_t missed = 0;  // items before it that were dropped unseen
    };

    /// Keeps the last `capacity` items; throws std::invalid_argument for none.
    explicit broadcast(std::size_t capacity) : slots_(capacity) {
        detail::refuse_over_aligned<T>();
        if (capacity == 0) throw std::invalid_argument("broadcast: a capacity of 0");
    }
    broadcast(const broadcast&) = delete;
    broadcast& operator=(const broadcast&) = delete;
    ~broadcast() {
        if (detail::debug_checks && receivers() != 0) {
            detail::misuse("a broadcast is destroyed before its receivers");
        }
    }

    /// Gives the item to all receivers there are, and says how many; 0 when it is closed. Wakes
    /// those that wait, in the order they came. One allocation; the receivers copy the item when
    /// they get it. Where the move of T throws, nothing was sent.
    std::size_t send(T item) {
        if (receivers() == 0) return 0;
        auto fresh = std::make_shared<const T>(std::move(item));
        detail::wake_list woken;
        std::size_t reached = 0;
        {
            const std::lock_guard guard(lock_);
            const std::uint64_t state = state_.load(std::memory_order_relaxed);
            if ((state & is_closed_bit) != 0) return 0;
            slots_[(state >> 1) % slots_.size()].swap(fresh);
            // Release: with the load in is_news().
            state_.store(state + 2, std::memory_order_release);
            woken.take_all(line_);
            reached = receivers();
        }
        woken.wake_all();
        return reached;
    }

    /// Receivers still get what was sent before, then the end. Again: nothing.
    void close() noexcept {
        detail::wake_list woken;
        {
            const std::lock_guard guard(lock_);
            state_.fetch_or(is_closed_bit, std::memory_order_release);
            woken.take_all(line_);
        }
        woken.wake_all();
    }

    bool is_closed() const noexcept {
        return (state_.load(std::memory_order_relaxed) & is_closed_bit) != 0;
    }

    /// How many receivers there are.
    std::size_t receivers() const noexcept { return receivers_.load(std::memory_order_relaxed); }

    /// One that sees every item from now on.
    [[nodiscard]] receiver subscribe() noexcept {
        const std::lock_guard guard(lock_);
        return receiver{*this, state_.load(std::memory_order_relaxed) >> 1};
    }

private:
    // Twice the number of items sent so far, plus one when it is closed. It changes under the lock.
    static constexpr std::uint64_t is_closed_bit = 1;

    /// Whether somebody who has seen the first `position` items has something to learn.
    bool is_news(std::uint64_t position) const noexcept {
        // Acquire: with the release in send() and close().
        const std::uint64_t state = state_.load(std::memory_order_acquire);
        return (state >> 1) != position || (state & is_closed_bit) != 0;
    }

    std::atomic<std::uint64_t> state_{0};
    std::atomic<std::size_t> receivers_{0};
    mutable detail::short_lock lock_;
    std::vector<std::shared_ptr<const T>> slots_;  // item i is in slot i % capacity
    detail::wait_list line_;  // those who have seen everything: each change takes everybody out
};

/// Moves, does not copy; not while it is awaited.
/// Thread safety: one task at a time.
template <std::copy_constructible T>
class broadcast<T>::receiver {
public:
    receiver(receiver&& other) noexcept
        : of_(std::exchange(other.of_, nullptr)), position_(other.position_) {}
    receiver& operator=(receiver&& other) noexcept {
        receiver taken(std::move(other));
        std::swap(of_, taken.of_);
        std::swap(position_, taken.position_);
        return *this;
    }
    ~receiver() {
        if (of_ != nullptr) of_->receivers_.fetch_sub(1, std::memory_order_relaxed);
    }

    class [[nodiscard("without co_await nothing happens")]] receive_awaiter final
        : public detail::line_wait<receive_awaiter> {
    public:
        explicit receive_awaiter(receiver& who) noexcept : who_(who) {}
        std::optional<received> await_resume() const {
            this->check_cancelled();
            return who_.try_receive();
        }
        void describe(std::FILE* out) const override { std::fputs("a broadcast", out); }

    private:
        friend class detail::line_wait<receive_awaiter>;
        friend struct detail::select_access;
        detail::short_lock& line_lock() noexcept { return who_.of_->lock_; }
        detail::wait_list& line() noexcept { return who_.of_->line_; }
        bool has_news() const noexcept { return who_.has_news(); }

        receiver& who_;
    };

    /// Completes when there is an item that this receiver has not seen, and gives a copy of the
    /// oldest that is still kept; empty once the broadcast is closed and all is seen. Where the
    /// copy throws, the item stays to be received.
    /// Cancellation: stops waiting, and misses nothing.
    receive_awaiter receive() noexcept { return receive_awaiter{*this}; }

    /// The same, but empty as well when there is nothing yet.
    std::optional<received> try_receive() {
        std::uint64_t at = position_;
        std::shared_ptr<const T> item;
        {
            const std::lock_guard guard(of_->lock_);
            const std::uint64_t sent = of_->state_.load(std::memory_order_relaxed) >> 1;
            if (at == sent) return std::nullopt;
            const std::uint64_t kept = of_->slots_.size();
            if (sent - at > kept) at = sent - kept;
            item = of_->slots_[at % kept];
        }
        std::optional<received> next{received{*item, at - position_}};
        position_ = at + 1;
        return next;
    }

    /// Whether receive() would complete at once.
    bool has_news() const noexcept { return of_->is_news(position_); }

private:
    friend class broadcast;
    receiver(broadcast& of, std::uint64_t position) noexcept : of_(&of), position_(position) {
        of_->receivers_.fetch_add(1, std::memory_order_relaxed);
    }

    broadcast* of_;
    std::uint64_t position_;  // how many items lie behind it
};

}  // namespace rondo
