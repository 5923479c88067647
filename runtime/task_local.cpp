#include <rondo/runtime/task_local.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/detail/stay.hpp>

namespace rondo::detail {

constinit thread_local const task_binding* inherited_bindings::current = nullptr;

task_binding::task_binding(const void* key, const void* value, std::source_location where) noexcept
    : key_(key), value_(value), outer_(nullptr), where_(where) {
    if (current_core == nullptr || current_core->current == nullptr) {
        misuse("a task_local is bound outside of a task", where);
    }
    task_state& task = *current_core->current;
    outer_ = at(*task.innermost);
    flags |= binds | has_bindings;
    attach(*task.innermost);
    enter_scope(*this, task);
}

task_binding::~task_binding() {
    if (first_child != nullptr) {
        left_open(*first_child,
                  "a task_group outlives the binding of a task_local that it was made in; it was "
                  "made here",
                  "the binding of a task_local ends before a scope that was entered inside it; it "
                  "was entered here");
    }
    leave_scope(*this);
    detach();
}

const task_binding* task_binding::at(const scope_node& node) noexcept {
    // The other nodes of a task that visits, its group among them, are in another thread's tree.
    for (const scope_node* each = &node; (each->flags & scope_node::has_bindings) != 0;
         each = each->parent) {
        if ((each->flags & scope_node::binds) != 0) return static_cast<const task_binding*>(each);
        if ((each->flags & scope_node::visiting) != 0) {
            return static_cast<const visitor_state*>(each)->bindings;
        }
    }
    return nullptr;
}

const task_binding* task_binding::here() noexcept {
    if (current_core == nullptr) return inherited_bindings::current;
    return current_core->current == nullptr ? nullptr : at(*current_core->current->innermost);
}

const void* task_binding::find(const void* key) noexcept {
    const task_binding* each = here();
    while (each != nullptr && each->key_ != key) each = each->outer_;
    return each == nullptr ? nullptr : each->value_;
}

}  // namespace rondo::detail
