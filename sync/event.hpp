#pragma once
// A flag that tasks wait for.
//
//     rondo::event ready;
//     group.spawn([&]() -> task<> { co_await ready.wait(); use(table); });
//     table = co_await load();
//     ready.set();                              // wakes everybody

#include <rondo/runtime/detail/promise_base.hpp>
#include <rondo/runtime/errors.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <coroutine>
#include <cstdio>
#include <source_location>

namespace rondo {

/// Once set, every wait completes, those in progress and later ones, until it is cleared. Nothing
/// allocates; waiters live in their awaiters.
/// Thread safety: tasks of one scheduler only.
class event {
public:
    event() noexcept = default;
    event(const event&) = delete;
    event& operator=(const event&) = delete;

    bool is_set() const noexcept { return set_; }

    /// Sets the flag and wakes all that wait, in the order they came.
    void set() noexcept {
        set_ = true;
        waiters_.wake_all();
    }
    void clear() noexcept { set_ = false; }

    class wait_awaiter final : public detail::waiter {
    public:
        explicit wait_awaiter(event& of) noexcept : event_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || event_.set_) return !detail::keeps_turn(waiter.promise(), where);
            detail::block(*this, waiter.promise(), where);
            event_.waiters_.push(*this);
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = true;
            event_.waiters_.remove(*this);
            detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override { std::fputs("an event", out); }

    private:
        event& event_;
        bool was_cancelled_ = false;
    };

    /// Completes when the flag is set, at once if it is. A task woken by set() goes on even if
    /// clear() came between.
    /// Cancellation: leaves the line.
    [[nodiscard]] wait_awaiter wait() noexcept { return wait_awaiter{*this}; }

private:
    bool set_ = false;
    detail::wait_list waiters_;
};

}  // namespace rondo
