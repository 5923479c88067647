#pragma once
// Sleeping on a 32-bit word and waking who sleeps on it: futex(2).

#include <rondo/runtime/core/detail/compiler.hpp>

#include <atomic>
#include <cstdint>

namespace rondo::detail {

/// Sleeps while `word` reads `expected`. It may return early: look at the word again.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept;

/// The same until `deadline` of the steady clock, in nanoseconds; false when that has passed.
bool futex_wait_until(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                      std::int64_t deadline) noexcept;

/// Wakes at most `most` of those who sleep on the word at `address`. Only the address is used: the
/// word may be gone already, since sleepers take early returns anyway.
void futex_wake(const void* address, int most) noexcept;

}  // namespace rondo::detail
