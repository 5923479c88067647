#pragma once
// Counts exceptions in flight, also those that are caught again inside the library.
//
//     const unsigned before = throw_count();
//     auto got = co_await as_result(work());
//     CHECK(throw_count() == before);

namespace rondo::test {

/// How often this thread has thrown or rethrown so far.
unsigned throw_count() noexcept;

}  // namespace rondo::test
