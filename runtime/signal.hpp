#pragma once
// Signals as something to wait for.
//
//     co_await when_any(serve(std::move(listener), handler), wait_signal({SIGINT, SIGTERM}));

#include <rondo/runtime/task.hpp>

#include <concepts>
#include <csignal>
#include <cstdint>

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
/// for the same signal, on any thread: each hears of it.
/// Throws std::system_error (EAGAIN) when 64 tasks of the process are waiting for signals already.
/// Cancellation: ends at once.
task<int> wait_signal(signal_set signals);

}  // namespace rondo
