#include <rondo/sync/semaphore.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>

#include <mutex>
#include <stdexcept>

namespace rondo {

void semaphore::complain() noexcept {
    if constexpr (detail::debug_checks) {
        detail::misuse("permits of a semaphore are given back that it has already, or cannot have");
    }
}

// Takes out of the line whoever can be served from `available` permits and the rest of them go into
// the state. Under the lock.
detail::wake_list semaphore::serve_line(std::size_t available) noexcept {
    detail::wake_list served;
    while (!line_.empty()) {
        const std::size_t wanted = static_cast<acquire_awaiter&>(line_.front()).count_;
        if (wanted > available) break;
        available -= wanted;
        served.push(line_.pop());
    }
    // Release: with the acquire in take(), for what is left over.
    state_.store(available << 1 | (line_.empty() ? 0 : has_line), std::memory_order_release);
    return served;
}

bool semaphore::release_to_line(std::size_t count) noexcept {
    detail::wake_list served;
    {
        std::unique_lock guard(lock_);
        const std::size_t seen = state_.load(std::memory_order_relaxed);
        if ((seen & has_line) == 0) {
            // All who waited have left meanwhile.
            guard.unlock();
            return try_release(count);
        }
        if (count > limit_ - (seen >> 1)) return false;
        served = serve_line((seen >> 1) + count);
    }
    served.wake_all();
    return true;
}

// False: the permits were there after all, and are taken.
bool semaphore::join_line(acquire_awaiter& one) noexcept {
    one.prepare();
    const std::lock_guard guard(lock_);
    std::size_t seen = state_.load(std::memory_order_relaxed);
    for (;;) {
        if ((seen & has_line) == 0 && seen >> 1 >= one.count_) {
            if (take(one.count_)) return false;
            seen = state_.load(std::memory_order_relaxed);
        } else if (state_.compare_exchange_weak(seen, seen | has_line, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
            // Acquire: with the release in release(), for serve_line().
            line_.push(one);
            return true;
        }
    }
}

// False: it was given its permits.
bool semaphore::leave_line(acquire_awaiter& one) noexcept {
    detail::wake_list served;
    {
        const std::lock_guard guard(lock_);
        if (!one.in_line()) return false;
        line_.remove(one);
        // Those behind it may have waited for less than it did.
        served = serve_line(state_.load(std::memory_order_relaxed) >> 1);
    }
    served.wake_all();
    return true;
}

void bounded_semaphore::release(std::size_t count) {
    if (!inner_.try_release(count)) {
        throw std::logic_error("bounded_semaphore: released more often than acquired");
    }
}

}  // namespace rondo
