#pragma once
// One value from one task to another; either may go away before.
//
//     auto [sender, receiver] = rondo::oneshot<std::string>();
//     group.spawn(look_up(name, std::move(sender)));           // sender.send(address)
//     std::optional<std::string> address = co_await receiver;  // empty: nobody will send it
//
// Or whole: `oneshot<int> answer;`, with answer.sender and answer.receiver.

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/sync/detail/line_wait.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <optional>
#include <source_location>
#include <utility>

namespace rondo {

namespace detail {

// What both ends share: a set of facts, each of which becomes true once, under the lock.
class oneshot_state_base {
public:
    // sent: the value is there. sender_gone, receiver_gone: that end is destroyed; whoever adds the
    // second of them frees the state.
    enum : std::uint32_t {
        sent = 1,
        sender_gone = 2,
        receiver_gone = 4,
    };

    bool has(std::uint32_t any_of) const noexcept {
        // Acquire: with the release in add().
        return (facts_.load(std::memory_order_acquire) & any_of) != 0;
    }

    /// Adds a fact, wakes whoever waits for it, and tells whether `other` was one before. The other
    /// end frees nothing before this has let go of the lock, after which it touches nothing.
    bool add(std::uint32_t fact, std::uint32_t other) noexcept {
        wake_list woken;
        bool had_other = false;
        {
            const std::lock_guard guard(lock);
            const std::uint32_t before = facts_.load(std::memory_order_relaxed);
            // Release: what was done before the fact is seen by who reads it.
            facts_.store(before | fact, std::memory_order_release);
            woken.take_all(fact == receiver_gone ? senders : receivers);
            had_other = (before & other) != 0;
        }
        woken.wake_all();
        return had_other;
    }

    short_lock lock;
    wait_list senders;    // one at most waits for the receiver to go,
    wait_list receivers;  // and one for the value

private:
    std::atomic<std::uint32_t> facts_{0};
};

template <class T>
struct oneshot_state : oneshot_state_base {
    std::optional<T> value;  // the sender's before `sent`, the receiver's afterwards
};

}  // namespace detail

template <std::movable T>
struct oneshot;

/// The end that sends. Moves, does not copy. Destroyed without having sent, it tells the receiver
/// that nothing will come.
/// Thread safety: one task or thread at a time, any scheduler; send() from any thread, also while a
/// task waits in closed().
template <std::movable T>
class oneshot_sender {
    using state = detail::oneshot_state<T>;

public:
    oneshot_sender(oneshot_sender&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    oneshot_sender& operator=(oneshot_sender&& other) noexcept {
        oneshot_sender(std::move(other)).swap(*this);
        return *this;
    }
    ~oneshot_sender() {
        if (state_ == nullptr) return;
        if (state_->add(state::sender_gone, state::receiver_gone)) delete state_;
    }

    /// Gives the value to the receiver, once. False, and the value is still the caller's: the
    /// receiver has gone. True does not say that it has been looked at.
    /// Where the move of T throws, nothing was sent.
    bool send(T&& value, std::source_location where = std::source_location::current()) {
        if (state_->has(state::receiver_gone)) return false;
        if (state_->has(state::sent)) detail::misuse("a oneshot is sent to twice", where);
        state_->value.emplace(std::move(value));
        if (!state_->add(state::sent, state::receiver_gone)) return true;
        value = std::move(*state_->value);
        return false;
    }
    bool send(const T& value, std::source_location where = std::source_location::current())
        requires std::copy_constructible<T>
    {
        return send(T(value), where);
    }

    /// Whether the receiver has gone.
    bool is_closed() const noexcept { return state_->has(state::receiver_gone); }

    class [[nodiscard("without co_await nothing happens")]] closed_awaiter final
        : public detail::line_wait<closed_awaiter> {
    public:
        explicit closed_awaiter(state& of) noexcept : state_(of) {}
        void await_resume() const { this->check_cancelled(); }
        void describe(std::FILE* out) const override {
            std::fputs("the end of a oneshot's receiver", out);
        }

    private:
        friend class detail::line_wait<closed_awaiter>;
        friend struct detail::select_access;
        detail::short_lock& line_lock() noexcept { return state_.lock; }
        detail::wait_list& line() noexcept { return state_.senders; }
        bool has_news() const noexcept { return state_.has(state::receiver_gone); }

        state& state_;
    };

    /// Completes when the receiver has gone: nobody wants the value any more.
    /// Cancellation: stops waiting.
    closed_awaiter closed() noexcept { return closed_awaiter{*state_}; }

private:
    friend struct oneshot<T>;
    explicit oneshot_sender(state* of) noexcept : state_(of) {}
    void swap(oneshot_sender& other) noexcept { std::swap(state_, other.state_); }

    state* state_;
};

/// The end that receives. Moves, does not copy; not while it is awaited.
/// Thread safety: one task or thread at a time, any scheduler.
template <std::movable T>
class oneshot_receiver {
    using state = detail::oneshot_state<T>;

public:
    oneshot_receiver(oneshot_receiver&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    oneshot_receiver& operator=(oneshot_receiver&& other) noexcept {
        oneshot_receiver(std::move(other)).swap(*this);
        return *this;
    }
    ~oneshot_receiver() {
        if (state_ == nullptr) return;
        if (state_->has(state::sent)) state_->value.reset();
        if (state_->add(state::receiver_gone, state::sender_gone)) delete state_;
    }

    class [[nodiscard("without co_await nothing happens")]] receive_awaiter final
        : public detail::line_wait<receive_awaiter> {
    public:
        explicit receive_awaiter(state& of) noexcept : from_(of) {}
        std::optional<T> await_resume() const {
            this->check_cancelled();
            return take(from_);
        }
        void describe(std::FILE* out) const override { std::fputs("the value of a oneshot", out); }

    private:
        friend class detail::line_wait<receive_awaiter>;
        friend struct detail::select_access;
        detail::short_lock& line_lock() noexcept { return from_.lock; }
        detail::wait_list& line() noexcept { return from_.receivers; }
        bool has_news() const noexcept { return from_.has(state::sent | state::sender_gone); }

        state& from_;
    };

    /// Completes when the value is there, and moves it out; or, empty, when the sender has gone
    /// without sending, or the value was taken before.
    /// Cancellation: stops waiting; a value that is sent meanwhile stays for the next await.
    /// `co_await receiver` is the same; a select takes receive().
    receive_awaiter receive() noexcept { return receive_awaiter{*state_}; }
    receive_awaiter operator co_await() noexcept { return receive(); }

    /// The value, if it is there.
    std::optional<T> try_receive() {
        if (!state_->has(state::sent)) return std::nullopt;
        return take(*state_);
    }

private:
    friend struct oneshot<T>;
    explicit oneshot_receiver(state* of) noexcept : state_(of) {}
    void swap(oneshot_receiver& other) noexcept { std::swap(state_, other.state_); }

    static std::optional<T> take(state& from) {
        if (!from.has(state::sent)) return std::nullopt;
        std::optional<T> taken = std::move(from.value);
        from.value.reset();
        return taken;
    }

    state* state_;
};

/// Both ends, to be given away one by one. One allocation, freed with the second end.
template <std::movable T>
struct oneshot {
    oneshot() : oneshot(new detail::oneshot_state<T>) { detail::refuse_over_aligned<T>(); }

    oneshot_sender<T> sender;
    oneshot_receiver<T> receiver;

private:
    explicit oneshot(detail::oneshot_state<T>* both) noexcept : sender(both), receiver(both) {}
};

}  // namespace rondo
