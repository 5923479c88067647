#include <rondo/runtime/task_group.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/live_memory.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

static_assert(std::is_nothrow_move_constructible_v<task_handle<int>>);
static_assert(!std::is_copy_constructible_v<task_handle<int>>);

task<int> sleep_long() {
    co_await sleep_for(1h);
    co_return 1;
}

}  // namespace

TEST_CASE("a handle gives a task's value, reference or nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int number = 1;
            task_group group;
            auto value = group.spawn([]() -> task<std::unique_ptr<int>> {
                co_await yield();
                co_return std::make_unique<int>(4);
            });
            auto reference =
                group.spawn([](int& one) -> task<int&> { co_return one; }, std::ref(number));
            auto nothing = group.spawn(
                [](int& one) -> task<> {
                    co_await yield();
                    one = 9;
                },
                std::ref(number));
            const auto box = co_await value;
            REQUIRE(box);
            CHECK(*box == 4);
            int& same = co_await reference;
            CHECK(&same == &number);
            co_await nothing;
            CHECK(number == 9);
            co_await group.join();
        });
    });
}

TEST_CASE("a handle tells when its task is done") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto waiter = group.spawn(pass, std::ref(gate), 3);
            CHECK_FALSE(waiter.done());
            co_await settle();
            CHECK_FALSE(waiter.done());
            gate.set();
            co_await settle();
            CHECK(waiter.done());
            const int got = co_await waiter;
            CHECK(got == 3);
            co_await group.join();
        });
    });
}

TEST_CASE("a handle throws what its task ended with, and so does the join") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string seen;
            auto body = [&](task_group& group) -> task<> {
                auto failing = group.spawn([]() -> task<int> {
                    co_await yield();
                    throw std::runtime_error("broken");
                    co_return 0;
                });
                try {
                    (void)co_await failing;
                } catch (const std::runtime_error& error) {
                    seen = error.what();
                }
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "broken", std::runtime_error);
            // The group was cancelled before the one who waits for the handle went on.
            CHECK(seen == "broken");
        });
    });
}

TEST_CASE("cancelling a handle ends that task alone, and is no error of the group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto first = group.spawn(pass, std::ref(gate), 1);
            auto second = group.spawn(pass, std::ref(gate), 2);
            co_await settle();
            first.cancel();
            first.cancel();
            co_await settle();
            CHECK(first.done());
            CHECK_FALSE(second.done());
            gate.set();
            co_await group.join();
            const int got = co_await second;
            CHECK(got == 2);
            CHECK_THROWS_AS((void)co_await first, operation_cancelled);
        });
    });
}

TEST_CASE("a task that is cancelled before it starts stops at its first await") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int steps = 0;
            task_group group;
            auto never = group.spawn([&]() -> task<> {
                ++steps;
                co_await yield();
                ++steps;
            });
            never.cancel();
            co_await group.join();
            CHECK(steps == 1);
            CHECK_THROWS_AS(co_await never, operation_cancelled);
        });
    });
}

TEST_CASE("cancelling a task that has ended changes nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event open;
            open.set();
            task_group group;
            auto work = group.spawn(pass, std::ref(open), 5);
            co_await group.join();
            work.cancel();
            const int got = co_await work;
            CHECK(got == 5);
            work.cancel();
        });
    });
}

TEST_CASE("a dropped handle changes nothing for its task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int ended = 0;
            auto work = [&]() -> task<> {
                co_await gate.wait();
                ++ended;
            };
            task_group group;
            {
                const auto before_the_start = group.spawn(work);
            }
            auto overwritten = group.spawn(work);
            {
                const auto meanwhile = group.spawn(work);
                co_await settle();
            }
            overwritten = group.spawn(work);
            gate.set();
            co_await group.join();
            CHECK(ended == 4);
        });
    });
}

TEST_CASE("a handle outlives its group and keeps the result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto shared = std::make_shared<int>(6);
            {
                std::optional<task_handle<std::shared_ptr<int>>> kept;
                {
                    task_group group;
                    kept.emplace(group.spawn([&]() -> task<std::shared_ptr<int>> {
                        co_await yield();
                        co_return shared;
                    }));
                    co_await group.join();
                }
                co_await yield();
                CHECK(kept->done());
                CHECK(shared.use_count() == 2);
                const auto got = co_await *kept;
                CHECK(got == shared);
            }
            CHECK(shared.use_count() == 1);
        });
    });
}

TEST_CASE("a handle may be awaited by a task of another group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group makers;
            auto made = makers.spawn(pass, std::ref(gate), 7);
            task_group users;
            auto used = users.spawn([&]() -> task<int> { co_return 10 * co_await made; });
            co_await settle();
            CHECK_FALSE(used.done());
            gate.set();
            co_await users.join();
            co_await makers.join();
            const int got = co_await used;
            CHECK(got == 70);
        });
    });
}

TEST_CASE("who waits for a handle may give up; the task goes on, and another may wait for it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto work = group.spawn(pass, std::ref(gate), 8);
            auto wait = [&]() -> task<int> { co_return co_await work; };
            auto impatient = group.spawn(wait);
            co_await settle();
            impatient.cancel();
            CHECK_THROWS_AS((void)co_await impatient, operation_cancelled);
            CHECK_FALSE(work.done());
            auto patient = group.spawn(wait);
            co_await settle();
            gate.set();
            const int got = co_await patient;
            CHECK(got == 8);
            co_await group.join();
        });
    });
}

TEST_CASE("as_result and with_timeout await a handle that stays where it is") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto number = group.spawn(pass(gate, 5));
            auto other = group.spawn(pass(gate, 6));
            CHECK_THROWS_AS((void)co_await with_timeout(1us, number), timeout_error);
            const auto late = co_await as_result(with_timeout(1us, number));
            CHECK(late.error() == std::errc::timed_out);
            CHECK_FALSE(number.done());  // the time limit ended the wait, not the task
            gate.set();
            const int five = co_await with_timeout(1h, number);
            CHECK(five == 5);
            CHECK(number.done());
            const auto six = co_await as_result(other);
            CHECK(six.value_or(0) == 6);
            CHECK(other.done());
            co_await group.join();

            auto refused = group.spawn([]() -> task<> {
                co_await yield();
                throw std::system_error(std::make_error_code(std::errc::connection_refused));
            });
            const auto error = co_await as_result(refused);
            CHECK(error.error() == std::errc::connection_refused);
            CHECK(refused.done());
            CHECK_THROWS_AS(co_await group.join(), std::system_error);
        });
    });
}

TEST_CASE("a task cancelled through its handle stays cancelled in the groups it makes") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ended = 0;
            task_group outside;
            auto work = outside.spawn([&]() -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                }
                co_await with_task_group([&](task_group& group) -> task<> {
                    group.spawn([&]() -> task<> {
                        try {
                            (void)co_await sleep_long();
                        } catch (const operation_cancelled&) {
                            ++ended;
                            throw;
                        }
                    });
                    co_return;
                });
                ended += 100;
            });
            co_await settle();
            work.cancel();
            co_await outside.join();
            CHECK(ended == 1);
            CHECK_THROWS_AS(co_await work, operation_cancelled);
        });
    });
}

TEST_CASE("with_task_group gives what its body gives, after all tasks have ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int number = 0;
            auto spawn_one = [&](task_group& group) {
                group.spawn([&]() -> task<> {
                    co_await yield();
                    ++number;
                });
            };
            auto box =
                co_await with_task_group([&](task_group& group) -> task<std::unique_ptr<int>> {
                    spawn_one(group);
                    co_return std::make_unique<int>(3);
                });
            REQUIRE(box);
            CHECK(*box == 3);
            CHECK(number == 1);
            int& same = co_await with_task_group([&](task_group& group) -> task<int&> {
                spawn_one(group);
                co_return number;
            });
            CHECK(&same == &number);
            CHECK(number == 2);
            co_await with_task_group([&](task_group& group) -> task<> {
                spawn_one(group);
                co_return;
            });
            CHECK(number == 3);
        });
    });
}

TEST_CASE("an exception from the body of with_task_group cancels the tasks") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::optional<task_handle<int>> sleeper;
            auto body = [&](task_group& group) -> task<int> {
                sleeper.emplace(group.spawn(sleep_long));
                co_await settle();
                throw std::runtime_error("the body");
            };
            CHECK_THROWS_WITH_AS((void)co_await with_task_group(body), "the body",
                                 std::runtime_error);
            CHECK(sleeper->done());
            CHECK_THROWS_AS((void)co_await *sleeper, operation_cancelled);
        });
    });
}

TEST_CASE("a task's exception cancels the body of with_task_group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool cancelled = false;
            auto body = [&](task_group& group) -> task<int> {
                group.spawn(fail_with("the task"));
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    cancelled = true;
                    throw;
                }
                co_return 1;
            };
            CHECK_THROWS_WITH_AS((void)co_await with_task_group(body), "the task",
                                 std::runtime_error);
            CHECK(cancelled);
            co_await yield();
        });
    });
}

TEST_CASE("a body that waits for a task hears of its exception before it is cancelled for it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            auto body = [&](task_group& group) -> task<> {
                auto failing = group.spawn(fail_with("the task"));
                try {
                    co_await failing;
                } catch (const std::runtime_error& error) {
                    log = error.what();
                }
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    log += ", then cancelled";
                    throw;
                }
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "the task", std::runtime_error);
            CHECK(log == "the task, then cancelled");
        });
    });
}

TEST_CASE("who waits for a handle goes on before those who were woken by the same end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            event gate;
            task_group inner;
            task_group outer;
            auto last = inner.spawn(wait_for, std::ref(gate));
            outer.spawn([&]() -> task<> {
                co_await last;
                log += "handle ";
            });
            outer.spawn([&]() -> task<> {
                co_await inner.join();
                log += "join";
            });
            co_await settle();
            gate.set();
            co_await outer.join();
            CHECK(log == "handle join");
        });
    });
}

TEST_CASE("a body that cancels its own group ends normally unless it owes a value") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_task_group([](task_group& group) -> task<> {
                group.spawn(sleep_long);
                group.cancel();
                co_await yield();
            });
            auto owes_a_value = [](task_group& group) -> task<int> {
                group.cancel();
                co_await yield();
                co_return 1;
            };
            CHECK_THROWS_AS((void)co_await with_task_group(owes_a_value), operation_cancelled);
            const int kept = co_await with_task_group([](task_group& group) -> task<int> {
                group.spawn(sleep_long);
                group.cancel();
                co_return 2;
            });
            CHECK(kept == 2);
        });
    });
}

}  // namespace rondo::test
