#pragma once
// How much the heap holds, to see that something does not grow.
//
//     const std::size_t before = live_bytes();
//     work();
//     CHECK(live_bytes() <= before + slack);

#include <malloc.h>

#include <cstddef>

// There under a sanitizer, where mallinfo2 knows nothing.
extern "C" [[gnu::weak]] std::size_t __sanitizer_get_current_allocated_bytes();

namespace rondo::test {

/// Bytes allocated and not freed, in the whole process.
inline std::size_t live_bytes() noexcept {
    if (__sanitizer_get_current_allocated_bytes != nullptr) {
        return __sanitizer_get_current_allocated_bytes();
    }
    const auto heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

}  // namespace rondo::test
