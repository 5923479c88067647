#include <rondo/runtime/when.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<int> at_once(int number) { co_return number; }

task<> note(std::vector<int>& log, int number) {
    log.push_back(number);
    co_return;
}

task<int&> refer_to(int& number) {
    co_await yield();
    co_return number;
}

}  // namespace

TEST_CASE("when_all runs everything at the same time and gives all results in order") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto all = group.spawn(when_all(pass(gate, 1), gate.wait(),
                                            [](event& opens) -> task<std::unique_ptr<int>> {
                                                co_await yield();
                                                opens.set();
                                                co_return std::make_unique<int>(3);
                                            }(gate)));
            auto got = co_await all;
            static_assert(std::is_same_v<decltype(got),
                                         std::tuple<int, std::monostate, std::unique_ptr<int>>>);
            CHECK(std::get<0>(got) == 1);
            REQUIRE(std::get<2>(got));
            CHECK(*std::get<2>(got) == 3);
            co_await group.join();
        });
    });
}

TEST_CASE("when_all gives references as references, and nothing for nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int number = 0;
            auto [same, five] = co_await when_all(refer_to(number), at_once(5));
            same = 8;
            CHECK(number == 8);
            CHECK(five == 5);
            const auto nothing = co_await when_all();
            CHECK(std::tuple_size_v<decltype(nothing)> == 0);
        });
    });
}

TEST_CASE("when_all of a range gives a vector in the order of the range") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            std::vector<task<int>> work;
            for (int i = 0; i < 100; ++i) work.push_back(pass(gate, i));
            task_group group;
            auto all = group.spawn(when_all(std::move(work)));
            co_await settle();
            CHECK_FALSE(all.done());
            gate.set();
            const std::vector<int> got = co_await all;
            REQUIRE(got.size() == 100);
            for (int i = 0; i < 100; ++i) CHECK(got[static_cast<std::size_t>(i)] == i);

            const auto none = co_await when_all(std::vector<task<int>>{});
            CHECK(none.empty());
            int number = 0;
            std::vector<task<int&>> references;
            references.push_back(refer_to(number));
            const auto referred = co_await when_all(std::move(references));
            REQUIRE(referred.size() == 1);
            CHECK(&referred[0].get() == &number);
            co_await group.join();
        });
    });
}

TEST_CASE(
    "when_all starts its tasks in the order in which they are written, or stand in the range") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> started;
            (void)co_await when_all(note(started, 1), note(started, 2), note(started, 3),
                                    note(started, 4));
            CHECK(started == std::vector<int>{1, 2, 3, 4});

            started.clear();
            std::vector<task<>> work;
            for (int i = 1; i <= 4; ++i) work.push_back(note(started, i));
            (void)co_await when_all(std::move(work));
            CHECK(started == std::vector<int>{1, 2, 3, 4});
        });
    });
}

TEST_CASE("when_all of a range that throws while it is read starts nothing and throws that") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<int> started;
            const auto make = [&](int number) {
                if (number == 3) throw std::runtime_error("no third");
                return note(started, number);
            };
            // All of it is read by the call, or by the await: both count.
            const auto all = [&]() -> task<> {
                (void)co_await when_all(std::views::iota(1, 6) | std::views::transform(make));
            };
            CHECK_THROWS_WITH_AS(co_await all(), "no third", std::runtime_error);
            co_await settle();
            CHECK(started.empty());
        });
    });
}

TEST_CASE("when_all and when_any await a handle that stays where it is") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto first = group.spawn(pass(gate, 1));
            auto second = group.spawn(pass(gate, 2));
            const auto winner = co_await when_any(first, at_once(7), second);
            CHECK(winner.index() == 1);
            co_await settle();
            CHECK_FALSE(first.done());  // losing ends the wait, not the task
            gate.set();
            const auto [one, seven] = co_await when_all(first, at_once(7));
            CHECK(one == 1);
            CHECK(seven == 7);
            CHECK(first.done());
            const auto won = co_await when_any(second, sleep_for(1h));
            REQUIRE(won.index() == 0);
            CHECK(std::get<0>(won) == 2);
            CHECK(second.done());
            co_await group.join();
        });
    });
}

TEST_CASE("when_all throws the first exception after the others were cancelled and ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            CHECK_THROWS_WITH_AS(
                (void)co_await when_all(sleep_and_note(cancelled), fail_with("first"),
                                        sleep_and_note(cancelled)),
                "first", std::runtime_error);
            CHECK(cancelled == 2);
            std::vector<task<>> work;
            work.push_back(sleep_and_note(cancelled));
            work.push_back(fail_with("of the range"));
            CHECK_THROWS_WITH_AS((void)co_await when_all(std::move(work)), "of the range",
                                 std::runtime_error);
            CHECK(cancelled == 3);
        });
    });
}

TEST_CASE("when_all cancelled from outside cancels all of them and waits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            event gate;
            task_group group;
            auto all = group.spawn(when_all(sleep_and_note(cancelled), sleep_and_note(cancelled),
                                            shield(gate.wait())));
            co_await settle();
            all.cancel();
            co_await settle();
            CHECK(cancelled == 2);
            CHECK_FALSE(all.done());  // the shielded one is waited for
            gate.set();
            CHECK_THROWS_AS((void)co_await all, operation_cancelled);
            co_await group.join();
        });
    });
}

TEST_CASE("when_any gives the first result; the losers are cancelled and waited for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            event gate;
            event cleaned;
            task_group group;
            auto any = group.spawn(
                when_any(sleep_and_note(cancelled), pass(gate, 7), shield(cleaned.wait())));
            co_await settle();
            CHECK_FALSE(any.done());
            gate.set();
            co_await settle();
            CHECK(cancelled == 1);
            CHECK_FALSE(any.done());
            cleaned.set();
            const auto winner = co_await any;
            CHECK(winner.index() == 1);
            CHECK(std::get<1>(winner) == 7);
            co_await group.join();
        });
    });
}

TEST_CASE("when_any takes operations, references, void and move-only results") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int number = 0;
            auto reference = co_await when_any(refer_to(number), sleep_for(1h));
            REQUIRE(reference.index() == 0);
            CHECK(&std::get<0>(reference).get() == &number);

            event open;
            open.set();
            const auto nothing = co_await when_any(sleep_for(1h), open.wait());
            CHECK(nothing.index() == 1);

            auto box = co_await when_any(
                []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); }());
            REQUIRE(std::get<0>(box));
            CHECK(*std::get<0>(box) == 4);
        });
    });
}

TEST_CASE("of several that are ready, when_any gives the one named first") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto winner = co_await when_any(at_once(1), at_once(2), at_once(3));
            CHECK(winner.index() == 0);
            CHECK(std::get<0>(winner) == 1);
        });
    });
}

TEST_CASE("an exception in when_any is thrown once all have ended, a loser's too") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            CHECK_THROWS_WITH_AS(
                (void)co_await when_any(sleep_and_note(cancelled), fail_with("nobody won")),
                "nobody won", std::runtime_error);
            CHECK(cancelled == 1);
            auto bad_loser = []() -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    throw std::runtime_error("a bad loser");
                }
            };
            CHECK_THROWS_WITH_AS((void)co_await when_any(at_once(1), bad_loser()), "a bad loser",
                                 std::runtime_error);
        });
    });
}

TEST_CASE("when_any cancelled from outside cancels all of them") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            task_group group;
            auto any = group.spawn(when_any(sleep_and_note(cancelled), sleep_and_note(cancelled)));
            co_await settle();
            any.cancel();
            CHECK_THROWS_AS((void)co_await any, operation_cancelled);
            CHECK(cancelled == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("when_any that is cancelled after it was won gives the winner") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            event cleaned;
            task_group group;
            auto any = group.spawn(when_any(pass(gate, 7), shield(cleaned.wait())));
            co_await settle();
            gate.set();
            co_await settle();  // won; the loser cleans up
            any.cancel();
            co_await settle();
            CHECK_FALSE(any.done());
            cleaned.set();
            const auto winner = co_await any;
            CHECK(winner.index() == 0);
            co_await group.join();
        });
    });
}

TEST_CASE("when_any whose tasks all cancel themselves is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto gives_up = []() -> task<> {
                co_await yield();
                throw operation_cancelled{};
            };
            CHECK_THROWS_AS((void)co_await when_any(gives_up(), gives_up()), operation_cancelled);
        });
    });
}

TEST_CASE("what a task was given dies when the task ends, though when_all waits for others") {
    struct key {
        event* returned;
        explicit key(event& gate) : returned(&gate) {}
        key(key&& other) noexcept : returned(std::exchange(other.returned, nullptr)) {}
        key& operator=(key&&) = delete;
        ~key() {
            if (returned != nullptr) returned->set();
        }
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            const auto use = [](key) -> task<int> {
                co_await yield();
                co_return 1;
            };
            const auto [one, two] = co_await when_all(use(key(gate)), pass(gate, 2));
            CHECK(one == 1);
            CHECK(two == 2);

            gate.clear();
            std::vector<task<int>> work;
            work.push_back(use(key(gate)));
            work.push_back(pass(gate, 2));
            const std::vector<int> both = co_await when_all(std::move(work));
            CHECK(both == std::vector<int>{1, 2});

            gate.clear();
            const auto winner = co_await when_any(
                [&]() -> task<> {
                    co_await use(key(gate));
                    co_await sleep_for(1h);
                }(),
                gate.wait());
            CHECK(winner.index() == 1);
        });
    });
}

TEST_CASE("when_all gives all results where each came in spite of a cancellation") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto all = group.spawn(when_all(shield(pass(gate, 1)), shield(pass(gate, 2))));
            co_await settle();
            all.cancel();
            gate.set();
            const auto [one, two] = co_await all;
            CHECK(one == 1);
            CHECK(two == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("when_all and when_any nest") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            auto [first, second] = co_await when_all(
                when_any(sleep_and_note(cancelled), at_once(1)),
                when_any(when_all(at_once(2), at_once(3)), sleep_and_note(cancelled)));
            CHECK(first.index() == 1);
            REQUIRE(second.index() == 0);
            CHECK(std::get<1>(std::get<0>(second)) == 3);
            CHECK(cancelled == 2);
        });
    });
}

}  // namespace rondo::test
