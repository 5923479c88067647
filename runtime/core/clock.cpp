#include <rondo/runtime/core/clock.hpp>

#include <rondo/runtime/core/detail/core.hpp>

#include <time.h>

namespace rondo {

namespace detail {

namespace {

std::int64_t read_clock(clockid_t which) noexcept {
    timespec time{};
    ::clock_gettime(which, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

std::int64_t clock_source::now() const noexcept { return read_clock(CLOCK_MONOTONIC); }

std::int64_t clock_source::wall_now() const noexcept { return read_clock(CLOCK_REALTIME); }

constinit const clock_source real_clock{};

}  // namespace detail

std::chrono::steady_clock::time_point now() noexcept {
    return detail::as_time_point(detail::now_ns());
}

std::chrono::system_clock::time_point wall_now() noexcept {
    const std::chrono::nanoseconds since_epoch{detail::current_clock().wall_now()};
    return std::chrono::system_clock::time_point{
        std::chrono::duration_cast<std::chrono::system_clock::duration>(since_epoch)};
}

}  // namespace rondo
