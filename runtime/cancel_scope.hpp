#pragma once
// Ends work early, and makes sure that it has ended.
//
//     auto page = co_await with_cancel_scope([&](cancel_scope& scope) -> task<std::string> {
//         on_disconnect = [&scope] { scope.cancel(); };
//         co_return co_await render();               // every await in here obeys the scope
//     });
//     if (!page) ...                                 // it was cancelled
//
// Cancelling is level-triggered, as in Trio: from then on every await inside ends with
// operation_cancelled, the one in progress once the kernel has let go of it, each later one at
// once. An operation that had its result already gives it. The scope itself ends when the last
// thing inside it has.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

struct deadline_policy;

/// Aborts where `open`, a group or a scope, should have ended before what it is in: says the one or
/// the other, and where it was made or entered.
[[noreturn]] void left_open(const scope_node& open, const char* if_group,
                            const char* if_scope) noexcept;

}  // namespace detail

/// A region of one task that can be cancelled, by hand or by a deadline. Made by with_cancel_scope
/// and its kin.
/// Thread safety: the owning scheduler only.
class cancel_scope final : private detail::scope_state {
public:
    cancel_scope() noexcept = default;
    cancel_scope(const cancel_scope&) = delete;
    cancel_scope& operator=(const cancel_scope&) = delete;
    ~cancel_scope() {
        if (deadline_.armed()) detail::current_core->timers.cancel(deadline_);
    }

    /// Cancels everything inside, now and from now on. Returns at once; nothing is resumed from in
    /// here.
    void cancel() noexcept { detail::cancel_subtree(*this); }

    /// Cancels the scope at `deadline`; one in the past does so at once. The latest call counts;
    /// time_point::max(), or another one more than 146 years ahead, takes the deadline back.
    void set_deadline(std::chrono::steady_clock::time_point deadline) noexcept;

    /// Cancels the scope when `limit` has passed from now on: a deadline as above, put off by each
    /// call. A server calls it whenever its client has said something.
    template <class Rep, class Period>
    void expires_after(std::chrono::duration<Rep, Period> limit) noexcept {
        set_deadline(detail::as_time_point(detail::deadline_after(limit)));
    }

    /// Whether cancel() was called or the deadline has passed. A cancelled outer scope does not
    /// count.
    bool cancelled() const noexcept { return (flags & cancel_requested) != 0; }

    /// Whether it was the deadline that cancelled it.
    bool deadline_passed() const noexcept { return (flags & deadline_expired) != 0; }

private:
    friend class scope_entry;
    friend struct detail::deadline_policy;
    friend void detail::end_last_turn(scope_node&) noexcept;
    friend void detail::left_open(const scope_node&, const char*, const char*) noexcept;

    class deadline_timer final : public detail::timer {
    public:
        explicit deadline_timer(cancel_scope& scope) noexcept : scope_(scope) {}
        void expired() noexcept override;
        void cancel() noexcept override {}
        void describe(std::FILE*) const override {}

    private:
        cancel_scope& scope_;
    };

    // The deadline of a scope that has none yet. One in the past leaves the scope a turn of the
    // scheduler, in which it gets what is there.
    void start_with_deadline(std::chrono::steady_clock::time_point deadline) noexcept;

    void shield_touched() noexcept override;
    void departing() noexcept override;
    void arrived() noexcept override;

    deadline_timer deadline_{*this};
    // of a shield: how long it holds once an ancestor is cancelled
    std::chrono::nanoseconds grace_ = no_grace;

    std::source_location entered_at_ = {};

    static constexpr auto no_grace = std::chrono::nanoseconds::max();
};

/// Puts the running task inside `scope` until the entry is destroyed. with_cancel_scope is the
/// everyday way in; this is for library code that must not let exceptions through. Entries of one
/// task nest strictly, and all are gone when it ends. An async_generator that holds one across a
/// co_yield keeps its consumer in the scope, with all that the consumer awaits between two items.
class scope_entry {
public:
    explicit scope_entry(cancel_scope& scope,
                         std::source_location where = std::source_location::current()) noexcept;

    /// Enters with a shield: cancellation from outside does not reach in, for `grace` at most.
    scope_entry(cancel_scope& scope, std::chrono::nanoseconds grace,
                std::source_location where = std::source_location::current()) noexcept;

    scope_entry(const scope_entry&) = delete;
    scope_entry& operator=(const scope_entry&) = delete;
    ~scope_entry();

    /// Whether an operation_cancelled that arrives at the scope's edge is this scope's own: it was
    /// cancelled and nothing further out was.
    bool owns_cancellation() const noexcept;

private:
    cancel_scope& scope_;
};

namespace detail {

template <class F, class... Args>
struct scope_result {
    using call = kept_t<pass::once, F, Args...>;
    static constexpr bool is_right = calls_task<call, cancel_scope&>;
    static_assert(is_right,
                  "with_cancel_scope: f(scope, args...) must be a coroutine that returns a task, "
                  "for example [](cancel_scope& scope) -> task<> { ... co_return; }");
    using value = typename task_or_none_t<is_right, call, cancel_scope&>::value_type;
    using type = task<std::conditional_t<std::is_void_v<value>, bool, std::optional<value>>>;
};

template <class F>
auto run_in_scope(F f) -> typename scope_result<F>::type {
    cancel_scope scope;
    scope_entry entry{scope};
    try {
        auto body = std::invoke(f, scope);
        if constexpr (std::is_void_v<typename scope_result<F>::value>) {
            co_await body;
            co_return true;
        } else {
            co_return co_await body;
        }
    } catch (const operation_cancelled&) {
        if (!entry.owns_cancellation()) throw;
    }
    if constexpr (std::is_void_v<typename scope_result<F>::value>) {
        co_return false;
    } else {
        co_return std::nullopt;
    }
}

}  // namespace detail

/// Runs f(scope, args...), a task, inside a new scope, and gives its result; an empty optional
/// (false, where f gives void) when the scope was cancelled. A result that f still managed to
/// return counts. The callable and the arguments are kept until the end; arguments are passed as
/// task_group::spawn passes them.
/// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first, or
/// pass what it captures as arguments.
/// Cancellation from further out passes through as operation_cancelled.
template <class F, class... Args>
auto with_cancel_scope(F&& f, Args&&... args) -> typename detail::scope_result<F, Args...>::type {
    detail::refuse_what_is_destroyed_twice<F>();
    if constexpr (detail::scope_result<F, Args...>::is_right) {
        return detail::run_in_scope(
            detail::keep_callable(std::forward<F>(f), std::forward<Args>(args)...));
    }
}

}  // namespace rondo
