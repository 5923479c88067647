#include <rondo/runtime/interval.hpp>

#include <algorithm>
#include <stdexcept>

namespace rondo {

interval::interval(std::int64_t first, std::int64_t period, missed_ticks missed)
    : next_(first), period_(period), missed_(missed) {
    if (period_ <= 0) throw std::invalid_argument("interval: the period must be longer than zero");
}

interval::time_point interval::take_tick() noexcept {
    constexpr std::int64_t tolerance = 1'000'000;
    const std::int64_t due = next_;
    const std::int64_t now = detail::now_ns();
    const bool missed = now - due > std::min(tolerance, period_);
    if (missed && missed_ == missed_ticks::delay) {
        next_ = now + period_;
    } else if (missed && missed_ == missed_ticks::skip) {
        next_ = now + period_ - (now - due) % period_;
    } else {
        next_ = due + period_;
    }
    return time_point{std::chrono::nanoseconds(due)};
}

}  // namespace rondo
