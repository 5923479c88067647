#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/sample_tasks.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<std::size_t> where_am_i() {
    co_await yield();
    co_return here();
}

task<std::string> describe(std::string what, std::unique_ptr<int> box, int& calls) {
    ++calls;
    co_await yield();
    co_return what + std::to_string(*box) + "@" + std::to_string(here());
}

}  // namespace

TEST_CASE("spawn_on runs a task elsewhere, and its handle gives the result here") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            task_group group;
            std::vector<task_handle<std::size_t>> handles;
            for (std::size_t i = 0; i < 3; ++i) {
                handles.push_back(group.spawn_on(place(i), where_am_i()));
            }
            for (std::size_t i = 0; i < 3; ++i) {
                const std::size_t at = co_await handles[i];
                CHECK(at == i);
                CHECK(here() == 0);
            }
            co_await group.join();
        });
    });
}

TEST_CASE("spawn_on takes other awaitables, which are awaited over there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            task_group group;
            auto slept = group.spawn_on(place(1), sleep_for(1us));
            auto limited = group.spawn_on(place(1), with_timeout(1h, where_am_i()));
            auto both = group.spawn_on(place(1), when_all(where_am_i(), where_am_i()));
            co_await slept;
            const std::size_t at = co_await limited;
            CHECK(at == 1);
            const auto two = co_await both;
            CHECK(std::get<0>(two) == 1);
            CHECK(std::get<1>(two) == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("spawn_on calls a callable over there, with arguments that it keeps") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        run_many(run, 2, [&]() -> task<> {
            task_group group;
            int calls = 0;
            auto with_arguments = group.spawn_on(place(1), describe, "box",
                                                 std::make_unique<int>(7), std::ref(calls));
            std::size_t called_at = 9;
            auto call = [&called_at, kept = counted{alive}]() -> task<std::size_t> {
                called_at = here();
                return where_am_i();
            };
            auto with_captures = group.spawn_on(place(1), std::move(call));
            auto plain = group.spawn_on(place(1), where_am_i);
            const std::string text = co_await with_arguments;
            CHECK(text == "box7@1");
            CHECK(calls == 1);
            const std::size_t at = co_await with_captures;
            CHECK(at == 1);
            CHECK(called_at == 1);
            const std::size_t plain_at = co_await plain;
            CHECK(plain_at == 1);
            co_await group.join();
        });
        CHECK(alive == 0);
    });
}

TEST_CASE("the join waits for tasks elsewhere and throws their first exception") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        CHECK_THROWS_WITH_AS(
            run_many(run, 3,
                     [&]() -> task<> {
                         co_await with_task_group([&](task_group& group) -> task<> {
                             for (std::size_t i = 0; i < 6; ++i) {
                                 group.spawn_on(place(i % 3), rest(started, cancelled));
                             }
                             co_await until([&] { return started == 6; });
                             group.spawn_on(place(2), fail_with("elsewhere"));
                         });
                     }),
            "elsewhere", std::runtime_error);
        CHECK(cancelled == 6);
        CHECK_THROWS_WITH_AS(run_many(run, 2,
                                      []() -> task<> {
                                          task_group group;
                                          group.spawn_on(place(1), []() -> task<> {
                                              throw std::runtime_error("from the call itself");
                                          });
                                          co_await group.join();
                                      }),
                             "from the call itself", std::runtime_error);
    });
}

TEST_CASE("a group cancelled before its tasks have left starts none of them elsewhere") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            std::atomic<int> alive{0};
            task_group group;
            for (int i = 0; i < 10; ++i) {
                group.spawn_on(place(1), rest(started, cancelled));
                group.spawn_on(place(1), [&started, kept = counted{alive}]() -> task<> {
                    ++started;
                    co_return;
                });
            }
            group.cancel();
            group.spawn_on(place(1), rest(started, cancelled));
            co_await group.join();
            CHECK(started == 0);
            CHECK(alive == 0);
        });
    });
}

TEST_CASE("group.cancel() by a child that is away ends everything, and the child, too") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            for (int round = 0; round < 50; ++round) {
                std::atomic<int> started{0};
                std::atomic<int> cancelled{0};
                task_group group;
                for (std::size_t i = 0; i < 3; ++i) {
                    group.spawn_on(place(i), rest(started, cancelled));
                }
                bool ended = false;
                group.spawn_on(place(1), [&]() -> task<> {
                    co_await until([&] { return started == 3; });
                    co_await resume_on(place(2));
                    group.cancel();
                    try {
                        co_await sleep_for(1h);
                    } catch (const operation_cancelled&) {
                        ended = true;
                        throw;
                    }
                });
                co_await group.join();
                REQUIRE(ended);
                REQUIRE(cancelled == 3);
            }
        });
    });
}

TEST_CASE("group.cancel() as the last thing that a child away does reaches a group still there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 4, []() -> task<> {
            for (int round = 0; round < 200; ++round) {
                auto group = std::make_unique<task_group>();
                for (std::size_t i = 0; i < 4; ++i) {
                    group->spawn_on(
                        place(i),
                        [](task_group& of) -> task<> {
                            of.cancel();
                            co_return;
                        },
                        std::ref(*group));
                }
                co_await group->join();
                group.reset();
            }
        });
    });
}

TEST_CASE("tasks of a stopped runtime's scheduler fail with its error") {
    on_each_reactor_kind([](auto run) {
        runtime other{{.reactor = run.kind()}};
        other.stop();
        run([&]() -> task<> {
            task_group group;
            auto refused = group.spawn_on(other.scheduler(0), where_am_i());
            std::error_code code;
            try {
                co_await group.join();
            } catch (const std::system_error& error) {
                code = error.code();
            }
            CHECK(code == runtime_errc::scheduler_stopped);
            CHECK(refused.done());
        });
    });
}

TEST_CASE("tasks elsewhere spawn into groups of their own, over several levels") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            struct tree {
                static task<int> grow(int depth) {
                    if (depth == 0) co_return 1;
                    task_group group;
                    std::vector<task_handle<int>> branches;
                    for (std::size_t i = 0; i < 3; ++i) {
                        branches.push_back(group.spawn_on(place(i), grow, depth - 1));
                    }
                    int sum = 0;
                    for (auto& branch : branches) sum += co_await branch;
                    co_await group.join();
                    co_return sum;
                }
            };
            const int leaves = co_await tree::grow(5);
            CHECK(leaves == 243);
            CHECK(here() == 0);
        });
    });
}

TEST_CASE("on_each_reactor runs once on each, with a copy of the callable for each") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned count : {1U, 2U, 4U}) {
            run_many(run, count, [=]() -> task<> {
                std::array<std::atomic<int>, 4> calls{};
                std::atomic<int> alive{0};
                const counted kept{alive};
                const auto call = [&calls, &kept](std::size_t index) -> task<> {
                    const counted own{kept};
                    co_await yield();
                    CHECK(here() == index);
                    ++calls.at(index);
                };
                co_await on_each_reactor(call);
                for (std::size_t i = 0; i < 4; ++i) CHECK(calls.at(i) == (i < count ? 1 : 0));
                CHECK(alive == 1);
                CHECK(here() == 0);
            });
        }
    });
}

TEST_CASE("on_each_reactor runs all at the same time, also from a task that is away") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            co_await resume_on(place(2));
            std::atomic<int> inside{0};
            co_await on_each_reactor([&inside](std::size_t) -> task<> {
                ++inside;
                co_await until([&inside] { return inside == 3; });
            });
            CHECK(inside == 3);
            CHECK(here() == 2);
        });
    });
}

TEST_CASE("the first exception of on_each_reactor cancels the others and is thrown") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t culprit : {0U, 1U, 2U}) {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            CHECK_THROWS_WITH_AS(
                run_many(run, 3,
                         [&]() -> task<> {
                             co_await on_each_reactor([&](std::size_t index) -> task<> {
                                 if (index != culprit) co_return co_await rest(started, cancelled);
                                 co_await until([&] { return started == 2; });
                                 throw std::runtime_error("one of three");
                             });
                         }),
                "one of three", std::runtime_error);
            CHECK(cancelled == 2);
        }
    });
}

TEST_CASE("a cancelled on_each_reactor ends everywhere before it throws") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            task_group group;
            auto all = group.spawn(
                on_each_reactor([&](std::size_t) -> task<> { co_await rest(started, cancelled); }));
            co_await until([&] { return started == 3; });
            all.cancel();
            bool was_cancelled = false;
            try {
                co_await all;
            } catch (const operation_cancelled&) {
                was_cancelled = true;
            }
            CHECK(was_cancelled);
            CHECK(cancelled == 3);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
