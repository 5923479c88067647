#include <rondo/runtime/core/detail/futex.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace rondo::detail {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

bool futex_wait_until(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                      std::int64_t deadline) noexcept {
    constexpr std::int64_t second = 1'000'000'000;
    const timespec until{static_cast<time_t>(deadline / second),
                         static_cast<long>(deadline % second)};
    // With a bit set the time is absolute, on CLOCK_MONOTONIC, which is the steady clock.
    return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, &until, nullptr,
                     FUTEX_BITSET_MATCH_ANY) == 0 ||
           errno != ETIMEDOUT;
}

void futex_wake(const void* address, int most) noexcept {
    ::syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, most, nullptr, nullptr, 0);
}

}  // namespace rondo::detail
