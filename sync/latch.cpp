#include <rondo/sync/latch.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>

#include <mutex>

namespace rondo {

void latch::complain(std::source_location where) noexcept {
    detail::misuse("a latch is counted down below zero", where);
}

void latch::wake_line() noexcept {
    detail::wake_list woken;
    {
        const std::lock_guard guard(lock_);
        woken.take_all(line_);
    }
    woken.wake_all();
}

// Of an open latch that had a line: whether the one who has opened it is through with it.
bool latch::is_quiet() noexcept {
    const std::lock_guard guard(lock_);
    return line_.empty();
}

// False: it is open. While the one who has opened it is about to empty the line, whoever arrives
// waits for that too: so the latch is not destroyed before.
bool latch::join_line(wait_awaiter& one) noexcept {
    one.prepare();
    const std::lock_guard guard(lock_);
    std::size_t seen = state_.load(std::memory_order_acquire);
    while (seen >> 1 != 0 && !state_.compare_exchange_weak(seen, seen | has_line)) {
    }
    if (seen >> 1 == 0 && line_.empty()) return false;
    line_.push(one);
    return true;
}

// False: it is woken, or about to be.
bool latch::leave_line(wait_awaiter& one) noexcept {
    const std::lock_guard guard(lock_);
    if (!one.in_line()) return false;
    const std::size_t line = line_.size() > 1 ? has_line : 0;
    std::size_t seen = state_.load();
    do {
        if (seen >> 1 == 0) return false;
    } while (!state_.compare_exchange_weak(seen, (seen & ~has_line) | line));
    line_.remove(one);
    return true;
}

}  // namespace rondo
