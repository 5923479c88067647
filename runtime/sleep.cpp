#include <rondo/runtime/sleep.hpp>

#include <algorithm>

namespace rondo::detail {

void sleep_awaiter::cancel() noexcept {
    current_core->timers.cancel(*this);
    deadline = cancelled;
    current_core->wake(*task);
}

void sleep_awaiter::describe(std::FILE* out) const {
    const double seconds =
        static_cast<double>(std::max<std::int64_t>(deadline - now_ns(), 0)) / 1e9;
    std::fprintf(out, "a timer, %.3f s left", seconds);
}

}  // namespace rondo::detail
