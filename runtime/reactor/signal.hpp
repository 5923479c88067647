#pragma once
// Signals as something to wait for.
//
//     co_await when_any(serve(std::move(listener), handler), wait_signal({SIGINT, SIGTERM}));
//
//     signal_subscription hangups{SIGHUP};
//     for (;;) {
//         co_await hangups.next();
//         co_await reload();                  // another SIGHUP meanwhile is kept for next()
//     }

#include <rondo/runtime/core/task.hpp>

#include <concepts>
#include <csignal>
#include <cstdint>
#include <memory>
#include <source_location>

namespace rondo {

/// Some signals, written as a list of their numbers in braces. (No std::initializer_list: g++ 12
/// rejects those inside a co_await.)
class signal_set {
public:
    /// Throws std::invalid_argument for a number that is no signal or cannot be caught.
    template <std::same_as<int>... Numbers>
        requires(sizeof...(Numbers) > 0)
    signal_set(Numbers... numbers) {
        (add(numbers), ...);
    }

    bool contains(int number) const noexcept { return (bits_ & bit_of(number)) != 0; }

    /// Bit n-1 stands for signal n.
    std::uint64_t bits() const noexcept { return bits_; }
    static constexpr std::uint64_t bit_of(int number) noexcept {
        return std::uint64_t{1} << (number - 1);
    }

private:
    void add(int number);
    std::uint64_t bits_ = 0;
};

/// Completes with the number of the first of `signals` that the process gets from the await on.
/// Until it completes they have no other effect on the process; then what held before holds again,
/// so that a second Ctrl-C, say, ends a program that takes too long to stop. Several tasks may wait
/// for the same signal, on any thread: each hears of it. A forked child begins with what held
/// before the wait, and its signals do not reach the parent's tasks.
/// Throws std::system_error: EAGAIN when 64 tasks and subscriptions of the process listen for
/// signals already, or what the system says where it does not let the signal be caught.
/// Cancellation: ends at once.
task<int> wait_signal(signal_set signals);

namespace detail {

class signal_listening;

struct end_signal_listening {
    void operator()(signal_listening* one) const noexcept;
};

}  // namespace detail

/// Catches some signals for as long as it lives, so that none is missed between two awaits, nor has
/// its old effect there. As in the kernel, a signal that comes again before it was asked for counts
/// once. Moves, does not copy.
/// Thread safety: one task at a time, on any scheduler.
class signal_subscription {
public:
    /// From now on `signals` have no other effect on the process. Throws as wait_signal.
    explicit signal_subscription(signal_set signals);

    /// Completes with the number of a signal that has come since the subscription began and was not
    /// given yet, the lowest one first; waits while there is none. A forked child that asks a
    /// subscription of its parent's gets std::errc::operation_not_permitted.
    /// Cancellation: ends at once; what has come is kept for the next call.
    task<int> next(std::source_location where = std::source_location::current());

private:
    std::unique_ptr<detail::signal_listening, detail::end_signal_listening> listening_;
};

}  // namespace rondo
