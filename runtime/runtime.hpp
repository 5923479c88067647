#pragma once
// One reactor per core, and everything that runs on them.
//
//     rondo::runtime rt{{.reactors = 0}};                     // one per usable core
//     rondo::future<int> sum = rt.submit(add(1, 2));          // from any thread
//     int three = sum.get();                                  // a task awaits it instead
//     rt.run(serve_everybody);                                // waits for it
//
// A program with one entry calls run() of run.hpp, which makes a runtime and lends it the calling
// thread. This class is for those that have threads of their own.

#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/reactor/reactor_kind.hpp>
#include <rondo/runtime/runtime_options.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/future.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace rondo {

class thread_pool;

namespace detail {
class main_run;
class reactor_factory;
}  // namespace detail

/// Some schedulers, each with a thread and a reactor of its own. They share nothing: a task stays
/// where it is, unless it hops (resume_on) or is spawned elsewhere (task_group::spawn_on).
/// Thread safety: everything but construction and destruction may be called from any thread.
class runtime {
public:
    /// Starts the threads. Throws std::system_error when the reactor asked for or a thread cannot
    /// be had, std::invalid_argument for options that make no sense.
    explicit runtime(runtime_options options = {});

    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;

    /// Stops, and waits until every task has ended and every visitor from another runtime has left.
    /// It blocks. Not from one of its own tasks or calls.
    ~runtime();

    /// The number of schedulers.
    std::size_t size() const noexcept;

    rondo::scheduler& scheduler(std::size_t index) noexcept;

    /// How many of the schedulers have a reactor of this kind. With reactor_kind::automatic one may
    /// have had to take epoll where others had io_uring: each takes what it can have.
    std::size_t reactors_of(reactor_kind kind) const noexcept;

    /// What it runs on, in a few words for a log: `io_uring, 2 reactors`, or
    /// `io_uring, 4 reactors, 1 of them on epoll`.
    std::string describe() const;

    /// Runs `work` on the first scheduler, waits until it has ended, and gives its result or throws
    /// its exception; or the exception that has stopped the runtime. Throws std::logic_error when
    /// called from inside a task.
    template <class T>
    T run(task<T> work, std::source_location where = std::source_location::current()) {
        check_before_run();
        future<T> result = submit(std::move(work), where);
        result.wait();
        rethrow_failure();
        return std::move(result).get();
    }

    /// The same for a callable that returns a task; it is kept until the task has ended.
    template <std::invocable F>
        requires detail::returns_task<std::invoke_result_t<F&>>
    auto run(F f, std::source_location where = std::source_location::current()) {
        check_before_run();
        auto result = submit(std::move(f), where);
        result.wait();
        rethrow_failure();
        return std::move(result).get();
    }

    /// Runs f() on the first scheduler; see scheduler::post.
    template <std::invocable F>
    bool post(F f) {
        return scheduler(0).post(std::move(f));
    }

    /// Runs a task on the first scheduler; see scheduler::submit.
    template <class Work>
    auto submit(Work work, std::source_location where = std::source_location::current()) {
        return scheduler(0).submit(std::move(work), where);
    }

    /// Cancels every task, now and from now on. Returns at once.
    void stop() noexcept;

    /// The threads of offload(). They start with the first call of this.
    thread_pool& pool();

private:
    friend class detail::main_run;

    // Its first scheduler runs on the calling thread, in run_here().
    struct on_calling_thread {};
    runtime(runtime_options options, on_calling_thread, detail::reactor_factory* factory);

    template <class T>
    T run_here(task<T> work, std::source_location where) {
        // First what may throw.
        task_handle<T> main = scheduler(0).tasks_.spawn(std::move(work), where);
        hold_for_main();
        run_to_the_end(main.state());
        return main.operator co_await().await_resume();
    }

    void check_before_run() const;
    void rethrow_failure() const;
    void hold_for_main();
    void run_to_the_end(const detail::task_state& main);

    std::unique_ptr<detail::runtime_threads> threads_;
};

/// The runtime of the calling task. Precondition: there is one.
runtime& this_runtime() noexcept;

namespace detail {

template <class F>
task<> run_on_each_reactor(F f) {
    co_await with_task_group([&f](task_group& group) -> task<> {
        runtime& all = this_runtime();
        for (std::size_t i = 0; i < all.size(); ++i) group.spawn_on(all.scheduler(i), f, i);
        co_return;
    });
}

}  // namespace detail

/// Runs f(index, args...), a task, on each reactor of this runtime at the same time, with a copy of
/// f and of the arguments for each, and completes when all have ended. The first exception cancels
/// the others and is thrown.
/// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first, or
/// pass what it captures as arguments.
/// Cancellation: cancels all of them, waits, then throws operation_cancelled.
template <class F, class... Args>
task<> on_each_reactor(F&& f, Args&&... args) {
    detail::refuse_what_is_destroyed_twice<F>();
    using call = detail::kept_t<detail::pass::each_time, F, Args...>;
    static_assert(std::copy_constructible<call>,
                  "on_each_reactor: each reactor needs a copy of f and of the arguments");
    constexpr bool is_right = detail::calls_nothing<call, std::size_t>;
    static_assert(is_right,
                  "on_each_reactor: f(index, args...) must be a coroutine that returns task<>, for "
                  "example [](std::size_t index) -> task<> { ... co_return; }");
    if constexpr (is_right) {
        return detail::run_on_each_reactor<call>(detail::keep_callable<detail::pass::each_time>(
            std::forward<F>(f), std::forward<Args>(args)...));
    }
}

}  // namespace rondo
