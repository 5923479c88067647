#include <rondo/runtime/detail/stay.hpp>

#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task.hpp>

#include <new>
#include <utility>

namespace rondo::detail {

namespace {

stay* stay_of(task_state& task) noexcept {
    if ((task.flags & scope_node::visiting) == 0) return nullptr;
    return &static_cast<visitor_state&>(task).of;
}

bool has_tasks(const task_state& task) noexcept {
    for (scope_node* node = task.first_child; node != nullptr; node = next_below(task, *node)) {
        if ((node->flags & scope_node::is_task) != 0) return true;
    }
    return false;
}

template <class F>
void for_each_scope(const task_state& task, F f) noexcept {
    for (scope_node* node = task.first_child; node != nullptr; node = next_below(task, *node)) {
        f(static_cast<scope_state&>(*node));
    }
}

// Gives the scopes of a task that is not running to its other state, and its place in the code.
void hand_over(task_state& from, task_state& to) noexcept {
    to.first_child = std::exchange(from.first_child, nullptr);
    for (scope_node* node = to.first_child; node != nullptr; node = node->next) node->parent = &to;
    to.innermost = from.innermost == &from ? &to : from.innermost;
    from.innermost = &from;
    for (scope_node* node = to.innermost; node != &to; node = node->parent) {
        static_cast<scope_state*>(node)->owner = &to;
    }
    to.leaf = std::exchange(from.leaf, nullptr);
}

}  // namespace

stay::stay(scheduler_core& home, scheduler_core& away, task_state& traveller) noexcept
    : home_(home), away_(away), outer_(stay_of(traveller)) {
    task = &traveller;
}

stay::departure stay::go(scheduler_core& target, promise_base& leaf) {
    task_state& task = *current_core->current;
    if (has_tasks(task)) return departure::has_tasks;
    task.leaf = &leaf;
    for (const stay* at = stay_of(task); at != nullptr; at = at->outer_) {
        if (&at->home_ != &target) continue;
        leave(static_cast<visitor_state&>(task), &target, nullptr);
        return departure::gone;
    }
    // Within a runtime that is stopping its own tasks may still go where their clean-up needs to.
    runtime_threads& there = target.owner->threads_;
    if (&there != &current_core->owner->threads_ && there.stopping()) return departure::refused;
    return begin(target, task);
}

stay::departure stay::begin(scheduler_core& away, task_state& traveller) {
    scheduler_core& home = *current_core;
    auto& self = *::new (home.frames.allocate(sizeof(stay))) stay(home, away, traveller);
    for_each_scope(traveller, [](scope_state& scope) { scope.departing(); });
    hand_over(traveller, self.visitor_);
    self.visitor_.flags =
        scope_node::is_task | scope_node::visiting | (traveller.flags & scope_node::cancelled);
    self.visitor_.id = traveller.id;
    traveller.waiting_on = &self;
    traveller.flags |= scope_node::blocked;
    ++home.stays;
    self.travel_.run = [](inbox_message& message) noexcept {
        static_cast<travel&>(message).of.arrive();
    };
    if (away.post(self.travel_)) return departure::gone;

    hand_over(self.visitor_, traveller);
    traveller.flags &= ~scope_node::blocked;
    for_each_scope(traveller, [](scope_state& scope) { scope.arrived(); });
    self.release();
    return departure::refused;
}

void stay::arrive() noexcept {
    ++away_.stays;
    attach_subtree(visitor_, away_.visitors);
    for_each_scope(visitor_, [](scope_state& scope) { scope.arrived(); });
    away_.ready.push(visitor_);
}

void stay::end(visitor_state& visitor, promise_base& root) noexcept {
    leave(visitor, nullptr, &root);
}

void stay::leave(visitor_state& visitor, scheduler_core* destination, promise_base* root) noexcept {
    stay& self = visitor.of;
    for_each_scope(visitor, [](scope_state& scope) { scope.departing(); });
    visitor.detach();
    --self.away_.stays;
    self.has_left_ = true;
    self.destination_ = destination;
    self.ended_root_ = root;
    self.travel_.run = [](inbox_message& message) noexcept {
        static_cast<travel&>(message).of.come_back();
    };
    self.home_.post(self.travel_);
}

void stay::come_back() noexcept {
    task_state& returned = *task;
    scheduler_core* const destination = destination_;
    promise_base* const root = ended_root_;
    returned.flags &= ~scope_node::blocked;
    hand_over(visitor_, returned);
    // Cancelled here while a notice was still under way, or there, by a scheduler that is stopping.
    returned.flags |= visitor_.flags & scope_node::cancelled;
    if (returned.is_cancelled()) spread_cancellation(returned);
    for_each_scope(returned, [](scope_state& scope) { scope.arrived(); });
    is_back_ = true;
    if (!notice_under_way_) release();

    if (root != nullptr) {
        finish_task(returned, *root);
    } else if (destination == current_core) {
        current_core->ready.push(returned);
    } else {
        leave(static_cast<visitor_state&>(returned), destination, nullptr);
    }
}

void stay::cancel() noexcept {
    notice_.run = [](inbox_message& message) noexcept {
        static_cast<travel&>(message).of.deliver();
    };
    notice_under_way_ = away_.post(notice_);
}

void stay::deliver() noexcept {
    if (!has_left_) cancel_subtree(visitor_);
    notice_.run = [](inbox_message& message) noexcept {
        stay& self = static_cast<travel&>(message).of;
        self.notice_under_way_ = false;
        if (self.is_back_) self.release();
    };
    home_.post(notice_);
}

void stay::release() noexcept {
    scheduler_core& home = home_;
    --home.stays;
    this->~stay();
    home.frames.deallocate(this, sizeof(stay));
}

void stay::describe(std::FILE* out) const {
    std::fprintf(out, "its return from reactor %zu", away_.owner->index());
}

}  // namespace rondo::detail
