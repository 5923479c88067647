#include <rondo/runtime/task_group.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/live_memory.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"
#include "support/unheard_errors.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> note(std::vector<int>& log, int number) {
    log.push_back(number);
    co_return;
}

task<int> unbox(std::unique_ptr<int> box) {
    co_await yield();
    co_return *box;
}

task<> add_to(int& sum, const int& number) {
    co_await yield();
    sum += number;
}

task<int> length_of(std::string& text) {
    co_await yield();
    co_return static_cast<int>(text.size());
}

struct counter {
    int value = 0;
    task<int> add(int number) {
        co_await yield();
        co_return value += number;
    }
};

}  // namespace

TEST_CASE("an empty group joins at once, and needs no join") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            co_await group.join();
            co_await group.join();
            const task_group never_used;
        });
    });
}

TEST_CASE("spawned tasks start in order, when the task that spawned them next waits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> log;
            task_group group;
            for (int i = 1; i <= 3; ++i) group.spawn(note(log, i));
            CHECK(log.empty());
            co_await yield();
            CHECK(log == std::vector<int>{1, 2, 3});
            co_await group.join();
        });
    });
}

TEST_CASE("a join waits for every task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int passed = 0;
            bool joined = false;
            task_group outside;
            outside.spawn([&]() -> task<> {
                task_group group;
                for (int i = 0; i < 10'000; ++i) {
                    group.spawn([&]() -> task<> {
                        co_await gate.wait();
                        ++passed;
                    });
                }
                co_await group.join();
                joined = true;
            });
            co_await settle();
            CHECK(passed == 0);
            CHECK_FALSE(joined);
            gate.set();
            co_await outside.join();
            CHECK(passed == 10'000);
            CHECK(joined);
        });
    });
}

TEST_CASE("spawn passes arguments on as std::thread does") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto moved = group.spawn(unbox, std::make_unique<int>(5));
            int sum = 1;
            {
                const int number = 2;  // the group keeps a copy
                group.spawn(add_to, std::ref(sum), number);
            }
            counter from_ten{10};
            auto member = group.spawn(&counter::add, &from_ten, 3);
            auto kept = group.spawn(length_of, std::string(40, 'x'));
            co_await group.join();
            const int unboxed = co_await moved;
            const int counted = co_await member;
            const int length = co_await kept;
            CHECK(unboxed == 5);
            CHECK(sum == 3);
            CHECK(counted == 13);
            CHECK(from_ten.value == 13);
            CHECK(length == 40);
        });
    });
}

TEST_CASE("spawn takes whatever can be awaited: a sleep, an event's wait, a handle") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto nap = group.spawn(sleep_for(1us));
            auto waiter = group.spawn(gate.wait());
            auto number = group.spawn(pass(gate, 5));
            auto same_number = group.spawn(std::move(number));
            auto limited = group.spawn(with_timeout(1h, pass(gate, 6)));
            static_assert(std::is_same_v<decltype(nap), task_handle<void>>);
            static_assert(std::is_same_v<decltype(same_number), task_handle<int>>);
            co_await nap;
            co_await settle();
            CHECK_FALSE(waiter.done());
            CHECK_FALSE(same_number.done());
            gate.set();
            const int five = co_await same_number;
            CHECK(five == 5);
            const int six = co_await limited;
            CHECK(six == 6);
            co_await group.join();
            CHECK(waiter.done());

            // Cancelled as any task is.
            gate.clear();
            auto sleeper = group.spawn(sleep_for(1h));
            auto last = group.spawn(gate.wait());
            co_await settle();
            group.cancel();
            co_await group.join();
            CHECK_THROWS_AS(co_await sleeper, operation_cancelled);
            CHECK_THROWS_AS(co_await last, operation_cancelled);
        });
    });
}

TEST_CASE("a callable and its captures live until its task has ended, and no longer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto shared = std::make_shared<int>(7);
            event gate;
            task_group group;
            auto first = group.spawn([shared, &gate]() -> task<int> {
                co_await gate.wait();
                co_return *shared;
            });
            auto second = group.spawn(
                [box = std::make_unique<int>(8)](std::shared_ptr<int> copy) -> task<int> {
                    co_await yield();
                    co_return *box + *copy;
                },
                shared);
            const int sum = co_await second;
            CHECK(sum == 15);
            gate.set();
            const int got = co_await first;
            CHECK(got == 7);
            co_await group.join();

            // Without a handle, the end of the task is the end of it all, though the group goes on.
            event other;
            group.spawn([shared, &other]() -> task<> { co_await other.wait(); });
            event for_ever;
            auto last = group.spawn([&]() -> task<> { co_await for_ever.wait(); });
            co_await settle();
            const long held = shared.use_count();
            other.set();
            co_await settle();
            CHECK(shared.use_count() == held - 1);
            last.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("the first exception cancels the other tasks and is thrown by the join") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unheard_errors heard;
            int cancelled = 0;
            task_group group;
            group.spawn(sleep_and_note, std::ref(cancelled));
            group.spawn(fail_with("first"));
            group.spawn([]() -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    throw std::runtime_error("second, from the clean-up");
                }
            });
            group.spawn(sleep_and_note, std::ref(cancelled));
            CHECK_THROWS_WITH_AS(co_await group.join(), "first", std::runtime_error);
            CHECK(cancelled == 2);
            CHECK(heard.all() == std::vector<std::string>{"second, from the clean-up"});
            co_await group.join();  // told once
        });
    });
}

TEST_CASE("the exception of a task that ended before the join is thrown by the join") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto failing = group.spawn(fail_with("early"));
            co_await settle();
            CHECK(failing.done());
            CHECK_THROWS_WITH_AS(co_await group.join(), "early", std::runtime_error);
        });
    });
}

TEST_CASE("a task that ends by its own cancellation is no error of the group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> log;
            task_group group;
            auto cancelled = group.spawn([]() -> task<> { co_await sleep_for(1h); });
            group.spawn([&]() -> task<> {
                co_await settle();
                cancelled.cancel();
                co_await settle();
                log.push_back(1);
            });
            co_await group.join();
            CHECK(log == std::vector<int>{1});
        });
    });
}

TEST_CASE("a hundred thousand tasks one after the other leave the heap as it was") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto work = [](std::string text) -> task<int> {
                co_await yield();
                co_return static_cast<int>(text.size());
            };
            task_group group;
            auto spawn_many = [&](int count) -> task<long> {
                long sum = 0;
                for (int i = 0; i < count; ++i) {
                    auto awaited = group.spawn(work, std::string(64, 'x'));
                    group.spawn(work, std::string(64, 'x'));
                    sum += co_await awaited;
                }
                co_return sum;
            };
            (void)co_await spawn_many(10);
            const std::size_t before = live_bytes();
            const long sum = co_await spawn_many(50'000);
            CHECK(sum == 64 * 50'000);
            CHECK(live_bytes() <= before + 4 * 1024);
            co_await group.join();
        });
    });
}

TEST_CASE("tasks may spawn into their own group while it is joined") {
    struct tree {
        static task<> grow(task_group& group, int height, int& leaves) {
            co_await yield();
            if (height == 0) {
                ++leaves;
                co_return;
            }
            group.spawn(grow, std::ref(group), height - 1, std::ref(leaves));
            group.spawn(grow, std::ref(group), height - 1, std::ref(leaves));
        }
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int leaves = 0;
            task_group group;
            group.spawn(tree::grow, std::ref(group), 8, std::ref(leaves));
            co_await group.join();
            CHECK(leaves == 256);
        });
    });
}

TEST_CASE("a group may be used again after a join") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> log;
            task_group group;
            for (int round = 0; round < 3; ++round) {
                group.spawn(note(log, round));
                co_await group.join();
            }
            CHECK(log == std::vector<int>{0, 1, 2});
        });
    });
}

TEST_CASE("cancelling a group ends its tasks, also those spawned later, and is no error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            task_group group;
            group.spawn(sleep_and_note, std::ref(cancelled));
            co_await settle();
            group.spawn(sleep_and_note, std::ref(cancelled));  // has not started
            group.cancel();
            CHECK(cancelled == 0);
            group.spawn(sleep_and_note, std::ref(cancelled));
            group.cancel();
            co_await group.join();
            CHECK(cancelled == 3);
            co_await yield();  // whoever made the group is not cancelled
        });
    });
}

TEST_CASE("cancelling a group whose tasks have ended changes nothing for them") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto work = group.spawn(unbox, std::make_unique<int>(5));
            co_await settle();
            group.cancel();
            co_await group.join();
            const int got = co_await work;
            CHECK(got == 5);
        });
    });
}

TEST_CASE("a join that is cancelled in a scope of its own cancels the group it joins") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool meanwhile : {false, true}) {
                CAPTURE(meanwhile);
                int cancelled = 0;
                task_group group;
                group.spawn(sleep_and_note, std::ref(cancelled));
                const bool joined = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                    if (meanwhile) {
                        scope.set_deadline(std::chrono::steady_clock::now() + 1ms);
                    } else {
                        scope.cancel();
                    }
                    co_await group.join();
                });
                CHECK_FALSE(joined);
                CHECK(cancelled == 1);
            }
        });
    });
}

TEST_CASE("a cancelled join waits until the tasks have cleaned up") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            bool cleaned_up = false;
            task_group outside;
            auto joiner = outside.spawn([&]() -> task<> {
                task_group group;
                group.spawn([&]() -> task<> {
                    bool cancelled = false;
                    try {
                        co_await sleep_for(1h);
                    } catch (const operation_cancelled&) {
                        cancelled = true;
                    }
                    co_await shield(gate.wait());
                    cleaned_up = cancelled;
                });
                co_await group.join();
            });
            co_await settle();
            joiner.cancel();
            co_await settle();
            CHECK_FALSE(joiner.done());
            gate.set();
            co_await outside.join();
            CHECK(cleaned_up);
            CHECK_THROWS_AS(co_await joiner, operation_cancelled);
        });
    });
}

}  // namespace rondo::test
