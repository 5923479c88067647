#include <rondo/sync/watch.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> note_next(watch<int>::receiver& mine, std::vector<int>& seen, int name) {
    const int value = co_await mine.next();
    seen.push_back(10 * name + value);
}

task<std::string> outcome_of_next(watch<int>& of) {
    auto mine = of.subscribe();
    try {
        co_return std::to_string(co_await mine.next());
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
}

}  // namespace

TEST_CASE("a watch wakes all who wait for a change, in the order they came") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            watch<int> number{0};
            std::vector<watch<int>::receiver> receivers(4, number.subscribe());
            std::vector<int> seen;
            task_group group;
            for (int i = 0; i < 4; ++i) {
                group.spawn(note_next(receivers[static_cast<std::size_t>(i)], seen, i));
            }
            co_await settle();
            CHECK(seen.empty());
            number.set(5);
            CHECK(number.get() == 5);
            co_await group.join();
            CHECK(seen == std::vector{5, 15, 25, 35});
        });
    });
}

TEST_CASE("who looks seldom sees the latest value only, and that once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            watch<std::string> word{"one"};
            auto mine = word.subscribe();
            CHECK_FALSE(mine.has_changed());
            word.set("two");
            word.set("three");
            CHECK(mine.has_changed());
            CHECK(co_await mine.next() == "three");
            CHECK_FALSE(mine.has_changed());
            const auto nothing = co_await as_result(with_timeout(1ms, mine.next()));
            CHECK(nothing.error() == std::errc::timed_out);
            word.set("four");
            CHECK(mine.get() == "four");
            CHECK_FALSE(mine.has_changed());
        });
    });
}

TEST_CASE("a watch's version counts its changes, and can be waited for") {
    run([]() -> task<> {
        watch<std::unique_ptr<int>> pointer{std::make_unique<int>(1)};
        CHECK(pointer.version() == 1);
        CHECK(co_await pointer.changed(0) == 1);
        const auto before = pointer.share();
        pointer.set(std::make_unique<int>(2));
        CHECK(co_await pointer.changed(1) == 2);
        CHECK(**before == 1);
        CHECK(**pointer.share() == 2);
    });
}

TEST_CASE("a wait for a change is cancelled before and during, but not after the change") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            watch<int> number{0};
            task_group group;
            auto before = group.spawn(outcome_of_next(number));
            before.cancel();
            auto first = group.spawn(outcome_of_next(number));
            auto middle = group.spawn(outcome_of_next(number));
            auto last = group.spawn(outcome_of_next(number));
            co_await settle();
            CHECK(co_await before == "cancelled");
            middle.cancel();
            CHECK(co_await middle == "cancelled");
            number.set(1);
            first.cancel();
            CHECK(co_await first == "1");
            CHECK(co_await last == "1");
            co_await group.join();
        });
    });
}

TEST_CASE("a plain thread sets a watch") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            watch<int> number{0};
            auto mine = number.subscribe();
            std::thread thread([&] { number.set(1); });
            CHECK(co_await mine.next() == 1);
            thread.join();
        });
    });
}

// What there is to see is seen by AddressSanitizer and ThreadSanitizer.
TEST_CASE("who has waited for a change may destroy the watch, though set() has not returned") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::atomic<watch<int>*> shared{nullptr};
            std::atomic<bool> over{false};
            std::thread setter([&] {
                while (!over) {
                    if (watch<int>* one = shared.exchange(nullptr)) one->set(1);
                }
            });
            for (int i = 0; i < 1'000; ++i) {
                auto number = std::make_unique<watch<int>>(0);
                shared = number.get();
                if (i % 2 == 0) {
                    while (number->version() == 1) std::this_thread::yield();
                }
                CHECK(co_await number->changed(1) == 2);
            }
            over = true;
            setter.join();
        });
    });
}

TEST_CASE("on all reactors a watch's values come in order, and nobody is forgotten") {
    on_each_reactor_kind([](auto run) {
        watch<int> number{0};
        std::atomic<int> wrong{0};
        std::atomic<bool> over{false};
        std::thread setter([&] {
            for (int i = 1; !over; ++i) {
                number.set(i);
                std::this_thread::yield();
            }
        });
        hammer(run, 30, [&](hammered& self) -> task<> {
            auto mine = number.subscribe();
            int seen = mine.get();
            for (int i = 0; i < 4; ++i) {
                const int next = co_await mine.next();
                if (next <= seen) ++wrong;
                seen = next;
                co_await self.pause();
            }
        });
        over = true;
        setter.join();
        CHECK(wrong == 0);
    });
}

}  // namespace rondo::test
