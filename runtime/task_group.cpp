#include <rondo/runtime/task_group.hpp>

#include <typeinfo>

namespace rondo {

namespace detail {

namespace {

bool is_cancellation(const std::exception_ptr& error) noexcept {
#if defined(__GLIBCXX__)
    return *error.__cxa_exception_type() == typeid(operation_cancelled);
#else
    try {
        std::rethrow_exception(error);
    } catch (const operation_cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
#endif
}

}  // namespace

void handle_wait::start(promise_base& waiter, std::source_location where) noexcept {
    if (root_.root_waiter<handle_wait>() != nullptr) {
        misuse("a task_handle is awaited by two tasks at once", where);
    }
    root_.set_root(this);
    block(*this, waiter, where);
}

void handle_wait::cancel() noexcept {
    root_.set_root();
    was_cancelled_ = true;
    current_core->wake(*task);
}

void handle_wait::describe(std::FILE* out) const { std::fputs("the end of a task", out); }

void drop_handle(task_state& task) noexcept { task.flags &= ~scope_node::has_handle; }

void finish_root(std::coroutine_handle<> frame, promise_base& promise) noexcept {
    scheduler_core& core = *current_core;
    task_state& task = *core.current;
    if (task.first_child != nullptr) {
        const auto& group = static_cast<const task_group&>(*task.first_child);
        misuse("a task ended before a task_group that it made; it was made here", group.where_);
    }
    auto& group = static_cast<task_group&>(*task.parent);
    const bool frame_is_kept = (task.flags & scope_node::has_handle) != 0;
    task.detach();
    core.frames.deallocate(&task, sizeof(task_state));
    core.current = nullptr;
    if (auto* waiter = promise.root_waiter<handle_wait>()) waiter->finished();
    group.child_ended(promise.failure());
    if (!frame_is_kept) frame.destroy();
}

}  // namespace detail

namespace {

detail::scope_node& current_scope(std::source_location where) noexcept {
    const detail::scheduler_core* core = detail::current_core;
    if (core == nullptr || core->current == nullptr) {
        detail::misuse("a task_group is made outside of a task", where);
    }
    return *core->current->innermost;
}

}  // namespace

task_group::task_group(std::source_location where) noexcept
    : task_group(current_scope(where), where) {}

task_group::task_group(detail::scope_node& under, std::source_location where) noexcept
    : where_(where) {
    flags |= is_group;
    attach(under);
}

task_group::~task_group() {
    if (!joined_ || running_ != 0) {
        detail::misuse("a task_group is destroyed without a join; it was made here", where_);
    }
    detach();
}

detail::task_state& task_group::new_task() {
    return *::new (detail::current_core->frames.allocate(sizeof(detail::task_state)))
        detail::task_state;
}

void task_group::start(detail::task_state& task, detail::promise_base& root,
                       std::source_location where) noexcept {
    detail::scheduler_core& core = *detail::current_core;
    root.set_root();
    root.where = where;
    task.flags = is_task | has_handle;
    task.id = ++core.last_task_id;
    task.leaf = &root;
    task.innermost = &task;
    task.attach(*this);
    ++running_;
    joined_ = false;
    core.ready.push(task);
}

void task_group::fail(std::exception_ptr error) noexcept {
    if (!error_) error_ = std::move(error);
    cancel();
}

void task_group::child_ended(std::exception_ptr* error) noexcept {
    --running_;
    if (error != nullptr && !detail::is_cancellation(*error)) fail(*error);
    if (running_ == 0 && joiner_ != nullptr) {
        detail::current_core->wake(*std::exchange(joiner_, nullptr)->task);
    }
}

bool task_group::join_awaiter::await_ready() noexcept {
    if (group_.joiner_ != nullptr) {
        detail::misuse("a task_group is joined by two tasks at once; it was made here",
                       group_.where_);
    }
    const bool stop = detail::current_core->current->should_stop();
    if (stop) group_.cancel();
    was_cancelled_ = stop && (!for_group_end_ || group_.running_ != 0);
    return group_.running_ == 0;
}

void task_group::join_awaiter::await_resume() {
    if (was_cancelled()) throw operation_cancelled{};
    if (group_.error_) std::rethrow_exception(std::exchange(group_.error_, nullptr));
}

bool task_group::join_awaiter::was_cancelled() noexcept {
    group_.joined_ = true;
    return was_cancelled_ && !group_.error_;
}

void task_group::join_awaiter::cancel() noexcept {
    // The tasks end first; the last of them wakes this one. Where what was cancelled lies above the
    // group, the walk that came here comes to the group as well: no recursion along chains of
    // groups.
    was_cancelled_ = true;
    if (!group_.parent->is_cancelled()) group_.cancel();
}

void task_group::join_awaiter::describe(std::FILE* out) const {
    std::fprintf(out, "%zu tasks of the group made at %s:%u", group_.running_,
                 group_.where_.file_name(), static_cast<unsigned>(group_.where_.line()));
}

}  // namespace rondo
