#pragma once
// One thread's world: the tasks that can run, the timers, and the door to the kernel.
//
//     rondo::scheduler& here = rondo::this_scheduler();
//     log("running on {}", to_string(here.reactor()));
//
// A scheduler goes round: it runs what is ready, fires timers, hands everything submitted to the
// kernel in one call, and sleeps only when nothing is left to run. `run` makes one; a program
// seldom needs more than that.

#include <rondo/runtime/detail/core.hpp>
#include <rondo/runtime/reactor_kind.hpp>

#include <cstddef>
#include <memory>

namespace rondo {

namespace detail {
class local_run;
}

/// Fairness, stated: tasks run in the order in which they became ready. At most `turn_tasks` of
/// them run before the scheduler looks at the timers, the kernel and other threads' messages again.
/// A task whose awaits all complete on the spot (epoll tries before it waits) completes at most
/// `immediate_operations` of them; then it waits until the scheduler has looked and everybody else
/// who is ready by then has had a turn. So a task that always finds its socket ready delays a timer
/// or another socket by no more than `immediate_operations` operations of its own, and by no more
/// than turn_tasks x immediate_operations of all tasks together.
class scheduler {
public:
    static constexpr unsigned turn_tasks = 64;
    static constexpr unsigned immediate_operations = 16;

    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;

    /// The kernel interface that it waits on; never `automatic`.
    reactor_kind reactor() const noexcept;

private:
    friend class detail::local_run;
    friend scheduler& this_scheduler() noexcept;

    explicit scheduler(reactor_kind kind);
    ~scheduler();

    /// Goes round until `tasks` is zero.
    void run_until_ended(const std::size_t& tasks) noexcept;
    void run_ready() noexcept;
    void fire_timers() noexcept;
    void take_messages() noexcept;
    void sleep() noexcept;

    detail::scheduler_core core_;
    std::unique_ptr<detail::reactor> reactor_;
};

/// The scheduler that runs the calling task. Precondition: there is one.
scheduler& this_scheduler() noexcept;

}  // namespace rondo
