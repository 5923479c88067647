#include <rondo/sync/shared_mutex.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>

#include <mutex>

namespace rondo {

void shared_mutex::check_holder() const noexcept {
    if (holder_.load(std::memory_order_relaxed) != detail::task_identity()) {
        detail::misuse(
            "a shared_mutex is unlocked by another task than the one that has locked it, here",
            locked_at_);
    }
}

// Takes out of the line whoever can have the mutex after the others there, `state` being the state
// so far. Under the lock.
detail::wake_list shared_mutex::serve_line(std::size_t state) noexcept {
    detail::wake_list served;
    while (!line_.empty()) {
        const auto& next = static_cast<waiting&>(line_.front());
        const std::size_t taken = with(state, next.mode_);
        if (taken == 0) break;
        state = taken;
        if (next.mode_ == alone) hold(next.identity_, next.where_);
        served.push(line_.pop());
    }
    // Release: with the acquire in take(). It hands on what all who gave back before did, too: this
    // thread has seen that, from join_line() and through the lock.
    state_.store(state | (line_.empty() ? 0 : has_line), std::memory_order_release);
    return served;
}

void shared_mutex::give_back_to_line(std::size_t held, std::size_t kept) noexcept {
    detail::wake_list served;
    {
        std::unique_lock guard(line_lock_);
        const std::size_t seen = state_.load(std::memory_order_relaxed);
        if ((seen & has_line) == 0) {
            // Everybody in the line has left it meanwhile.
            guard.unlock();
            return give_back(held, kept);
        }
        served = serve_line((seen & ~has_line) - held + kept);
    }
    served.wake_all();
}

// False: it could be had after all, and is locked now.
bool shared_mutex::join_line(waiting& one) noexcept {
    one.prepare();
    const std::lock_guard guard(line_lock_);
    std::size_t seen = state_.load(std::memory_order_relaxed);
    for (;;) {
        if ((seen & has_line) == 0 && with(seen, one.mode_) != 0) {
            if (take(one.mode_)) {
                if (one.mode_ == alone) hold(one.identity_, one.where_);
                return false;
            }
            seen = state_.load(std::memory_order_relaxed);
        } else if (state_.compare_exchange_weak(seen, seen | has_line, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
            // Acquire: with the release in give_back(), for serve_line().
            line_.push(one);
            return true;
        }
    }
}

// False: the mutex was handed to it.
bool shared_mutex::leave_line(waiting& one) noexcept {
    detail::wake_list served;
    {
        const std::lock_guard guard(line_lock_);
        if (!one.in_line()) return false;
        line_.remove(one);
        // Behind a writer that leaves, readers may join those who read now.
        served = serve_line(state_.load(std::memory_order_relaxed) & ~has_line);
    }
    served.wake_all();
    return true;
}

void shared_mutex::waiting::describe(std::FILE* out) const {
    std::fputs(mode_ == alone ? "a shared_mutex, to write" : "a shared_mutex, to read", out);
}

detail::suspension::obstacle shared_mutex::waiting::waits_for() const noexcept {
    if ((mutex_.state_.load(std::memory_order_relaxed) & is_written) == 0) return {};
    return {mutex_.holder_.load(std::memory_order_relaxed), mutex_.locked_at_};
}

}  // namespace rondo
