#pragma once
// What all coroutine frames of the library begin with: who awaits this frame, and at which line it
// is stopped.

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/misuse.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <utility>

namespace rondo::detail {

class promise_base {
public:
    promise_base() noexcept : where{} {}
    promise_base(const promise_base&) = delete;
    promise_base& operator=(const promise_base&) = delete;

    // Which frame awaits this one, and how this one stands, in the low bits. A root frame is a
    // spawned task's outermost: no frame awaits it.
    enum : std::uintptr_t { root = 1, failed = 2, has_value = 4, all_bits = 7 };

    bool was_started() const noexcept { return link_ != 0; }
    promise_base* parent() const noexcept {
        return is(root) ? nullptr : reinterpret_cast<promise_base*>(link_ & ~all_bits);
    }
    void set_parent(promise_base& parent) noexcept {
        link_ = reinterpret_cast<std::uintptr_t>(&parent);
    }

    void set_root() noexcept { link_ |= root; }

    bool is(std::uintptr_t bit) const noexcept { return (link_ & bit) != 0; }
    void mark(std::uintptr_t bit) noexcept { link_ |= bit; }

    /// Ends with the exception that is being handled.
    void fail() noexcept {
        ::new (static_cast<void*>(&error)) std::exception_ptr(std::current_exception());
        mark(failed);
    }
    std::exception_ptr* failure() noexcept { return is(failed) ? &error : nullptr; }

    union {
        // The await this frame is stopped at, or stopped at last; of a frame that has not started,
        // where it was spawned. Awaiters take it as the default argument of await_suspend, which
        // names the place of the co_await. (A promise's await_transform could see it too, but makes
        // g++ 12 copy every awaiter.)
        std::source_location where;
        std::exception_ptr error;  // once it has failed
    };

#if defined(__clang__)
    /// Refuses what a task cannot await. g++ would copy every awaiter here; it refuses what
    /// with_timeout, when_any and their kin are given.
    template <class Awaitable>
    static Awaitable&& await_transform(Awaitable&& awaitable) noexcept {
        refuse_foreign_awaiter<Awaitable>();
        return std::forward<Awaitable>(awaitable);
    }
#endif

    static void* operator new(std::size_t size) {
        scheduler_core* core = current_core;
        return core != nullptr ? core->frames.allocate(size)
                               : frame_recycler::allocate_unpooled(size);
    }
    static void operator delete(void* memory, std::size_t size) noexcept {
        scheduler_core* core = current_core;
        if (core != nullptr) {
            core->frames.deallocate(memory, size);
        } else {
            frame_recycler::deallocate_unpooled(memory, size);
        }
    }

protected:
    ~promise_base() {
        if (is(failed)) std::destroy_at(&error);
    }

private:
    std::uintptr_t link_ = 0;
};

template <class Promise>
concept rondo_promise = std::derived_from<Promise, promise_base>;

/// The coroutine of a promise. All promises start at the same offset of their frame, since none is
/// aligned to more than the frame's two leading pointers (task_promise asserts it).
inline std::coroutine_handle<promise_base> handle_of(promise_base& promise) noexcept {
    return std::coroutine_handle<promise_base>::from_promise(promise);
}

// g++ turns symmetric transfer into a tail call only when it optimises sibling calls, of which it
// tells nobody: RONDO_SIBLING_CALLS says so, set together with the option by pkg-config and meson.
// It never does in instrumented code. There the frame to resume is left with the scheduler's loop
// instead.
#if defined(__clang__) || (defined(RONDO_SIBLING_CALLS) && defined(__OPTIMIZE__) && \
                           !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__))
inline constexpr bool tail_calls = true;
#else
inline constexpr bool tail_calls = false;
#endif

/// What await_suspend returns to go on with `next`.
[[gnu::always_inline]] inline std::coroutine_handle<> transfer_to(
    std::coroutine_handle<> next) noexcept {
    if constexpr (tail_calls) {
        return next;
    } else {
        current_core->next_frame = next.address();
        return std::noop_coroutine();
    }
}

/// Marks the running task as blocked in `reason`, to be resumed at `promise`, which stopped at
/// `where`.
inline void block(suspension& reason, promise_base& promise, std::source_location where) noexcept {
    promise.where = where;
    task_state& task = *current_core->current;
    reason.task = &task;
    task.leaf = &promise;
    task.waiting_on = &reason;
    task.flags |= scope_node::blocked;
}

// What an await that is done on the spot takes from its turn's allowance: one that called the
// kernel, and one that touched memory only. And what it costs to go on in another task's turn.
inline constexpr unsigned operation_cost = 16;
inline constexpr unsigned memory_cost = 1;
inline constexpr unsigned hand_over_cost = 16 * operation_cost;

/// Takes `cost` from the allowance of the running task. False: so much is not left, and the task
/// has to give way.
inline bool spend_allowance(unsigned cost) noexcept {
    scheduler_core& core = *current_core;
    if (core.allowance <= cost) return false;
    core.allowance -= cost;
    return true;
}

/// The running task stops at `promise`, and goes on when the scheduler has looked at everything
/// else.
inline void give_way(promise_base& promise, std::source_location where) noexcept {
    scheduler_core& core = *current_core;
    promise.where = where;
    core.current->leaf = &promise;
    core.next_turn.push(*core.current);
}

/// Whether the running task, whose await at `promise` is done on the spot, goes on with its turn.
/// If not, its allowance is used up and it has given way.
inline bool keeps_turn(promise_base& promise, std::source_location where,
                       unsigned cost = operation_cost) noexcept {
    if (spend_allowance(cost)) return true;
    give_way(promise, where);
    return false;
}

}  // namespace rondo::detail
