#pragma once
// What the scheduler knows of a running task, and the tree that cancellation walks.
//
// Scopes and tasks form one tree: a group's children are its tasks, a task's children are the
// scopes it has entered and the groups it has made there. A node is cancelled when it, or any
// ancestor not cut off by a shield, was told so. The flag is pushed down the tree when that
// happens, so that asking costs one load.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <cstdint>
#include <cstdio>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace rondo::detail {

class handle_wait;
class promise_base;
struct task_state;

/// What a task is waiting for; lives in the awaiter, inside the frame that waits.
class suspension {
public:
    /// Asks for an early end. The task still wakes through the ordinary path, at once or once the
    /// kernel has let go; nothing is resumed from in here. Called at most while the task is blocked
    /// here.
    virtual void cancel() noexcept = 0;

    /// Says what is waited for, in a few words without a newline: `recv from 127.0.0.1:40312`.
    virtual void describe(std::FILE* out) const = 0;

    /// Where one task alone can end the wait, because it holds what is waited for: which, and since
    /// what place. Called while no task runs.
    struct obstacle {
        const task_state* holder = nullptr;  // as task_identity()
        std::source_location held_at = {};
    };
    virtual obstacle waits_for() const noexcept { return {}; }

    task_state* task = nullptr;

protected:
    suspension() = default;
    suspension(const suspension&) = default;
    suspension& operator=(const suspension&) = default;
    ~suspension() = default;
};

/// A node of the cancellation tree.
struct scope_node {
    enum : std::uint32_t {
        cancel_requested = 1,  // this very node was cancelled
        cancelled = 2,         // it, or an ancestor that no shield hides
        shielded = 4,          // an ancestor's cancellation stops here
        deadline_expired = 8,  // cancel_requested was set by the deadline
        is_task = 16,          // a task_state; otherwise a scope_state
        is_group = 32,         // a task_group
        has_handle = 64,       // task: a task_handle keeps the root frame
        blocked = 128,         // task: waiting_on is valid, the task is in no ready queue
        ended = 256,           // task: it has; its handle frees it
        visiting = 512,        // task: a visitor_state, of a task whose home is another scheduler
        timer_travels = 1024,  // cancel_scope: its deadline is to be armed again on arrival
        has_name = 2048,       // task: a named_task_state
        unheard = 4096,        // task: it failed, and so far its handle alone can give the error
        last_turn = 8192,      // cancel_scope: its deadline has passed, and it has a turn left
        binds = 16384,         // a task_binding: the value of a task_local holds below it
        has_bindings = 32768,  // it, or an ancestor, is one
    };

    scope_node* parent = nullptr;
    scope_node* first_child = nullptr;
    scope_node* next = nullptr;
    scope_node* previous = nullptr;
    std::uint32_t flags = 0;
    std::uint32_t id = 0;  // of a task: its number in dumps

    bool is_cancelled() const noexcept { return (flags & cancelled) != 0; }

    /// Becomes a child of `under` and inherits what is bound there and, unless shielded, its
    /// cancellation.
    void attach(scope_node& under) noexcept {
        parent = &under;
        previous = nullptr;
        next = under.first_child;
        if (next != nullptr) next->previous = this;
        under.first_child = this;
        const std::uint32_t inherited =
            (flags & shielded) == 0 ? cancelled | has_bindings : has_bindings;
        flags |= under.flags & inherited;
    }

    void detach() noexcept {
        if (previous != nullptr) {
            previous->next = next;
        } else {
            parent->first_child = next;
        }
        if (next != nullptr) next->previous = previous;
    }
};

/// A scope that a task may have entered.
struct scope_state : scope_node {
    task_state* owner = nullptr;  // the task that runs inside, while one does

    /// An ancestor was cancelled and this scope's shield stopped it. A shield with a time limit
    /// starts its clock.
    virtual void shield_touched() noexcept {}

    /// The task is about to leave this scheduler, and the scope goes with it; it has arrived.
    virtual void departing() noexcept {}
    virtual void arrived() noexcept {}

protected:
    ~scope_state() = default;
};

/// A spawned task: everything that is not in its frames.
struct task_state : scope_node {
    union {
        task_state* next_ready = nullptr;  // in the ready queue
        suspension* waiting_on;            // while `blocked`
    };
    promise_base* leaf = nullptr;     // the frame to resume
    scope_node* innermost = nullptr;  // the scope it runs in; itself when it entered none
    handle_wait* waiter = nullptr;    // the task that awaits its handle

    bool should_stop() const noexcept { return innermost->is_cancelled(); }
};
static_assert(sizeof(task_state) == 72, "a task's state is counted in every sleeping task");

struct named_task_state final : task_state {
    explicit named_task_state(std::string text) noexcept : name(std::move(text)) {}
    const std::string name;
};

/// The name of a task, or of a visitor; empty where it has none.
std::string_view name_of(const task_state& task) noexcept;

/// The node after `node` in a walk, parents first, over everything below `top`; null at the end.
/// What lies below `node` is left out where `descend` is false.
inline scope_node* next_below(const scope_node& top, scope_node& node,
                              bool descend = true) noexcept {
    if (descend && node.first_child != nullptr) return node.first_child;
    for (scope_node* at = &node; at != &top; at = at->parent) {
        if (at->next != nullptr) return at->next;
    }
    return nullptr;
}

/// Marks the node cancelled and everything below it that no shield protects, and asks the tasks
/// that are blocked there to end.
void cancel_subtree(scope_node& node, std::uint32_t reason = scope_node::cancel_requested) noexcept;

/// The same for what lies below a node that was told of a cancellation by other means.
void spread_cancellation(scope_node& node) noexcept;

/// Cancels a scope that has had the turn which was left to it after its deadline.
void end_last_turn(scope_node& scope) noexcept;

/// Whether a shield below the node holds a cancellation back.
bool has_closed_shield(const scope_node& top) noexcept;

/// Lets the cancellation through all such shields.
void open_shields(scope_node& top) noexcept;

/// Becomes a child of `under`; where that is cancelled, everything below `node` is told, too.
void attach_subtree(scope_node& node, scope_node& under) noexcept;

/// The task runs in `scope` from now on, which becomes a child of the scope that it has run in,
/// until it leaves it again.
void enter_scope(scope_state& scope, task_state& task) noexcept;
void leave_scope(scope_state& scope) noexcept;

}  // namespace rondo::detail
