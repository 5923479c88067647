#pragma once
// Those who wait for something that another thread does: a task, or a plain thread.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/futex.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>

#include <atomic>
#include <cstdint>
#include <source_location>

namespace rondo::detail {

/// What is to be told once. Whoever holds the pointer last calls wake(), from any thread; after the
/// call the object may be gone.
class wakeable {
public:
    virtual void wake() noexcept = 0;

protected:
    ~wakeable() = default;
};

/// A task that waits here; it resumes on its own scheduler.
class task_wait : public suspension, public wakeable, private inbox_message {
public:
    // Not refused: the task has not ended, so its scheduler runs.
    void wake() noexcept final { home_->post(*this); }

protected:
    task_wait() noexcept = default;
    ~task_wait() = default;

    /// Before the pointer is given away, which comes before block(): the message runs on this very
    /// thread, so not before the task is blocked.
    void prepare() noexcept {
        home_ = current_core;
        run = [](inbox_message& message) noexcept { static_cast<task_wait&>(message).woken(); };
    }

    /// The wake-up has arrived, on the task's scheduler.
    virtual void woken() noexcept { current_core->wake(*task); }

private:
    scheduler_core* home_ = nullptr;
};

/// A plain thread that waits here.
class thread_wait final : public wakeable {
public:
    // Once the word is 1 the waiter may return and the word be gone: only its address is used then.
    void wake() noexcept override {
        const void* const address = &woken_;
        woken_.store(1, std::memory_order_release);  // with the load in wait()
        futex_wake(address, 1);
    }
    void wait() noexcept {
        // acquire: what the waker did before is seen; with the store in wake()
        for (std::uint32_t now; (now = woken_.load(std::memory_order_acquire)) != 1;) {
            futex_wait(woken_, now);
        }
    }

    /// The same until `deadline` of the steady clock, in nanoseconds, or an interrupt(). False: it
    /// has not been woken, but may be any time until whoever would wake it has been told not to.
    bool wait_until(std::int64_t deadline) noexcept {
        for (;;) {
            const std::uint32_t now = woken_.load(std::memory_order_acquire);
            if (now != 0) return now == 1;
            if (!futex_wait_until(woken_, now, deadline)) {
                return woken_.load(std::memory_order_acquire) == 1;
            }
        }
    }

    /// Ends wait_until(); any thread, while the waiter is sure to exist.
    void interrupt() noexcept {
        std::uint32_t waits = 0;
        // Relaxed: nothing is passed on with it.
        if (woken_.compare_exchange_strong(waits, interrupted, std::memory_order_relaxed)) {
            futex_wake(&woken_, 1);
        }
    }

private:
    static constexpr std::uint32_t interrupted = 2;
    std::atomic<std::uint32_t> woken_{0};  // 1 once it is
};

/// A plain thread may block where a task must not: it would hold up every task of its reactor.
inline void check_may_block(const char* sentence, std::source_location where) noexcept {
    if constexpr (debug_checks) {
        if (current_core != nullptr) misuse(sentence, where);
    }
}

}  // namespace rondo::detail
