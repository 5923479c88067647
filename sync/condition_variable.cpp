#include <rondo/sync/condition_variable.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/detail/misuse.hpp>

#include <chrono>
#include <cstdio>
#include <mutex>
#include <utility>

namespace rondo {

class condition_variable::waiting final : public detail::task_waiter {
public:
    waiting(condition_variable& of, mutex::guard& held) noexcept : condition_(of), held_(held) {}
    bool await_ready() const noexcept { return false; }
    template <detail::rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        was_cancelled_ = detail::current_core->current->should_stop();
        if (was_cancelled_) {
            return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
        }
        condition_.join_line(*this);
        held_.unlock();
        detail::block(*this, waiter.promise(), where);
        return true;
    }
    /// Whether it was notified; otherwise cancelled.
    bool await_resume() const noexcept { return !was_cancelled_; }

    void cancel() noexcept override {
        was_cancelled_ = condition_.leave_line(*this);
        if (was_cancelled_) detail::current_core->wake(*task);
    }
    void describe(std::FILE* out) const override { std::fputs("a condition_variable", out); }

private:
    friend class condition_variable;
    condition_variable& condition_;
    mutex::guard& held_;
    bool was_cancelled_ = false;
};

task<> condition_variable::wait(mutex::guard& held, std::source_location where) {
    if constexpr (detail::debug_checks) {
        if (!held.owns_lock()) {
            detail::misuse("a condition_variable is waited for without holding the mutex", where);
        }
    }
    mutex& lock = *mutex::held_by(held);
    // The wait may be a task of its own, as when_any makes them. The guard stays its owner's.
    const detail::task_state* owner = lock.holder_.load(std::memory_order_relaxed);
    lock.holder_.store(detail::task_identity(), std::memory_order_relaxed);
    const bool notified = co_await waiting{*this, held};
    if (!held.owns_lock()) {
        cancel_scope shield;
        const scope_entry entry{shield, std::chrono::nanoseconds::max()};
        auto again = co_await lock.lock();
        held = std::move(again);
    }
    lock.holder_.store(owner, std::memory_order_relaxed);
    if (!notified) throw operation_cancelled{};
}

void condition_variable::wake(std::size_t most) noexcept {
    detail::wake_list woken;
    {
        const std::lock_guard guard(lock_);
        for (; !line_.empty() && most > 0; --most) woken.push(line_.pop());
        in_line_.store(line_.size(), std::memory_order_relaxed);
    }
    woken.wake_all();
}

void condition_variable::join_line(waiting& one) noexcept {
    one.prepare();
    const std::lock_guard guard(lock_);
    line_.push(one);
    in_line_.store(line_.size(), std::memory_order_relaxed);
}

// False: it was notified.
bool condition_variable::leave_line(waiting& one) noexcept {
    const std::lock_guard guard(lock_);
    if (!one.in_line()) return false;
    line_.remove(one);
    in_line_.store(line_.size(), std::memory_order_relaxed);
    return true;
}

}  // namespace rondo
