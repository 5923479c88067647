#pragma once
// The coroutine that everything is written in. A task starts when it is awaited, and is awaited
// once.
//
//     rondo::task<int> parse(rondo::tcp_stream& peer);
//
//     rondo::task<> handle(rondo::tcp_stream peer) {
//         int n = co_await parse(peer);              // runs it, here, as a call would
//         co_await peer.write_all(std::to_string(n));
//     }
//
// The awaiting frame is resumed by the awaited one's end: one transfer of control in, one out, no
// queue between. Several tasks run at the same time in a task_group.

#include <rondo/runtime/core/detail/promise_base.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>
#include <variant>

namespace rondo {

template <class T = void>
class task;

namespace detail {

/// The end of a spawned task, as its outermost frame stops for good; gives what to go on with.
/// finish_task tells the handle and the group, and frees what nobody keeps; at home, where a task
/// that is away returns to first.
std::coroutine_handle<> finish_root(promise_base& promise) noexcept;
void finish_task(task_state& task, promise_base& root) noexcept;

struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
        Promise& promise = frame.promise();
        if (promise_base* parent = promise.parent()) return transfer_to(handle_of(*parent));
        return finish_root(promise);
    }
    void await_resume() const noexcept {}
};

/// What a T is kept as until it is taken: references as pointers, void as nothing.
template <class T>
using stored_result = std::conditional_t<
    std::is_void_v<T>, std::monostate,
    std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, std::remove_cv_t<T>>>;

struct task_promise_base : promise_base {
    std::suspend_always initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }
};

template <class T>
struct task_promise : task_promise_base {
    using stored = stored_result<T>;
    static_assert(
        alignof(stored) <= frame_alignment,
        "a task's result cannot be aligned to more than 16 bytes: return a pointer to it");
    static_assert(!std::is_rvalue_reference_v<T>,
                  "a task cannot give an rvalue reference, for what that refers to is mostly gone "
                  "with the task's frame: return a value, or an lvalue reference");

    task_promise() noexcept {}
    ~task_promise() {
        if (is(has_value)) std::destroy_at(&value);
    }

    task<T> get_return_object() noexcept;

    // The default is for `co_return {1, 2}`.
    template <class Value = T>
        requires std::convertible_to<Value&&, T>
    void return_value(Value&& returned) {
        if constexpr (std::is_reference_v<T>) {
            value = std::addressof(static_cast<T>(returned));
        } else {
            ::new (static_cast<void*>(std::addressof(value))) stored(std::forward<Value>(returned));
        }
        mark(has_value);
    }
    // A destructor of a local may throw after `co_return value`: then both bits are set.
    void unhandled_exception() noexcept { fail(); }

    /// Moves the value out, or throws the exception.
    T take() {
        if (is(failed)) std::rethrow_exception(error);
        if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*value);
        } else {
            return std::move(value);
        }
    }

    union {
        stored value;
    };
};

template <>
struct task_promise<void> : task_promise_base {
    task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { fail(); }
    void take() {
        if (is(failed)) std::rethrow_exception(error);
    }
};

}  // namespace detail

/// A lazy coroutine that gives a T: a value, a reference, or nothing. Moves, never copies. A
/// coroutine's reference parameters must outlive it, as a function's must outlive the call; take by
/// value what must live longer.
///
/// co_await: completes when the coroutine has returned, with its value or its exception.
/// Cancellation: awaiting a task is not a cancel point of its own; the operations inside are.
/// Thread safety: a task runs on the scheduler that awaits it.
template <class T>
class [[nodiscard("without co_await nothing happens")]] task {
public:
    using promise_type = detail::task_promise<T>;
    using value_type = T;

    task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            reset();
            frame_ = std::exchange(other.frame_, nullptr);
        }
        return *this;
    }
    ~task() { reset(); }

    /// False once it was moved from, or handed to a group.
    explicit operator bool() const noexcept { return frame_ != nullptr; }

    class awaiter {
    public:
        explicit awaiter(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Parent>
        std::coroutine_handle<> await_suspend(
            std::coroutine_handle<Parent> parent,
            std::source_location where = std::source_location::current()) const noexcept {
            if constexpr (detail::debug_checks) check(where);
            detail::promise_base& base = parent.promise();
            base.where = where;
            frame_.promise().set_parent(base);
            return detail::transfer_to(frame_);
        }
        T await_resume() const { return frame_.promise().take(); }

    private:
        void check(std::source_location where) const noexcept {
            if (!frame_) detail::misuse("a task is awaited that was moved from", where);
            if (frame_.promise().was_started()) detail::misuse("a task is awaited twice", where);
        }
        std::coroutine_handle<promise_type> frame_;
    };

    awaiter operator co_await() const noexcept { return awaiter{frame_}; }

    /// For those who run it by other means: the frame; and the same, which is then theirs to
    /// destroy.
    std::coroutine_handle<promise_type> frame() const noexcept { return frame_; }
    [[nodiscard]] std::coroutine_handle<promise_type> release() noexcept {
        return std::exchange(frame_, nullptr);
    }

private:
    friend promise_type;
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    void reset() noexcept {
        if (!frame_) return;
        if constexpr (detail::debug_checks) {
            const auto& promise = frame_.promise();
            if (promise.was_started() && !frame_.done()) {
                detail::misuse("a task is destroyed while it is running", promise.where);
            }
        }
        frame_.destroy();
    }

    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
    return task<T>{std::coroutine_handle<task_promise>::from_promise(*this)};
}
inline task<void> task_promise<void>::get_return_object() noexcept {
    return task<void>{std::coroutine_handle<task_promise>::from_promise(*this)};
}

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

}  // namespace detail
}  // namespace rondo
