#pragma once
// The line before a primitive, first come first served: tasks of any scheduler, and plain threads
// where they may block. Waiters live in their awaiters and stack frames: nothing allocates.
//
// A primitive keeps its line under a short_lock. Whoever takes a waiter out of the line decides how
// its wait ends, and nobody else may: the wake-up under way, or the cancellation. So a waiter that
// was handed something and is cancelled before it has resumed, keeps it.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/detail/wakeable.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stop_token>

namespace rondo::detail {

struct select_access;

/// Of several lines in which a task stands at the same time, the one that ends its wait.
class selection {
public:
    selection() noexcept = default;
    selection(const selection&) noexcept {}  // before it waits
    selection& operator=(const selection&) = delete;

    /// Whether it is this one: the first to ask is, and nobody after it.
    bool decide(const void* by) noexcept {
        const void* none = nullptr;
        // Relaxed: the wake-up carries what was done.
        return by_.compare_exchange_strong(none, by, std::memory_order_relaxed);
    }
    const void* decided_by() const noexcept { return by_.load(std::memory_order_relaxed); }

private:
    std::atomic<const void*> by_{nullptr};
};

/// Somebody in a line.
class waiter {
public:
    /// Ends the wait. Any thread; the waiter has left its line. It may be gone when this returns.
    virtual void wake() noexcept = 0;

    /// Under the lock of the line, by who would end the wait. False: another line has ended it, and
    /// the waiter, taken out of this one, is to be forgotten.
    bool claim() noexcept { return choice_ == nullptr || choice_->decide(this); }

    /// Under the lock of the line.
    bool in_line() const noexcept { return in_line_; }

protected:
    waiter() noexcept = default;
    waiter(const waiter&) noexcept {}
    waiter& operator=(const waiter&) = delete;
    ~waiter() = default;

    selection* choice_ = nullptr;  // where it stands in several lines

private:
    friend class wait_list;
    friend class wake_list;
    waiter* next_ = nullptr;
    waiter* previous_ = nullptr;
    bool in_line_ = false;
};

/// A task in a line; it resumes on its own scheduler.
template <std::derived_from<waiter> Waiter>
class basic_task_waiter : public suspension, public Waiter, private inbox_message {
public:
    void wake() noexcept final {
        if (home_ == current_core) {
            home_->wake(*task);
        } else {
            home_->post(*this);  // not refused: the task has not ended
        }
    }

protected:
    basic_task_waiter() noexcept = default;
    ~basic_task_waiter() = default;

    /// Before it joins the line; the running task blocks before anything else runs here.
    void prepare() noexcept {
        home_ = current_core;
        run = [](inbox_message& message) noexcept {
            current_core->wake(*static_cast<basic_task_waiter&>(message).task);
        };
    }

private:
    scheduler_core* home_ = nullptr;
};

using task_waiter = basic_task_waiter<waiter>;

/// A plain thread in a line.
template <std::derived_from<waiter> Waiter>
class basic_thread_waiter final : public Waiter {
public:
    void wake() noexcept override { wait_.wake(); }
    void wait() noexcept { wait_.wait(); }

    /// The same until `deadline`, in nanoseconds, or a stop; false: it has not been woken, and must
    /// leave its line, or wait() where it has left that already.
    bool wait_until(std::int64_t deadline, const std::stop_token& stop) noexcept {
        const std::stop_callback on_stop{stop, [this] { wait_.interrupt(); }};
        return wait_.wait_until(deadline);
    }

private:
    thread_wait wait_;
};

using thread_waiter = basic_thread_waiter<waiter>;

class wait_list {
public:
    bool empty() const noexcept { return first_ == nullptr; }
    std::size_t size() const noexcept { return size_; }
    waiter& front() noexcept { return *first_; }

    void push(waiter& last) noexcept {
        last.next_ = nullptr;
        last.previous_ = last_;
        last.in_line_ = true;
        (last_ == nullptr ? first_ : last_->next_) = &last;
        last_ = &last;
        ++size_;
    }

    waiter& pop() noexcept {
        waiter& one = *first_;
        remove(one);
        return one;
    }

    void remove(waiter& one) noexcept {
        (one.previous_ == nullptr ? first_ : one.previous_->next_) = one.next_;
        (one.next_ == nullptr ? last_ : one.next_->previous_) = one.previous_;
        one.in_line_ = false;
        --size_;
    }

private:
    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
    std::size_t size_ = 0;
};

/// Those who have been taken out of a line, to be woken once its lock is released. No wait_list:
/// the waiters stay marked as out of the line, so that a cancellation finds that it comes too late.
class wake_list {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    /// Under the lock of the line that `one` has left.
    void push(waiter& one) noexcept {
        one.next_ = nullptr;
        (first_ == nullptr ? first_ : last_->next_) = &one;
        last_ = &one;
    }

    /// Takes everybody out of `line`, under its lock.
    void take_all(wait_list& line) noexcept {
        while (!line.empty()) {
            waiter& one = line.pop();
            if (one.claim()) push(one);
        }
    }

    /// In the order in which they came.
    void wake_all() noexcept {
        while (first_ != nullptr) {
            waiter& one = *first_;
            first_ = one.next_;
            one.wake();
        }
    }

private:
    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
};

}  // namespace rondo::detail
