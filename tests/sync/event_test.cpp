#include <rondo/sync/event.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/emptied_line.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

task<> wait_and_note(event& flag, std::vector<int>& order, int name) {
    co_await flag.wait();
    order.push_back(name);
}

/// "set", or "cancelled".
task<std::string> outcome_of_wait(event& flag) {
    try {
        co_await flag.wait();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "set";
}

}  // namespace

TEST_CASE("setting an event wakes all who wait, in the order they came") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event flag;
            std::vector<int> order;
            task_group group;
            for (int i = 0; i < 5; ++i) group.spawn(wait_and_note(flag, order, i));
            co_await settle();
            CHECK(order.empty());
            CHECK_FALSE(flag.is_set());
            flag.set();
            CHECK(flag.is_set());
            CHECK(order.empty());  // nobody runs inside set()
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2, 3, 4});
        });
    });
}

TEST_CASE("an event that is set lets everybody pass until it is cleared") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event flag;
            flag.set();
            flag.set();
            co_await flag.wait();
            co_await flag.wait();
            flag.clear();
            CHECK_FALSE(flag.is_set());
            task_group group;
            auto waiter = group.spawn(outcome_of_wait(flag));
            co_await settle();
            CHECK_FALSE(waiter.done());
            flag.set();
            CHECK(co_await waiter == "set");
            co_await group.join();
        });
    });
}

TEST_CASE("a task that an event woke goes on, though the event is cleared before it runs") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event flag;
            task_group group;
            auto waiter = group.spawn(outcome_of_wait(flag));
            co_await settle();
            flag.set();
            flag.clear();
            auto late = group.spawn(outcome_of_wait(flag));
            co_await settle();
            CHECK(waiter.done());
            CHECK_FALSE(late.done());
            late.cancel();
            CHECK(co_await late == "cancelled");
            CHECK(co_await waiter == "set");
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled waiter leaves an event's line, from its head, its middle and its end") {
    on_each_reactor_kind([](auto run) {
        for (int leaver = 0; leaver < 3; ++leaver) {
            CAPTURE(leaver);
            run([=]() -> task<> {
                event flag;
                task_group group;
                std::vector<task_handle<std::string>> waiters;
                for (int i = 0; i < 3; ++i) waiters.push_back(group.spawn(outcome_of_wait(flag)));
                co_await settle();
                waiters[static_cast<std::size_t>(leaver)].cancel();
                co_await settle();
                for (int i = 0; i < 3; ++i) {
                    CHECK(waiters[static_cast<std::size_t>(i)].done() == (i == leaver));
                }
                flag.set();
                co_await group.join();
                for (int i = 0; i < 3; ++i) {
                    const auto how = co_await waiters[static_cast<std::size_t>(i)];
                    CHECK(how == (i == leaver ? "cancelled" : "set"));
                }
            });
        }
    });
}

TEST_CASE(
    "a wait is cancelled before it begins, even on a set event, but not after set() woke it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event flag;
            flag.set();
            task_group group;
            auto before = group.spawn(outcome_of_wait(flag));
            before.cancel();
            CHECK(co_await before == "cancelled");
            flag.clear();
            auto after = group.spawn(outcome_of_wait(flag));
            co_await settle();
            flag.set();
            after.cancel();
            CHECK(co_await after == "set");
            co_await group.join();
        });
    });
}

TEST_CASE("an event's waiters are torn down with their group, and the event can be used again") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event flag;
            std::vector<int> order;
            {
                task_group group;
                for (int i = 0; i < 1'000; ++i) group.spawn(wait_and_note(flag, order, i));
                co_await settle();
                group.cancel();
                co_await group.join();
            }
            flag.set();
            co_await settle();
            CHECK(order.empty());
            flag.clear();
            task_group group;
            group.spawn(wait_and_note(flag, order, 7));
            co_await settle();
            flag.set();
            co_await group.join();
            CHECK(order == std::vector{7});
        });
    });
}

TEST_CASE("waiting for an event takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            using namespace std::chrono_literals;
            event flag;
            const auto late = co_await as_result(with_timeout(1ms, flag.wait()));
            CHECK(late.error() == std::errc::timed_out);
            flag.set();
            const auto now = co_await as_result(with_timeout(1h, flag.wait()));
            CHECK_FALSE(now.error());
        });
    });
}

// A waiter that set() had taken out of the line and that was cancelled before it woke left a second
// time.
TEST_CASE("an event is set on one reactor while waits on two others run out of time") {
    on_each_reactor_kind([](auto run) {
        constexpr int rounds = 500;
        constexpr int waiters = 8;
        event flag;
        const auto wait_briefly = [&]() -> task<> {
            for (int i = 0; i < rounds; ++i) {
                const auto limit = std::chrono::microseconds(i % 20);
                (void)co_await as_result(with_timeout(limit, flag.wait()));
                co_await yield();
            }
        };
        const auto on_one_reactor = [&](std::size_t index) -> task<> {
            if (index == 0) {
                for (int i = 0; i < rounds * 4; ++i) {
                    flag.set();
                    flag.clear();
                    co_await yield();
                }
                co_return;
            }
            task_group group;
            for (int i = 0; i < waiters; ++i) group.spawn(wait_briefly);
            co_await group.join();
        };
        rondo::run([&]() -> task<> { co_await on_each_reactor(on_one_reactor); },
                   {.reactors = 3, .reactor = run.kind()});
    });
}

// Who set it unlocked its line after it was up.
TEST_CASE("an event may be destroyed by who finds it set after its line emptied meanwhile") {
    on_each_reactor_kind([](auto run) {
        destroy_when_line_empties<event>(
            run,
            [](event& one, signal_to_release& signal) -> task<> {
                signal.holding();
                one.set();
                co_return;
            },
            [](event& one) -> task<> { co_await one.wait(); },
            [](event& one) { return one.is_set(); });
    });
}

// Setting an event that was set already published nothing.
TEST_CASE("who clears an event sees what was done before it was set the last time") {
    event flag;
    flag.set();
    int work = 0;  // a plain int: ThreadSanitizer sees whether the event orders it
    std::atomic<bool> told{false};
    std::thread worker([&] {
        work = 1;
        flag.set();
        told.store(true, std::memory_order_relaxed);
    });
    while (!told.load(std::memory_order_relaxed)) std::this_thread::yield();
    flag.clear();
    CHECK(work == 1);
    worker.join();
}

}  // namespace rondo::test
