#include <rondo/sync/rate_limiter.hpp>

#include <cmath>
#include <mutex>
#include <stdexcept>

namespace rondo {

namespace {

constexpr double hundred_years = 3.2e18;  // ns

double checked_token_cost(double rate, std::size_t burst) {
    // Written so that NaN fails.
    if (!(rate > 0) || burst == 0 || !(static_cast<double>(burst) * 1e9 / rate < hundred_years)) {
        throw std::invalid_argument("rate_limiter: a rate or a burst that makes no sense");
    }
    return 1e9 / rate;
}

}  // namespace

rate_limiter::rate_limiter(double rate, std::size_t burst)
    : token_cost_(checked_token_cost(rate, burst)),
      burst_(burst),
      full_cost_(cost_of(burst)),
      state_(2 * (detail::now_ns() - full_cost_)) {}

std::int64_t rate_limiter::cost_of(std::size_t count) const noexcept {
    return std::llround(token_cost_ * static_cast<double>(count));
}

rate_limiter::acquire_awaiter rate_limiter::acquire(std::size_t count) {
    if (count > burst_) {
        throw std::invalid_argument("rate_limiter: more tokens are asked for than the burst");
    }
    return {*this, cost_of(count)};
}

// Served: the tokens were there after all, and are taken.
rate_limiter::acquire_awaiter::place rate_limiter::join_line(acquire_awaiter& one) noexcept {
    using place = acquire_awaiter::place;
    one.prepare();
    const std::lock_guard guard(lock_);
    for (;;) {
        std::int64_t state = state_.load(std::memory_order_relaxed);
        if ((state & has_line) != 0) {
            line_.push(one);
            return place::in_line;
        }
        if (take(one.cost_)) return place::served;
        if (state_.compare_exchange_strong(state, state | has_line, std::memory_order_relaxed)) {
            return one.place_ = place::first;
        }
    }
}

// False: it was taken out, as the first or to be served.
bool rate_limiter::leave_line(acquire_awaiter& one) noexcept {
    const std::lock_guard guard(lock_);
    if (!one.in_line()) return false;
    line_.remove(one);
    return true;
}

// Only the first in line asks, and only it changes the time.
std::int64_t rate_limiter::due(const acquire_awaiter& first) const noexcept {
    return empty_at(state_.load(std::memory_order_relaxed)) + first.cost_;
}

// The first in line leaves it, with `cost`: serves those who need not wait now, and makes who comes
// after them the first.
void rate_limiter::pass_on(std::int64_t cost) noexcept {
    detail::wake_list taken_out;
    {
        const std::lock_guard guard(lock_);
        const std::int64_t now = detail::now_ns();
        std::int64_t empty = empty_at(state_.load(std::memory_order_relaxed));
        if (cost != 0) empty = without_overflow(empty, now) + cost;
        bool has_first = false;
        while (!line_.empty() && !has_first) {
            auto& next = static_cast<acquire_awaiter&>(line_.pop());
            const std::int64_t then = without_overflow(empty, now) + next.cost_;
            has_first = then > now;
            if (!has_first) empty = then;
            using place = acquire_awaiter::place;
            next.place_ = has_first ? place::first : place::served;
            taken_out.push(next);
        }
        state_.store(2 * empty + (has_first ? has_line : 0), std::memory_order_relaxed);
    }
    taken_out.wake_all();
}

void rate_limiter::acquire_awaiter::prepare() noexcept {
    home_ = detail::current_core;
    run = [](inbox_message& message) noexcept {
        static_cast<acquire_awaiter&>(message).taken_out();
    };
}

void rate_limiter::acquire_awaiter::arm() noexcept {
    home_->timers.arm(*this, limiter_.due(*this));
}

void rate_limiter::acquire_awaiter::wake() noexcept {
    if (home_ == detail::current_core) {
        taken_out();
    } else {
        home_->post(*this);  // not refused: the task has not ended
    }
}

// On its own thread: it is the first now, or has its tokens.
void rate_limiter::acquire_awaiter::taken_out() noexcept {
    if (place_ == place::served) {
        home_->wake(*task);
    } else if (was_cancelled_) {
        limiter_.pass_on(0);
        home_->wake(*task);
    } else {
        arm();
    }
}

void rate_limiter::acquire_awaiter::expired() noexcept {
    place_ = place::served;
    home_->wake(*task);  // ahead of those behind it
    limiter_.pass_on(cost_);
}

void rate_limiter::acquire_awaiter::cancel() noexcept {
    if (limiter_.leave_line(*this)) {
        was_cancelled_ = true;
        home_->wake(*task);
    } else if (place_ == place::first) {
        was_cancelled_ = true;
        if (!armed()) return;  // the news that it is the first is still under way
        home_->timers.cancel(*this);
        limiter_.pass_on(0);
        home_->wake(*task);
    }
}

void rate_limiter::acquire_awaiter::describe(std::FILE* out) const {
    std::fputs("tokens of a rate_limiter", out);
}

}  // namespace rondo
