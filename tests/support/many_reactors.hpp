#pragma once
// What the tests of several reactors share.
//
//     on_each_reactor_kind([](auto run) {
//         run_many(run, 3, []() -> task<> {
//             std::atomic<bool> there{false};
//             ...
//             co_await until([&] { return there.load(); });     // another thread sets it
//         });
//     });

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <utility>

#include "support.hpp"

namespace rondo::test {

/// As run_on, with so many reactors.
template <class Work>
decltype(auto) run_many(const run_on& run, unsigned reactors, Work work) {
    return rondo::run(std::move(work), {.reactors = reactors, .reactor = run.kind()});
}

/// Where the calling task is.
inline std::size_t here() noexcept { return this_scheduler().index(); }

inline scheduler& place(std::size_t index) { return this_runtime().scheduler(index); }

/// Gives way until condition() holds: for what another thread is about to do, which settle() does
/// not wait for. A cancel point.
template <class Condition>
task<> until(Condition condition) {
    while (!condition()) co_await yield();
}

/// Tells that it has started, sleeps until it is cancelled, and counts that; where it runs does not
/// matter.
inline task<> rest(std::atomic<int>& started, std::atomic<int>& cancelled) {
    ++started;
    try {
        co_await sleep_for(std::chrono::hours(1));
    } catch (const operation_cancelled&) {
        ++cancelled;
        throw;
    }
}

/// Counts the copies of it that exist, on any thread.
class counted {
public:
    explicit counted(std::atomic<int>& count) noexcept : count_(&count) { ++*count_; }
    counted(const counted& other) noexcept : count_(other.count_) { ++*count_; }
    counted& operator=(const counted&) = delete;
    ~counted() { --*count_; }

private:
    std::atomic<int>* count_;
};

}  // namespace rondo::test
