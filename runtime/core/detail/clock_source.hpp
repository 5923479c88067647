#pragma once
// Where the time comes from: the kernel's clocks, or those of whatever takes the kernel's place.

#include <cstdint>

namespace rondo::detail {

/// The kernel's clocks. A reactor that plays a world of its own overrides both functions.
class clock_source {
public:
    /// Nanoseconds of std::chrono::steady_clock.
    virtual std::int64_t now() const noexcept;

    /// Nanoseconds since the epoch of std::chrono::system_clock.
    virtual std::int64_t wall_now() const noexcept;

    constexpr clock_source() noexcept = default;
    clock_source(const clock_source&) = delete;
    clock_source& operator=(const clock_source&) = delete;
    constexpr virtual ~clock_source() = default;
};

/// For threads without a scheduler, and for what concerns the machine rather than a task.
extern constinit const clock_source real_clock;

}  // namespace rondo::detail
