// Several futures, taken in the order in which they get done. Prints res: 832040, res: 1346269 and
// res: 2178309, then end.
//
//     as_completed          in a plain thread, which blocks
//     as_completed task     in a task: its reactor would go on with other tasks meanwhile

#include "fib.hpp"

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/threads/as_completed.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>

#include <iostream>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using number = unsigned long long;
using numbers = std::vector<rondo::future<number>>;

void print(number result) { std::cout << "res: " << result << '\n'; }

void show(numbers to_do) {
    for (auto& done : rondo::as_completed(to_do)) print(done.get());
}

rondo::task<> show_in_a_task(numbers to_do) {
    auto order = rondo::as_completed(to_do);
    while (auto done = co_await order.next()) print(done->get());
}

}  // namespace

int main(int argc, char** argv) {
    rondo::thread_pool pool{3};
    numbers to_do;
    for (unsigned n = 30; n < 33; ++n) to_do.push_back(pool.submit(fib, n));

    if (argc > 1 && argv[1] == std::string_view{"task"}) {
        rondo::run(show_in_a_task(std::move(to_do)));
    } else {
        show(std::move(to_do));
    }
    std::cout << "end\n";
}
