#include <rondo/sync/broadcast.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> note_all(broadcast<int>::receiver mine, std::vector<int>& seen, int name) {
    while (auto next = co_await mine.receive()) seen.push_back(10 * name + next->item);
    seen.push_back(10 * name + 9);
}

task<std::string> outcome_of_receive(broadcast<int>::receiver& mine) {
    try {
        const auto next = co_await mine.receive();
        co_return next ? std::to_string(next->item) : "closed";
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
}

struct throws_on_copy {
    explicit throws_on_copy(int& copies_left) : left(&copies_left) {}
    throws_on_copy(const throws_on_copy& other) : left(other.left) {
        if (--*left == 0) throw std::runtime_error("copied");
    }
    throws_on_copy(throws_on_copy&& other) noexcept : left(other.left) {}
    int* left;
};

}  // namespace

TEST_CASE("every receiver gets every item from its subscription on, and then the end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            broadcast<int> numbers{8};
            CHECK(numbers.send(0) == 0);
            std::vector<int> seen;
            task_group group;
            group.spawn(note_all(numbers.subscribe(), seen, 1));
            group.spawn(note_all(numbers.subscribe(), seen, 2));
            co_await settle();
            CHECK(numbers.send(1) == 2);
            co_await settle();
            group.spawn(note_all(numbers.subscribe(), seen, 3));
            co_await settle();
            CHECK(numbers.send(2) == 3);
            co_await settle();
            numbers.close();
            CHECK(numbers.is_closed());
            CHECK(numbers.send(3) == 0);
            co_await group.join();
            CHECK(seen == std::vector{11, 21, 12, 22, 32, 19, 29, 39});
            CHECK(numbers.receivers() == 0);
        });
    });
}

TEST_CASE("a slow receiver is told how many items it has missed") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            broadcast<int> numbers{3};
            auto mine = numbers.subscribe();
            for (int i = 0; i < 10; ++i) numbers.send(i);
            auto next = co_await mine.receive();
            CHECK(next->item == 7);
            CHECK(next->missed == 7);
            next = co_await mine.receive();
            CHECK(next->item == 8);
            CHECK(next->missed == 0);
            numbers.close();
            next = co_await mine.receive();
            CHECK(next->item == 9);
            next = co_await mine.receive();
            CHECK_FALSE(next.has_value());
        });
    });
}

TEST_CASE("a broadcast without room is refused") {
    CHECK_THROWS_AS(broadcast<int>{0}, std::invalid_argument);
}

TEST_CASE("receiving is cancelled before and during, but not once an item is there") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            broadcast<int> numbers{4};
            auto one = numbers.subscribe();
            auto two = numbers.subscribe();
            auto three = numbers.subscribe();
            task_group group;
            auto before = group.spawn(outcome_of_receive(one));
            before.cancel();
            CHECK(co_await before == "cancelled");
            auto first = group.spawn(outcome_of_receive(one));
            auto middle = group.spawn(outcome_of_receive(two));
            auto last = group.spawn(outcome_of_receive(three));
            co_await settle();
            middle.cancel();
            CHECK(co_await middle == "cancelled");
            numbers.send(5);
            first.cancel();
            CHECK(co_await first == "5");
            CHECK(co_await last == "5");
            CHECK(two.try_receive()->item == 5);
            CHECK_FALSE(two.try_receive().has_value());
            co_await group.join();
        });
    });
}

TEST_CASE("an item whose copy throws stays to be received") {
    run([]() -> task<> {
        broadcast<throws_on_copy> items{2};
        auto mine = items.subscribe();
        int left = 1;
        items.send(throws_on_copy{left});
        CHECK_THROWS_AS(co_await mine.receive(), std::runtime_error);
        left = 100;
        const auto next = co_await mine.receive();
        CHECK(next.has_value());
        CHECK(next->missed == 0);
    });
}

TEST_CASE("a plain thread broadcasts") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            broadcast<int> numbers{100};
            auto mine = numbers.subscribe();
            std::thread thread([&] {
                for (int i = 0; i < 50; ++i) numbers.send(i);
                numbers.close();
            });
            int expected = 0;
            while (auto next = co_await mine.receive()) CHECK(next->item == expected++);
            CHECK(expected == 50);
            thread.join();
        });
    });
}

TEST_CASE("on all reactors a broadcast's items come in order, and each is seen or counted") {
    on_each_reactor_kind([](auto run) {
        broadcast<int> numbers{4};
        auto witness = numbers.subscribe();  // keeps what the other receivers have left
        std::atomic<int> wrong{0};
        std::atomic<bool> over{false};
        int sent = 0;
        std::thread sender([&] {
            while (!over) {
                numbers.send(sent++);
                std::this_thread::yield();
            }
        });
        hammer(run, 30, [&](hammered& self) -> task<> {
            auto mine = numbers.subscribe();
            std::int64_t expected = -1;
            for (int i = 0; i < 4; ++i) {
                const auto next = co_await mine.receive();
                const auto missed = static_cast<std::int64_t>(next->missed);
                if (expected < 0 && missed == 0) expected = next->item;
                if (expected >= 0 && next->item != expected + missed) ++wrong;
                expected = next->item + 1;
                co_await self.pause();
            }
        });
        over = true;
        sender.join();
        CHECK(wrong == 0);
        CHECK(numbers.receivers() == 1);
        const auto kept = witness.try_receive();
        REQUIRE(kept.has_value());
        CHECK(kept->item == static_cast<int>(kept->missed));
        CHECK(kept->item == std::max(0, sent - 4));
    });
}

}  // namespace rondo::test
