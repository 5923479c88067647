#pragma once
// What functions that are given a callable share: they keep it together with its arguments, and
// refuse what the compiler would break.

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/task.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <source_location>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace rondo::detail {

// g++ 12 destroys the captures of a lambda twice, and the members of an aggregate, when the lambda
// or the aggregate is written inside a co_await expression: it makes them as temporaries of their
// own, copies their bytes, and destroys both. No function that is called with such an object can
// mend that. tests/runtime/callable_test.cpp tells whether the compiler in use does it.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
inline constexpr bool destroys_captures_twice = true;
#else
inline constexpr bool destroys_captures_twice = false;
#endif

#if defined(__GNUC__)
/// Whether F is the type of a lambda: in g++'s words, its name ends in `<lambda(...)>`.
template <class F>
constexpr bool is_lambda() noexcept {
    constexpr std::string_view suffix = "]";
    std::string_view name = __PRETTY_FUNCTION__;
    name.remove_suffix(suffix.size());
    if (!name.ends_with('>')) return false;
    std::size_t depth = 0;
    for (std::size_t i = name.size(); i-- > 0;) {
        if (name[i] == '>') ++depth;
        if (name[i] == '<' && --depth == 0) return name.substr(i).starts_with("<lambda(");
    }
    return false;
}
#endif

/// Whether an F that is passed to a parameter `F&&` may be one that is destroyed twice. (What was
/// moved from a name looks the same as a temporary.)
template <class F>
constexpr bool may_be_destroyed_twice() noexcept {
    if constexpr (!destroys_captures_twice || std::is_reference_v<F> || !std::is_class_v<F> ||
                  std::is_trivially_destructible_v<F>) {
        return false;
    } else {
        return std::is_aggregate_v<F> || is_lambda<F>();
    }
}

/// To be named first in a function that takes a callable as `F&&` and is awaited where it is
/// called.
template <class F>
constexpr void refuse_what_is_destroyed_twice() noexcept {
    static_assert(
        !may_be_destroyed_twice<F>(),
        "g++ 12 destroys the captures of a lambda twice that is written inside a co_await "
        "expression. Give the lambda a name and pass that (as std::ref(name) where it "
        "cannot be copied), or pass what it captures as arguments behind it; see \"Under "
        "g++ 12\" in rondo's README.");
}

/// How a kept call passes its arguments.
enum class pass {
    once,       // as std::thread does: moved, or as they are where the callable takes nothing else
    each_time,  // as they are
};

/// A callable and arguments, both kept, for f(first..., args...): `first` comes with the call.
template <pass How, class F, class... Args>
class kept_call {
public:
    template <class Callable, class... Arguments>
    explicit kept_call(std::in_place_t, Callable&& f, Arguments&&... args)
        : f_(std::forward<Callable>(f)), args_(std::forward<Arguments>(args)...) {}

    template <class... First>
        requires(How == pass::once && std::invocable<F&, First..., Args...>)
    decltype(auto) operator()(First&&... first) {
        return std::apply(
            [&](Args&... args) -> decltype(auto) {
                return std::invoke(f_, std::forward<First>(first)..., std::move(args)...);
            },
            args_);
    }

    template <class... First>
        requires((How == pass::each_time || !std::invocable<F&, First..., Args...>) &&
                 std::invocable<F&, First..., Args&...>)
    decltype(auto) operator()(First&&... first) {
        return std::apply(
            [&](Args&... args) -> decltype(auto) {
                return std::invoke(f_, std::forward<First>(first)..., args...);
            },
            args_);
    }

private:
    F f_;
    std::tuple<Args...> args_;
};

/// f, or f and its arguments as one callable.
template <pass How = pass::once, class F, class... Args>
auto keep_callable(F&& f, Args&&... args) {
    if constexpr (sizeof...(Args) == 0) {
        return std::decay_t<F>(std::forward<F>(f));
    } else {
        return kept_call<How, std::decay_t<F>, std::decay_t<Args>...>(
            std::in_place, std::forward<F>(f), std::forward<Args>(args)...);
    }
}

template <pass How, class F, class... Args>
using kept_t = decltype(keep_callable<How>(std::declval<F>(), std::declval<Args>()...));

/// Whether f(first...) gives a task.
template <class F, class... First>
concept calls_task = std::invocable<F&, First...> && is_task<std::invoke_result_t<F&, First...>>;

/// Whether f(first...) can be awaited and gives nothing, so that nothing of it is lost.
template <class F, class... First>
concept calls_nothing =
    std::invocable<F&, First...> && awaitable<std::invoke_result_t<F&, First...>> &&
    std::is_void_v<await_result_t<std::invoke_result_t<F&, First...>>>;

template <bool Right, class F, class... First>
struct task_or_none {
    using type = task<>;
};
template <class F, class... First>
struct task_or_none<true, F, First...> {
    using type = std::invoke_result_t<F&, First...>;
};

/// The task that f(first...) gives; task<> where it gives none, of which a static_assert has told.
template <bool Right, class F, class... First>
using task_or_none_t = typename task_or_none<Right, F, First...>::type;

template <class F>
inline constexpr bool is_kept_call = false;
template <pass How, class F, class... Args>
inline constexpr bool is_kept_call<kept_call<How, F, Args...>> = true;

/// Whether f(args...), both kept, gives something that can be awaited.
template <class F, class... Args>
concept calls_awaitable = requires(F& f, Args... args) {
    requires awaitable<decltype(std::invoke(f, std::move(args)...))>;
} || requires(F& f, Args... args) { requires awaitable<decltype(std::invoke(f, args...))>; };

/// Says why f(args...) cannot be run as a task.
template <class F, class... Args>
constexpr void refuse_to_spawn() noexcept {
    constexpr bool is_callable = std::invocable<F&, Args...> || std::invocable<F&, Args&...>;
    static_assert(
        is_callable,
        "What is spawned is neither a task nor another awaitable, and cannot be called as "
        "f(args...). (A member function takes its object as the first argument: "
        "spawn(&server::talk, &object).)");
    static_assert(!is_callable,
                  "What is spawned must be a coroutine that returns a task, for example "
                  "[]() -> task<> { ... co_return; }: a plain function cannot wait. One that "
                  "computes or blocks is spawned as offload(f).");
}

/// Gives the place of the await, in another coroutine, that the running one was started by.
class place_of_await {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> running) noexcept {
        promise_base& promise = running.promise();
        const promise_base* parent = promise.parent();
        where_ = parent != nullptr ? parent->where : promise.where;
        return false;
    }
    std::source_location await_resume() const noexcept { return where_; }

private:
    std::source_location where_;
};

}  // namespace rondo::detail
