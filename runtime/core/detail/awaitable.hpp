#pragma once
// What may stand behind co_await, and what it gives.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <coroutine>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo::detail {

template <class Awaitable>
concept has_member_co_await =
    requires(Awaitable&& a) { std::forward<Awaitable>(a).operator co_await(); };

template <class Awaitable>
concept has_free_co_await =
    requires(Awaitable&& a) { operator co_await(std::forward<Awaitable>(a)); };

template <class Awaitable>
decltype(auto) get_awaiter(Awaitable&& awaitable) {
    if constexpr (has_member_co_await<Awaitable>) {
        return std::forward<Awaitable>(awaitable).operator co_await();
    } else if constexpr (has_free_co_await<Awaitable>) {
        return operator co_await(std::forward<Awaitable>(awaitable));
    } else {
        return std::forward<Awaitable>(awaitable);
    }
}

template <class Awaitable>
using awaiter_t = decltype(get_awaiter(std::declval<Awaitable>()));

template <class Awaitable>
using await_result_t =
    decltype(std::declval<std::remove_reference_t<awaiter_t<Awaitable>>&>().await_resume());

template <class Awaitable>
concept awaitable = requires { typename await_result_t<Awaitable>; };

/// Stands for the handle of any coroutine, and for none whose promise a template could deduce.
struct any_coroutine {
    operator std::coroutine_handle<>() const noexcept;
};

/// An awaiter that takes the handle of any coroutine, as none of the library's does: they need to
/// know the task. (One that takes a coroutine_handle<Promise>, for whatever Promise, may pass it on
/// to one of the library's, and is let through.)
template <class Awaiter>
concept foreign_awaiter =
    requires(Awaiter& awaiter, any_coroutine handle) { awaiter.await_suspend(handle); };

template <class Awaitable>
constexpr void refuse_foreign_awaiter() noexcept {
    static_assert(
        !foreign_awaiter<std::remove_reference_t<awaiter_t<Awaitable>>>,
        "A task cannot await this. Its awaiter is not one of rondo's: it would resume the "
        "task by itself, wherever it is called, past the scheduler that runs the task. "
        "Have its callback give the result to a rondo::promise or a rondo::oneshot, and "
        "await the future or the other end; to go on elsewhere, await "
        "rondo::resume_on(scheduler).");
}

/// Stands for an awaitable that stays where it is.
template <class Awaitable>
struct awaitable_reference {
    Awaitable* target;
    decltype(auto) operator co_await() const { return get_awaiter(*target); }
};

/// An awaitable to keep for later: itself, or a copy of an lvalue, or a reference to an lvalue that
/// cannot be copied, such as a task_handle.
template <class Awaitable>
auto hold(Awaitable&& awaitable) {
    refuse_foreign_awaiter<Awaitable>();
    using held = std::remove_cvref_t<Awaitable>;
    if constexpr (std::is_lvalue_reference_v<Awaitable> && !std::is_copy_constructible_v<held>) {
        return awaitable_reference<std::remove_reference_t<Awaitable>>{std::addressof(awaitable)};
    } else {
        return held(std::forward<Awaitable>(awaitable));
    }
}

template <class Awaitable>
using held_t = decltype(hold(std::declval<Awaitable>()));

/// await_suspend of an inner awaiter, as if it were awaited at `where`.
template <class Awaiter, class Promise>
auto suspend_at(Awaiter& awaiter, std::coroutine_handle<Promise> waiter,
                std::source_location where) {
    if constexpr (requires { awaiter.await_suspend(waiter, where); }) {
        return awaiter.await_suspend(waiter, where);
    } else {
        return awaiter.await_suspend(waiter);
    }
}

}  // namespace rondo::detail
