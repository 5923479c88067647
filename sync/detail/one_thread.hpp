#pragma once
// Atomic operations at the price of plain ones while the process has one thread: a locked
// instruction would be most of the cost of a free mutex.
//
// Why that is safe: as long as the flag is set there is nobody else, so a load and a store in a row
// are as good as one step. It turns false only by a pthread_create of this very thread, so not
// between the two; and pthread_create synchronises: the new thread sees whatever was stored before
// it, and finds the same values in the words as if they had been written by atomic operations.
// Should the flag be set again after the other threads were joined, or in the child of a fork, the
// same holds. A signal handler is no thread: it must not use what is built on this.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <sys/single_threaded.h>

#include <atomic>

namespace rondo::detail {

inline bool has_one_thread() noexcept { return __libc_single_threaded != 0; }

/// As compare_exchange_strong, with `success` as its order; relaxed where it fails.
template <class T>
bool compare_exchange(std::atomic<T>& word, T& expected, T wanted,
                      std::memory_order success) noexcept {
    if (has_one_thread()) {
        const T seen = word.load(std::memory_order_relaxed);
        if (seen == expected) {
            word.store(wanted, std::memory_order_relaxed);
            return true;
        }
        expected = seen;
        return false;
    }
    return word.compare_exchange_strong(expected, wanted, success, std::memory_order_relaxed);
}

}  // namespace rondo::detail
