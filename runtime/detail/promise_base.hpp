#pragma once
// What all coroutine frames of the library begin with: who awaits this frame, and at which line it
// is stopped.

#include <rondo/runtime/detail/core.hpp>
#include <rondo/runtime/detail/misuse.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

namespace rondo::detail {

struct promise_base {
    // The frame that awaits this one. A root frame (a spawned task's outermost) has none; there the
    // low bit is set and the rest points to the suspension of whoever awaits its task_handle, or is
    // null.
    std::uintptr_t continuation = 0;

    // The await this frame is stopped at, or stopped at last; of a frame that has not started,
    // where it was spawned. Awaiters take it as the default argument of await_suspend, which names
    // the place of the co_await. (A promise's await_transform could see it too, but makes g++ 12
    // copy every awaiter.)
    std::source_location where;

    static constexpr std::uintptr_t root = 1;

    bool is_root() const noexcept { return (continuation & root) != 0; }
    promise_base* parent() const noexcept {
        return is_root() ? nullptr : reinterpret_cast<promise_base*>(continuation);
    }

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
    ~promise_base() = default;
};

template <class Promise>
concept rondo_promise = std::derived_from<Promise, promise_base>;

/// The coroutine of a promise. All promises start at the same offset of their frame, since none is
/// aligned to more than the frame's two leading pointers (task_promise asserts it).
inline std::coroutine_handle<promise_base> handle_of(promise_base& promise) noexcept {
    return std::coroutine_handle<promise_base>::from_promise(promise);
}

// g++ turns symmetric transfer into a tail call only when it optimises sibling calls, and not at
// all in instrumented code. There the frame to resume is left with the scheduler's loop instead.
#if !defined(__clang__) && \
    (!defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
inline constexpr bool tail_calls = false;
#else
inline constexpr bool tail_calls = true;
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

}  // namespace rondo::detail
