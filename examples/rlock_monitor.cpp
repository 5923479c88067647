// A monitor: each method locks the object, and one calls the other. With a mutex the first task
// would wait for itself; a recursive_mutex lets its holder in again.
// Prints 1 in foo, 1 in ker, 2 in ker, one a line.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/recursive_mutex.hpp>

#include <chrono>
#include <iostream>

namespace {

using rondo::task;

class monitor {
public:
    task<> foo(int id) {
        const auto held = co_await lock_.lock();
        std::cout << id << " in foo\n";
        co_await rondo::sleep_for(std::chrono::milliseconds(50));
        co_await ker(id);
    }

    task<> ker(int id) {
        const auto held = co_await lock_.lock();
        std::cout << id << " in ker\n";
    }

private:
    rondo::recursive_mutex lock_;
};

task<> two_tasks() {
    monitor m;
    co_await rondo::when_all(m.foo(1), m.ker(2));
}

}  // namespace

int main() { rondo::run(two_tasks()); }
