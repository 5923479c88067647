#include <rondo/runtime/scheduler.hpp>

#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/pipe_ends.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <utility>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// Counts its turns until it is cancelled.
task<> take_turns(unsigned& turns) {
    for (;;) {
        ++turns;
        co_await yield();
    }
}

// Spawns and joins until it is cancelled: always the only one in line, and done on the spot.
task<> join_one_by_one(unsigned& joins) {
    co_await with_task_group([&](task_group& group) -> task<> {
        for (;;) {
            auto one = group.spawn(nothing());
            co_await one;
            ++joins;
        }
    });
}

// Counts, once the task before it has ended.
task<> follow(task_handle<void> before, unsigned& ended) {
    const auto mine = std::move(before);  // not kept by the frame, which the next one keeps
    co_await mine;
    ++ended;
}

// Always ready to be read.
struct ready_pipe : pipe_ends {
    ready_pipe() { write("x"); }
};

std::chrono::nanoseconds cpu_time_of_this_thread() {
    timespec spent{};
    REQUIRE(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent) == 0);
    return std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
}

}  // namespace

TEST_CASE("yielding tasks take turns, in the order they were spawned") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            auto work = [&log](char name, int rounds) -> task<> {
                for (int i = 0; i < rounds; ++i) {
                    log += name;
                    co_await yield();
                }
            };
            task_group group;
            group.spawn(work, 'a', 3);
            group.spawn(work, 'b', 1);
            group.spawn(work, 'c', 2);
            co_await group.join();
            CHECK(log == "abcaca");
        });
    });
}

TEST_CASE("a task that yields lets everyone run who was ready before it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            unsigned turns = 0;
            task_group group;
            constexpr unsigned tasks = 3 * scheduler::turn_tasks;
            for (unsigned i = 0; i < tasks; ++i) group.spawn(take_turns, std::ref(turns));
            for (unsigned round = 1; round <= 5; ++round) {
                co_await yield();
                CHECK(turns == round * tasks);
            }
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("tasks woken together run in the order they waited") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            event gate;
            task_group group;
            for (const char name : {'a', 'b', 'c', 'd'}) {
                group.spawn(
                    [&](char own) -> task<> {
                        co_await gate.wait();
                        log += own;
                    },
                    name);
            }
            co_await settle();
            gate.set();
            co_await group.join();
            CHECK(log == "abcd");
        });
    });
}

TEST_CASE("tasks that are always ready delay a timer by one turn of the scheduler at most") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            unsigned turns = 0;
            constexpr unsigned busy = 10;
            task_group group;
            for (unsigned i = 0; i < busy; ++i) group.spawn(take_turns, std::ref(turns));
            co_await yield();
            for (int i = 0; i < 20; ++i) {
                const unsigned before = turns;
                co_await sleep_for(0s);  // due when the scheduler next looks
                CHECK(turns - before <= scheduler::turn_tasks + busy);
            }
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("a task that spawns and joins without end delays a timer by one turn at most") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            unsigned joins = 0;
            task_group group;
            group.spawn(join_one_by_one, std::ref(joins));
            co_await yield();
            for (int i = 0; i < 20; ++i) {
                const unsigned before = joins;
                co_await sleep_for(0s);
                CHECK(joins > before);
                CHECK(joins - before <= 2 * scheduler::turn_tasks);
            }
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE(
    "tasks that each wait for the one before delay a timer by a sixteenth of a turn's operations") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            constexpr unsigned most = scheduler::turn_tasks * scheduler::immediate_operations / 16;
            constexpr unsigned all = 3 * most;
            event gate;
            unsigned ended = 0;
            task_group group;
            auto last = group.spawn(wait_for, std::ref(gate));
            for (unsigned i = 0; i < all; ++i) {
                last = group.spawn(follow(std::move(last), ended));
            }
            co_await settle();
            gate.set();
            unsigned before = 0;
            while (ended != all) {
                co_await sleep_for(0s);
                CHECK(ended > before);
                CHECK(ended - before <= most);
                before = ended;
            }
            co_await group.join();
        });
    });
}

TEST_CASE("tasks that are always ready cannot starve a descriptor") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            unsigned turns = 0;
            constexpr unsigned busy = 10;
            task_group group;
            for (unsigned i = 0; i < busy; ++i) group.spawn(take_turns, std::ref(turns));
            auto reader = group.spawn([&]() -> task<unsigned> {
                (void)co_await poll_fd(pipe.read_end, POLLIN);
                co_return turns;
            });
            // Long enough that the reactor has been asked before the byte comes.
            while (turns < 10 * scheduler::turn_tasks) co_await yield();
            CHECK_FALSE(reader.done());
            const unsigned before = turns;
            pipe.write("x");
            const unsigned after = co_await reader;
            CHECK(after - before <= 3 * (scheduler::turn_tasks + busy));
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a task that always finds its descriptor ready gives way after a stated number of operations") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const ready_pipe pipe;
            unsigned operations = 0;
            task_group group;
            group.spawn([&]() -> task<> {
                for (;;) {
                    (void)co_await poll_fd(pipe.read_end, POLLIN);
                    ++operations;
                }
            });
            unsigned most = 0;
            while (operations < 20 * scheduler::immediate_operations) {
                const unsigned before = operations;
                co_await yield();
                most = std::max(most, operations - before);
            }
            CHECK(most >= 1);
            CHECK(most <= scheduler::immediate_operations);

            // Timers get their turn too.
            const unsigned before = operations;
            co_await sleep_for(0s);
            CHECK(operations - before <= scheduler::turn_tasks * scheduler::immediate_operations);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("settle waits until every other task is blocked") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int steps = 0;
            bool passed = false;
            task_group group;
            group.spawn([&]() -> task<> {
                for (; steps < 1'000; ++steps) co_await yield();
                co_await gate.wait();
                passed = true;
            });
            co_await settle();
            CHECK(steps == 1'000);
            CHECK_FALSE(passed);
            gate.set();
            co_await settle();
            CHECK(passed);
            co_await group.join();
        });
    });
}

TEST_CASE("settle sees what the kernel has ready, and does not wait for timers") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const ready_pipe pipe;
            task_group group;
            auto reader = group.spawn([&]() -> task<> {
                for (int i = 0; i < 100; ++i) (void)co_await poll_fd(pipe.read_end, POLLIN);
            });
            auto sleeper = group.spawn([]() -> task<> { co_await sleep_for(1h); });
            co_await settle();
            CHECK(reader.done());
            CHECK_FALSE(sleeper.done());
            sleeper.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("tasks that settle go on one after the other") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            task_group group;
            auto work = [&](char name) -> task<> {
                co_await settle();
                log += name;
                for (int i = 0; i < 3; ++i) co_await yield();
                log += name;
            };
            group.spawn(work, 'a');
            group.spawn(work, 'b');
            co_await group.join();
            CHECK(log == "aabb");
        });
    });
}

TEST_CASE("waiting costs no CPU") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            task_group group;
            group.spawn([&]() -> task<> { (void)co_await poll_fd(pipe.read_end, POLLIN); });
            group.spawn([]() -> task<> { co_await sleep_for(1h); });
            co_await settle();
            const auto before = cpu_time_of_this_thread();
            co_await sleep_for(200ms);
            const auto spent = cpu_time_of_this_thread() - before;
            CHECK(spent < 20ms);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("a scheduler says what it waits on") {
    on_each_reactor_kind([](auto run) {
        CHECK(run([]() -> task<reactor_kind> { co_return this_scheduler().reactor(); }) ==
              run.kind());
    });
}

TEST_CASE("a reactor kind has a name and is found by it") {
    for (const auto kind : {reactor_kind::automatic, reactor_kind::io_uring, reactor_kind::epoll}) {
        CHECK(parse_reactor_kind(to_string(kind)) == kind);
    }
    CHECK_THROWS_WITH_AS((void)parse_reactor_kind("kqueue"),
                         "unknown reactor 'kqueue': it is automatic, io_uring or epoll",
                         std::invalid_argument);
    CHECK_THROWS_AS((void)parse_reactor_kind(""), std::invalid_argument);
}

}  // namespace rondo::test
