#include <rondo/sync/event.hpp>

#include <mutex>

namespace rondo {

void event::set_awaited() noexcept {
    detail::wake_list woken;
    {
        std::unique_lock guard(lock_);
        if (line_.empty()) {
            // All who waited have left meanwhile.
            guard.unlock();
            return set();
        }
        // Release: with the loads that find it up.
        state_.store(is_up, std::memory_order_release);
        woken.take_all(line_);
    }
    woken.wake_all();
}

// False: it is up.
bool event::join_line(wait_awaiter& one) noexcept {
    one.prepare();
    const std::lock_guard guard(lock_);
    return join_line_locked(one);
}

bool event::join_line_locked(wait_awaiter& one) noexcept {
    std::uint32_t seen = is_down;
    if (!state_.compare_exchange_strong(seen, is_awaited, std::memory_order_acquire) &&
        seen == is_up) {
        return false;
    }
    line_.push(one);
    return true;
}

// False: it was taken out to be woken.
bool event::leave_line(wait_awaiter& one) noexcept {
    const std::lock_guard guard(lock_);
    return leave_line_locked(one);
}

bool event::leave_line_locked(wait_awaiter& one) noexcept {
    if (!one.in_line()) return false;
    line_.remove(one);
    if (line_.empty()) state_.store(is_down, std::memory_order_relaxed);
    return true;
}

}  // namespace rondo
