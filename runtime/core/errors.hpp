#pragma once
// The exceptions by which a wait ends early.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>

namespace rondo {

/// Thrown by an await whose scope, group or task was cancelled. Let it pass: the scope that was
/// cancelled catches it. It is no std::exception, so that `catch (const std::exception&)` around a
/// request does not swallow the end of the whole task; and swallowing it gains nothing, for every
/// later await in the cancelled scope throws it again.
class operation_cancelled {};

/// Thrown by with_timeout when its time is up. Its code is std::errc::timed_out.
class timeout_error : public std::system_error {
public:
    timeout_error();
};

/// Thrown by run() when tasks are left that nothing could ever wake: every reactor sleeps without a
/// timer or a request in the kernel, the runtime's pool is idle, and the process has no other
/// thread. All tasks are cancelled before it is thrown; what a shield with a grace protects has
/// that long to end. what() is the dump of all tasks; before it, where mutexes are the cause, who
/// holds which and waits for which.
class deadlock_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// What can go wrong with a runtime, as an error code.
enum class runtime_errc {
    scheduler_stopped = 1,  // the scheduler has stopped and runs nothing any more
};

const std::error_category& runtime_category() noexcept;

inline std::error_code make_error_code(runtime_errc error) noexcept {
    return {static_cast<int>(error), runtime_category()};
}

namespace detail {

/// Throws what `code` means: operation_cancelled, or a std::system_error that begins with `what`.
[[noreturn]] void throw_error(std::error_code code, const std::string& what);

}  // namespace detail
}  // namespace rondo

template <>
struct std::is_error_code_enum<rondo::runtime_errc> : std::true_type {};
