#include <rondo/sync/barrier.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>

#include <mutex>
#include <stdexcept>
#include <utility>

namespace rondo {

broken_barrier::broken_barrier() : std::runtime_error("a party of the barrier is missing") {}

barrier::barrier(std::size_t parties, std::function<void()> completion)
    : completion_(std::move(completion)), parties_(parties), missing_(parties) {
    if (parties == 0) throw std::invalid_argument("barrier: no parties");
}

// The line of the round, which ends; the next one begins. Under the lock.
detail::wait_list barrier::end_round() noexcept {
    detail::wait_list arrived;
    while (!line_.empty()) {
        auto& one = static_cast<arrive_awaiter&>(line_.pop());
        one.round_ended_ = true;
        arrived.push(one);
    }
    missing_ = parties_;
    return arrived;
}

detail::wait_list barrier::break_up() noexcept {
    broken_ = true;
    return end_round();
}

void barrier::wake(detail::wait_list waiters, outcome how) noexcept {
    while (!waiters.empty()) {
        auto& one = static_cast<arrive_awaiter&>(waiters.pop());
        one.outcome_ = how;
        one.wake();
    }
}

// All have arrived. Nothing of the barrier is touched after the first is woken: it may be gone.
void barrier::complete(detail::wait_list arrived) {
    try {
        if (completion_) completion_();
    } catch (...) {
        detail::wait_list next_round;
        {
            const std::lock_guard guard(lock_);
            next_round = break_up();
        }
        wake(arrived, outcome::broken);
        wake(next_round, outcome::broken);
        throw;
    }
    wake(arrived, outcome::passed);
}

bool barrier::arrive_or_join(arrive_awaiter& one, std::source_location where) {
    one.prepare();
    detail::wait_list arrived;
    {
        const std::lock_guard guard(lock_);
        if (broken_) {
            one.outcome_ = outcome::broken;
            return false;
        }
        if (parties_ == 0) detail::misuse("a barrier is used that has no parties", where);
        if (--missing_ > 0) {
            line_.push(one);
            return true;
        }
        arrived = end_round();
    }
    complete(arrived);
    return false;
}

// False: its round has ended.
bool barrier::leave_line(arrive_awaiter& one) noexcept {
    detail::wait_list others;
    {
        const std::lock_guard guard(lock_);
        if (one.round_ended_) return false;
        line_.remove(one);
        others = break_up();
    }
    wake(others, outcome::broken);
    return true;
}

void barrier::give_up() noexcept {
    detail::wait_list others;
    {
        const std::lock_guard guard(lock_);
        others = break_up();
    }
    wake(others, outcome::broken);
}

void barrier::arrive_and_drop(std::source_location where) {
    detail::wait_list arrived;
    {
        const std::lock_guard guard(lock_);
        if (parties_ == 0) detail::misuse("a barrier is used that has no parties", where);
        --parties_;
        if (--missing_ > 0) return;
        arrived = end_round();
        if (broken_) return;
    }
    complete(arrived);
}

void barrier::reset() noexcept {
    detail::wait_list others;
    {
        const std::lock_guard guard(lock_);
        others = end_round();
        broken_ = false;
    }
    wake(others, outcome::broken);
}

bool barrier::is_broken() const noexcept {
    const std::lock_guard guard(lock_);
    return broken_;
}

std::size_t barrier::parties() const noexcept {
    const std::lock_guard guard(lock_);
    return parties_;
}

std::size_t barrier::waiting() const noexcept {
    const std::lock_guard guard(lock_);
    return line_.size();
}

}  // namespace rondo
