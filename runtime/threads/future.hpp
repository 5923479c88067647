#pragma once
// The result of work that somebody else does, asked for by tasks and by plain threads alike.
//
//     promise<int> answer;
//     future<int> soon = answer.get_future();
//     std::thread worker([answer = std::move(answer)]() mutable { answer.set_value(think()); });
//
//     int n = co_await soon;                    // in a task: the reactor goes on meanwhile
//     int m = soon.get();                       // in a plain thread: blocks
//     soon.add_done_callback([](future<int> done) { log(done.get()); });
//
// thread_pool::submit and runtime::submit give one too.

#include <rondo/runtime/threads/detail/future_state.hpp>

#include <chrono>
#include <concepts>
#include <coroutine>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

template <class T = void>
class future;
template <class T = void>
class promise;

namespace detail {

template <class T>
class future_awaiter;
class future_access;

/// Whether a future was done when a wait with a limit ended; for those who are used to std::future
/// as well.
class wait_outcome {
public:
    wait_outcome(bool done) noexcept : done_(done) {}
    operator bool() const noexcept { return done_; }
    operator std::future_status() const noexcept {
        return done_ ? std::future_status::ready : std::future_status::timeout;
    }
    friend bool operator==(wait_outcome one, std::future_status other) noexcept {
        return static_cast<std::future_status>(one) == other;
    }

private:
    bool done_;
};

/// The exception that is being handled goes to the hook for unheard errors.
void report_callback_error() noexcept;

}  // namespace detail

/// A handle on a result to come: a value, a reference or nothing. Copies stand for the same result.
/// The value is copied out, and may be asked for again and again, by every handle. From an rvalue
/// that is the last handle it is moved, and so is an exception; a T that cannot be copied is moved
/// out by whoever asks first. Asking for what was moved out throws std::future_error
/// (future_already_retrieved). The result goes with the last handle.
/// An exception that nobody has asked for when the last handle goes is given to the hook of
/// unheard_error.hpp, which writes it to standard error by default; operation_cancelled is not, and
/// neither is anything of a future that cancel() was called on: whoever does not care says so with
/// that. To ask is to await the future or to call get().
/// It converts to a std::future, for programs that keep results as that.
/// Thread safety: any thread, any task, on any scheduler; one handle is used by one at a time.
template <class T>
class [[nodiscard("what becomes of the work is lost with its future")]] future {
    static_assert(!std::is_rvalue_reference_v<T>);

public:
    using value_type = T;

    /// Stands for nothing: valid() is false, and nothing else may be asked.
    future() noexcept = default;
    future(const future& other) noexcept : state_(other.state_) {
        if (state_ != nullptr) state_->add_reference(detail::future_state_base::handle);
    }
    future(future&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    future& operator=(future other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~future() {
        if (state_ != nullptr) state_->release_handle();
    }

    bool valid() const noexcept { return state_ != nullptr; }

    /// Whether it has a value, an exception, or was cancelled.
    bool done() const noexcept { return state_->done(); }
    /// Whether the work has begun and not ended; cancel() can no longer stop it.
    bool running() const noexcept { return state_->running(); }
    /// Whether cancel() came in time.
    bool cancelled() const noexcept { return state_->cancelled(); }

    /// Has the work never start; whoever waits gets operation_cancelled. False when it has started
    /// or ended, which goes on; true when it was cancelled before. Either way an exception that
    /// nobody asks for is not reported.
    bool cancel() const noexcept { return state_->cancel(); }

    /// Blocks the calling thread until it is done, then gives the value or throws the exception;
    /// operation_cancelled when it was cancelled. In a task co_await it instead: blocking there is
    /// misuse.
    T get(std::source_location where = std::source_location::current()) const& {
        wait(where);
        return state_->take(false);
    }
    T get(std::source_location where = std::source_location::current()) && {
        wait(where);
        return state_->take(state_->only_one_handle());
    }

    /// Blocks the calling thread, not a task's, until it is done.
    void wait(std::source_location where = std::source_location::current()) const {
        if (state_->done()) return;
        detail::check_may_block("a task blocks on a future; co_await it instead", where);
        state_->wait();
    }
    /// The same for at most `limit`; whether it is done, as a bool or a std::future_status.
    template <class Rep, class Period>
    detail::wait_outcome wait_for(
        std::chrono::duration<Rep, Period> limit,
        std::source_location where = std::source_location::current()) const {
        if (state_->done() || limit <= limit.zero()) return state_->done();
        detail::check_may_block("a task blocks on a future; co_await it instead", where);
        return state_->wait_until(detail::deadline_after(limit));
    }
    /// The same until `time`.
    template <class Clock, class Duration>
    detail::wait_outcome wait_until(
        std::chrono::time_point<Clock, Duration> time,
        std::source_location where = std::source_location::current()) const {
        return wait_for(time - Clock::now(), where);
    }

    /// Calls f(future<T>) once when it is done, on the thread that completes or cancels it, which f
    /// must not hold up; at once, here, if it is done. Callbacks run in the order of adding. What f
    /// throws is reported on standard error and goes no further.
    template <class F>
        requires std::invocable<F, future>
    void add_done_callback(F f) const {
        call_when_done(future(*this), std::move(f));
    }

    /// The same result as a std::future, for code that takes one. It is given the value that this
    /// handle would give, and counts as having asked. Costs two allocations.
    operator std::future<T>() const& { return to_standard(future(*this)); }
    operator std::future<T>() && { return to_standard(std::move(*this)); }
    std::shared_future<T> share() const { return to_standard(future(*this)).share(); }

    /// Completes when it is done, with the value or the exception, on the task's own scheduler.
    /// Cancellation: the task gives up waiting, at once; the work goes on.
    detail::future_awaiter<T> operator co_await() const& noexcept;
    detail::future_awaiter<T> operator co_await() && noexcept;

private:
    friend class detail::future_access;
    explicit future(detail::future_state<T>* state) noexcept : state_(state) {}

    template <class F>
    static void call_when_done(future of, F f);
    static std::future<T> to_standard(future of);

    detail::future_state<T>* state_ = nullptr;
};

namespace detail {

/// How the library makes futures, and looks into them.
class future_access {
public:
    /// A new handle on a state that the caller keeps alive.
    template <class T>
    static future<T> make(future_state<T>& state) noexcept {
        state.add_reference(future_state_base::handle);
        return future<T>{&state};
    }
    template <class T>
    static future_state<T>& state(const future<T>& of) noexcept {
        return *of.state_;
    }
};

}  // namespace detail

/// The other end of a future: who promises a T gives it, once. Destroyed without having done so, it
/// leaves std::future_error (broken_promise). Giving a result to a future that was cancelled does
/// nothing. Moves, does not copy.
/// Thread safety: one thread at a time; the future may be used meanwhile.
template <class T>
class promise {
public:
    promise() : state_(new detail::future_state<T>) {}
    promise(promise&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), future_given_(other.future_given_) {}
    promise& operator=(promise other) noexcept {
        std::swap(state_, other.state_);
        std::swap(future_given_, other.future_given_);
        return *this;
    }
    ~promise() {
        if (state_ == nullptr) return;
        state_->break_promise();
        state_->release();
    }

    /// Its future, once; copies are made from that. Throws std::future_error when asked again.
    future<T> get_future() {
        if (std::exchange(future_given_, true)) {
            throw std::future_error(std::future_errc::future_already_retrieved);
        }
        return detail::future_access::make(*state_);
    }

    /// Says that the work begins: from now on cancel() fails. False when it was cancelled, and the
    /// work is not wanted.
    bool set_running() noexcept { return state_->start(); }

    /// Gives the value. Throws std::future_error (promise_already_satisfied) the second time. What
    /// T's constructor throws becomes the result.
    template <class Value = T>
        requires(!std::is_void_v<T> && std::convertible_to<Value &&, T>)
    void set_value(Value&& value) {
        check(state_->complete([&]() -> T { return std::forward<Value>(value); }));
    }
    void set_value()
        requires std::is_void_v<T>
    {
        check(state_->complete([] {}));
    }
    /// Gives an exception. Throws as set_value.
    void set_exception(std::exception_ptr error) { check(state_->fail(std::move(error))); }

private:
    static void check(bool in_time) {
        if (!in_time) throw std::future_error(std::future_errc::promise_already_satisfied);
    }

    detail::future_state<T>* state_;
    bool future_given_ = false;
};

namespace detail {

template <class T>
class [[nodiscard("without co_await nothing happens")]] future_awaiter final : public future_wait {
public:
    future_awaiter(future_state<T>* state, bool may_move) noexcept
        : future_wait(state), may_move_(may_move) {
        refuse_over_aligned<stored_result<T>>();
    }

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) {
        return start(waiter.promise(), where);
    }
    T await_resume() {
        if (was_cancelled_) throw operation_cancelled{};
        const struct letting_go {
            future_awaiter& awaiter;
            ~letting_go() { awaiter.let_go(); }
        } at_end{*this};
        auto& state = static_cast<future_state<T>&>(*state_);
        return state.take(may_move_ && state.only_one_handle(holds_state_ ? 1 : 0));
    }
    /// Whether await_resume, which is not called then, would throw operation_cancelled.
    bool was_cancelled() noexcept {
        if (was_cancelled_) return true;
        if (!state_->cancelled()) return false;
        let_go();
        return true;
    }

private:
    bool may_move_;
};

/// A callback in the line of a future's waiters. It holds a handle until it has run: nobody else is
/// the last one before.
template <class T, class F>
class callback_node final : public waiter_node, public wakeable {
public:
    callback_node(F f, future<T> of) : call_(call{std::move(f), std::move(of)}) {}

    void wake() noexcept override {
        try {
            std::invoke(std::move(call_->f), std::move(call_->of));
        } catch (...) {
            report_callback_error();
        }
        call_.reset();
    }

private:
    struct call {
        F f;
        future<T> of;
    };
    std::optional<call> call_;
};

}  // namespace detail

template <class T>
template <class F>
void future<T>::call_when_done(future of, F f) {
    detail::future_state<T>& state = *of.state_;
    auto node = std::make_unique<detail::callback_node<T, F>>(std::move(f), std::move(of));
    // The node keeps the state until it is called, which may be before this returns.
    if (state.add_own_waiter(*node, *node)) {
        (void)node.release();
    } else {
        node->wake();
    }
}

template <class T>
std::future<T> future<T>::to_standard(future of) {
    std::promise<T> promise;
    std::future<T> result = promise.get_future();
    call_when_done(std::move(of), [promise = std::move(promise)](future done) mutable {
        try {
            if constexpr (std::is_void_v<T>) {
                std::move(done).get();
                promise.set_value();
            } else {
                promise.set_value(std::move(done).get());
            }
        } catch (...) {
            promise.set_exception(std::current_exception());
        }
    });
    return result;
}

template <class T>
detail::future_awaiter<T> future<T>::operator co_await() const& noexcept {
    return detail::future_awaiter<T>{state_, false};
}
template <class T>
detail::future_awaiter<T> future<T>::operator co_await() && noexcept {
    return detail::future_awaiter<T>{state_, true};
}

}  // namespace rondo
