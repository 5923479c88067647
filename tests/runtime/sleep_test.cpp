#include <rondo/runtime/sleep.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include "support/support.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

task<> sleep_and_note(std::vector<int>& log, clock::time_point until, int number) {
    co_await sleep_until(until);
    log.push_back(number);
}

// Keeps the thread, and so its scheduler, until then.
void block_until(clock::time_point time) {
    while (clock::now() < time) {
    }
}

}  // namespace

TEST_CASE("a sleep never ends early") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const auto duration : {0us, 1us, 50us, 300us, 1000us, 1700us, 5000us}) {
                const auto start = clock::now();
                co_await sleep_for(duration);
                CHECK(clock::now() >= start + duration);
                const auto deadline = clock::now() + duration;
                co_await sleep_until(deadline);
                CHECK(clock::now() >= deadline);
            }
        });
    });
}

TEST_CASE("a sleep on an idle machine ends less than a millisecond late") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            // The machine may not be idle: one sleep in many must be on time.
            for (const auto duration : {100us, 700us, 2500us}) {
                auto least = clock::duration::max();
                for (int i = 0; i < 200 && least >= 1ms; ++i) {
                    const auto deadline = clock::now() + duration;
                    co_await sleep_until(deadline);
                    least = std::min(least, clock::now() - deadline);
                }
                CHECK(least < 1ms);
            }
        });
    });
}

TEST_CASE("sleepers wake in the order of their deadlines, whatever the order they came in") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> log;
            const auto start = clock::now() + 1ms;
            task_group group;
            // Also a microsecond apart, and all over at the same look at the clock.
            group.spawn(sleep_and_note, std::ref(log), start + 900us, 6);
            group.spawn(sleep_and_note, std::ref(log), start + 1us, 2);
            group.spawn(sleep_and_note, std::ref(log), start + 3ms, 7);
            group.spawn(sleep_and_note, std::ref(log), start, 1);
            group.spawn(sleep_and_note, std::ref(log), start + 100us, 4);
            group.spawn(sleep_and_note, std::ref(log), start + 101us, 5);
            group.spawn(sleep_and_note, std::ref(log), start + 2us, 3);
            co_await group.join();
            CHECK(log == std::vector<int>{1, 2, 3, 4, 5, 6, 7});

            log.clear();
            const auto late = clock::now() + 1ms;
            for (int i = 5; i >= 1; --i) {
                group.spawn(sleep_and_note, std::ref(log), late + i * 1us, i);
            }
            co_await yield();
            block_until(late + 1ms);
            co_await group.join();
            CHECK(log == std::vector<int>{1, 2, 3, 4, 5});
        });
    });
}

TEST_CASE("sleepers with the same deadline wake in the order they came in") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> log;
            std::vector<int> expected;
            const auto until = clock::now() + 2ms;
            task_group group;
            for (int i = 0; i < 500; ++i) {
                group.spawn(sleep_and_note, std::ref(log), until, i);
                expected.push_back(i);
            }
            co_await group.join();
            CHECK(log == expected);
        });
    });
}

TEST_CASE("a deadline in the past lets the other ready tasks run once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const auto until :
                 {clock::now() - 1h, clock::time_point{}, clock::now(), clock::time_point::min()}) {
                int steps = 0;
                task_group group;
                group.spawn([&]() -> task<> {
                    for (;;) {
                        ++steps;
                        co_await yield();
                    }
                });
                co_await sleep_until(until);
                CHECK(steps >= 1);
                group.cancel();
                co_await group.join();
            }
            co_await sleep_for(-1h);
            co_await sleep_for(clock::duration::min());
        });
    });
}

TEST_CASE("a sleep may last for years, or longer than any clock, and be cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto sleep_long = [](auto duration) -> task<> { co_await sleep_for(duration); };
            std::vector<task_handle<void>> sleepers;
            sleepers.push_back(group.spawn(sleep_long, std::chrono::hours(24 * 365)));
            sleepers.push_back(group.spawn(sleep_long, std::chrono::years(100)));
            sleepers.push_back(group.spawn(sleep_long, std::chrono::hours::max()));
            sleepers.push_back(group.spawn(sleep_long, std::chrono::duration<double>(1e300)));
            sleepers.push_back(
                group.spawn([]() -> task<> { co_await sleep_until(clock::time_point::max()); }));
            co_await sleep_for(2ms);
            for (auto& sleeper : sleepers) CHECK_FALSE(sleeper.done());
            sleepers[1].cancel();
            co_await settle();
            CHECK(sleepers[1].done());
            CHECK_FALSE(sleepers[0].done());
            group.cancel();
            co_await group.join();
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a duration counts in any unit and is rounded up") {
    static_assert(detail::saturated_ns(std::chrono::duration<double, std::nano>(1.25)) == 2);
    static_assert(detail::saturated_ns(1500us) == 1'500'000);
    static_assert(detail::saturated_ns(-1s) == 0);
    static_assert(detail::saturated_ns(std::chrono::duration<int, std::pico>(1)) == 1);
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto start = clock::now();
            co_await sleep_for(std::chrono::duration<float>(0.002F));
            CHECK(clock::now() >= start + 1999us);
        });
    });
}

TEST_CASE("sleep_for counts from the call, not from the await") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto start = clock::now();
            auto nap = sleep_for(20ms);
            block_until(start + 21ms);
            const auto awaited_at = clock::now();
            co_await nap;
            CHECK(clock::now() < awaited_at + 20ms);
        });
    });
}

TEST_CASE("ten thousand sleepers are cancelled at once and leave no timer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            task_group group;
            for (int i = 0; i < 10'000; ++i) {
                group.spawn(
                    [&cancelled](clock::duration each) -> task<> {
                        try {
                            co_await sleep_for(each);
                        } catch (const operation_cancelled&) {
                            ++cancelled;
                        }
                    },
                    1h + i * 1ms);
            }
            co_await settle();
            CHECK(detail::current_core->timers.size() == 10'000);
            group.cancel();
            CHECK(detail::current_core->timers.empty());
            co_await group.join();
            CHECK(cancelled == 10'000);
        });
    });
}

}  // namespace rondo::test
