#pragma once
// Waiting in a queue until something has happened, such as a value that has changed. A waiter takes
// nothing: it reads what there is once it has resumed. So a change wakes all waiters, and a select
// can wait for it among other things.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <coroutine>
#include <mutex>
#include <source_location>

namespace rondo::detail {

/// The awaiter. Derived, which makes it a friend, has
///   wait_list& line(), short_lock& line_lock()
///   bool has_news() const     whether there is nothing to wait for; with the lock or without
/// and await_resume(), which calls check_cancelled(). Somebody takes the lock between that and the
/// end of what is waited for: so who has brought the news is out of there.
template <class Derived>
class line_wait : public task_waiter {
public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        was_cancelled_ = current_core->current->should_stop();
        if (was_cancelled_ || self().has_news() || !join_line()) {
            return !keeps_turn(waiter.promise(), where, memory_cost);
        }
        block(*this, waiter.promise(), where);
        return true;
    }
    bool was_cancelled() const noexcept { return was_cancelled_; }

    void cancel() noexcept final {
        {
            const std::lock_guard guard(self().line_lock());
            // Out of the line, it is being woken.
            was_cancelled_ = in_line();
            if (was_cancelled_) self().line().remove(*this);
        }
        if (was_cancelled_) current_core->wake(*task);
    }

protected:
    line_wait() noexcept = default;
    line_wait(const line_wait&) noexcept = default;
    ~line_wait() = default;

    void check_cancelled() const {
        if (was_cancelled_) throw operation_cancelled{};
    }

private:
    friend struct select_access;

    Derived& self() noexcept { return static_cast<Derived&>(*this); }

    // False: there is news.
    bool join_line() noexcept {
        prepare();
        const std::lock_guard guard(self().line_lock());
        if (self().has_news()) return false;
        self().line().push(*this);
        return true;
    }

    bool was_cancelled_ = false;
};

}  // namespace rondo::detail
