#include <rondo/runtime/resume_on.hpp>

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/scheduler.hpp>

#include <stdexcept>
#include <system_error>

namespace rondo::detail {

bool resume_on_awaiter::depart(promise_base& waiter) {
    if (current_core->current->should_stop()) {
        outcome_ = outcome::cancelled;
        return false;
    }
    scheduler_core& target = core_of(target_);
    if (&target == current_core) return false;
    // Nothing of this awaiter may be touched once the task is gone.
    switch (stay::go(target, waiter)) {
        case stay::departure::gone: return true;
        case stay::departure::refused: outcome_ = outcome::stopped; break;
        case stay::departure::has_tasks: outcome_ = outcome::has_tasks; break;
    }
    return false;
}

void resume_on_awaiter::await_resume() const {
    switch (outcome_) {
        case outcome::arrived: return;
        case outcome::cancelled: throw operation_cancelled{};
        case outcome::stopped:
            throw std::system_error(runtime_errc::scheduler_stopped, "resume_on");
        case outcome::has_tasks: break;
    }
    throw std::logic_error(
        "resume_on: a task_group of this task has tasks on the scheduler that it would leave");
}

}  // namespace rondo::detail
