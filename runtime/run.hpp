#pragma once
// Where a program enters: runs a task, and everything it starts, on the calling thread, and on
// further ones where it asks for more than one reactor.
//
//     int main() { return rondo::run(serve_everybody); }
//     int sum = rondo::run(add(1, 2), {.reactor = rondo::reactor_kind::epoll});
//     rondo::run(serve_everybody, {.reactors = 0});         // a reactor for each usable core

#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/runtime_options.hpp>

#include <concepts>
#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// A runtime for the time of one run(). Its reactors come from `factory`; without one they are the
/// kernel's.
class main_run {
public:
    explicit main_run(const runtime_options& options, reactor_factory* factory = nullptr)
        : runtime_(options, runtime::on_calling_thread{}, factory) {}

    template <class T>
    T operator()(task<T> work, std::source_location where) {
        return runtime_.run_here(std::move(work), where);
    }

private:
    runtime runtime_;
};

}  // namespace detail

/// Runs `work` on the calling thread until it has ended, and gives its result or throws its
/// exception. Whatever else still runs then is cancelled and waited for. Nothing is left behind: no
/// task, thread, descriptor or memory. It may be called again, and on several threads at once; not
/// from inside a task. Signals are left alone; see wait_signal.
/// Throws std::system_error when the reactor asked for or a thread cannot be had,
/// std::invalid_argument for options that make no sense, std::logic_error when called from inside a
/// task; and what left a function given to scheduler::post or call_later. Where that happens, an
/// exception of `work` goes to the hook of unheard_error.hpp.
template <class T>
T run(task<T> work, runtime_options options = {},
      std::source_location where = std::source_location::current()) {
    detail::main_run here{options};
    return here(std::move(work), where);
}

/// The same for a callable that returns a task; it is kept until the task has ended.
template <class F>
    requires(!detail::is_task<F>)
auto run(F f, runtime_options options = {},
         std::source_location where = std::source_location::current()) {
    static_assert(detail::calls_task<F>,
                  "run: give it a task, or a callable that returns one, for "
                  "example []() -> task<> { ... co_return; }");
    if constexpr (detail::calls_task<F>) {
        detail::main_run here{options};
        return here(std::invoke(f), where);
    }
}

}  // namespace rondo
