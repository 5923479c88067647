#pragma once
// The time, as the tasks of this thread see it.
//
//     const auto begin = rondo::now();
//     co_await do_the_work();
//     log("{} took {}", rondo::wall_now(), rondo::now() - begin);
//
// A program that asks for the time here, and not the clocks of <chrono>, can be run in virtual time
// without a change.

#include <chrono>

namespace rondo {

/// The time that sleeps, deadlines, timeouts and intervals are measured by. It never goes back and
/// tells nothing of the date. Inside run() it is the time of the scheduler's reactor, which is
/// std::chrono::steady_clock unless the reactor is a simulated one; on every other thread it is
/// std::chrono::steady_clock.
/// Thread safety: any thread.
std::chrono::steady_clock::time_point now() noexcept;

/// The date and time of day, for logs and protocols. It may jump, forwards and backwards, when the
/// machine's clock is set: durations are measured by now(). Inside run() it is the time of the
/// scheduler's reactor, which is std::chrono::system_clock unless the reactor is a simulated one;
/// on every other thread it is std::chrono::system_clock.
/// Thread safety: any thread.
std::chrono::system_clock::time_point wall_now() noexcept;

}  // namespace rondo
