#include <rondo/runtime/interval.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr auto period = 1h;  // what is not due at once never is in a test

/// Whether the next tick is still to be waited for.
task<bool> is_ahead(interval& of) {
    task_group group;
    auto ticking = group.spawn(outcome_of(of.tick(), form::as_result));
    co_await settle();
    const bool ahead = !ticking.done();
    group.cancel();
    co_await group.join();
    co_return ahead;
}

}  // namespace

TEST_CASE("the first tick comes at once, the others one period after the other, never early") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto start = clock::now();
            interval beat{2ms};
            const auto first = co_await beat.tick();
            CHECK(first >= start);
            CHECK(first <= clock::now());
            for (int i = 1; i <= 5; ++i) {
                const auto due = co_await beat.tick();
                CHECK(due == first + i * 2ms);
                CHECK(clock::now() >= due);
            }
        });
    });
}

TEST_CASE("a first tick may be given, and is waited for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto first = clock::now() + 3ms;
            interval beat{first, period};
            CHECK(beat.period() == period);
            const auto due = co_await beat.tick();
            CHECK(due == first);
            CHECK(clock::now() >= first);
            CHECK(co_await is_ahead(beat));
        });
    });
}

TEST_CASE("missed ticks are made up for, with burst") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto first = clock::now() - 3 * period - period / 2;
            interval beat{first, period};
            for (int i = 0; i < 4; ++i) {
                const auto due = co_await beat.tick();
                CHECK(due == first + i * period);
            }
            CHECK(co_await is_ahead(beat));
        });
    });
}

TEST_CASE("missed ticks are left out and the regular times kept, with skip") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto first = clock::now() - 3 * 50ms - 25ms;
            interval beat{first, 50ms, missed_ticks::skip};
            const auto late = co_await beat.tick();
            CHECK(late == first);
            const auto next = co_await beat.tick();
            // On a machine that is busy still more may have been missed.
            CHECK(next >= first + 4 * 50ms);
            CHECK((next - first) % 50ms == 0ns);
            CHECK(clock::now() >= next);
        });
    });
}

TEST_CASE("the beat begins anew after a missed tick, with delay") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto first = clock::now() - 3 * 10ms - 5ms;
            interval beat{first, 10ms, missed_ticks::delay};
            const auto before = clock::now();
            const auto late = co_await beat.tick();
            const auto after = clock::now();
            CHECK(late == first);
            const auto next = co_await beat.tick();
            CHECK(next >= before + 10ms);
            CHECK(next <= after + 10ms);
        });
    });
}

TEST_CASE("a tick that is cancelled is still to come, before, during and after it is due") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const form how : both_forms) {
                for (const int moment : moments) {
                    CAPTURE(moment);
                    const auto first = clock::now() + 20us;
                    interval beat{first, period};
                    task_group group;
                    auto ticking = group.spawn(outcome_of(beat.tick(), how));
                    co_await yield_times(moment);
                    ticking.cancel();
                    const auto got = co_await ticking;
                    if (!got) CHECK(got.error() == std::errc::operation_canceled);
                    const auto due = got ? *got : co_await beat.tick();
                    CHECK(due == first);
                    CHECK(co_await is_ahead(beat));
                    co_await group.join();
                }
            }
        });
    });
}

TEST_CASE("a reset begins the beat anew, also between a tick's making and its await") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            interval beat{clock::now() - period, 2ms};
            auto made_before = beat.tick();
            const auto before = clock::now();
            beat.reset();
            const auto due = co_await made_before;
            CHECK(due >= before + 2ms);
            CHECK(clock::now() >= due);
        });
    });
}

TEST_CASE("ticks that are all due let other tasks have their turns") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            interval beat{clock::now() - 100 * period, period};
            int turns = 0;
            task_group group;
            group.spawn([&turns]() -> task<> {
                for (;;) {
                    ++turns;
                    co_await yield();
                }
            });
            for (int i = 0; i < 50; ++i) co_await beat.tick();
            CHECK(turns >= 49);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("an interval without a length is refused") {
    CHECK_THROWS_WITH_AS(interval{0s}, "interval: the period must be longer than zero",
                         std::invalid_argument);
    CHECK_THROWS_AS(interval{-1s}, std::invalid_argument);
    CHECK_THROWS_AS((interval{clock::now(), 0ns, missed_ticks::skip}), std::invalid_argument);
    CHECK_NOTHROW(interval{std::chrono::hours::max()});
    CHECK_NOTHROW(interval{1ns});
}

}  // namespace rondo::test
