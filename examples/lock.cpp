// Two tasks and one lock, taken and given back by hand, then by leaving a scope.
// Prints task1 get and task2 get, one a line, two times.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/mutex.hpp>

#include <iostream>

namespace {

using rondo::task;

task<> get_by_hand(rondo::mutex& lock, int id) {
    auto held = co_await lock.lock();
    co_await rondo::yield();  // the other one has to wait meanwhile
    std::cout << "task" << id << " get\n";
    held.unlock();
}

task<> get(rondo::mutex& lock, int id) {
    const auto held = co_await lock.lock();
    co_await rondo::yield();
    std::cout << "task" << id << " get\n";
}

task<> twice_two_tasks() {
    rondo::mutex lock;
    co_await rondo::when_all(get_by_hand(lock, 1), get_by_hand(lock, 2));
    co_await rondo::when_all(get(lock, 1), get(lock, 2));
}

}  // namespace

int main() { rondo::run(twice_two_tasks()); }
