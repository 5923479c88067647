#pragma once
// A lock for a few instructions, as waiter queues need it. A thread that finds it taken spins a
// moment, then naps and looks again: the holder has lost its processor, and may be a thread of
// lower priority, which spinning would starve. No thread is woken, so the unlock is a plain store,
// where a futex needs a second locked instruction to learn of sleepers, each time, for what hardly
// ever happens. And nothing of the lock is touched after that store: the thread that takes it next
// may destroy it.
//
// While the process has one thread the lock needs no locked instruction at all; see one_thread.hpp.
// The word reads the same either way, so a thread may be started while the lock is held.

#include <rondo/sync/detail/one_thread.hpp>

#include <time.h>

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
        if (!take()) lock_contended();
    }

    void unlock() noexcept { word_.store(is_free, std::memory_order_release); }

private:
    enum : std::uint32_t { is_free, is_taken };

    // Acquire, with the release in unlock(): what the last holder did is seen.
    bool take() noexcept {
        std::uint32_t seen = is_free;
        return word_.compare_exchange_strong(seen, is_taken, std::memory_order_acquire);
    }

    void lock_contended() noexcept {
        constexpr int spins = 40;
        constexpr timespec nap{0, 20'000};
        for (;; ::nanosleep(&nap, nullptr)) {
            for (int i = 0; i < spins; ++i) {
                if (word_.load(std::memory_order_relaxed) == is_free && take()) return;
                relax();
            }
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
