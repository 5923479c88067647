#include <rondo/sync/rate_limiter.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// Tokens that do not come while a test runs.
constexpr double one_a_day = 1.0 / 86'400;

task<> take_and_note(rate_limiter& limiter, std::size_t count, std::vector<int>& order, int name) {
    co_await limiter.acquire(count);
    order.push_back(name);
}

task<std::string> outcome_of_acquire(rate_limiter& limiter) {
    try {
        co_await limiter.acquire();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "acquired";
}

}  // namespace

TEST_CASE("a bucket is full in the beginning, and holds the burst") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            rate_limiter limiter{one_a_day, 5};
            CHECK(limiter.burst() == 5);
            CHECK_FALSE(limiter.try_acquire(6));
            CHECK(limiter.try_acquire(2));
            co_await limiter.acquire(3);
            CHECK_FALSE(limiter.try_acquire());
            const auto late = co_await as_result(with_timeout(1ms, limiter.acquire()));
            CHECK(late.error() == std::errc::timed_out);
        });
    });
}

TEST_CASE("tokens come at the rate, not sooner") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            rate_limiter limiter{10'000, 4};
            const auto start = clock::now();
            for (int i = 0; i < 54; ++i) co_await limiter.acquire();
            CHECK(clock::now() - start >= 5ms - 1us);
        });
    });
}

TEST_CASE("waiters get their tokens in the order they came, the large ones too") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            rate_limiter limiter{10'000, 20};
            CHECK(limiter.try_acquire(20));
            std::vector<int> order;
            task_group group;
            group.spawn(take_and_note(limiter, 1, order, 0));
            group.spawn(take_and_note(limiter, 20, order, 1));
            group.spawn(take_and_note(limiter, 1, order, 2));
            group.spawn(take_and_note(limiter, 2, order, 3));
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2, 3});
        });
    });
}

TEST_CASE("a cancelled waiter takes nothing, and those behind it do not wait for its tokens") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            rate_limiter limiter{one_a_day, 1'000};
            CHECK(limiter.try_acquire(990));
            std::vector<int> order;
            task_group group;
            auto large = group.spawn(take_and_note(limiter, 1'000, order, 0));
            auto middle = group.spawn(take_and_note(limiter, 500, order, 1));
            group.spawn(take_and_note(limiter, 4, order, 2));
            group.spawn(take_and_note(limiter, 6, order, 3));
            auto last = group.spawn(take_and_note(limiter, 1, order, 4));
            co_await settle();
            CHECK(order.empty());
            CHECK_FALSE(limiter.try_acquire());  // not past the line
            middle.cancel();
            co_await settle();
            CHECK(order.empty());
            large.cancel();  // the first in line, whose timer runs
            co_await settle();
            CHECK(order == std::vector{2, 3});
            CHECK_FALSE(last.done());
            last.cancel();
            co_await group.join();
            CHECK_FALSE(limiter.try_acquire());
        });
    });
}

TEST_CASE("acquiring is cancelled before it begins, but not once the tokens are taken") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            rate_limiter limiter{one_a_day, 2};
            task_group group;
            auto before = group.spawn(outcome_of_acquire(limiter));
            before.cancel();
            CHECK(co_await before == "cancelled");
            CHECK(limiter.try_acquire(1));
            std::vector<int> order;
            auto first = group.spawn(take_and_note(limiter, 2, order, 0));
            auto second = group.spawn(outcome_of_acquire(limiter));
            co_await settle();
            first.cancel();   // the second has its token now
            second.cancel();  // too late
            CHECK(co_await second == "acquired");
            CHECK_FALSE(limiter.try_acquire());
            co_await group.join();
        });
    });
}

TEST_CASE("a limiter that makes no sense is refused") {
    CHECK_THROWS_AS((rate_limiter{0, 1}), std::invalid_argument);
    CHECK_THROWS_AS((rate_limiter{-1, 1}), std::invalid_argument);
    CHECK_THROWS_AS((rate_limiter{std::numeric_limits<double>::quiet_NaN(), 1}),
                    std::invalid_argument);
    CHECK_THROWS_AS((rate_limiter{1, 0}), std::invalid_argument);
    CHECK_THROWS_AS((rate_limiter{1e-9, 10}), std::invalid_argument);
    rate_limiter limiter{1, 3};
    CHECK_THROWS_AS((void)limiter.acquire(4), std::invalid_argument);
}

TEST_CASE("plain threads take tokens, and no more than there are") {
    rate_limiter limiter{one_a_day, 100};
    std::atomic<int> taken{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            while (limiter.try_acquire()) ++taken;
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(taken == 100);
}

TEST_CASE("on all reactors a rate limiter gives no token too many, and forgets nobody") {
    on_each_reactor_kind([](auto run) {
        constexpr double rate = 1'000'000;
        rate_limiter limiter{rate, 4};
        std::atomic<int> taken{0};
        const auto start = clock::now();
        hammer(run, 300, [&](hammered& self) -> task<> {
            const std::size_t count = 1 + self.random() % 4;
            if (self.one_in(4)) {
                if (limiter.try_acquire(count)) taken += static_cast<int>(count);
            }
            co_await limiter.acquire(count);
            taken += static_cast<int>(count);
        });
        const std::chrono::duration<double> elapsed = clock::now() - start;
        CHECK(taken <= 4 + elapsed.count() * rate + 1);
        CHECK(taken > 0);
        // Nobody is left in the line, so the bucket fills again.
        run([&]() -> task<> { co_await limiter.acquire(4); });
    });
}

}  // namespace rondo::test
