#pragma once
// A task away from home: what it leaves behind on its own scheduler, and what stands for it on the
// one that it visits.
//
// At home the task's state stays where it is in the tree, blocked in the stay as in any other
// suspension: its group waits for it, its handle and its group can cancel it. The scopes that it
// has entered go along, below a second state, the visitor, in the other scheduler's tree. Each
// thread touches its own tree only; between them go messages, through the two inboxes:
//
//     home                    away
//     travel        ->        arrive()       the visitor becomes ready
//     notice        ->        deliver()      the task was cancelled at home
//     come_back()   <-        travel         it goes home, to run on there or because it has ended
//     released      <-        notice         if it is back by then
//
// A notice may still be under way when the task is back; the stay lives until both are. A task
// that goes on from there to a third scheduler begins a second stay in the first one; it comes home
// through all of them.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/detail/task_state.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace rondo::detail {

class runtime_threads;
class stay;
class task_binding;

struct visitor_state : task_state {
    explicit visitor_state(stay& visit) noexcept : of(visit) {}
    stay& of;
    const task_state* original = nullptr;    // the state that it has where its group is
    std::string_view name;                   // that it has there
    const task_binding* bindings = nullptr;  // what is bound for it there
};

/// Stands for the running task wherever it is: the same before and after a hop. Null outside of
/// tasks. Not to be looked into.
inline const task_state* task_identity() noexcept {
    if (current_core == nullptr || current_core->current == nullptr) return nullptr;
    const task_state& task = *current_core->current;
    if ((task.flags & scope_node::visiting) == 0) return &task;
    return static_cast<const visitor_state&>(task).original;
}

class stay final : public suspension {
public:
    enum class departure { gone, refused, has_tasks };

    /// Sends the running task to `target`, to go on with the frame `leaf` there; home, if that is
    /// where it came from. When it is gone, nothing of it may be touched any more. Refused: that
    /// scheduler has stopped. has_tasks: a group of the task's own has tasks here.
    static departure go(scheduler_core& target, promise_base& leaf);

    /// Sends a visitor home that has ended.
    static void end(visitor_state& visitor, promise_base& root) noexcept;

    void cancel() noexcept override;
    void describe(std::FILE* out) const override;

    const scheduler_core& home() const noexcept { return home_; }

private:
    struct travel : inbox_message {
        explicit travel(stay& visit) noexcept : of(visit) {}
        stay& of;
    };

    stay(scheduler_core& home, scheduler_core& away, task_state& traveller,
         runtime_threads* held) noexcept;
    static departure begin(void* memory, scheduler_core& away, task_state& traveller,
                           runtime_threads* held) noexcept;
    static void leave(visitor_state& visitor, scheduler_core* destination,
                      promise_base* root) noexcept;
    void arrive() noexcept;
    void come_back() noexcept;
    void deliver() noexcept;
    void release() noexcept;

    // These never change: any thread may read them.
    scheduler_core& home_;
    scheduler_core& away_;
    const std::size_t away_index_;
    stay* const outer_;            // the stay that the task began this one in
    runtime_threads* const held_;  // another runtime, held until the task leaves it; or null

    visitor_state visitor_{*this};
    travel travel_{*this};
    travel notice_{*this};

    // Touched at home.
    bool notice_under_way_ = false;
    bool is_back_ = false;

    // Once the task has left, the other scheduler may be gone, and its inbox with it. So who sends
    // a notice says so first, and who leaves waits until it is sent.
    enum class presence : std::uint8_t { there, called, left };
    std::atomic<presence> presence_{presence::there};

    // Touched away, and at home once the task is back.
    scheduler_core* destination_ = nullptr;  // where to go on from home
    promise_base* ended_root_ = nullptr;     // or the frame that has ended
};

}  // namespace rondo::detail
