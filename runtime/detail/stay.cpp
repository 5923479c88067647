#include <rondo/runtime/detail/stay.hpp>

#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task_local.hpp>

#include <new>
#include <thread>
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

// The task is at home again, with its scopes.
void settle_at_home(task_state& visitor, task_state& task) noexcept {
    hand_over(visitor, task);
    task.flags &= ~scope_node::blocked;
    for_each_scope(task, [](scope_state& scope) { scope.arrived(); });
}

}  // namespace

stay::stay(scheduler_core& home, scheduler_core& away, task_state& traveller,
           runtime_threads* held) noexcept
    : home_(home),
      away_(away),
      away_index_(away.owner->index()),
      outer_(stay_of(traveller)),
      held_(held) {
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
    // Another runtime does not halt before the task has left it. One's own does not anyway, and a
    // task may go where its clean-up needs to while that is being stopped.
    runtime_threads& there = target.owner->threads_;
    runtime_threads* held = &there == &current_core->owner->threads_ ? nullptr : &there;
    if (held != nullptr && !held->hold()) return departure::refused;
    void* memory;
    try {
        memory = current_core->frames.allocate(sizeof(stay));
    } catch (...) {
        if (held != nullptr) held->release();
        throw;
    }
    return begin(memory, target, task, held);
}

stay::departure stay::begin(void* memory, scheduler_core& away, task_state& traveller,
                            runtime_threads* held) noexcept {
    scheduler_core& home = *current_core;
    auto& self = *::new (memory) stay(home, away, traveller, held);
    for_each_scope(traveller, [](scope_state& scope) { scope.departing(); });
    hand_over(traveller, self.visitor_);
    self.visitor_.flags = scope_node::is_task | scope_node::visiting |
                          (traveller.flags & (scope_node::cancelled | scope_node::has_bindings));
    self.visitor_.bindings = task_binding::at(traveller);
    self.visitor_.id = traveller.id;
    self.visitor_.original = task_identity();
    self.visitor_.name = name_of(traveller);
    traveller.waiting_on = &self;
    traveller.flags |= scope_node::blocked;
    ++home.stays;
    self.travel_.run = [](inbox_message& message) noexcept {
        static_cast<travel&>(message).of.arrive();
    };
    if (away.post(self.travel_)) return departure::gone;
    if (held != nullptr) held->release();

    settle_at_home(self.visitor_, traveller);
    self.release();
    return departure::refused;
}

void stay::arrive() noexcept {
    ++away_.stays;
    // First, so that a shield's clock that runs already is found running.
    for_each_scope(visitor_, [](scope_state& scope) { scope.arrived(); });
    attach_subtree(visitor_, away_.visitors);
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
    presence there = presence::there;
    while (!self.presence_.compare_exchange_weak(there, presence::left)) {
        if (there == presence::called) std::this_thread::yield();
        there = presence::there;
    }
    self.destination_ = destination;
    self.ended_root_ = root;
    self.travel_.run = [](inbox_message& message) noexcept {
        static_cast<travel&>(message).of.come_back();
    };
    runtime_threads* const held = self.held_;
    self.home_.post(self.travel_);
    if (held != nullptr) held->release();
}

void stay::come_back() noexcept {
    task_state& returned = *task;
    scheduler_core* const destination = destination_;
    promise_base* const root = ended_root_;
    settle_at_home(visitor_, returned);
    // Cancelled here while a notice was still under way, or there, by a scheduler that is stopping.
    returned.flags |= visitor_.flags & scope_node::cancelled;
    if (returned.is_cancelled()) spread_cancellation(returned);
    is_back_ = true;
    if (!notice_under_way_) release();

    if (root != nullptr) {
        current_core->current = &returned;
        finish_task(returned, *root);
        current_core->current = nullptr;
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
    presence there = presence::there;
    if (!presence_.compare_exchange_strong(there, presence::called)) return;
    notice_under_way_ = away_.post(notice_);
    presence_.store(presence::there);
}

void stay::deliver() noexcept {
    if (presence_.load() != presence::left) cancel_subtree(visitor_);
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
    std::fprintf(out, "its return from reactor %zu", away_index_);
}

}  // namespace rondo::detail
