#pragma once
// A lock for a few instructions, as the lines of waiters need it. Whoever finds it taken spins a
// moment, then sleeps: the holder may be a thread of lower priority, which spinning would starve.
// U. Drepper, "Futexes Are Tricky", 2011, mutex 2.
//
// While the process has one thread the lock needs no atomic exchange, which would be most of the
// cost of a channel's operations; see one_thread.hpp. The word reads the same either way, so a
// thread may be started while the lock is held.

#include <rondo/runtime/detail/futex.hpp>
#include <rondo/sync/detail/one_thread.hpp>

#include <atomic>
#include <cstdint>

namespace rondo::detail {

class short_lock {
public:
    short_lock() noexcept = default;
    short_lock(const short_lock&) = delete;
    short_lock& operator=(const short_lock&) = delete;

    void lock() noexcept {
        if (has_one_thread()) return word_.store(is_taken, std::memory_order_relaxed);
        std::uint32_t seen = is_free;
        // Acquire, here and below, with the release in unlock(): what the last holder did is seen.
        if (word_.compare_exchange_strong(seen, is_taken, std::memory_order_acquire)) return;
        lock_contended();
    }

    void unlock() noexcept {
        if (has_one_thread()) return word_.store(is_free, std::memory_order_relaxed);
        if (word_.exchange(is_free, std::memory_order_release) == has_sleepers) {
            futex_wake(&word_, 1);
        }
    }

private:
    enum : std::uint32_t { is_free, is_taken, has_sleepers };

    void lock_contended() noexcept {
        constexpr int spins = 40;
        for (int i = 0; i < spins; ++i) {
            std::uint32_t seen = is_free;
            if (word_.load(std::memory_order_relaxed) == is_free &&
                word_.compare_exchange_strong(seen, is_taken, std::memory_order_acquire)) {
                return;
            }
            relax();
        }
        // It may be marked as slept on by nobody: that costs its holder one call.
        while (word_.exchange(has_sleepers, std::memory_order_acquire) != is_free) {
            futex_wait(word_, has_sleepers);
        }
    }

    static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    std::atomic<std::uint32_t> word_{is_free};
};

}  // namespace rondo::detail
