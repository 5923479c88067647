#include <rondo/sync/mutex.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>

#include <mutex>

namespace rondo {

void mutex::check_holder() const noexcept {
    const detail::task_state* holder = holder_.load(std::memory_order_relaxed);
    if (holder != detail::task_identity()) {
        detail::misuse("a mutex is unlocked by another task than the one that has locked it, here",
                       locked_at_);
    }
}

void mutex::hand_on() noexcept {
    line_lock_.lock();
    if (line_.empty()) {
        // All who waited have left meanwhile.
        line_lock_.unlock();
        return unlock();
    }
    auto& next = static_cast<lock_awaiter&>(line_.pop());
    hold(next.identity_, next.where_);
    // Relaxed: the wake-up carries what the last holder did.
    if (line_.empty()) state_.store(is_taken, std::memory_order_relaxed);
    line_lock_.unlock();
    next.wake();
}

// False: it was free after all, and is taken now.
bool mutex::join_line(lock_awaiter& one) noexcept {
    one.prepare();
    const std::lock_guard guard(line_lock_);
    for (;;) {
        std::uint32_t seen = is_taken;
        if (state_.compare_exchange_strong(seen, is_awaited, std::memory_order_relaxed) ||
            seen == is_awaited) {
            line_.push(one);
            return true;
        }
        if (take()) {
            hold(one.identity_, one.where_);
            return false;
        }
    }
}

// False: the mutex was handed to it.
bool mutex::leave_line(lock_awaiter& one) noexcept {
    const std::lock_guard guard(line_lock_);
    if (!one.in_line()) return false;
    line_.remove(one);
    if (line_.empty()) state_.store(is_taken, std::memory_order_relaxed);
    return true;
}

void mutex::lock_awaiter::describe(std::FILE* out) const { std::fputs("a mutex", out); }

}  // namespace rondo
