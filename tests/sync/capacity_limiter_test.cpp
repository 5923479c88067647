#include <rondo/sync/capacity_limiter.hpp>

#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

/// Notes its name while it holds a token, and keeps that until it is cancelled.
task<> hold(capacity_limiter& limiter, std::vector<int>& order, int name) {
    const auto token = co_await limiter.acquire();
    order.push_back(name);
    co_await sleep_for(std::chrono::hours(1));
}

task<std::string> outcome_of_acquire(capacity_limiter& limiter) {
    try {
        const auto token = co_await limiter.acquire();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    } catch (const std::logic_error&) {
        co_return "refused";
    }
    co_return "acquired";
}

bool holds(const capacity_limiter& limiter, std::size_t borrowed, std::size_t waiting) {
    const auto now = limiter.current();
    return now.borrowed == borrowed && now.waiting == waiting;
}

}  // namespace

TEST_CASE("a limiter gives so many tokens, and the next ones in the order they were asked for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            capacity_limiter limiter{2};
            std::vector<int> order;
            task_group group;
            std::vector<task_handle<void>> tasks;
            for (int i = 0; i < 5; ++i) tasks.push_back(group.spawn(hold(limiter, order, i)));
            co_await settle();
            CHECK(order == std::vector{0, 1});
            CHECK(holds(limiter, 2, 3));
            CHECK_FALSE(limiter.try_acquire().has_value());
            tasks[2].cancel();  // it waits
            tasks[1].cancel();  // it holds a token
            co_await settle();
            CHECK(order == std::vector{0, 1, 3});
            CHECK(holds(limiter, 2, 1));
            group.cancel();
            co_await group.join();
            CHECK(holds(limiter, 0, 0));
        });
    });
}

TEST_CASE("a task takes one token at most, and may say for whom it takes another") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            capacity_limiter limiter{3};
            {
                auto mine = co_await limiter.acquire();
                CHECK_THROWS_AS((void)co_await limiter.acquire(), std::logic_error);
                CHECK_THROWS_AS((void)limiter.try_acquire(), std::logic_error);
                CHECK(holds(limiter, 1, 0));
                const int tenant = 0;
                auto theirs = co_await limiter.acquire_for(&tenant);
                CHECK_THROWS_AS((void)limiter.try_acquire_for(&tenant), std::logic_error);
                CHECK_THROWS_AS((void)limiter.try_acquire_for(nullptr), std::logic_error);
                CHECK(holds(limiter, 2, 0));
                mine.release();
                mine = co_await limiter.acquire();
                CHECK(holds(limiter, 2, 0));
            }
            CHECK(holds(limiter, 0, 0));
        });
    });
}

TEST_CASE("a task that hops is the same borrower, and gives its token back from there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            capacity_limiter limiter{2};
            {
                const auto token = co_await limiter.acquire();
                co_await resume_on(place(1));
                CHECK_THROWS_AS((void)co_await limiter.acquire(), std::logic_error);
            }
            CHECK(holds(limiter, 0, 0));
        });
    });
}

TEST_CASE("a token outlives the task it was made for, and stands in no later task's way") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            capacity_limiter limiter{10};
            std::vector<capacity_limiter::token> kept;
            const auto borrow = [&]() -> task<> { kept.push_back(co_await limiter.acquire()); };
            for (int i = 0; i < 3; ++i) {  // a later task is likely to have the same address
                task_group group;
                group.spawn(borrow);
                co_await group.join();
            }
            CHECK(holds(limiter, 3, 0));
            kept.clear();
            CHECK(holds(limiter, 0, 0));
        });
    });
}

TEST_CASE("the total changes while tokens are held and waited for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            capacity_limiter limiter{1};
            std::vector<int> order;
            task_group group;
            std::vector<task_handle<void>> tasks;
            for (int i = 0; i < 4; ++i) tasks.push_back(group.spawn(hold(limiter, order, i)));
            co_await settle();
            limiter.set_total(3);
            co_await settle();
            CHECK(order == std::vector{0, 1, 2});
            limiter.set_total(1);
            CHECK(holds(limiter, 3, 1));
            tasks[0].cancel();
            tasks[1].cancel();
            co_await settle();
            CHECK(holds(limiter, 1, 1));
            tasks[2].cancel();
            co_await settle();
            CHECK(order == std::vector{0, 1, 2, 3});
            limiter.set_total(0);
            tasks[3].cancel();
            co_await group.join();
            CHECK_FALSE(limiter.try_acquire().has_value());
            limiter.set_total(1);
            CHECK(limiter.try_acquire().has_value());
        });
    });
}

TEST_CASE("who was given a token and is cancelled before it runs keeps it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            capacity_limiter limiter{1};
            task_group group;
            auto before = group.spawn(outcome_of_acquire(limiter));
            before.cancel();
            CHECK(co_await before == "cancelled");
            auto mine = co_await limiter.acquire();
            auto after = group.spawn(outcome_of_acquire(limiter));
            co_await settle();
            mine.release();
            after.cancel();
            CHECK(co_await after == "acquired");
            CHECK(holds(limiter, 0, 0));
            co_await group.join();
        });
    });
}

TEST_CASE("a plain thread takes a token for a borrower of its own") {
    capacity_limiter limiter{1};
    CHECK_THROWS_AS((void)limiter.try_acquire(), std::logic_error);
    const auto token = limiter.try_acquire_for(&limiter);
    CHECK(token.has_value());
    const int other = 0;
    CHECK_FALSE(limiter.try_acquire_for(&other).has_value());
}

TEST_CASE("a set of borrowers holds what std::set holds") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::minstd_rand random(seed);
    static std::array<char, 4096> memory;
    detail::borrower_set ours;
    std::set<detail::borrower_id> theirs;
    for (int i = 0; i < 20'000; ++i) {
        // Few places, or many, in turn, so that it fills and empties.
        const std::size_t range = i / 1'000 % 2 == 0 ? 4096 : 64;
        const detail::borrower_id one{&memory[random() % range],
                                      static_cast<std::uint32_t>(random() % 2)};
        REQUIRE(ours.contains(one) == theirs.contains(one));
        if (theirs.erase(one) != 0) {
            ours.erase(one);
        } else {
            ours.reserve(ours.size() + 1);
            ours.insert(one);
            theirs.insert(one);
        }
        REQUIRE(ours.size() == theirs.size());
    }
    for (const char& place : memory) {
        CHECK(ours.contains({&place, 0}) == theirs.contains({&place, 0}));
        CHECK(ours.contains({&place, 1}) == theirs.contains({&place, 1}));
    }
}

TEST_CASE("on all reactors a limiter never gives more tokens than its total, and gets all back") {
    on_each_reactor_kind([](auto run) {
        capacity_limiter limiter{3};
        std::atomic<int> inside{0};
        std::atomic<int> too_many{0};
        hammer(run, 2'000, [&](hammered& self) -> task<> {
            const auto token = co_await limiter.acquire();
            if (++inside > 5) ++too_many;
            if (self.one_in(4)) limiter.set_total(2 + self.random() % 4);
            struct leave {
                std::atomic<int>& inside;
                ~leave() { --inside; }
            } leaves{inside};
            co_await self.pause();
        });
        CHECK(too_many == 0);
        CHECK(holds(limiter, 0, 0));
    });
}

}  // namespace rondo::test
