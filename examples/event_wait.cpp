// Three tasks wait until something has happened.
// Prints `1 wait event` for each, and a moment later `1 get event set` for each.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>

#include <chrono>
#include <iostream>

namespace {

using rondo::task;

task<> work(rondo::event& happened, int id) {
    std::cout << id << " wait event\n";
    co_await happened.wait();
    std::cout << id << " get event set\n";
}

task<> three_tasks() {
    rondo::event happened;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> task<> {
        for (int id = 1; id <= 3; ++id) group.spawn(work(happened, id));
        co_await rondo::sleep_for(std::chrono::milliseconds(50));
        happened.set();
    });
}

}  // namespace

int main() { rondo::run(three_tasks()); }
