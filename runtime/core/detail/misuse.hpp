#pragma once
// How the library reports a bug of its caller that it cannot continue from: one sentence and the
// place, then abort.
//
//     if (handle == nullptr) detail::misuse("a task is awaited twice", where);

#include <rondo/runtime/core/detail/compiler.hpp>

#include <source_location>

namespace rondo::detail {

/// Prints `rondo: SENTENCE (FILE:LINE, FUNCTION)` to standard error and aborts.
[[noreturn]] void misuse(const char* sentence,
                         std::source_location where = std::source_location::current()) noexcept;

#ifdef NDEBUG
inline constexpr bool debug_checks = false;
#else
inline constexpr bool debug_checks = true;
#endif

}  // namespace rondo::detail
