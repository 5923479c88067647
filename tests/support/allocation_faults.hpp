#pragma once
// What happens where memory is short: each allocation of a piece of work fails in turn.
//
//     sweep("a channel", [](auto run, allocation_fault& fault) {
//         run([&]() -> task<> {
//             fault.arm();                        // the K-th operator new from here on throws
//             co_await use_a_channel();
//         });
//     });
//
// The work may end with std::bad_alloc, or with ENOMEM; it must end, leak nothing, and not abort.
// For programs that link allocation_faults.cpp, whose operator new this is.

#include <rondo/runtime/core/result.hpp>

#include <doctest/doctest.h>

#include <sys/types.h>

#include <cstddef>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "support.hpp"

namespace rondo::test {

/// The failure of one operator new, on whatever thread. While it lives there is no other.
class allocation_fault {
public:
    /// The `which`-th one fails, the first being 1. A process that hangs or aborts meanwhile says
    /// at which allocation of what.
    allocation_fault(const char* what, unsigned which) noexcept;
    allocation_fault(const allocation_fault&) = delete;
    allocation_fault& operator=(const allocation_fault&) = delete;
    ~allocation_fault();

    /// Counts from here on.
    void arm() noexcept;
    /// Counts no longer: what a test does between two parts, or afterwards.
    void disarm() noexcept;

    /// What this thread allocates does not count from here on.
    static void spare_this_thread(bool on) noexcept;

    /// Whether the allocation has come, and has failed.
    bool reached() const noexcept;
};

/// operator new that has not been followed by delete.
std::ptrdiff_t blocks_in_use() noexcept;

/// A thread keeps the texts of its latest errors. Once it has as many as it keeps, each as long as
/// any of these tests makes one, a further error takes no more memory.
inline void fill_error_texts() {
    const std::string long_text(256, '.');
    for (int i = 0; i < 64; ++i) {
        (void)detail::explained_error{std::make_error_code(std::errc::io_error), long_text};
    }
}

/// Calls scenario(run, fault) for every allocation that it makes while the fault is armed, on each
/// reactor. What it throws must say that memory is short, and no block more than before may be in
/// use afterwards.
template <class Scenario>
void sweep(const char* what, Scenario scenario) {
    fill_error_texts();
    on_each_reactor_kind([&](auto run) {
        // The first round is for what is made once in a process.
        for (unsigned which = 0;; ++which) {
            CAPTURE(which);
            const std::ptrdiff_t before = blocks_in_use();
            bool reached = false;
            std::string failure;
            {
                allocation_fault fault{what, which};
                try {
                    scenario(run, fault);
                    fault.disarm();
                } catch (const std::bad_alloc&) {
                    fault.disarm();
                } catch (const std::system_error& error) {
                    fault.disarm();
                    if (error.code() != std::errc::not_enough_memory) failure = error.what();
                } catch (const std::exception& error) {
                    fault.disarm();
                    failure = error.what();
                }
                reached = fault.reached();
            }
            CHECK(failure.empty());
            failure = {};
            if (which != 0) CHECK(blocks_in_use() == before);
            if (which != 0 && !reached) break;
        }
    });
}

}  // namespace rondo::test
