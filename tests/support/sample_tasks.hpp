#pragma once
// Small tasks for tests that need something to run, to wait for, or to cancel.
//
//     event gate;
//     auto seven = group.spawn(pass(gate, 7));             // 7, once the gate is open
//     int cancelled = 0;
//     group.spawn(sleep_and_note(cancelled));              // counts its own cancellation

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/sync/event.hpp>

#include <chrono>
#include <stdexcept>

namespace rondo::test {

inline task<> nothing() { co_return; }

inline task<> wait_for(event& gate) { co_await gate.wait(); }

/// Waits at the gate, then gives the number.
inline task<int> pass(event& gate, int number) {
    co_await gate.wait();
    co_return number;
}

/// Sleeps until it is cancelled, and counts that.
inline task<> sleep_and_note(int& cancelled) {
    try {
        co_await sleep_for(std::chrono::hours(1));
    } catch (const operation_cancelled&) {
        ++cancelled;
        throw;
    }
}

/// Throws a std::runtime_error, after the others have had a turn.
inline task<> fail_with(const char* why) {
    co_await yield();
    throw std::runtime_error(why);
}

}  // namespace rondo::test
