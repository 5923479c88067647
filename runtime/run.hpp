#pragma once
// Where a program enters: runs a task, and everything it starts, on the calling thread.
//
//     int main() { return rondo::run(serve_everybody); }
//     int sum = rondo::run(add(1, 2), {.reactor = rondo::reactor_kind::epoll});

#include <rondo/runtime/reactor_kind.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task.hpp>
#include <rondo/runtime/task_group.hpp>

#include <concepts>
#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

struct runtime_options {
    /// How many reactors, each with its thread; so far only 1.
    unsigned reactors = 1;
    reactor_kind reactor = reactor_kind::automatic;
};

namespace detail {

/// A scheduler on the calling thread, for the time of one run().
class local_run {
public:
    local_run(const runtime_options& options, std::source_location where);
    ~local_run();
    local_run(const local_run&) = delete;
    local_run& operator=(const local_run&) = delete;

    template <class T>
    T operator()(task<T> work, std::source_location where) {
        task_handle<T> main = root_.spawn(std::move(work), where);
        loop();
        return main.operator co_await().await_resume();
    }

private:
    void loop() noexcept;

    scheduler scheduler_;
    task_group root_;
};

template <class T>
inline constexpr bool returns_task = false;
template <class T>
inline constexpr bool returns_task<task<T>> = true;

}  // namespace detail

/// Runs `work` on the calling thread until it has ended, and gives its result or throws its
/// exception. Nothing is left behind: no task, thread, descriptor or memory. It may be called
/// again, and on several threads at once; not from inside a task. Signals are left alone; see
/// wait_signal.
/// Throws std::system_error when the reactor asked for cannot be had, std::invalid_argument for
/// options that make no sense, std::logic_error when called from inside a task.
template <class T>
T run(task<T> work, runtime_options options = {},
      std::source_location where = std::source_location::current()) {
    detail::local_run here{options, where};
    return here(std::move(work), where);
}

/// The same for a callable that returns a task; it is kept until the task has ended.
template <std::invocable F>
    requires detail::returns_task<std::invoke_result_t<F&>>
auto run(F f, runtime_options options = {},
         std::source_location where = std::source_location::current()) {
    detail::local_run here{options, where};
    return here(std::invoke(f), where);
}

}  // namespace rondo
