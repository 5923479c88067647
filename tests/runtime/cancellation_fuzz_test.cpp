// What tasks wait with, cancelled at every moment: nothing is lost, nobody is forgotten.
//
// A scenario is a task that sets up, has point.run() do what is to be cancelled, and checks.

#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/broadcast.hpp>
#include <rondo/sync/capacity_limiter.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/sync/oneshot.hpp>
#include <rondo/sync/rate_limiter.hpp>
#include <rondo/sync/semaphore.hpp>
#include <rondo/sync/watch.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "support/each_point.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> set(event& flag) {
    co_await yield();
    flag.set();
}

task<> wait(event& flag, int& passed) {
    co_await flag.wait();
    ++passed;
}

task<> lock_twice(mutex& lock, int& inside) {
    for (int i = 0; i < 2; ++i) {
        const auto guard = co_await lock.lock();
        CHECK(++inside == 1);
        struct leave {
            int& inside;
            ~leave() { --inside; }
        } leaves{inside};
        co_await yield();
    }
}

task<> hold(semaphore& permits, std::size_t count, int& passed) {
    const auto held = co_await permits.acquire(count);
    co_await yield();
    ++passed;
}

/// Holds two permits until nobody else can go on: by then `ended` must imply `passed`.
task<> hold_up(semaphore& permits, const bool& ended, const int& passed) {
    const auto held = co_await permits.acquire(2);
    co_await settle();
    if (ended) CHECK(passed == 1);
}

task<> hold_later(semaphore& permits, std::size_t count, int& passed) {
    co_await yield();
    const auto held = co_await permits.acquire(count);
    ++passed;
}

task<> hold(capacity_limiter& limiter, int& passed) {
    const auto held = co_await limiter.acquire_for(&passed);
    co_await yield();
    ++passed;
}

task<> take(rate_limiter& limiter, std::size_t count, int& taken) {
    co_await limiter.acquire(count);
    taken += static_cast<int>(count);
}

task<> receive_all(broadcast<int>::receiver& mine, int& next) {
    while (const auto got = co_await mine.receive()) {
        CHECK(got->missed == 0);
        CHECK(got->item == next);
        ++next;
    }
}

task<> send_some(broadcast<int>& numbers) {
    for (int i = 0; i < 3; ++i) {
        numbers.send(i);
        co_await yield();
    }
    numbers.close();
}

task<> follow(watch<int>::receiver& mine, int& seen) {
    while (seen != 3) {
        const int next = co_await mine.next();
        CHECK(next > seen);
        seen = next;
    }
}

task<> count_up(watch<int>& number) {
    for (int i = 1; i <= 3; ++i) {
        number.set(i);
        co_await yield();
    }
}

task<> send(oneshot_sender<int> sender, std::optional<bool>& sent) {
    co_await yield();
    sent = sender.send(1);
}

task<> receive(oneshot_receiver<int>& receiver, std::optional<int>& got) {
    got = co_await receiver;
}

}  // namespace

TEST_CASE("work is cancelled before each of its steps, and where everything is blocked") {
    on_each_reactor_kind([](auto run) {
        std::vector<int> steps_made;
        std::vector<bool> completed;
        for (auto& point : cancellation_points{}) {
            CAPTURE(point.number());
            run([&]() -> task<> {
                int steps = 0;
                struct work {
                    static task<> run(int& steps) {
                        co_await yield();
                        ++steps;
                        co_await sleep_for(1us);
                        ++steps;
                    }
                };
                completed.push_back(co_await point.run(work::run(steps)));
                steps_made.push_back(steps);
            });
        }
        // Not at all; before it starts, before the yield ends, asleep, before the sleep ends (which
        // it does: its time has come); and no point is left. Where the machine is slow the sleep is
        // over before anybody looks: then no moment of it is seen.
        REQUIRE(steps_made.size() >= 5);
        CHECK(steps_made[0] == 2);
        CHECK(steps_made[1] == 0);
        CHECK(steps_made[2] == 0);
        CHECK(steps_made.back() == 2);
        CHECK(completed.front());
        CHECK_FALSE(completed[1]);
        CHECK(completed.back());
    });
}

TEST_CASE("work may settle, fail, and wait for timers between its points") {
    on_each_reactor_kind([](auto run) {
        for (auto& point : cancellation_points{}) {
            CAPTURE(point.number());
            bool failed = false;
            bool cancelled = false;
            struct work {
                static task<> start_and_wait(event& flag, bool& started) {
                    started = true;
                    co_await flag.wait();
                }
                static task<> run() {
                    event flag;
                    bool started = false;
                    task_group group;
                    group.spawn(start_and_wait(flag, started));
                    co_await settle();
                    CHECK(started);
                    flag.set();
                    co_await group.join();
                    co_await sleep_for(1us);
                    throw std::runtime_error("as it should");
                }
            };
            run([&]() -> task<> {
                try {
                    cancelled = !co_await point.run(work::run());
                } catch (const std::runtime_error&) {
                    failed = true;
                }
            });
            CHECK(failed != cancelled);
            if (point.number() == 0) CHECK(failed);
        }
    });
}

TEST_CASE("work that nothing wakes after its cancellation is a deadlock, said to be one") {
    on_each_reactor_kind([](auto run) {
        event never;
        CHECK_THROWS_AS(
            for (auto& point : cancellation_points{}) {
                run([&]() -> task<> {
                    int passed = 0;
                    co_await point.run(wait(never, passed));
                });
            },
            deadlock_error);
    });
}

TEST_CASE("work that has no end is given up") {
    std::size_t rounds = 0;
    CHECK_THROWS_AS(
        for (auto& point : cancellation_points{5}) {
            ++rounds;
            run([&]() -> task<> {
                struct work {
                    static task<> yield_often(std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) co_await yield();
                    }
                };
                co_await point.run(work::yield_often(point.number() + 10));
            });
        },
        std::length_error);
    CHECK(rounds == 6);
}

TEST_CASE("work that goes to other reactors is cancelled and waited for") {
    on_each_reactor_kind([](auto run) {
        for (auto& point : cancellation_points{1'000}) {
            CAPTURE(point.number());
            run_many(run, 2, [&]() -> task<> {
                semaphore one{1};
                int passed = 0;
                struct work {
                    static task<> run(semaphore& one, int& passed) {
                        task_group group;
                        group.spawn_on(place(1), hold(one, 1, passed));
                        group.spawn(hold(one, 1, passed));
                        co_await group.join();
                    }
                };
                const bool completed = co_await point.run(work::run(one, passed));
                if (completed) CHECK(passed == 2);
                CHECK(one.available() == 1);
            });
            if (point.number() == 40) break;  // polling for the other thread makes no end of points
        }
    });
}

TEST_CASE("an event is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        event flag;
        int passed = 0;
        if (co_await point.run(all_of(wait(flag, passed), wait(flag, passed), set(flag)))) {
            CHECK(passed == 2);
        }
        flag.set();
        co_await flag.wait();
    });
}

TEST_CASE("one waiter of several at an event is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        event flag;
        int passed = 0;
        int others = 0;
        task_group group;
        group.spawn(wait(flag, others));
        auto late = group.spawn(set, std::ref(flag));
        co_await point.run(wait(flag, passed));
        group.spawn(wait(flag, others));
        co_await group.join();
        CHECK(others == 2);
    });
}

TEST_CASE("a mutex is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        mutex lock;
        int inside = 0;
        co_await point.run(
            all_of(lock_twice(lock, inside), lock_twice(lock, inside), lock_twice(lock, inside)));
        CHECK(inside == 0);
        CHECK_FALSE(lock.is_locked());
    });
}

TEST_CASE("one task of several at a mutex is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        mutex lock;
        int inside = 0;
        task_group group;
        group.spawn(lock_twice(lock, inside));
        group.spawn(lock_twice(lock, inside));
        co_await point.run(lock_twice(lock, inside));
        co_await group.join();
        CHECK_FALSE(lock.is_locked());
    });
}

TEST_CASE("a semaphore is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        semaphore permits{3};
        int passed = 0;
        const bool completed = co_await point.run(
            all_of(hold(permits, 2, passed), hold(permits, 3, passed), hold(permits, 1, passed)));
        if (completed) CHECK(passed == 3);
        CHECK(permits.available() == 3);
    });
}

TEST_CASE("one task of several at a semaphore is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        semaphore permits{3};
        int passed = 0;
        int others = 0;
        task_group group;
        group.spawn(hold(permits, 2, others));
        group.spawn(hold(permits, 3, others));
        group.spawn(hold(permits, 1, others));
        co_await point.run(hold(permits, 3, passed));
        co_await group.join();
        CHECK(others == 3);
        CHECK(permits.available() == 3);
    });
}

TEST_CASE("who waits behind a large request goes on when that is cancelled") {
    at_each_point([](cancellation_point& point) -> task<> {
        semaphore permits{3};
        int passed = 0;
        int behind = 0;
        bool ended = false;
        task_group group;
        group.spawn(hold_up(permits, ended, behind));
        group.spawn(hold_later(permits, 1, behind));
        ended = !co_await point.run(hold(permits, 3, passed));
        co_await group.join();
        CHECK(behind == 1);
        CHECK(permits.available() == 3);
    });
}

TEST_CASE("a oneshot is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        auto both = oneshot<int>();
        std::optional<int> got;
        std::optional<bool> sent;
        co_await point.run(all_of(receive(both.receiver, got), send(std::move(both.sender), sent)));
        const auto later = both.receiver.try_receive();
        CHECK((got.has_value() || later.has_value()) == sent.value_or(false));
    });
}

TEST_CASE("a watch is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        watch<int> number{0};
        auto mine = number.subscribe();
        auto yours = number.subscribe();
        int seen = 0;
        int others = 0;
        task_group group;
        group.spawn(follow(yours, others));
        group.spawn(count_up(number));
        co_await point.run(follow(mine, seen));
        co_await group.join();
        CHECK(others == 3);
        co_await follow(mine, seen);
        CHECK(seen == 3);
    });
}

TEST_CASE("a broadcast is cancelled at each point, and its receiver goes on later") {
    at_each_point([](cancellation_point& point) -> task<> {
        broadcast<int> numbers{4};
        auto mine = numbers.subscribe();
        auto yours = numbers.subscribe();
        int next = 0;
        int others = 0;
        task_group group;
        group.spawn(receive_all(yours, others));
        group.spawn(send_some(numbers));
        co_await point.run(receive_all(mine, next));
        co_await group.join();
        CHECK(others == 3);
        co_await receive_all(mine, next);
        CHECK(next == 3);
    });
}

TEST_CASE("a capacity limiter is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        capacity_limiter limiter{1};
        // Each of these names the borrower, too.
        int first = 0;
        int second = 0;
        int third = 0;
        task_group group;
        group.spawn(hold(limiter, first));
        const bool completed =
            co_await point.run(all_of(hold(limiter, second), hold(limiter, third)));
        co_await group.join();
        CHECK(first == 1);
        if (completed) CHECK(second + third == 2);
        co_await all_of(hold(limiter, second), hold(limiter, third));
        CHECK(limiter.current().borrowed == 0);
        CHECK(limiter.current().waiting == 0);
    });
}

TEST_CASE("a rate limiter is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        rate_limiter limiter{100'000, 4};
        CHECK(limiter.try_acquire(4));
        int taken = 0;
        int others = 0;
        task_group group;
        group.spawn(take(limiter, 1, others));
        co_await point.run(all_of(take(limiter, 2, taken), take(limiter, 4, taken)));
        group.spawn(take(limiter, 3, others));
        co_await group.join();
        CHECK(others == 4);
        co_await limiter.acquire(4);
    });
}

}  // namespace rondo::test
