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
//     came_back()   <-        travel         it goes home, to run on there or because it has ended
//     delivered()   <-        notice
//
// A notice may still be under way when the task is back; the stay lives until both are. A task
// that goes on from there to a third scheduler begins a second stay in the first one; it comes home
// through all of them.

#include <rondo/runtime/detail/core.hpp>
#include <rondo/runtime/detail/promise_base.hpp>
#include <rondo/runtime/detail/task_state.hpp>

#include <cstdio>

namespace rondo::detail {

class stay;

struct visitor_state : task_state {
    explicit visitor_state(stay& visit) noexcept : of(visit) {}
    stay& of;
};

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

    stay(scheduler_core& home, scheduler_core& away, task_state& traveller) noexcept;
    static departure begin(scheduler_core& away, task_state& traveller);
    static void leave(visitor_state& visitor, scheduler_core* destination,
                      promise_base* root) noexcept;
    void arrive() noexcept;
    void come_back() noexcept;
    void deliver() noexcept;
    void release() noexcept;

    // These never change: any thread may read them.
    scheduler_core& home_;
    scheduler_core& away_;
    stay* const outer_;  // the stay that the task began this one in

    visitor_state visitor_{*this};
    travel travel_{*this};
    travel notice_{*this};

    // Touched at home.
    bool notice_under_way_ = false;
    bool is_back_ = false;

    // Touched away, and at home once the task is back.
    bool has_left_ = false;
    scheduler_core* destination_ = nullptr;  // where to go on from home
    promise_base* ended_root_ = nullptr;     // or the frame that has ended
};

}  // namespace rondo::detail
