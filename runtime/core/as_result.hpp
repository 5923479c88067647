#pragma once
// Errors as values.
//
//     result<std::size_t> n = co_await as_result(peer.read_some(buffer));
//     if (!n) co_return;                        // reset by the peer: nothing was thrown on the way
//
// A cancellation arrives as std::errc::operation_canceled, a timeout as std::errc::timed_out.

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/runtime/core/task.hpp>

#include <coroutine>
#include <source_location>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// An awaiter that can give its outcome without throwing.
template <class Awaiter>
concept gives_result = requires(Awaiter& awaiter) { awaiter.resume_result(); };

/// An awaiter that can tell, in place of await_resume, that it would throw operation_cancelled.
template <class Awaiter>
concept tells_cancellation = requires(Awaiter& awaiter) { awaiter.was_cancelled(); };

template <class T>
inline constexpr bool is_result = false;
template <class T>
inline constexpr bool is_result<result<T>> = true;

template <class Awaitable>
class [[nodiscard("without co_await nothing happens")]] result_awaitable {
public:
    using value = await_result_t<Awaitable>;

    explicit result_awaitable(Awaitable inner) : inner_(std::move(inner)) {}

    class awaiter {
    public:
        explicit awaiter(Awaitable& inner) : inner_(get_awaiter(std::move(inner))) {}
        bool await_ready() { return inner_.await_ready(); }
        template <rondo_promise Promise>
        auto await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) {
            return suspend_at(inner_, waiter, where);
        }
        result<value> await_resume() {
            using inner = std::remove_reference_t<awaiter_t<Awaitable>>;
            if constexpr (gives_result<inner>) {
                return inner_.resume_result();
            } else {
                if constexpr (tells_cancellation<inner>) {
                    if (inner_.was_cancelled()) return std::errc::operation_canceled;
                }
                try {
                    if constexpr (std::is_void_v<value>) {
                        inner_.await_resume();
                        return {};
                    } else {
                        return inner_.await_resume();
                    }
                } catch (const operation_cancelled&) {
                    return std::errc::operation_canceled;
                } catch (const std::system_error& error) {
                    return explained_error{error.code(), error.what()};
                }
            }
        }

    private:
        // a reference into the result_awaitable, or an awaiter of its own
        awaiter_t<Awaitable> inner_;
    };

    awaiter operator co_await() && { return awaiter{inner_}; }

private:
    Awaitable inner_;
};

/// A task that reports errors as values inside and throws them only where it is awaited without
/// as_result.
template <class T>
class [[nodiscard("without co_await nothing happens")]] result_task {
public:
    using value_type = T;

    /// `what` begins the message of what is thrown: it says what was tried, on what.
    result_task(task<result<T>> work, std::string what) noexcept
        : work_(std::move(work)), what_(std::move(what)) {}

    class awaiter {
    public:
        awaiter(typename task<result<T>>::awaiter inner, const std::string& what) noexcept
            : inner_(inner), what_(&what) {}
        bool await_ready() const noexcept { return false; }
        template <rondo_promise Promise>
        std::coroutine_handle<> await_suspend(
            std::coroutine_handle<Promise> waiter,
            std::source_location where = std::source_location::current()) noexcept {
            return inner_.await_suspend(waiter, where);
        }
        T await_resume() {
            result<T> outcome = inner_.await_resume();
            if (!outcome) throw_error(outcome.error(), *what_);
            if constexpr (!std::is_void_v<T>) return *std::move(outcome);
        }
        result<T> resume_result() {
            result<T> outcome = inner_.await_resume();
            if (!outcome) return explain(outcome.error(), [this] { return *what_; });
            return outcome;
        }

    private:
        typename task<result<T>>::awaiter inner_;
        const std::string* what_;
    };

    awaiter operator co_await() const noexcept { return awaiter{work_.operator co_await(), what_}; }

private:
    task<result<T>> work_;
    std::string what_;
};

}  // namespace detail

/// Awaits `awaitable` and gives its value or its error code as a result<T>, whose message() is what
/// the exception would have said. The library's own
/// operations throw nothing on that path. A task's std::system_error and its cancellation become
/// codes; any other exception that leaves a task cannot be a code and is thrown on.
template <detail::awaitable Awaitable>
auto as_result(Awaitable&& awaitable) {
    auto held = detail::hold(std::forward<Awaitable>(awaitable));
    if constexpr (requires { std::move(held).into_result(); }) {
        return std::move(held).into_result();
    } else {
        return detail::result_awaitable{std::move(held)};
    }
}

}  // namespace rondo
