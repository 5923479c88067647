// A scheduler in ten lines: a queue of generators, each run for one step and put back at the end.
// Prints 1 1 1 1 2 2 3 done 5 done, one a line: gen_fib(5) and gen_fib(3) in turn.

#include "fib.hpp"
#include "stepwise.hpp"

#include <deque>
#include <iostream>
#include <utility>

namespace {

using number = unsigned long long;
using task = stepwise<number>;

rondo::generator<number> gen_fib(unsigned n) {
    for (unsigned i = 1; i <= n; ++i) co_yield fib(i);
}

void run(std::deque<task> tasks) {
    while (!tasks.empty()) {
        task current = std::move(tasks.front());
        tasks.pop_front();
        if (const auto item = current.next()) {
            std::cout << *item << '\n';
            tasks.push_back(std::move(current));
        } else {
            std::cout << "done\n";
        }
    }
}

}  // namespace

int main() {
    std::deque<task> tasks;
    tasks.emplace_back(gen_fib(5));
    tasks.emplace_back(gen_fib(3));
    run(std::move(tasks));
}
