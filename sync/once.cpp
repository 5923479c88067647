#include <rondo/sync/once.hpp>

#include <mutex>

namespace rondo {

// False: it need not wait.
bool once::start_or_join(enter_awaiter& one) noexcept {
    one.prepare();
    const std::lock_guard guard(lock_);
    for (;;) {
        std::uint32_t seen = is_fresh;
        // Acquire, here and below: with the release in succeed() and fail().
        if (state_.compare_exchange_strong(seen, is_running, std::memory_order_acquire)) {
            one.is_first_ = true;
            return false;
        }
        if (seen == is_complete) return false;
        if (seen == is_awaited ||
            state_.compare_exchange_strong(seen, is_awaited, std::memory_order_acquire)) {
            line_.push(one);
            return true;
        }
    }
}

// False: it was woken, to run or because there is nothing left to do.
bool once::leave_line(enter_awaiter& one) noexcept {
    const std::lock_guard guard(lock_);
    if (!one.in_line()) return false;
    line_.remove(one);
    if (line_.empty()) state_.store(is_running, std::memory_order_relaxed);
    return true;
}

// Here and in fail() nothing of it is touched after the exchange: a task that finds it done may
// destroy it.
void once::succeed() noexcept {
    std::uint32_t seen = is_running;
    if (state_.compare_exchange_strong(seen, is_complete, std::memory_order_release)) return;
    detail::wake_list woken;
    {
        std::unique_lock guard(lock_);
        if (line_.empty()) {
            // All who waited have left meanwhile.
            guard.unlock();
            return succeed();
        }
        state_.store(is_complete, std::memory_order_release);
        woken.take_all(line_);
    }
    woken.wake_all();
}

void once::fail() noexcept {
    std::uint32_t seen = is_running;
    if (state_.compare_exchange_strong(seen, is_fresh, std::memory_order_release)) return;
    lock_.lock();
    if (line_.empty()) {
        // All who waited have left meanwhile.
        lock_.unlock();
        return fail();
    }
    auto& next = static_cast<enter_awaiter&>(line_.pop());
    next.is_first_ = true;
    if (line_.empty()) state_.store(is_running, std::memory_order_relaxed);
    lock_.unlock();
    next.wake();
}

}  // namespace rondo
