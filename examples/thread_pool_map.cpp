// map on a pool of threads: the results come in the order of the arguments, and as many cores as
// there are work on them. Prints 1 1 2 3 5, then how many seconds five fib(35) take one after the
// other, and how many on the pool.

#include "fib.hpp"

#include <rondo/runtime/threads/thread_pool.hpp>

#include <array>
#include <chrono>
#include <iostream>
#include <vector>

namespace {

using number = unsigned long long;

/// Calls f, prints how many seconds that took, and gives what f returned.
template <class F>
auto profile(F f) {
    const auto start = std::chrono::steady_clock::now();
    auto result = f();
    const std::chrono::duration<double> cost = std::chrono::steady_clock::now() - start;
    std::cout << std::fixed << cost.count() << '\n';
    return result;
}

void first_numbers() {
    rondo::thread_pool pool{3};
    const char* separator = "";
    for (const number each : pool.map(fib, std::array{1u, 2u, 3u, 4u, 5u})) {
        std::cout << separator << each;
        separator = " ";
    }
    std::cout << '\n';
}

std::vector<number> one_after_the_other(const std::vector<unsigned>& arguments) {
    std::vector<number> results;
    for (const unsigned n : arguments) results.push_back(fib(n));
    return results;
}

std::vector<number> on_a_pool(const std::vector<unsigned>& arguments) {
    rondo::thread_pool pool{5};
    std::vector<number> results;
    for (const number each : pool.map(fib, arguments)) results.push_back(each);
    return results;
}

}  // namespace

int main() {
    first_numbers();
    const std::vector<unsigned> arguments(5, 35);
    const auto alone = profile([&] { return one_after_the_other(arguments); });
    const auto together = profile([&] { return on_a_pool(arguments); });
    return alone == together ? 0 : 1;
}
