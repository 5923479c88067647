#pragma once
// Which of several futures are done, in the order in which they became so, for one consumer: a task
// or a plain thread.

#include <rondo/runtime/threads/detail/future_state.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <source_location>

namespace rondo::detail {

/// Shared by the consumer and by the completions that are on their way here: counted.
class completion_list {
public:
    explicit completion_list(std::size_t size);
    completion_list(const completion_list&) = delete;
    completion_list& operator=(const completion_list&) = delete;

    /// Each index once. The state must live until the consumer leaves.
    void watch(std::size_t index, future_state_base& state);

    /// Whether next() has something to give. Consumer only, as all that follow.
    bool ready() noexcept;
    /// The index of the next that is done. Precondition: ready().
    std::size_t next() noexcept;
    /// Blocks the calling thread until ready().
    void wait() noexcept;

    /// From now on a completion wakes `consumer`, once. False: something is ready, and no wake-up
    /// will come. A wake-up may come late and find nothing: look, and arm again.
    bool arm(wakeable& consumer) noexcept;
    /// False: the wake-up is on its way.
    bool disarm(wakeable& consumer) noexcept;

    /// The consumer's last call.
    void leave() noexcept;

private:
    struct entry final : wakeable {
        void wake() noexcept override { list->completed(*this); }

        completion_list* list = nullptr;
        future_state_base* state = nullptr;
        waiter_node* place = nullptr;  // null: was done when it came here, or was given
        std::size_t index = 0;
        entry* next = nullptr;
    };

    ~completion_list() = default;
    void completed(entry& one) noexcept;
    void append(entry& one) noexcept;
    void release(std::size_t count) noexcept;

    // No wake-up is lost. A completion pushes its entry and then takes consumer_; the consumer
    // writes consumer_ and then looks at pushed_. All four are sequentially consistent: either the
    // consumer's look comes after the push and sees it, or the completion finds the consumer.
    std::atomic<entry*> pushed_{nullptr};  // newest first
    std::atomic<wakeable*> consumer_{nullptr};
    std::atomic<std::size_t> references_{1};
    // The consumer's own, oldest first.
    entry* first_ = nullptr;
    entry* last_ = nullptr;
    std::size_t size_;
    std::unique_ptr<entry[]> entries_;
};

/// A task that waits for the next completion.
class completion_wait : public task_wait {
public:
    completion_wait(const completion_wait&) = default;  // before it waits
    completion_wait& operator=(const completion_wait&) = delete;

    bool was_cancelled() const noexcept { return was_cancelled_; }

    void cancel() noexcept override;
    void describe(std::FILE* out) const override;

protected:
    /// A null list has nothing more to give.
    explicit completion_wait(completion_list* list) noexcept : list_(list) {}
    ~completion_wait() = default;

    /// False: the task goes on at once.
    bool start(promise_base& waiter, std::source_location where) noexcept;
    void woken() noexcept override;

    completion_list* list_;
    bool was_cancelled_ = false;

private:
    bool give_up_ = false;  // cancelled while a wake-up was on its way
};

}  // namespace rondo::detail
