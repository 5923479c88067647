// A priority queue that two tasks share: one prints what comes out, the largest number first, the
// other puts one more in after a while. It prints something like
//
//     0.6657491871045683
//     0.5278797439991247
//     0.20990624606296315
//     wait...
//     consumer put value
//     0.09123101305407577
//     wait...
//
// Who gets from an empty queue waits, as on a condition variable, but there is nothing to notify
// and no loop around the wait: the item is handed over.

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/queue.hpp>

#include <chrono>
#include <functional>
#include <iomanip>
#include <iostream>
#include <random>

namespace {

using rondo::task;
using numbers = rondo::priority_queue<double, std::greater<>>;

double random_number() {
    static std::mt19937_64 random{std::random_device{}()};
    return std::uniform_real_distribution{}(random);
}

task<> print_all(numbers& queue) {
    for (;;) {
        if (queue.empty()) std::cout << "wait..." << std::endl;
        const auto next = co_await rondo::as_result(queue.get());
        if (!next) co_return;  // closed
        std::cout << *next << std::endl;
    }
}

task<> put_one_later(numbers& queue) {
    co_await rondo::sleep_for(std::chrono::milliseconds(30));
    std::cout << "consumer put value" << std::endl;
    co_await queue.put(random_number());
    queue.close();
}

task<> share_a_queue() {
    numbers queue;
    for (int i = 0; i < 3; ++i) co_await queue.put(random_number());
    co_await rondo::when_all(print_all(queue), put_one_later(queue));
}

}  // namespace

int main() {
    std::cout << std::setprecision(16);
    rondo::run(share_a_queue());
}
