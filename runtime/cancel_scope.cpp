#include <rondo/runtime/cancel_scope.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/task_local.hpp>

namespace rondo {

namespace detail {

namespace {

[[noreturn]] void left_inside_out(const scope_node& open) noexcept {
    left_open(open, "a task_group outlives the scope that it was made in; it was made here",
              "a scope is left before one that was entered inside it; that was entered here");
}

// Sets the flag on one node and asks whoever is blocked right there to end.
void mark_cancelled(scope_node& node) noexcept {
    node.flags |= scope_node::cancelled;
    task_state* task = (node.flags & scope_node::is_task) != 0
                           ? static_cast<task_state*>(&node)
                           : static_cast<scope_state&>(node).owner;
    if (task != nullptr && task->innermost == &node && (task->flags & scope_node::blocked) != 0) {
        task->waiting_on->cancel();
    }
}

}  // namespace

void cancel_subtree(scope_node& top, std::uint32_t reason) noexcept {
    if ((top.flags & scope_node::cancel_requested) != 0) return;
    top.flags |= reason | scope_node::cancel_requested;
    if (top.is_cancelled()) return;
    mark_cancelled(top);
    spread_cancellation(top);
}

void spread_cancellation(scope_node& top) noexcept {
    // Without recursion: a chain of groups may be long.
    bool descend = true;
    for (scope_node* node = next_below(top, top); node != nullptr;
         node = next_below(top, *node, descend)) {
        descend = false;
        if (node->is_cancelled()) continue;
        if ((node->flags & scope_node::shielded) != 0) {
            static_cast<scope_state*>(node)->shield_touched();
        } else {
            mark_cancelled(*node);
            descend = true;
        }
    }
}

namespace {

bool is_closed_shield(const scope_node& node) noexcept {
    return (node.flags & scope_node::shielded) != 0 && !node.is_cancelled() &&
           node.parent->is_cancelled();
}

}  // namespace

bool has_closed_shield(const scope_node& top) noexcept {
    scope_node& root = const_cast<scope_node&>(top);
    for (scope_node* node = next_below(root, root); node != nullptr;
         node = next_below(root, *node)) {
        if (is_closed_shield(*node)) return true;
    }
    return false;
}

void open_shields(scope_node& top) noexcept {
    for (scope_node* node = next_below(top, top); node != nullptr; node = next_below(top, *node)) {
        if (is_closed_shield(*node)) cancel_subtree(*node);
    }
}

void attach_subtree(scope_node& node, scope_node& under) noexcept {
    node.attach(under);
    if (node.is_cancelled()) spread_cancellation(node);
}

void enter_scope(scope_state& scope, task_state& task) noexcept {
    scope.owner = &task;
    task.innermost = &scope;
}

void left_open(const scope_node& open, const char* if_group, const char* if_scope) noexcept {
    if ((open.flags & scope_node::is_group) != 0) {
        misuse(if_group, static_cast<const task_group&>(open).where_);
    }
    if ((open.flags & scope_node::binds) != 0) {
        misuse(if_scope, static_cast<const task_binding&>(open).made_at());
    }
    misuse(if_scope, static_cast<const cancel_scope&>(open).entered_at_);
}

void leave_scope(scope_state& scope) noexcept {
    const scope_node& innermost = *scope.owner->innermost;
    if (&innermost != &scope) left_inside_out(innermost);
    scope.owner->innermost = scope.parent;
    scope.owner = nullptr;
}

}  // namespace detail

void cancel_scope::set_deadline(std::chrono::steady_clock::time_point deadline) noexcept {
    detail::timer_wheel& timers = detail::current_core->timers;
    timers.cancel(deadline_);
    const std::int64_t at = detail::to_ns(deadline);
    // A timer for one that never comes would make a deadlock inside look like a wait that ends.
    if (at >= detail::longest_wait_ns || cancelled()) return;
    if (at <= detail::now_ns()) {
        detail::cancel_subtree(*this, deadline_expired);
    } else {
        timers.arm(deadline_, at);
    }
}

void cancel_scope::start_with_deadline(std::chrono::steady_clock::time_point deadline) noexcept {
    const std::int64_t at = detail::to_ns(deadline);
    if (at >= detail::longest_wait_ns) return;  // as in set_deadline()
    if (at <= detail::now_ns()) flags |= last_turn;
    detail::current_core->timers.arm(deadline_, at);
}

void detail::end_last_turn(scope_node& scope) noexcept {
    auto& self = static_cast<cancel_scope&>(scope);
    self.flags &= ~scope_node::last_turn;
    current_core->timers.cancel(self.deadline_);
    cancel_subtree(self, scope_node::deadline_expired);
}

void cancel_scope::departing() noexcept {
    if (!deadline_.armed()) return;
    detail::current_core->timers.cancel(deadline_);
    flags |= timer_travels;
}

void cancel_scope::arrived() noexcept {
    if ((flags & timer_travels) == 0) return;
    flags &= ~timer_travels;
    detail::current_core->timers.arm(deadline_, deadline_.deadline);
}

void cancel_scope::deadline_timer::expired() noexcept {
    if ((scope_.flags & last_turn) != 0) {
        // Timers come before the kernel in a turn, which may have what the scope waits for. This
        // one is due again in the next turn, and not before: the clock has gone on by then.
        scope_.flags &= ~last_turn;
        detail::current_core->timers.arm(*this, detail::now_ns() + 1);
        return;
    }
    detail::cancel_subtree(scope_, deadline_expired);
}

void cancel_scope::shield_touched() noexcept {
    if (grace_ == no_grace || deadline_.armed()) return;
    set_deadline(std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(detail::deadline_after(grace_))));
}

scope_entry::scope_entry(cancel_scope& scope, std::source_location where) noexcept : scope_(scope) {
    detail::task_state& task = *detail::current_core->current;
    scope.entered_at_ = where;
    // A deadline may have cancelled the scope before it was entered.
    scope.attach(*task.innermost);
    detail::enter_scope(scope, task);
}

scope_entry::scope_entry(cancel_scope& scope, std::chrono::nanoseconds grace,
                         std::source_location where) noexcept
    : scope_(scope) {
    detail::task_state& task = *detail::current_core->current;
    scope.entered_at_ = where;
    scope.flags |= detail::scope_node::shielded;
    scope.grace_ = grace;
    scope.attach(*task.innermost);
    detail::enter_scope(scope, task);
    if (scope.parent->is_cancelled()) scope.shield_touched();
}

scope_entry::~scope_entry() {
    if (scope_.first_child != nullptr) detail::left_inside_out(*scope_.first_child);
    detail::leave_scope(scope_);
    scope_.detach();
}

bool scope_entry::owns_cancellation() const noexcept {
    return scope_.cancelled() && !scope_.parent->is_cancelled();
}

}  // namespace rondo
