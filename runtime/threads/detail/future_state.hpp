#pragma once
// What the handles of a future share with whoever completes it: the status, the result, and its
// waiters. No lock: a reactor must never wait for one that a preempted worker holds.

#include <rondo/runtime/core/detail/wakeable.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace rondo::detail {

/// A place in the line of a future's waiters. It is never unlinked: it stays until the state goes.
class waiter_node {
public:
    waiter_node() noexcept = default;
    waiter_node(const waiter_node&) = delete;
    waiter_node& operator=(const waiter_node&) = delete;
    virtual ~waiter_node() = default;

private:
    friend class future_state_base;
    std::atomic<waiter_node*> next_{nullptr};
    // The waiter to be woken. Null: that one gave up, and the place is free to be used again.
    // taken(): the completion has passed here, and has woken the waiter.
    std::atomic<wakeable*> target_{nullptr};
};

class future_state_base {
public:
    future_state_base() noexcept = default;
    future_state_base(const future_state_base&) = delete;
    future_state_base& operator=(const future_state_base&) = delete;

    /// What a reference counts as: a handle may ask for the value, as a future<T> and a task that
    /// waits do; the others (promise, job) only keep the state alive.
    enum : std::uint64_t { other = 1, handle = (std::uint64_t{1} << 32) + 1 };

    void add_reference(std::uint64_t kind) noexcept {
        // relaxed: the caller has a reference already, so nothing is ordered by it
        references_.fetch_add(kind, std::memory_order_relaxed);
    }
    /// Gives back a reference of the kind `other`.
    void release() noexcept {
        // release: what was done under this reference comes before the end; acquire: the last one
        // to go has seen all of it
        const std::uint64_t before = references_.fetch_sub(other, std::memory_order_acq_rel);
        if (static_cast<std::uint32_t>(before) == 1) delete this;
    }
    /// Gives back a handle. The result goes with the last one, since nobody can ask for it then.
    void release_handle() noexcept {
        // acquire: when no other reference is left, what was done under them is seen here
        if (references_.load(std::memory_order_acquire) == handle) {
            delete this;
        } else {
            release_one_handle_of_several_references();
        }
    }
    bool only_one_handle(std::uint64_t besides = 0) const noexcept {
        // acquire, with the releases: the other handles are done with the value
        return references_.load(std::memory_order_acquire) >> 32 == 1 + besides;
    }

    bool done() const noexcept { return phase() >= has_value; }
    bool running() const noexcept { return phase() == began || phase() == completing; }
    bool cancelled() const noexcept { return phase() == was_cancelled; }
    bool has_failed() const noexcept { return phase() == failed; }

    /// It will never start now; false when it did already. Whoever asks wants no result, so that
    /// an exception is not reported as unheard.
    bool cancel() noexcept;
    /// It starts; false when it was cancelled.
    bool start() noexcept;
    /// Ends with an exception; nothing when it was cancelled. False when it had ended otherwise.
    bool fail(std::exception_ptr error) noexcept;
    /// The promise goes: fails with broken_promise, unless it has ended.
    void break_promise() noexcept;

    void wait() const noexcept;
    bool wait_until(std::int64_t deadline) const noexcept;

    /// Has `who` woken when it is done; null when it is done already.
    waiter_node* add_waiter(wakeable& who);
    /// `who` gives up its place; false: its wake-up is on the way. The place is no longer its own.
    bool withdraw(waiter_node& place, wakeable& who) noexcept;
    /// The same for a node of its own kind, which the state deletes; false: done already, and the
    /// node is still the caller's.
    bool add_own_waiter(waiter_node& node, wakeable& who) noexcept;

protected:
    // The low three bits of the status. A completed one is has_value or above.
    enum : std::uint32_t {
        pending,
        began,
        completing,
        cancelling,
        has_value,
        failed,
        was_cancelled
    };
    enum : std::uint32_t {
        phase_bits = 7,
        thread_waits = 8,  // a thread sleeps on the status word
        taken_out = 16,    // the value or the exception was moved out
        heard = 32,        // somebody asked for the exception, or said that it is not wanted
        abandoned = 64,    // the last handle is gone, and the result with it
    };

    virtual ~future_state_base();

    /// It was cancelled, and what would have made the value is not needed any more.
    virtual void forget_work() noexcept {}

    // acquire: a thread that reads that it is done sees the result; with the exchange in finish()
    std::uint32_t phase() const noexcept {
        return status_.load(std::memory_order_acquire) & phase_bits;
    }

    enum class claim_result { mine, cancelled, too_late };
    /// The right to write the result, which one thread gets.
    claim_result claim() noexcept;
    /// The result is written: tells everybody. Precondition: the caller holds a reference that
    /// nobody who is told can give back.
    void finish(std::uint32_t outcome) noexcept;

    /// Throws what it ended with, if not a value; moved out if `last`.
    void check_value(bool last);
    /// The right to move the result out; throws std::future_error when somebody did.
    void take_out();

    virtual void destroy_value() noexcept = 0;

    std::exception_ptr error_;
    std::atomic<std::uint32_t> status_{pending};

private:
    static waiter_node* closed() noexcept { return reinterpret_cast<waiter_node*>(1); }
    static wakeable* taken() noexcept { return reinterpret_cast<wakeable*>(1); }
    void notify() noexcept;
    void release_one_handle_of_several_references() noexcept;
    void drop_result() noexcept;
    void report_if_unheard() noexcept;

    std::atomic<bool> first_used_{false};
    // Places whose waiter gave up. Below zero while one is taken that is not counted yet.
    std::atomic<std::int32_t> free_places_{0};
    std::atomic<std::uint64_t> references_{other};
    // Newest first; closed() once it is done.
    std::atomic<waiter_node*> waiters_{nullptr};
    waiter_node* notified_ = nullptr;  // the same nodes, oldest first, when it is done
    waiter_node first_;                // for the one waiter that most futures have
};

template <class T>
class future_state : public future_state_base {
    using stored = stored_result<T>;

public:
    future_state() noexcept {}
    ~future_state() override {
        const std::uint32_t status = status_.load(std::memory_order_relaxed);
        if ((status & (phase_bits | abandoned)) == has_value) std::destroy_at(&value_);
    }

    /// The value; moved out if it cannot be copied, or if `last`: nobody else will ask for it.
    T take(bool last) {
        check_value(last);
        if constexpr (std::is_void_v<T>) {
            return;
        } else if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*value_);
        } else if constexpr (!std::copy_constructible<stored>) {
            take_out();
            return std::move(value_);
        } else {
            if (last) {
                take_out();
                return std::move(value_);
            }
            // relaxed: only the last handle takes it out, and this is another one, or the same
            if ((status_.load(std::memory_order_relaxed) & taken_out) != 0) take_out();
            return value_;
        }
    }

    /// Ends with what make() returns or throws; does not call it when it was cancelled. False when
    /// it had ended otherwise.
    template <class Make>
    bool complete(Make make) {
        const claim_result claimed = claim();
        if (claimed == claim_result::mine) {
            // Whoever is told may drop the promise that this is called through.
            add_reference(other);
            evaluate(make, [] {});
            release();
        }
        return claimed != claim_result::too_late;
    }

protected:
    /// Precondition: start() or claim() said yes, and nobody else writes the result.
    /// `before_finish` runs between the result and the news of it.
    template <class Make, class BeforeFinish>
    void evaluate(Make& make, BeforeFinish before_finish) noexcept {
        std::uint32_t outcome = has_value;
        try {
            if constexpr (std::is_void_v<T>) {
                make();
                ::new (static_cast<void*>(std::addressof(value_))) stored();
            } else if constexpr (std::is_reference_v<T>) {
                value_ = std::addressof(static_cast<T>(make()));
            } else {
                ::new (static_cast<void*>(std::addressof(value_))) stored(make());
            }
        } catch (...) {
            error_ = std::current_exception();
            outcome = failed;
        }
        before_finish();
        finish(outcome);
    }

private:
    void destroy_value() noexcept final { std::destroy_at(&value_); }

    union {
        stored value_;  // when the phase is has_value, and it is not abandoned
    };
};

/// A task that waits for a future. Trivially destructible, as all awaiters are: what it holds, it
/// lets go of when it is resumed.
class future_wait : public task_wait {
public:
    future_wait(future_state_base* state) noexcept : state_(state) {}
    future_wait(const future_wait&) = default;  // before it waits
    future_wait& operator=(const future_wait&) = delete;

    void cancel() noexcept override;
    void describe(std::FILE* out) const override;

protected:
    ~future_wait() = default;

    /// False: the task goes on at once.
    bool start(promise_base& waiter, std::source_location where);
    // The handle that is awaited may go meanwhile.
    void hold() noexcept {
        state_->add_reference(future_state_base::handle);
        holds_state_ = true;
    }
    void let_go() noexcept {
        if (std::exchange(holds_state_, false)) state_->release_handle();
    }

    future_state_base* state_;
    waiter_node* place_ = nullptr;
    bool holds_state_ = false;
    bool was_cancelled_ = false;
};

}  // namespace rondo::detail
