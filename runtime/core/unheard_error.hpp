#pragma once
// Errors that no code is left to catch.
//
//     rondo::set_unheard_error_hook([](const rondo::unheard_error& lost) {
//         metrics.lost_errors.increment();           // note it, and return
//         log(lost.origin, lost.error);
//     });
//
// A task_group throws the first error of its tasks; another task of it may fail while the group
// ends. An exception may be the result of a future that everybody has dropped, or leave a posted
// function where run() throws another one. No await can throw these. The hook is told of each of
// them, and by default it writes one line to standard error.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <exception>

namespace rondo {

/// An exception that nothing will throw any more.
struct unheard_error {
    std::exception_ptr error;
    const char* origin;  // what ended with it, as a noun phrase; valid during the call only
};

/// Called where the error is found: on any thread, also within the scheduler and within
/// destructors. It should note the error and return; it must not wait, and neither begin nor end
/// tasks. An exception that leaves it is written to standard error together with the error itself.
using unheard_error_hook = void (*)(const unheard_error&);

/// Makes `hook` the one that is told, in the whole process, and gives the one before it. A null
/// pointer brings back the default, which writes `rondo: ORIGIN failed unheard: WHAT` to standard
/// error. The default never waits, not even for a pipe that is full, raises no SIGPIPE, and writes
/// ten lines a second at most, after the first twenty; the next line tells how many were left out.
/// Thread safety: any thread.
unheard_error_hook set_unheard_error_hook(unheard_error_hook hook) noexcept;

namespace detail {

/// Tells the hook. `origin` is as above: "a task of the group made at server.cpp:42".
void report_unheard(std::exception_ptr error, const char* origin) noexcept;

}  // namespace detail
}  // namespace rondo
