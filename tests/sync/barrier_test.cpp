#include <rondo/sync/barrier.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
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

/// "passed", "broken", "failed" (its own completion function), or "cancelled".
task<std::string> outcome_of_wait(barrier& round) {
    try {
        co_await round.arrive_and_wait();
    } catch (const broken_barrier&) {
        co_return "broken";
    } catch (const std::logic_error&) {
        co_return "failed";
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "passed";
}

// It gets there, cancelled or not: a party that did not would be waited for for ever.
task<std::string> outcome_elsewhere(barrier& round, scheduler& where) {
    co_await shield(resume_on(where));
    co_return co_await outcome_of_wait(round);
}

}  // namespace

TEST_CASE("the parties of a barrier go on together, round after round") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int rounds = 0;
            std::vector<int> progress(3);
            barrier round{3, [&] {
                              ++rounds;
                              for (const int steps : progress) CHECK(steps == rounds);
                          }};
            CHECK(round.parties() == 3);
            auto work = [&](std::size_t index) -> task<> {
                for (int i = 0; i < 10; ++i) {
                    CHECK(rounds == i);
                    ++progress[index];
                    if (index == 1) co_await yield();
                    co_await round.arrive_and_wait();
                }
            };
            task_group group;
            for (std::size_t i = 0; i < 3; ++i) group.spawn(work, i);
            co_await group.join();
            CHECK(rounds == 10);
            CHECK(round.waiting() == 0);
        });
    });
}

TEST_CASE("a barrier waits for the last of its parties") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{3};
            task_group group;
            auto first = group.spawn(outcome_of_wait(round));
            auto second = group.spawn(outcome_of_wait(round));
            co_await settle();
            CHECK(round.waiting() == 2);
            CHECK_FALSE(first.done());
            co_await round.arrive_and_wait();
            CHECK(co_await first == "passed");
            CHECK(co_await second == "passed");
            co_await group.join();
            barrier alone{1};
            co_await alone.arrive_and_wait();
            co_await alone.arrive_and_wait();
        });
    });
}

TEST_CASE("a party that drops out counts once more, and is not waited for again") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int rounds = 0;
            barrier round{3, [&] { ++rounds; }};
            task_group group;
            auto one = group.spawn(outcome_of_wait(round));
            auto two = group.spawn(outcome_of_wait(round));
            co_await settle();
            round.arrive_and_drop();
            CHECK(rounds == 1);
            CHECK(round.parties() == 2);
            CHECK(co_await one == "passed");
            CHECK(co_await two == "passed");
            auto three = group.spawn(outcome_of_wait(round));
            co_await settle();
            CHECK_FALSE(three.done());
            co_await round.arrive_and_wait();
            CHECK(co_await three == "passed");
            CHECK(rounds == 2);
            round.arrive_and_drop();
            co_await round.arrive_and_wait();
            CHECK(rounds == 3);
            co_await group.join();
        });
    });
}

TEST_CASE("a party that is cancelled while it waits breaks the barrier until it is reset") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{3};
            task_group group;
            auto first = group.spawn(outcome_of_wait(round));
            auto second = group.spawn(outcome_of_wait(round));
            co_await settle();
            first.cancel();
            CHECK(round.is_broken());
            second.cancel();  // too late: its wait has ended
            CHECK(co_await first == "cancelled");
            CHECK(co_await second == "broken");
            CHECK(co_await outcome_of_wait(round) == "broken");
            CHECK_THROWS_AS(co_await round.arrive_and_wait(), std::runtime_error);
            round.arrive_and_drop();
            round.reset();
            CHECK_FALSE(round.is_broken());
            CHECK(round.parties() == 2);
            auto third = group.spawn(outcome_of_wait(round));
            co_await settle();
            CHECK(co_await outcome_of_wait(round) == "passed");
            CHECK(co_await third == "passed");
            co_await group.join();
        });
    });
}

TEST_CASE("a party that comes cancelled breaks the barrier, one that has passed does not") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{2};
            task_group group;
            auto first = group.spawn(outcome_of_wait(round));
            auto second = group.spawn(outcome_of_wait(round));
            co_await yield();
            first.cancel();
            CHECK(co_await first == "passed");
            CHECK(co_await second == "passed");
            CHECK_FALSE(round.is_broken());
            auto waits = group.spawn(outcome_of_wait(round));
            auto comes = group.spawn(outcome_of_wait(round));
            comes.cancel();
            CHECK(co_await waits == "broken");
            CHECK(co_await comes == "cancelled");
            CHECK(round.is_broken());
            co_await group.join();
        });
    });
}

TEST_CASE("resetting a barrier sends away those who wait") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{2};
            task_group group;
            auto first = group.spawn(outcome_of_wait(round));
            co_await settle();
            round.reset();
            CHECK(round.waiting() == 0);
            CHECK(co_await first == "broken");
            auto second = group.spawn(outcome_of_wait(round));
            co_await settle();
            CHECK_FALSE(second.done());
            co_await round.arrive_and_wait();
            CHECK(co_await second == "passed");
            co_await group.join();
        });
    });
}

TEST_CASE("what a completion function throws goes to the last party, and breaks the barrier") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{2, [] { throw std::logic_error("completion"); }};
            task_group group;
            auto first = group.spawn(outcome_of_wait(round));
            auto last = group.spawn(outcome_of_wait(round));
            CHECK(co_await first == "broken");
            CHECK(co_await last == "failed");
            CHECK(round.is_broken());
            round.reset();
            auto waits = group.spawn(outcome_of_wait(round));
            co_await settle();
            CHECK_THROWS_AS(round.arrive_and_drop(), std::logic_error);
            CHECK(co_await waits == "broken");
            co_await group.join();
        });
    });
}

TEST_CASE("a time limit at a barrier breaks it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            barrier round{2};
            const auto late = co_await as_result(with_timeout(1ms, round.arrive_and_wait()));
            CHECK(late.error() == std::errc::timed_out);
            CHECK(round.is_broken());
        });
    });
}

TEST_CASE("parties on several schedulers see what the others did, and a thread may drop out") {
    on_each_reactor_kind([](auto run) {
        std::array<int, 3> done{};  // plain ints: ThreadSanitizer sees what is not handed on
        int total = 0;
        barrier round{4, [&] { total = done[0] + done[1] + done[2]; }};
        std::thread thread([&] { round.arrive_and_drop(); });
        run_many(run, 3, [&]() -> task<> {
            co_await on_each_reactor([&](std::size_t index) -> task<> {
                for (int i = 1; i <= 20; ++i) {
                    done[index] = i;
                    co_await round.arrive_and_wait();
                    CHECK(total == 3 * i);
                    CHECK(here() == index);
                    co_await round.arrive_and_wait();
                }
            });
        });
        thread.join();
    });
}

TEST_CASE("hammered by parties that are cancelled at any moment, a barrier never holds one back") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> wrong{0};
        hammer(run, 40, [&](hammered& self) -> task<> {
            int completed = 0;
            barrier round{3, [&] { ++completed; }};
            task_group group;
            std::vector<task_handle<std::string>> parties;
            for (int i = 0; i < 3; ++i) {
                parties.push_back(group.spawn(outcome_elsewhere(round, self.elsewhere())));
            }
            co_await shield(self.pause());
            if (self.one_in(2)) parties[self.random() % 3].cancel();
            co_await shield(group.join());
            int passed = 0;
            for (auto& party : parties) {
                const std::string how = co_await shield(std::move(party));
                if (how == "passed") ++passed;
            }
            if (passed != 3 * completed) ++wrong;
        });
        CHECK(wrong == 0);
    });
}

TEST_CASE("a barrier for nobody is refused where it is made") {
    CHECK_THROWS_WITH_AS(barrier{0}, "barrier: no parties", std::invalid_argument);
}

}  // namespace rondo::test
