// Five tasks, and something that only three may use at a time.
// Each prints `0 acquire sema` when its turn has come and `0 release sema` when it is done.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/semaphore.hpp>

#include <chrono>
#include <iostream>
#include <random>

namespace {

using rondo::task;

task<> use(rondo::semaphore& three, int id, std::chrono::milliseconds time) {
    {
        const auto permit = co_await three.acquire();
        std::cout << id << " acquire sema\n";
        co_await rondo::sleep_for(time);
    }
    std::cout << id << " release sema\n";
}

task<> five_tasks() {
    rondo::semaphore three{3};
    std::minstd_rand random{std::random_device{}()};
    std::uniform_int_distribution time{0, 50};
    co_await rondo::with_task_group([&](rondo::task_group& group) -> task<> {
        for (int id = 0; id < 5; ++id) {
            group.spawn(use(three, id, std::chrono::milliseconds(time(random))));
        }
        co_return;
    });
}

}  // namespace

int main() { rondo::run(five_tasks()); }
