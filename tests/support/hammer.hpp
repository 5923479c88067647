#pragma once
// Many tasks on four reactors, some of them cancelled at any moment.
//
//     on_each_reactor_kind([](auto run) {
//         semaphore two{2};
//         hammer(run, 8, [&](hammered& here) -> task<> {
//             auto permit = co_await two.acquire();
//             co_await here.pause();
//         });
//         CHECK(two.available() == 2);
//     });

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>

#include <cstddef>
#include <random>
#include <vector>

#include "many_reactors.hpp"

namespace rondo::test {

/// What a task that is hammered knows of itself.
struct hammered {
    std::minstd_rand random;

    bool one_in(unsigned chances) { return random() % chances == 0; }

    /// Gives way a few times.
    task<> pause() {
        for (auto rounds = random() % 4; rounds != 0; --rounds) co_await yield();
    }
    /// The next reactor, or any.
    scheduler& elsewhere() {
        const std::size_t all = this_runtime().size();
        return this_runtime().scheduler((here() + 1 + random() % (all - 1)) % all);
    }
};

template <class Work>
task<> hammer_once(Work& work, unsigned seed) {
    hammered self{std::minstd_rand(seed)};
    co_await work(self);
}

template <class Work>
task<> hammer_here(Work& work, unsigned seed, int rounds) {
    constexpr int tasks = 6;
    hammered self{std::minstd_rand(seed)};
    for (int round = 0; round < rounds; ++round) {
        task_group group;
        std::vector<task_handle<void>> handles;
        for (int i = 0; i < tasks; ++i) {
            handles.push_back(group.spawn(hammer_once(work, static_cast<unsigned>(self.random()))));
        }
        for (auto& handle : handles) {
            co_await self.pause();
            if (self.one_in(2)) handle.cancel();
        }
        co_await group.join();
    }
}

/// Calls work(hammered&), which returns a task, often and on all of four reactors at once. Each
/// second one is cancelled before, while or after it runs.
template <class Work>
void hammer(const run_on& run, int rounds, Work work, unsigned seed = std::random_device{}()) {
    CAPTURE(seed);
    run_many(run, 4, [&]() -> task<> {
        co_await on_each_reactor([&](std::size_t index) {
            return hammer_here(work, seed + static_cast<unsigned>(index), rounds);
        });
    });
}

}  // namespace rondo::test
