#pragma once
// What every step of a coroutine touches: the ready queue, the running task, the frame recycler,
// the timers and the reactor of this thread's scheduler. `scheduler` is the public face of it.

#include <rondo/runtime/core/detail/clock_source.hpp>
#include <rondo/runtime/core/detail/frame_recycler.hpp>
#include <rondo/runtime/core/detail/inbox.hpp>
#include <rondo/runtime/core/detail/task_state.hpp>
#include <rondo/runtime/core/detail/timer_wheel.hpp>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>

namespace rondo {
class scheduler;
}

namespace rondo::detail {

class reactor;
struct system_calls;

/// FIFO of tasks that can run, threaded through the tasks themselves.
class ready_queue {
public:
    ready_queue() = default;
    ready_queue(const ready_queue&) = delete;
    ready_queue& operator=(const ready_queue&) = delete;

    bool empty() const noexcept { return head_ == nullptr; }

    void push(task_state& task) noexcept {
        task.next_ready = nullptr;
        *tail_ = &task;
        tail_ = &task.next_ready;
    }

    task_state& pop() noexcept {
        task_state& task = *head_;
        head_ = task.next_ready;
        if (head_ == nullptr) tail_ = &head_;
        return task;
    }

    /// Takes the task out if it is in it; looks at all that stand before it.
    bool remove(task_state& task) noexcept {
        for (task_state** at = &head_; *at != nullptr; at = &(*at)->next_ready) {
            if (*at != &task) continue;
            *at = task.next_ready;
            if (tail_ == &task.next_ready) tail_ = at;
            return true;
        }
        return false;
    }

    /// Moves all tasks of `other` behind those of this queue.
    void append(ready_queue& other) noexcept {
        if (other.empty()) return;
        *tail_ = other.head_;
        tail_ = other.tail_;
        other.head_ = nullptr;
        other.tail_ = &other.head_;
    }

private:
    task_state* head_ = nullptr;
    task_state** tail_ = &head_;
};

/// A timer is a suspension too, so that one virtual table serves both its ends.
class timer : public suspension, public timer_node {
public:
    /// The deadline has come; the node is disarmed already.
    virtual void expired() noexcept = 0;

protected:
    ~timer() = default;
};

struct scheduler_core {
    frame_recycler frames;
    ready_queue ready;
    ready_queue next_turn;  // tasks that have used up their allowance
    task_state* current = nullptr;
    // what the running task may still do on the spot before its turn ends; see operation_cost
    unsigned allowance = 0;
    // frame to resume next where symmetric transfer would grow the stack
    void* next_frame = nullptr;
    timer_wheel timers;
    reactor* io = nullptr;
    const clock_source* clock = &real_clock;  // the reactor's
    const system_calls* kernel = nullptr;     // the reactor's
    std::uint32_t reactor_id = 0;             // its id()
    scheduler* owner = nullptr;
    ready_queue settlers;        // tasks in settle(): run when every other task is blocked
    scope_node root;             // top of the task tree
    scope_node visitors;         // below it: the tasks of other schedulers that are here now
    std::size_t stays = 0;       // of those, and of own tasks that are away
    std::size_t operations = 0;  // pending in the reactor
    std::uint32_t last_task_id = 0;
    std::uint32_t selects = 0;                  // begun so far: which case comes first; see select
    std::atomic<std::uintptr_t> extensions{0};  // see scheduler_extension
    // No task is left, and what is submitted without one is dropped; the scheduler's thread only.
    bool drops_calls = false;

    // What other threads write has cache lines of its own.
    alignas(64) inbox messages;
    // Threads inside post(). The scheduler outlives them: see close_inbox().
    std::atomic<unsigned> posting{0};

    explicit scheduler_core(std::int64_t now) : timers(now) { visitors.attach(root); }

    void wake(task_state& task) noexcept {
        task.flags &= ~scope_node::blocked;
        ready.push(task);
    }

    /// Any thread. The message must live until it has run. False: the scheduler has stopped, and
    /// the message is the caller's again. Never so while a task of the scheduler, or one that
    /// visits it, has not ended.
    bool post(inbox_message& message) noexcept;

    /// Refuses all later messages and waits until nobody is in the middle of posting one. Gives the
    /// messages that were left to take, oldest first.
    inbox_message* close_inbox() noexcept;
};

#if defined(__GNUC__)
[[gnu::tls_model("initial-exec")]]
#endif
extern constinit thread_local scheduler_core* current_core;

scheduler_core& core_of(scheduler& of) noexcept;

inline const clock_source& current_clock() noexcept {
    return current_core != nullptr ? *current_core->clock : real_clock;
}

/// What rondo::now() gives, in nanoseconds.
inline std::int64_t now_ns() noexcept { return current_clock().now(); }

inline std::int64_t to_ns(std::chrono::steady_clock::time_point time) noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

inline std::chrono::steady_clock::time_point as_time_point(std::int64_t ns) noexcept {
    return std::chrono::steady_clock::time_point{std::chrono::nanoseconds{ns}};
}

/// The longest wait, 146 years. A deadline that lies further ahead than this from the clock's epoch
/// never comes.
inline constexpr std::int64_t longest_wait_ns = INT64_MAX / 2;

/// The duration in nanoseconds, rounded up, kept within what a deadline can hold.
template <class Rep, class Period>
constexpr std::int64_t saturated_ns(std::chrono::duration<Rep, Period> duration) noexcept {
    constexpr std::int64_t most = longest_wait_ns;
    using wide = std::chrono::duration<long double, std::nano>;
    const long double value = std::chrono::duration_cast<wide>(duration).count();
    if (!(value < static_cast<long double>(most))) return most;
    if (value <= 0) return 0;
    return std::chrono::ceil<std::chrono::nanoseconds>(duration).count();
}

template <class Rep, class Period>
std::int64_t deadline_after(std::chrono::duration<Rep, Period> duration) noexcept {
    return now_ns() + saturated_ns(duration);
}

}  // namespace rondo::detail
