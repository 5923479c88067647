#pragma once
// One value from one task to another; either may go away before.
//
//     auto [sender, receiver] = rondo::oneshot<std::string>();
//     group.spawn(look_up(name, std::move(sender)));           // sender.send(address)
//     std::optional<std::string> address = co_await receiver;  // empty: nobody will send it
//
// Or whole: `oneshot<int> answer;`, with answer.sender and answer.receiver.

#include <rondo/runtime/detail/misuse.hpp>
#include <rondo/runtime/errors.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <source_location>
#include <utility>

namespace rondo {

namespace detail {

// What both ends share. The state is a set of facts, each of which becomes true once; whoever makes
// one true learns from the same exchange which others were before, and so whom it has to wake.
class oneshot_state_base {
public:
    // sent: the value is there. sender_gone, receiver_gone: that end is destroyed; whoever sets the
    // second of them frees the state. receiver_waits, sender_waits: the pointer is valid; the
    // waiter takes its bit back when it is cancelled, unless what it waits for came first.
    enum : std::uint32_t {
        sent = 1,
        sender_gone = 2,
        receiver_gone = 4,
        receiver_waits = 8,
        sender_waits = 16,
        end_for_receiver = sent | sender_gone,
        end_for_sender = receiver_gone,
    };

    bool has(std::uint32_t any_of) const noexcept {
        // Acquire: with the release in add().
        return (facts_.load(std::memory_order_acquire) & any_of) != 0;
    }
    /// Gives what was known before.
    std::uint32_t add(std::uint32_t fact) noexcept {
        // Release: what was done before the fact is seen by who reads it. Acquire: the reverse.
        return facts_.fetch_or(fact, std::memory_order_acq_rel);
    }

    /// False: what it waits for is there.
    bool start_wait(task_waiter*& place, task_waiter& one, std::uint32_t bit,
                    std::uint32_t end) noexcept {
        place = &one;
        return (add(bit) & end) == 0;
    }
    /// False: it is being woken.
    bool give_up(std::uint32_t bit, std::uint32_t end) noexcept {
        // Acquire: what it waits for may be there already.
        return (facts_.fetch_and(~bit, std::memory_order_acquire) & end) == 0;
    }

    task_waiter* receiver = nullptr;
    task_waiter* sender = nullptr;

private:
    std::atomic<std::uint32_t> facts_{0};
};

template <class T>
struct oneshot_state : oneshot_state_base {
    std::optional<T> value;  // the sender's before `sent`, the receiver's afterwards
};

/// The awaiter of either end.
class oneshot_wait : public task_waiter {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        was_cancelled_ = current_core->current->should_stop();
        if (was_cancelled_ || !join()) return !keeps_turn(waiter.promise(), where, memory_cost);
        block(*this, waiter.promise(), where);
        return true;
    }
    bool was_cancelled() const noexcept { return was_cancelled_; }

    void cancel() noexcept final {
        was_cancelled_ = state_.give_up(bit(), end());
        if (was_cancelled_) current_core->wake(*task);
    }
    void describe(std::FILE* out) const final {
        std::fputs(is_receiver_ ? "the value of a oneshot" : "the end of a oneshot's receiver",
                   out);
    }

protected:
    oneshot_wait(oneshot_state_base& state, bool is_receiver) noexcept
        : state_(state), is_receiver_(is_receiver) {}
    ~oneshot_wait() = default;
    void check_cancelled() const {
        if (was_cancelled_) throw operation_cancelled{};
    }

private:
    std::uint32_t bit() const noexcept {
        return is_receiver_ ? oneshot_state_base::receiver_waits : oneshot_state_base::sender_waits;
    }
    std::uint32_t end() const noexcept {
        return is_receiver_ ? oneshot_state_base::end_for_receiver
                            : oneshot_state_base::end_for_sender;
    }
    bool join() noexcept {
        if (state_.has(end())) return false;
        prepare();
        task_waiter*& place = is_receiver_ ? state_.receiver : state_.sender;
        return state_.start_wait(place, *this, bit(), end());
    }

    oneshot_state_base& state_;
    bool is_receiver_;
    bool was_cancelled_ = false;
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
        const std::uint32_t before = state_->add(state::sender_gone);
        if ((before & state::receiver_gone) != 0) {
            delete state_;
        } else if ((before & state::sent) == 0 && (before & state::receiver_waits) != 0) {
            state_->receiver->wake();
        }
    }

    /// Gives the value to the receiver, once. False, and the value is still the caller's: the
    /// receiver has gone. True does not say that it has been looked at.
    /// Where the move of T throws, nothing was sent.
    bool send(T&& value, std::source_location where = std::source_location::current()) {
        if (state_->has(state::receiver_gone)) return false;
        if (state_->has(state::sent)) detail::misuse("a oneshot is sent to twice", where);
        state_->value.emplace(std::move(value));
        const std::uint32_t before = state_->add(state::sent);
        if ((before & state::receiver_gone) != 0) {
            value = std::move(*state_->value);
            return false;
        }
        if ((before & state::receiver_waits) != 0) state_->receiver->wake();
        return true;
    }
    bool send(const T& value, std::source_location where = std::source_location::current())
        requires std::copy_constructible<T>
    {
        return send(T(value), where);
    }

    /// Whether the receiver has gone.
    bool is_closed() const noexcept { return state_->has(state::receiver_gone); }

    class closed_awaiter final : public detail::oneshot_wait {
    public:
        explicit closed_awaiter(state& of) noexcept : oneshot_wait(of, false) {}
        void await_resume() const { check_cancelled(); }
    };

    /// Completes when the receiver has gone: nobody wants the value any more.
    /// Cancellation: stops waiting.
    [[nodiscard]] closed_awaiter closed() noexcept { return closed_awaiter{*state_}; }

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
        const std::uint32_t before = state_->add(state::receiver_gone);
        if ((before & state::sender_gone) != 0) {
            delete state_;
        } else if ((before & state::sender_waits) != 0) {
            state_->sender->wake();
        }
    }

    class receive_awaiter final : public detail::oneshot_wait {
    public:
        explicit receive_awaiter(state& of) noexcept : oneshot_wait(of, true), from_(of) {}
        std::optional<T> await_resume() const {
            check_cancelled();
            return take(from_);
        }

    private:
        state& from_;
    };

    /// Completes when the value is there, and moves it out; or, empty, when the sender has gone
    /// without sending, or the value was taken before.
    /// Cancellation: stops waiting; a value that is sent meanwhile stays for the next await.
    receive_awaiter operator co_await() noexcept { return receive_awaiter{*state_}; }

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
    oneshot() : oneshot(new detail::oneshot_state<T>) {}

    oneshot_sender<T> sender;
    oneshot_receiver<T> receiver;

private:
    explicit oneshot(detail::oneshot_state<T>* both) noexcept : sender(both), receiver(both) {}
};

}  // namespace rondo
