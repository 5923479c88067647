#pragma once
// For tests: waiting until everything else has come to rest, in place of sleeping and hoping.
//
//     auto waiter = group.spawn(take(lock));
//     co_await settle();                       // the waiter is in the line now
//     CHECK(!waiter.done());

#include <rondo/runtime/detail/promise_base.hpp>

#include <coroutine>
#include <source_location>

namespace rondo {

namespace detail {

class [[nodiscard]] settle_awaiter {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(
        std::coroutine_handle<Promise> waiter,
        std::source_location where = std::source_location::current()) const noexcept {
        scheduler_core& core = *current_core;
        waiter.promise().where = where;
        core.current->leaf = &waiter.promise();
        core.settlers.push(*core.current);
    }
    void await_resume() const noexcept {}
};

}  // namespace detail

/// Completes when every other task of the scheduler is blocked: none is ready, and the kernel has
/// no completion to hand over. Timers may still be running; what another thread or process is about
/// to send does not count. Several tasks that settle go on one after the other. Cancellation does
/// not end it.
inline detail::settle_awaiter settle() noexcept { return {}; }

}  // namespace rondo
