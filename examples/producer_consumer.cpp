// A producer puts work into a queue, at its own pace, and a consumer takes it out and does it.
// Prints fib(35), which is 9227465, once for each of the five jobs.
//
// The work itself is done by the runtime's threads, so that the producer keeps its pace. The queue
// holds two jobs: a producer that is faster than the work waits. Once every job is done the
// consumer, which knows no end, is cancelled.

#include "fib.hpp"

#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/queue.hpp>

#include <chrono>
#include <functional>
#include <iostream>
#include <random>

namespace {

using rondo::task;

struct job {
    unsigned long long (*work)(unsigned);
    unsigned argument;
};
using job_queue = rondo::queue<job>;

task<> produce(job_queue& queue) {
    std::minstd_rand random{std::random_device{}()};
    std::uniform_int_distribution pause{0, 50};
    for (int i = 0; i < 5; ++i) {
        co_await rondo::sleep_for(std::chrono::milliseconds(pause(random)));
        co_await queue.put(job{fib, 35});
    }
}

task<> consume(job_queue& queue) {
    for (;;) {
        const job todo = co_await queue.get();
        const auto result = co_await rondo::offload([todo] { return todo.work(todo.argument); });
        std::cout << result << std::endl;
        queue.task_done();
    }
}

task<> produce_and_consume() {
    job_queue queue{2};
    co_await rondo::with_task_group([&queue](rondo::task_group& group) -> task<> {
        group.spawn(consume(queue));
        co_await produce(queue);
        co_await queue.join();
        group.cancel();
    });
}

}  // namespace

int main() { rondo::run(produce_and_consume()); }
