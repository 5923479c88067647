// Two tasks take two locks in opposite order, and each waits for ever for the other's. Python's
// threads hang; here run() ends with an error that names the circle and shows every task.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/mutex.hpp>

#include <chrono>
#include <iostream>

namespace {

using namespace std::chrono_literals;

rondo::task<> task1(rondo::mutex& lock1, rondo::mutex& lock2) {
    auto one = co_await lock1.lock();
    std::cout << "get lock1" << std::endl;
    co_await rondo::sleep_for(100ms);
    auto both = co_await lock2.lock();
    std::cout << "No deadlock" << std::endl;
}

rondo::task<> task2(rondo::mutex& lock1, rondo::mutex& lock2) {
    auto one = co_await lock2.lock();
    std::cout << "get lock2" << std::endl;
    auto both = co_await lock1.lock();
    std::cout << "No deadlock" << std::endl;
}

rondo::task<> run_both() {
    rondo::mutex lock1;
    rondo::mutex lock2;
    co_await rondo::when_all(task1(lock1, lock2), task2(lock1, lock2));
}

}  // namespace

int main() {
    try {
        rondo::run(run_both);
    } catch (const rondo::deadlock_error& error) {
        std::cout << error.what();
    }
}
