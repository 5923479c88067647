#include <rondo/sync/latch.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> wait_and_note(latch& door, std::vector<int>& order, int name) {
    co_await door.wait();
    order.push_back(name);
}

/// "open", or "cancelled".
task<std::string> outcome_of_wait(latch& door, std::size_t arriving = 0) {
    try {
        if (arriving != 0) {
            co_await door.arrive_and_wait(arriving);
        } else {
            co_await door.wait();
        }
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "open";
}

}  // namespace

TEST_CASE("a latch opens when it is counted down to zero, and stays open") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            latch door{3};
            std::vector<int> order;
            task_group group;
            for (int i = 0; i < 3; ++i) group.spawn(wait_and_note(door, order, i));
            co_await settle();
            door.count_down();
            door.count_down(0);
            co_await settle();
            CHECK_FALSE(door.try_wait());
            CHECK(order.empty());
            door.count_down(2);
            CHECK(door.try_wait());
            CHECK(order.empty());  // nobody runs inside count_down()
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2});
            co_await door.wait();
            door.count_down(0);
            CHECK(door.try_wait());
        });
    });
}

TEST_CASE("a latch of nothing is open, and one that is dropped before it opens harms nobody") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            latch open{0};
            CHECK(open.try_wait());
            co_await open.wait();
            const latch closed{1};
        });
    });
}

TEST_CASE("those who arrive at a latch and wait go on together") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            latch door{4};
            task_group group;
            auto first = group.spawn(outcome_of_wait(door, 1));
            auto second = group.spawn(outcome_of_wait(door, 2));
            co_await settle();
            CHECK_FALSE(first.done());
            CHECK_FALSE(second.done());
            co_await door.arrive_and_wait();
            CHECK(co_await first == "open");
            CHECK(co_await second == "open");
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled waiter leaves a latch's line; what it counted stays counted") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            latch door{2};
            task_group group;
            auto before = group.spawn(outcome_of_wait(door, 1));
            before.cancel();
            CHECK(co_await before == "cancelled");  // and it counted nothing
            auto during = group.spawn(outcome_of_wait(door, 1));
            co_await settle();
            during.cancel();
            CHECK(co_await during == "cancelled");
            auto after = group.spawn(outcome_of_wait(door));
            co_await settle();
            CHECK_FALSE(after.done());
            door.count_down();
            after.cancel();
            CHECK(co_await after == "open");
            auto late = group.spawn(outcome_of_wait(door));
            late.cancel();
            CHECK(co_await late == "cancelled");
            co_await group.join();
        });
    });
}

TEST_CASE("waiting for a latch takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            latch door{1};
            const auto late = co_await as_result(with_timeout(1ms, door.wait()));
            CHECK(late.error() == std::errc::timed_out);
            door.count_down();
            const auto now = co_await as_result(with_timeout(1h, door.wait()));
            CHECK_FALSE(now.error());
        });
    });
}

TEST_CASE("who has waited for a latch may destroy it while others still leave count_down") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 50; ++round) {
            std::unique_ptr<latch> door = std::make_unique<latch>(3);
            latch& same = *door;
            int done[2] = {};  // plain ints: ThreadSanitizer sees what is not handed on
            std::thread counter([&] {
                done[0] = 1;
                same.count_down();
            });
            run_many(run, 2, [&]() -> task<> {
                task_group group;
                group.spawn_on(place(1), [&]() -> task<> {
                    done[1] = 1;
                    same.count_down();
                    co_return;
                });
                if (round % 2 == 0) co_await yield();
                co_await door->arrive_and_wait();
                door.reset();
                CHECK(done[0] + done[1] == 2);
                co_await group.join();
            });
            counter.join();
        }
    });
}

TEST_CASE("hammered by tasks that are cancelled at any moment, a latch opens for all the others") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> wrong{0};
        hammer(run, 40, [&](hammered& self) -> task<> {
            latch door{3};
            int counted[3] = {};
            task_group group;
            std::vector<task_handle<std::string>> waiters;
            for (int i = 0; i < 3; ++i) waiters.push_back(group.spawn(outcome_of_wait(door)));
            for (int& one : counted) {
                group.spawn_on(self.elsewhere(), [&one, &door]() -> task<> {
                    one = 1;
                    door.count_down();
                    co_return;
                });
            }
            waiters[self.random() % 3].cancel();
            co_await group.join();
            if (door.try_wait() && counted[0] + counted[1] + counted[2] != 3) ++wrong;
        });
        CHECK(wrong == 0);
    });
}

// Whoever opened it by arriving looked at it once more.
TEST_CASE("a latch may be destroyed by a waiter while the one who opened it arrives") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            for (int round = 0; round < 500; ++round) {
                auto door = std::make_unique<latch>(1);
                task_group group;
                group.spawn_on(
                    place(1), [](latch& at) -> task<> { co_await at.arrive_and_wait(); },
                    std::ref(*door));
                co_await door->wait();
                door.reset();
                co_await group.join();
            }
        });
    });
}

}  // namespace rondo::test
