#include <rondo/runtime/task_set.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/many_reactors.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"
#include "support/unheard_errors.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// How many of these run, and ran at once.
struct crowd {
    int now = 0;
    int most = 0;

    task<int> enter(event& gate, int number) {
        most = std::max(most, ++now);
        co_await gate.wait();
        --now;
        co_return number;
    }
};

}  // namespace

TEST_CASE("a task_set gives results in the order in which its tasks end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event first;
            event second;
            task_group group;
            {
                task_set<int> set{group};
                set.spawn(pass(second, 2));
                set.spawn(pass(first, 1));
                CHECK(set.size() == 2);
                group.spawn([&]() -> task<> {
                    co_await settle();
                    first.set();
                    co_await settle();
                    second.set();
                });
                const auto one = co_await set.next();
                const auto two = co_await set.next();
                const auto none = co_await set.next();
                CHECK(one == 1);
                CHECK(two == 2);
                CHECK_FALSE(none.has_value());
                CHECK(set.size() == 0);
            }
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a task_set takes tasks of nothing, of references and of move-only things, and callables") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_task_group([](task_group& group) -> task<> {
                task_set<> plain{group};
                plain.spawn(nothing());
                plain.spawn(sleep_for(1us));
                int left = 0;
                while (co_await plain.next()) ++left;
                CHECK(left == 2);

                int number = 0;
                task_set<int&> references{group};
                references.spawn([](int& one) -> task<int&> { co_return one; }, std::ref(number));
                const auto same = co_await references.next();
                REQUIRE(same.has_value());
                CHECK(&same->get() == &number);

                task_set<std::unique_ptr<int>> boxes{group};
                boxes.spawn(
                    [](std::unique_ptr<int> box) -> task<std::unique_ptr<int>> {
                        co_await yield();
                        co_return box;
                    },
                    std::make_unique<int>(4));
                const auto box = co_await boxes.next();
                REQUIRE(box.has_value());
                CHECK(**box == 4);
            });
        });
    });
}

TEST_CASE("a task_set runs no more tasks at once than its limit") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            crowd inside;
            co_await with_task_group([&](task_group& group) -> task<> {
                task_set<int> set{group, 3};
                for (int i = 0; i < 10; ++i) set.spawn(inside.enter(gate, i));
                co_await settle();
                CHECK(inside.now == 3);
                CHECK(set.running() == 3);
                CHECK(set.size() == 10);
                gate.set();
                int sum = 0;
                while (auto number = co_await set.next()) sum += *number;
                CHECK(sum == 45);
                CHECK(inside.most == 3);
            });
        });
    });
}

TEST_CASE("room completes when a task that is spawned starts at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            crowd inside;
            event gate;
            int spawned = 0;
            co_await with_task_group([&](task_group& group) -> task<> {
                task_set<int> set{group, 2};
                auto feeder = group.spawn([&]() -> task<> {
                    for (; spawned < 5; ++spawned) {
                        co_await set.room();
                        set.spawn(inside.enter(gate, spawned));
                    }
                });
                co_await settle();
                CHECK(spawned == 2);
                gate.set();
                co_await feeder;
                CHECK(spawned == 5);
                CHECK(inside.most == 2);
                int taken = 0;
                while (co_await set.next()) ++taken;
                CHECK(taken == 5);
            });
        });
    });
}

TEST_CASE("a task of a task_set that fails makes next throw, and the others go on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            co_await with_task_group([&](task_group& group) -> task<> {
                task_set<int> set{group};
                set.spawn([]() -> task<int> {
                    co_await yield();
                    throw std::runtime_error("broken");
                });
                set.spawn(pass(gate, 1));
                CHECK_THROWS_WITH_AS((void)co_await set.next(), "broken", std::runtime_error);
                gate.set();
                const auto one = co_await set.next();
                CHECK(one == 1);
            });
            int cancelled = 0;
            auto body = [&](task_group& group) -> task<> {
                task_set<> set{group};
                set.spawn(fail_with("broken"));
                set.spawn(sleep_and_note(cancelled));
                while (co_await set.next()) {
                }
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "broken", std::runtime_error);
            CHECK(cancelled == 1);
        });
    });
}

TEST_CASE("a task_set that is dropped loses neither its tasks nor their errors") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ended = 0;
            co_await with_task_group([&](task_group& group) -> task<> {
                task_set<> set{group, 1};
                for (int i = 0; i < 3; ++i) {
                    set.spawn([&ended]() -> task<> {
                        co_await yield();
                        ++ended;
                    });
                }
                co_return;
            });
            CHECK(ended == 3);

            // Failed before the set is dropped, and after.
            for (const bool before : {true, false}) {
                CAPTURE(before);
                auto body = [&](task_group& group) -> task<> {
                    task_set<> set{group};
                    set.spawn(fail_with("broken"));
                    if (before) co_await settle();
                };
                CHECK_THROWS_WITH_AS(co_await with_task_group(body), "broken", std::runtime_error);
            }
        });
    });
}

TEST_CASE("a group that is cancelled with a task_set in it is cancelled, and nothing more starts") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool body_ends : {true, false}) {
                CAPTURE(body_ends);
                int started = 0;
                auto body = [&](task_group& group) -> task<int> {
                    task_set<> set{group, 1};
                    for (int i = 0; i < 3; ++i) {
                        set.spawn([&started]() -> task<> {
                            ++started;
                            co_await sleep_for(1h);
                        });
                    }
                    if (!body_ends) (void)co_await set.next();
                    co_return 1;
                };
                const auto how = co_await as_result(with_timeout(1ms, with_task_group(body)));
                CHECK(how.error() == std::errc::timed_out);
                CHECK(started == 1);
            }
        });
    });
}

TEST_CASE("a wait for a task_set that is cancelled leaves the tasks and their results") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            co_await with_task_group([&](task_group& group) -> task<> {
                task_set<int> set{group, 1};
                set.spawn(pass(gate, 1));
                const auto late = co_await as_result(with_timeout(1ms, set.next()));
                CHECK(late.error() == std::errc::timed_out);
                const auto full = co_await as_result(with_timeout(1ms, set.room()));
                CHECK(full.error() == std::errc::timed_out);
                gate.set();
                const auto one = co_await set.next();
                CHECK(one == 1);
                const auto room = co_await as_result(with_timeout(0s, set.room()));
                CHECK(room.has_value());
            });
        });
    });
}

TEST_CASE("tasks of a task_set may end on other reactors") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            co_await with_task_group([](task_group& group) -> task<> {
                task_set<int> set{group, 4};
                for (int i = 0; i < 100; ++i) {
                    set.spawn([i]() -> task<int> {
                        co_await resume_on(place(1));
                        co_await yield();
                        co_return i;
                    });
                }
                int sum = 0;
                while (auto number = co_await set.next()) sum += *number;
                CHECK(sum == 4950);
                CHECK(here() == 0);
            });
        });
    });
}

}  // namespace rondo::test
