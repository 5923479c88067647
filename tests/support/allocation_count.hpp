#pragma once
// Counts allocations, also those that are given back at once.
//
//     const unsigned before = allocation_count();
//     work();
//     CHECK(allocation_count() == before);

namespace rondo::test {

/// How often this thread has allocated so far, by operator new or, under a sanitizer, by malloc.
unsigned allocation_count() noexcept;

}  // namespace rondo::test
