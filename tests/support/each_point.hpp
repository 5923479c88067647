#pragma once
// A scenario is a task that sets up, has point.run() do what is to be cancelled, and checks.
//
//     at_each_point([](cancellation_point& point) -> task<> {
//         semaphore two{2};
//         co_await point.run(all_of(take(two), take(two), take(two)));
//         CHECK(two.available() == 2);
//     });

#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <utility>

#include "support.hpp"

namespace rondo::test {

/// Runs scenario(point) for every point, on each reactor.
template <class Scenario>
void at_each_point(Scenario scenario) {
    on_each_reactor_kind([&](auto run) {
        std::size_t points = 0;
        for (auto& point : cancellation_points{10'000}) {
            CAPTURE(point.number());
            run([&] { return scenario(point); });
            points = point.number();
        }
        CHECK(points > 2);
    });
}

/// Runs each of the tasks beside the others.
template <class... Tasks>
task<> all_of(Tasks... tasks) {
    task_group group;
    (group.spawn(std::move(tasks)), ...);
    co_await group.join();
}

}  // namespace rondo::test
