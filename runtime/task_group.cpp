#include <rondo/runtime/task_group.hpp>

#include <rondo/runtime/core/unheard_error.hpp>
#include <rondo/runtime/detail/stay.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <string_view>
#include <thread>
#include <typeinfo>
#include <utility>

namespace rondo {

inline void task_group::child_ended() noexcept {
    --running_;
    if (running_ == 0 && joiner_ != nullptr) detail::current_core->wake(*joiner_->task);
}

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

// An async_generator that holds what is open may outlive the task.
[[noreturn]] void ended_before(const scope_node& open) noexcept {
    left_open(open, "a task ended before a task_group that it made; it was made here",
              "a task ended before a scope that it had entered was left; it was entered here");
}

}  // namespace

void handle_wait::cancel() noexcept {
    target_.waiter = nullptr;
    was_cancelled_ = true;
    current_core->wake(*task);
}

void handle_wait::describe(std::FILE* out) const { std::fputs("the end of a task", out); }

std::string_view name_of(const task_state& task) noexcept {
    if ((task.flags & scope_node::visiting) != 0) {
        return static_cast<const visitor_state&>(task).name;
    }
    if ((task.flags & scope_node::has_name) == 0) return {};
    return static_cast<const named_task_state&>(task).name;
}

void free_named_task_state(task_state& task) noexcept {
    auto& named = static_cast<named_task_state&>(task);
    std::destroy_at(&named);
    promise_base::operator delete(&named, sizeof(named_task_state));
}

void report_unheard_task(task_state& task, const std::exception_ptr& error) noexcept {
    task.flags &= ~scope_node::unheard;
    report_unheard(error, "a task whose task_handle nobody awaited");
}

void drop_handle(task_state& task) noexcept { task.flags &= ~scope_node::has_handle; }

// The task is the running one until its frame is gone: what dies with that may be the task's own,
// such as a lock that it holds.
std::coroutine_handle<> finish_root(promise_base& promise) noexcept {
    scheduler_core& core = *current_core;
    task_state& task = *core.current;
    // Where no other task is ready, the one that waits for this task goes on in its turn: without
    // the way through the queue a spawn and its join cost 7 % less.
    task_state* next = nullptr;
    if (task.waiter != nullptr && core.ready.empty() && core.allowance > hand_over_cost) {
        next = std::exchange(task.waiter, nullptr)->task;
        next->flags &= ~scope_node::blocked;
    }
    finish_task(task, promise);
    core.current = next;
    if (next == nullptr) return std::noop_coroutine();
    core.allowance -= hand_over_cost;
    return transfer_to(handle_of(*next->leaf));
}

void finish_task(task_state& task, promise_base& root) noexcept {
    if (task.first_child != nullptr) [[unlikely]]
        ended_before(*task.first_child);
    if ((task.flags & scope_node::visiting) != 0) {
        return stay::end(static_cast<visitor_state&>(task), root);
    }
    auto& group = static_cast<task_group&>(*task.parent);
    const bool has_handle = (task.flags & scope_node::has_handle) != 0;
    task.flags |= scope_node::ended;
    task.detach();
    if (task.waiter != nullptr) task.waiter->finished();
    if (const std::exception_ptr* error = root.failure()) [[unlikely]]
        group.child_failed(task, *error);
    // The group has this task until its frame is gone: a destructor in there may spawn into it.
    if (!has_handle) {
        handle_of(root).destroy();
        free_task_state(task);
    }
    group.child_ended();
}

}  // namespace detail

std::string_view this_task_name() noexcept {
    const detail::scheduler_core* core = detail::current_core;
    if (core == nullptr || core->current == nullptr) return {};
    return detail::name_of(*core->current);
}

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

inline void task_group::check_home(std::source_location where) const noexcept {
    if (detail::debug_checks && home_ != detail::current_core) {
        detail::misuse("a task is spawned into a group of another scheduler", where);
    }
}

detail::task_state& task_group::start(detail::promise_base& root, std::source_location where) {
    using state = detail::task_state;
    check_home(where);
    auto& task = *::new (detail::current_core->frames.allocate(sizeof(state))) state;
    begin(task, root, where, is_task | has_handle);
    return task;
}

detail::task_state& task_group::start(detail::promise_base& root, std::source_location where,
                                      task_name name) {
    using state = detail::named_task_state;
    check_home(where);
    void* const memory = detail::current_core->frames.allocate(sizeof(state));
    auto& task = *::new (memory) state{std::move(name).text()};
    begin(task, root, where, is_task | has_handle | has_name);
    return task;
}

detail::task_state& task_group::start_in(void* memory, detail::promise_base& root,
                                         std::source_location where) noexcept {
    check_home(where);
    auto& task = *::new (memory) detail::task_state;
    begin(task, root, where, is_task | has_handle);
    return task;
}

inline void task_group::begin(detail::task_state& task, detail::promise_base& root,
                              std::source_location where, std::uint32_t flags) noexcept {
    detail::scheduler_core& core = *detail::current_core;
    root.set_root();
    root.where = where;
    task.flags = flags;
    task.id = ++core.last_task_id;
    task.leaf = &root;
    task.innermost = &task;
    task.attach(*this);
    if (running_++ == 0 && joiner_ != nullptr) [[unlikely]]
        hold_back_joiner();
    joined_ = false;
    core.ready.push(task);
}

void task_group::child_failed(detail::task_state& task, const std::exception_ptr& error) noexcept {
    if (detail::is_cancellation(error)) {
        if ((task.flags & cancel_requested) != 0) return;  // through its handle
        if (is_cancelled()) {
            cut_short_ = cut_short_ || !ended_early_;
            return;
        }
        // It was something else that was cancelled, which the task waited for.
    }
    if (fail(error)) return;
    if ((task.flags & has_handle) != 0) {
        task.flags |= unheard;
    } else {
        report_unheard(error, detail::name_of(task));
    }
}

/// False: the join will throw another one.
bool task_group::fail(std::exception_ptr error) noexcept {
    cancel();
    if (!error_) error_ = error;
    return error_ == error;
}

void task_group::report_unheard(const std::exception_ptr& error,
                                std::string_view name) const noexcept {
    char origin[500];
    std::snprintf(origin, sizeof origin, "%s%.*s of the group made at %s:%u",
                  name.empty() ? "a task" : "task ", static_cast<int>(name.size()), name.data(),
                  where_.file_name(), static_cast<unsigned>(where_.line()));
    detail::report_unheard(error, origin);
}

// The last task has ended and the joiner is ready, but a new task comes before it has resumed.
void task_group::hold_back_joiner() noexcept {
    detail::task_state& task = *joiner_->task;
    detail::scheduler_core& core = *detail::current_core;
    if (!core.ready.remove(task)) core.next_turn.remove(task);
    task.waiting_on = joiner_;
    task.flags |= blocked;
    if (task.should_stop()) joiner_->cancel();
}

// Whoever calls is one of the group's tasks, away from home: the message comes home before the task
// does, so the group is still there.
void task_group::cancel_from_elsewhere() noexcept {
    struct request : detail::inbox_message {
        task_group* group = nullptr;
        std::atomic<bool> is_lent{false};  // of the spare ones
    };
    // Where there is no memory one of these goes; a request is back as soon as it has arrived.
    static constinit std::array<request, 8> spare_requests;
    request* message = new (std::nothrow) request;
    const bool is_spare = message == nullptr;
    for (std::size_t i = 0; message == nullptr; ++i) {
        request& one = spare_requests[i % spare_requests.size()];
        // Acquire: with the release below.
        if (!one.is_lent.exchange(true, std::memory_order_acquire)) {
            message = &one;
        } else {
            std::this_thread::yield();
        }
    }
    message->group = this;
    if (is_spare) {
        message->run = [](detail::inbox_message& arrived) noexcept {
            auto& self = static_cast<request&>(arrived);
            self.group->cancel();
            self.is_lent.store(false, std::memory_order_release);
        };
    } else {
        message->run = [](detail::inbox_message& arrived) noexcept {
            auto& self = static_cast<request&>(arrived);
            self.group->cancel();
            delete &self;
        };
    }
    if (home_->post(*message)) return;
    if (is_spare) {
        message->is_lent.store(false, std::memory_order_release);
    } else {
        delete message;
    }
}

bool task_group::end_awaiter::await_ready() noexcept {
    if (group_.joiner_ != nullptr) {
        detail::misuse("a task_group is joined by two tasks at once; it was made here",
                       group_.where_);
    }
    if (detail::debug_checks && group_.home_ != detail::current_core) {
        detail::misuse("a task_group is joined on another scheduler; it was made here",
                       group_.where_);
    }
    was_cancelled_ = detail::current_core->current->should_stop();
    if (was_cancelled_) group_.cancel();
    return group_.running_ == 0 && detail::spend_allowance(detail::memory_cost);
}

void task_group::end_awaiter::cancel() noexcept {
    // The tasks end first; the last of them wakes this one. Where what was cancelled lies above the
    // group, the walk that came here comes to the group as well: no recursion along chains of
    // groups.
    was_cancelled_ = true;
    if (!group_.parent->is_cancelled()) group_.cancel();
}

void task_group::end_awaiter::describe(std::FILE* out) const {
    std::fprintf(out, "%zu tasks of the group made at %s:%u", group_.running_,
                 group_.where_.file_name(), static_cast<unsigned>(group_.where_.line()));
}

}  // namespace rondo
