// A producer puts work into a queue, at its own pace, and a consumer takes it out and does it.
// Prints fib(35), which is 9227465, once for each of the five jobs.
//
// The two are tasks of one reactor: only one of them runs at a time, and it is let go only where it
// awaits. So a std::deque and an event are all they need; there is no lock. The work itself is done
// by the runtime's threads, so that the producer keeps its pace.

#include "fib.hpp"

#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>

#include <chrono>
#include <deque>
#include <iostream>
#include <optional>
#include <random>

namespace {

using rondo::task;

struct job {
    unsigned long long (*work)(unsigned);
    unsigned argument;
};

class job_queue {
public:
    void put(std::optional<job> one) {
        jobs_.push_back(one);
        not_empty_.set();
    }

    task<std::optional<job>> get() {
        while (jobs_.empty()) {
            not_empty_.clear();
            co_await not_empty_.wait();
        }
        const auto one = jobs_.front();
        jobs_.pop_front();
        co_return one;
    }

private:
    std::deque<std::optional<job>> jobs_;
    rondo::event not_empty_;
};

/// The last thing it puts is nothing: that tells the consumer to stop.
task<> produce(job_queue& queue) {
    std::minstd_rand random{std::random_device{}()};
    std::uniform_int_distribution pause{0, 50};
    for (int i = 0; i < 5; ++i) {
        co_await rondo::sleep_for(std::chrono::milliseconds(pause(random)));
        queue.put(job{fib, 35});
    }
    queue.put(std::nullopt);
}

task<> consume(job_queue& queue) {
    while (const auto next = co_await queue.get()) {
        const job todo = *next;
        const auto result = co_await rondo::offload([todo] { return todo.work(todo.argument); });
        std::cout << result << std::endl;
    }
}

task<> produce_and_consume() {
    job_queue queue;
    co_await rondo::when_all(produce(queue), consume(queue));
}

}  // namespace

int main() { rondo::run(produce_and_consume()); }
