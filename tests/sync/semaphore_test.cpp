#include <rondo/sync/semaphore.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/emptied_line.hpp"
#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> acquire_and_note(semaphore& permits, std::size_t count, std::vector<int>& order, int name) {
    auto permit = co_await permits.acquire(count);
    order.push_back(name);
    permit.dismiss();
}

/// "acquired", or "cancelled"; keeps nothing.
task<std::string> outcome_of_acquire(semaphore& permits, std::size_t count = 1) {
    try {
        const auto permit = co_await permits.acquire(count);
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "acquired";
}

}  // namespace

TEST_CASE("a semaphore gives out as many permits as it has and takes them back") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore three{3};
            auto one = co_await three.acquire();
            auto two = co_await three.acquire(2);
            CHECK(one.count() == 1);
            CHECK(two.count() == 2);
            CHECK(three.available() == 0);
            CHECK_FALSE(three.try_acquire());
            two.release();
            CHECK(two.count() == 0);
            CHECK(three.available() == 2);
            CHECK_FALSE(three.try_acquire(3));
            CHECK(three.try_acquire(2)->count() == 2);
            one = co_await three.acquire(2);
            CHECK(three.available() == 1);
            const auto moved = std::move(one);
            CHECK(moved.count() == 2);
            CHECK(one.count() == 0);
            three.release(4);
            CHECK(three.available() == 5);
        });
    });
}

TEST_CASE("permits go to those who wait, in the order in which they came") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore permits{0};
            std::vector<int> order;
            task_group group;
            for (int i = 0; i < 5; ++i) group.spawn(acquire_and_note(permits, 1, order, i));
            co_await settle();
            permits.release(2);
            CHECK(permits.available() == 0);
            CHECK_FALSE(permits.try_acquire());
            co_await settle();
            CHECK(order == std::vector{0, 1});
            permits.release(4);
            CHECK(permits.available() == 1);
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2, 3, 4});
        });
    });
}

TEST_CASE("a large request is not overtaken by small ones that come after it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore permits{2};
            std::vector<int> order;
            task_group group;
            group.spawn(acquire_and_note(permits, 4, order, 4));
            group.spawn(acquire_and_note(permits, 1, order, 1));
            co_await settle();
            CHECK(order.empty());
            CHECK(permits.available() == 2);
            CHECK_FALSE(permits.try_acquire());
            permits.release();
            co_await settle();
            CHECK(order.empty());
            permits.release(2);
            co_await group.join();
            CHECK(order == std::vector{4, 1});
            CHECK(permits.available() == 0);
        });
    });
}

TEST_CASE("when a large request is cancelled, the small ones behind it get what there is") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore permits{2};
            std::vector<int> order;
            task_group group;
            auto large = group.spawn(outcome_of_acquire(permits, 4));
            for (int i = 0; i < 3; ++i) group.spawn(acquire_and_note(permits, 1, order, i));
            co_await settle();
            large.cancel();
            CHECK(co_await large == "cancelled");
            co_await settle();
            CHECK(order == std::vector{0, 1});
            permits.release();
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2});
        });
    });
}

TEST_CASE("an acquire is cancelled before it begins and while it waits, not once it has permits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore one{1};
            task_group group;
            auto before = group.spawn(outcome_of_acquire(one));
            before.cancel();
            CHECK(co_await before == "cancelled");
            CHECK(one.available() == 1);
            auto held = co_await one.acquire();
            auto during = group.spawn(outcome_of_acquire(one));
            auto after = group.spawn(outcome_of_acquire(one));
            co_await settle();
            during.cancel();
            CHECK(co_await during == "cancelled");
            held.release();
            after.cancel();
            CHECK(co_await after == "acquired");
            co_await group.join();
            CHECK(one.available() == 1);
        });
    });
}

TEST_CASE("acquiring takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            semaphore one{1};
            const auto late = co_await as_result(with_timeout(1ms, one.acquire(2)));
            CHECK(late.error() == std::errc::timed_out);
            const auto now = co_await as_result(with_timeout(1h, one.acquire()));
            CHECK(now.has_value());
            CHECK(one.available() == 0);
        });
    });
}

TEST_CASE("a bounded semaphore refuses a release too many") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bounded_semaphore two{2};
            CHECK_THROWS_AS(two.release(), std::logic_error);
            {
                const auto permit = co_await two.acquire();
                CHECK(two.available() == 1);
            }
            auto both = co_await two.acquire(2);
            both.dismiss();
            CHECK_THROWS_AS(two.release(3), std::logic_error);
            CHECK(two.available() == 0);
            two.release(2);
            CHECK(two.available() == 2);
            CHECK(two.try_acquire(2).has_value());
        });
    });
}

TEST_CASE("a plain thread releases permits to tasks of several schedulers") {
    on_each_reactor_kind([](auto run) {
        semaphore permits{0};
        std::atomic<int> got{0};
        std::thread releaser([&] {
            for (int i = 0; i < 40; ++i) permits.release();
        });
        run_many(run, 2, [&]() -> task<> {
            co_await on_each_reactor([&](std::size_t) -> task<> {
                for (int i = 0; i < 20; ++i) {
                    auto permit = co_await permits.acquire();
                    permit.dismiss();
                    ++got;
                }
            });
        });
        releaser.join();
        CHECK(got == 40);
        CHECK(permits.available() == 0);
    });
}

TEST_CASE("what was done before each of several releases is seen by who takes their permits") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 30; ++round) {
            semaphore permits{0};
            int first = 0;
            int second = 0;
            run_many(run, 3, [&]() -> task<> {
                co_await on_each_reactor([&](std::size_t index) -> task<> {
                    if (index == 0) {
                        const auto both = co_await permits.acquire(2);
                        CHECK(first + second == 2);
                    } else {
                        (index == 1 ? first : second) = 1;
                        permits.release();
                    }
                });
            });
        }
    });
}

TEST_CASE("hammered by tasks that are cancelled at any moment, a semaphore keeps its permits") {
    on_each_reactor_kind([](auto run) {
        semaphore permits{3};
        std::atomic<int> held{0};
        std::atomic<int> too_many{0};
        hammer(run, 60, [&](hammered& self) -> task<> {
            for (int i = 0; i < 3; ++i) {
                if (self.one_in(3)) co_await resume_on(self.elsewhere());
                const int wanted = 1 + static_cast<int>(self.random() % 3);
                const auto permit = co_await permits.acquire(static_cast<std::size_t>(wanted));
                if (held.fetch_add(wanted) + wanted > 3) ++too_many;
                if (self.one_in(4)) co_await shield(self.pause());
                held -= wanted;
            }
        });
        CHECK(too_many == 0);
        CHECK(permits.available() == 3);
    });
}

namespace {

struct lone_permit : semaphore {
    lone_permit() noexcept : semaphore(1) {}
};

}  // namespace

// Who gave a permit back unlocked the line after it was free.
TEST_CASE(
    "a semaphore may be destroyed by who has it after its line emptied while it was given back") {
    on_each_reactor_kind([](auto run) {
        destroy_when_line_empties<lone_permit>(
            run,
            [](lone_permit& one, signal_to_release& signal) -> task<> {
                auto permit = co_await one.acquire();
                signal.holding();
                permit.release();
            },
            [](lone_permit& one) -> task<> { const auto permit = co_await one.acquire(); },
            [](lone_permit& one) { return one.try_acquire().has_value(); });
    });
}

TEST_CASE("a bounded semaphore refuses a release so large that the count would wrap round") {
    bounded_semaphore two{2};
    CHECK_THROWS_AS(two.release(SIZE_MAX), std::logic_error);
    CHECK_THROWS_AS(two.release(SIZE_MAX - 1), std::logic_error);
    CHECK(two.available() == 2);
}

#ifdef NDEBUG
// In debug builds it aborts: sync_misuse_test.cpp.
TEST_CASE("a bounded semaphore takes no permit back that release() was called for already") {
    bounded_semaphore one{1};
    auto permit = one.try_acquire();
    one.release();
    permit.reset();
    CHECK(one.available() == 1);
}
#endif

}  // namespace rondo::test
