#pragma once
// What every step of a coroutine touches: the ready queue, the running task, the frame recycler,
// the timers and the reactor of this thread's scheduler. `scheduler` is the public face of it.

#include <rondo/runtime/detail/frame_recycler.hpp>
#include <rondo/runtime/detail/task_state.hpp>
#include <rondo/runtime/detail/timer_wheel.hpp>

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

/// A message from another thread; posted through `scheduler_core::post`, run on the scheduler's
/// own.
struct inbox_message {
    inbox_message* next = nullptr;
    void (*run)(inbox_message&) noexcept = nullptr;
};

struct scheduler_core {
    frame_recycler frames;
    ready_queue ready;
    ready_queue next_turn;  // tasks that have used up their allowance
    task_state* current = nullptr;
    // how many operations the running task may complete on the spot; the last ends its turn
    unsigned immediate_left = 0;
    // frame to resume next where symmetric transfer would grow the stack
    void* next_frame = nullptr;
    timer_wheel timers;
    reactor* io = nullptr;
    scheduler* owner = nullptr;
    ready_queue settlers;  // tasks in settle(): run when every other task is blocked
    scope_node root;       // top of the task tree
    std::uint32_t last_task_id = 0;

    // Messages from other threads, newest first. A thread that pushes and finds `asleep` set clears
    // it and wakes the reactor; see scheduler.cpp for why no wake-up is lost.
    std::atomic<inbox_message*> inbox{nullptr};
    std::atomic<bool> asleep{false};

    explicit scheduler_core(std::int64_t now) : timers(now) {}

    void wake(task_state& task) noexcept {
        task.flags &= ~scope_node::blocked;
        ready.push(task);
    }

    /// Any thread. The message must live until it has run.
    void post(inbox_message& message) noexcept;
};

#if defined(__GNUC__)
[[gnu::tls_model("initial-exec")]]
#endif
extern constinit thread_local scheduler_core* current_core;

inline std::int64_t now_ns() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

inline std::int64_t to_ns(std::chrono::steady_clock::time_point time) noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// The duration in nanoseconds, rounded up, kept within what a deadline can hold.
template <class Rep, class Period>
constexpr std::int64_t saturated_ns(std::chrono::duration<Rep, Period> duration) noexcept {
    constexpr std::int64_t most = INT64_MAX / 2;
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
