#pragma once
// What is said of tasks that wait for each other and for nothing else.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace rondo::detail {

struct scheduler_core;

/// Who holds what and waits for what in a circle, if tasks do, then the dump of all tasks. None of
/// the schedulers may be running.
std::string describe_deadlock(std::span<const scheduler_core* const> schedulers);

/// Puts a text of several lines on standard error, as far as that takes it without waiting.
void write_report(std::string_view text) noexcept;

/// How many threads the process has, without those of a sanitizer; proc_pid_status(5). 0 when that
/// cannot be known.
std::size_t threads_of_process();

}  // namespace rondo::detail
