#pragma once
// One thread's world: the tasks that can run, the timers, and the door to the kernel.
//
//     rondo::scheduler& here = rondo::this_scheduler();
//     log("running on {}", to_string(here.reactor()));
//     here.post([] { std::puts("in a moment, between two tasks"); });       // from any thread
//
// A scheduler goes round: it runs what is ready, fires timers, hands everything submitted to the
// kernel in one call, and sleeps only when nothing is left to run. A runtime has one for each of
// its threads.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/spin_policy.hpp>
#include <rondo/runtime/reactor/reactor_kind.hpp>
#include <rondo/runtime/runtime_options.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/detail/all_asleep.hpp>
#include <rondo/runtime/threads/future.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

class runtime;

namespace detail {

class runtime_threads;
class scheduled_call;

template <class T>
inline constexpr bool returns_task = false;
template <class T>
inline constexpr bool returns_task<task<T>> = true;

/// A function on its way to a scheduler.
class posted_call : public inbox_message {
public:
    virtual ~posted_call() = default;
    virtual void call() = 0;

    /// The exception that is being handled stops this scheduler's runtime.
    static void failed() noexcept;

protected:
    posted_call() noexcept;
};

/// A task on its way to a scheduler. While it lives its runtime does not end.
class submission_ticket {
public:
    /// Throws std::system_error with runtime_errc::scheduler_stopped.
    explicit submission_ticket(scheduler& target);
    submission_ticket(submission_ticket&& other) noexcept
        : threads_(std::exchange(other.threads_, nullptr)) {}
    submission_ticket& operator=(submission_ticket&&) = delete;
    ~submission_ticket();

private:
    runtime_threads* threads_;
};

/// The promise is kept when nothing is left of the work.
template <class T>
task<> keep_promise(task<T> work, promise<T> promise, submission_ticket) {
    if (!promise.set_running()) co_return;  // its future was cancelled
    std::optional<stored_result<T>> value;
    std::exception_ptr error;
    try {
        task<T> mine = std::move(work);
        if constexpr (std::is_void_v<T>) {
            co_await mine;
        } else if constexpr (std::is_reference_v<T>) {
            value.emplace(std::addressof(co_await mine));
        } else {
            value.emplace(co_await mine);
        }
    } catch (...) {
        error = std::current_exception();
    }
    // What a move of the value throws becomes the future's exception as well.
    if (error) {
        promise.set_exception(std::move(error));
    } else if constexpr (std::is_void_v<T>) {
        promise.set_value();
    } else if constexpr (std::is_reference_v<T>) {
        promise.set_value(static_cast<T>(**value));
    } else {
        promise.set_value(*std::move(value));
    }
}

}  // namespace detail

/// Fairness, stated: tasks run in the order in which they became ready. At most `turn_tasks` of
/// them get their turn before the scheduler looks at the timers, the kernel and other threads'
/// messages again. A task whose awaits all complete on the spot (epoll tries before it waits, as
/// io_uring does where a stream has more) completes at most `immediate_operations` of them; then it
/// waits until the scheduler has looked and everybody else who is ready by then has had a turn. Who
/// awaits a task_handle goes on in what is left of the turn that the task ends in, where nobody
/// else is ready; that counts as sixteen operations. A lock that is free, a line that is in a
/// reader's buffer already, and whatever else completes without the kernel, counts as a sixteenth
/// of one. To await a task is a call and counts nothing; what the task awaits does. The same holds
/// for every await of a task that was cancelled. So a task that always finds its socket ready
/// delays a timer or another socket by no more than `immediate_operations` operations of its own,
/// and by no more than turn_tasks x immediate_operations of all tasks together. (With 16 instead of
/// 64 streams over loopback bring a sixth less: a task that empties a socket in one go finds more
/// in it the next time.)
/// Thread safety: what is public here may be called from any thread, while the runtime exists: a
/// thread of its own that uses one must end before run() returns, or the runtime is destroyed.
class scheduler {
public:
    static constexpr unsigned turn_tasks = 64;
    static constexpr unsigned immediate_operations = 64;

    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;
    ~scheduler();

    /// The kernel interface that it waits on; never `automatic`.
    reactor_kind reactor() const noexcept { return kind_; }

    /// Its place among the schedulers of its runtime: 0, 1, ...
    std::size_t index() const noexcept { return index_; }

    /// Runs f() on the scheduler's thread, soon, outside of any task: f must not block. Calls
    /// posted by one thread run in the order in which they were posted. An exception that leaves f
    /// stops the runtime, and is thrown by run(); a further one, or one after which nobody calls
    /// run(), goes to the hook of unheard_error.hpp. False: the runtime has been stopped, and f
    /// will not run.
    template <std::invocable F>
    bool post(F f) {
        struct call_of final : detail::posted_call {
            explicit call_of(F callable) : f(std::move(callable)) {}
            void call() override { std::invoke(f); }
            F f;
        };
        return post(std::make_unique<call_of>(std::move(f)));
    }

    /// Runs `work` as a task of its own, and gives its result, exception or cancellation
    /// (operation_cancelled) to the future, which a task of any runtime awaits, a plain thread
    /// blocks on, and code that wants a std::future takes as one. Cancelling the future keeps work
    /// that has not begun from beginning. Stopping the runtime cancels the task. Throws
    /// std::system_error with runtime_errc::scheduler_stopped when that has happened already.
    template <class T>
    future<T> submit(task<T> work, std::source_location where = std::source_location::current()) {
        detail::submission_ticket ticket{*this};
        promise<T> promise;
        future<T> result = promise.get_future();
        start(detail::keep_promise(std::move(work), std::move(promise), std::move(ticket)), where);
        return result;
    }

    /// The same for a callable that returns a task; it is called on the scheduler, and kept until
    /// the task has ended.
    template <std::invocable F>
        requires detail::returns_task<std::invoke_result_t<F&>>
    auto submit(F f, std::source_location where = std::source_location::current()) {
        return submit(call(std::move(f)), where);
    }

private:
    friend class runtime;
    friend class detail::runtime_threads;
    friend class detail::submission_ticket;
    friend class detail::scheduled_call;
    friend class detail::stay;
    friend class detail::posted_call;
    friend scheduler& this_scheduler() noexcept;
    friend runtime& this_runtime() noexcept;
    friend detail::scheduler_core& detail::core_of(scheduler&) noexcept;
    friend void dump_tasks(std::FILE*, std::source_location);

    scheduler(const runtime_options& options, detail::runtime_threads& threads, std::size_t index);

    template <class F>
    static auto call(F f) -> std::invoke_result_t<F&> {
        auto work = std::invoke(f);
        co_return co_await work;
    }

    // Ends what belongs to the thread. Nothing is posted any more.
    void leave() noexcept;

    bool post(std::unique_ptr<detail::posted_call> call);
    void start(task<> work, std::source_location where);
    void cancel_everything() noexcept;

    template <class Condition>
    void run_until(Condition done) noexcept;
    void run_until_done(const detail::task_state& task) noexcept;
    void run_until_halted() noexcept;
    void run_ready() noexcept;
    void fire_timers() noexcept;
    static void run_messages(detail::inbox_message* message) noexcept;
    void idle() noexcept;
    void sleep() noexcept;
    void sleep_until_message() noexcept;
    void open_shields() noexcept;

    detail::runtime_threads& threads_;
    const std::size_t index_;
    std::unique_ptr<detail::reactor> reactor_;
    const reactor_kind kind_;
    detail::scheduler_core core_;
    task_group tasks_;                         // the tasks that no other task has spawned
    detail::scheduled_call* calls_ = nullptr;  // those that are still to come
    detail::spin_policy spin_policy_;
    bool halting_ = false;
    // The sleeps that only a message can end: without a timer, and with nothing pending in the
    // kernel. all_asleep.hpp says what the count is for.
    detail::sleep_count sleeps_;
    detail::inbox_message cancel_message_;
    detail::inbox_message open_shields_message_;
    detail::inbox_message halt_message_;
};

/// The scheduler that runs the calling task. Precondition: there is one.
scheduler& this_scheduler() noexcept;

}  // namespace rondo
