#include <rondo/testing/testing.hpp>

#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task_group.hpp>

#include <cstdint>
#include <stdexcept>
#include <thread>

namespace rondo {

namespace {

// Holds the scheduler's tasks back and lets them run one at a time, in their order. It needs no
// hook in the scheduler: the driver keeps its own task at the head of the ready queue, takes out
// whatever comes behind it, and puts one task back in front of itself.
class stepper {
public:
    stepper() noexcept = default;
    stepper(const stepper&) = delete;
    stepper& operator=(const stepper&) = delete;
    ~stepper() { release(); }

    /// Takes what has become ready. False: every task is blocked, as far as anybody has looked.
    bool collect() noexcept {
        detail::scheduler_core& core = *detail::current_core;
        held_.append(core.ready);
        // Its turn has come, then: this is the moment that settle() waits for.
        if (held_.empty() && has_looked() && !core.settlers.empty()) {
            held_.push(core.settlers.pop());
        }
        if (!held_.empty()) looks_ = 0;
        return !held_.empty();
    }

    /// Everybody runs as usual again.
    void release() noexcept {
        held_.append(detail::current_core->ready);
        detail::current_core->ready.append(held_);
    }

    /// Whether for a while now nothing has been in sight that could make a task ready; another
    /// thread still might.
    bool is_without_hope() noexcept {
        constexpr std::int64_t patience = 50'000'000;
        const detail::scheduler_core& core = *detail::current_core;
        if (!has_looked() || !core.timers.empty() || core.operations != 0 || core.stays != 0) {
            hopeless_since_ = detail::now_ns();
            return false;
        }
        return detail::now_ns() - hopeless_since_ > patience;
    }

    class step_awaiter {
    public:
        explicit step_awaiter(stepper& of) noexcept : of_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        void await_suspend(
            std::coroutine_handle<Promise> waiter,
            std::source_location where = std::source_location::current()) const noexcept {
            detail::scheduler_core& core = *detail::current_core;
            waiter.promise().where = where;
            core.current->leaf = &waiter.promise();
            if (!of_.held_.empty()) core.ready.push(of_.held_.pop());
            core.ready.push(*core.current);
        }
        void await_resume() const noexcept {}

    private:
        stepper& of_;
    };

    /// Lets the next task make its step.
    step_awaiter step() noexcept { return step_awaiter{*this}; }

    /// Lets the scheduler look for timers, completions and messages, some time.
    step_awaiter look() noexcept {
        ++looks_;
        std::this_thread::yield();
        return step_awaiter{*this};
    }

private:
    // The scheduler looks after so many tasks, of which the driver was every one.
    bool has_looked() const noexcept { return looks_ > 2 * scheduler::turn_tasks; }

    detail::ready_queue held_;
    unsigned looks_ = 0;
    std::int64_t hopeless_since_ = 0;
};

task<> run_and_note(task<> work, bool& completed) {
    co_await work;
    completed = true;
}

}  // namespace

task<bool> cancellation_point::run(task<> work) {
    bool completed = false;
    task_group group;
    {
        const auto running = group.spawn(run_and_note(std::move(work), completed));
        stepper tasks;
        bool was_idle = false;
        while (!running.done()) {
            const bool is_idle = !tasks.collect();
            const bool is_point = !is_idle || !was_idle;
            was_idle = is_idle;
            if (is_point && is_reached_with_next()) {
                group.cancel();
                break;
            }
            if (!is_idle) {
                co_await tasks.step();
            } else if (!tasks.is_without_hope()) {
                co_await tasks.look();
            } else {
                break;
            }
        }
    }
    co_await group.join();
    co_return completed;
}

void cancellation_points::advance() {
    is_over_ = point_.passed_ < point_.number_ || point_.passed_ == 0;
    if (!is_over_ && point_.number_ == most_) {
        throw std::length_error("cancellation_points: the work has too many points");
    }
    ++point_.number_;
    point_.passed_ = 0;
}

}  // namespace rondo
