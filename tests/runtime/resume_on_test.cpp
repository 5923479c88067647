#include <rondo/runtime/resume_on.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/dump.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/live_memory.hpp"
#include "support/many_reactors.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

std::string dumped() {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* out = ::open_memstream(&text, &size);
    dump_tasks(out);
    std::fclose(out);
    std::string copy{text, size};
    std::free(text);
    return copy;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// Goes to each of these places in turn, a digit each; gives them as they were found.
task<std::string> travel(const char* places) {
    std::string seen;
    for (; *places != '\0'; ++places) {
        co_await resume_on(place(static_cast<std::size_t>(*places - '0')));
        co_await yield();
        seen += std::to_string(here());
    }
    co_return seen;
}

task<> go_and_rest(const char* places, std::atomic<int>& started, std::atomic<int>& cancelled) {
    for (; *places != '\0'; ++places) {
        co_await resume_on(place(static_cast<std::size_t>(*places - '0')));
    }
    co_await rest(started, cancelled);
}

task<std::unique_ptr<int>> bring_back(int number) {
    co_await resume_on(place(1));
    auto box = std::make_unique<int>(number);
    co_await yield();
    co_return box;
}

task<> fail_at(std::size_t where, const char* why) {
    co_await resume_on(place(where));
    co_await yield();
    throw std::runtime_error(why);
}

/// Completes when scheduler 1 has taken everything that was posted to it before.
task<> give_place_1_a_turn() {
    std::atomic<bool> taken{false};
    place(1).post([&taken] { taken = true; });
    co_await until([&taken] { return taken.load(); });
}

task<std::size_t> other_index() {
    co_await yield();
    co_return here();
}

/// Holds the thread of another scheduler up until it is told to go on: what is posted to it
/// meanwhile lies in its inbox.
class hold_up {
public:
    explicit hold_up(scheduler& which) : state_(std::make_shared<state>()) {
        REQUIRE(which.post([kept = state_] {
            kept->held.count_down();
            kept->go_on.wait();
        }));
        state_->held.wait();
    }
    hold_up(const hold_up&) = delete;
    hold_up& operator=(const hold_up&) = delete;
    ~hold_up() { end(); }

    void end() {
        if (state_) std::exchange(state_, nullptr)->go_on.count_down();
    }

private:
    struct state {
        std::latch held{1};
        std::latch go_on{1};
    };
    std::shared_ptr<state> state_;
};

}  // namespace

TEST_CASE("a task goes on where resume_on has brought it, there and back") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            const auto home = std::this_thread::get_id();
            scheduler& first = this_scheduler();
            for (int i = 0; i < 100; ++i) {
                co_await resume_on(place(1));
                CHECK(&this_scheduler() == &place(1));
                CHECK(std::this_thread::get_id() != home);
                co_await resume_on(first);
                CHECK(&this_scheduler() == &first);
                CHECK(std::this_thread::get_id() == home);
            }
        });
    });
}

TEST_CASE("resume_on to where the task is already goes on at once, without a turn for others") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            bool other_ran = false;
            task_group group;
            group.spawn([&]() -> task<> {
                other_ran = true;
                co_return;
            });
            co_await resume_on(this_scheduler());  // allowed in spite of the group: nobody leaves
            CHECK_FALSE(other_ran);
            co_await group.join();
        });
    });
}

TEST_CASE("tasks travel over three and four reactors in every order, and come home to be joined") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned count : {3U, 4U}) {
            run_many(run, count, [=]() -> task<> {
                std::string order = std::string("0123").substr(0, count);
                do {
                    const std::string there_and_back =
                        order + std::string(order.rbegin(), order.rend());
                    for (std::size_t cut = 0; cut <= there_and_back.size(); ++cut) {
                        const std::string part = there_and_back.substr(0, cut);
                        task_group group;
                        auto traveller = group.spawn(travel(part.c_str()));
                        const std::string seen = co_await traveller;
                        REQUIRE(seen == part);
                        REQUIRE(here() == 0);
                        co_await group.join();
                    }
                } while (std::next_permutation(order.begin(), order.end()));
            });
        }
    });
}

TEST_CASE("an awaited task that hops leaves its caller where it went") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            auto trip = travel("1");
            const std::string seen = co_await trip;
            CHECK(seen == "1");
            CHECK(here() == 1);
            // run's task may end away, too.
        });
    });
}

TEST_CASE("results and exceptions are brought home, move-only ones as well") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            task_group group;
            auto boxed = group.spawn(bring_back(7));
            const auto box = co_await boxed;
            CHECK(*box == 7);
            CHECK(here() == 0);
            co_await group.join();

            auto failing = group.spawn(fail_at(1, "far away"));
            std::string told;
            try {
                co_await failing;
            } catch (const std::runtime_error& error) {
                told = error.what();
            }
            CHECK(told == "far away");
            told.clear();
            try {
                co_await group.join();
            } catch (const std::runtime_error& error) {
                told = error.what();
            }
            CHECK(told == "far away");
        });
        CHECK(*run_many(run, 2, bring_back(8)) == 8);
        CHECK_THROWS_WITH_AS(run_many(run, 2, fail_at(1, "to the end")), "to the end",
                             std::runtime_error);
    });
}

TEST_CASE("a child that fails away cancels its siblings here and elsewhere") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        CHECK_THROWS_WITH_AS(
            run_many(run, 3,
                     [&]() -> task<> {
                         task_group group;
                         for (std::size_t i = 0; i < 3; ++i) {
                             group.spawn(
                                 go_and_rest(std::array{"0", "1", "2"}.at(i), started, cancelled));
                         }
                         co_await until([&] { return started == 3; });
                         group.spawn(fail_at(2, "one of them"));
                         co_await group.join();
                     }),
            "one of them", std::runtime_error);
        CHECK(cancelled == 3);
    });
}

TEST_CASE("a task cancelled before it hops stays where it is") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::size_t where = 9;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                try {
                    co_await resume_on(place(1));
                } catch (const operation_cancelled&) {
                    where = here();
                    throw;
                }
            });
            CHECK_FALSE(ended);
            CHECK(where == 0);
            std::error_code code;
            co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                const auto hop = co_await as_result(resume_on(place(1)));
                code = hop.error();
            });
            CHECK(code == std::errc::operation_canceled);
            CHECK(here() == 0);
        });
    });
}

TEST_CASE("a task that is away is cancelled by its handle, its group and a scope around it") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        run_many(run, 4, [&]() -> task<> {
            constexpr std::array journeys{"1", "12", "123", "310"};
            for (const char* journey : journeys) {
                started = cancelled = 0;
                task_group group;
                auto one = group.spawn(go_and_rest(journey, started, cancelled));
                auto two = group.spawn(go_and_rest(journey, started, cancelled));
                co_await until([&] { return started == 2; });
                CHECK_FALSE(one.done());
                one.cancel();
                CHECK_FALSE(one.done());
                co_await until([&] { return one.done(); });
                CHECK(cancelled == 1);
                CHECK_FALSE(two.done());
                group.cancel();
                co_await group.join();
                CHECK(cancelled == 2);
                CHECK(here() == 0);

                const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                    task_group inner;
                    inner.spawn(go_and_rest(journey, started, cancelled));
                    inner.spawn([&]() -> task<> {
                        co_await until([&] { return started == 3; });
                        scope.cancel();
                    });
                    co_await inner.join();
                });
                CHECK_FALSE(ended);
                CHECK(cancelled == 3);
            }
        });
    });
}

TEST_CASE("a task cancelled while its message is under way ends as soon as it arrives") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        run_many(run, 2, [&]() -> task<> {
            for (int round = 0; round < 20; ++round) {
                started = cancelled = 0;
                task_group group;
                hold_up held{place(1)};
                auto going = group.spawn(go_and_rest("1", started, cancelled));
                co_await settle();  // it has left, and lies in the other's inbox
                going.cancel();
                CHECK_FALSE(going.done());
                held.end();
                co_await group.join();
                CHECK(going.done());
                // It hears of it at its first await over there, or sooner.
                CHECK(cancelled == started);
            }
        });
    });
}

TEST_CASE("a task cancelled while it is on its way home is cancelled there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::atomic<bool> leaving{false};
            std::string log;
            task_group group;
            hold_up held{place(1)};
            auto traveller = group.spawn([&]() -> task<> {
                co_await resume_on(place(1));
                leaving = true;
                // Not a cancel point once it has begun: it comes home in any case.
                co_await resume_on(place(0));
                log += std::to_string(here());
                try {
                    co_await yield();
                } catch (const operation_cancelled&) {
                    log += " cancelled";
                    throw;
                }
            });
            co_await settle();
            held.end();
            // Nobody takes this scheduler's messages until this task gives way.
            while (!leaving) std::this_thread::yield();
            traveller.cancel();
            co_await group.join();
            CHECK((log == "0 cancelled" || log.empty()));
        });
    });
}

TEST_CASE("with_timeout ends a task that is away, and its caller goes on from there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            for (const char* journey : {"1", "12"}) {
                std::atomic<int> started{0};
                std::atomic<int> cancelled{0};
                // A busy machine may need longer for the way.
                for (auto limit = 2ms; started == 0; limit *= 2) {
                    co_await resume_on(place(0));
                    const auto late = co_await as_result(
                        with_timeout(limit, go_and_rest(journey, started, cancelled)));
                    CHECK(late.error() == std::errc::timed_out);
                }
                CHECK(cancelled == 1);
                CHECK(here() == static_cast<std::size_t>(journey[std::strlen(journey) - 1] - '0'));
                co_await resume_on(place(0));
                bool thrown = false;
                try {
                    co_await with_timeout(1ms, go_and_rest(journey, started, cancelled));
                } catch (const timeout_error&) {
                    thrown = true;
                }
                CHECK(thrown);
                CHECK(started == cancelled);
            }
            co_await resume_on(place(0));
            const std::string seen = co_await with_timeout(1h, travel("121"));
            CHECK(seen == "121");
            CHECK(here() == 1);
        });
    });
}

TEST_CASE("when_any takes winners that end elsewhere, and waits for losers that are away") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            const auto winner =
                co_await when_any(go_and_rest("1", started, cancelled), travel("21"),
                                  go_and_rest("21", started, cancelled));
            CHECK(here() == 0);
            REQUIRE(winner.index() == 1);
            CHECK(std::get<1>(winner) == "21");
            CHECK(started == cancelled);
            // Several that end at the same time at different places: one wins, none is lost.
            for (int i = 0; i < 50; ++i) {
                const auto any = co_await when_any(travel("1"), travel("2"), travel("0"));
                REQUIRE(here() == 0);
                const std::array<std::string, 3> expected{"1", "2", "0"};
                const std::string got = std::visit([](const auto& text) { return text; }, any);
                REQUIRE(got == expected.at(any.index()));
            }
            const auto all = co_await when_all(travel("1"), travel("20"), bring_back(3));
            CHECK(here() == 0);
            CHECK(std::get<0>(all) == "1");
            CHECK(std::get<1>(all) == "20");
            CHECK(*std::get<2>(all) == 3);
        });
    });
}

TEST_CASE("a shield holds across hops, and what it hides is told when it falls") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            std::atomic<bool> inside{false};
            std::atomic<bool> may_end{false};
            std::string log;
            task_group group;
            auto protected_one = group.spawn([&]() -> task<> {
                co_await shield([](std::atomic<bool>& in, std::atomic<bool>& end) -> task<> {
                    co_await resume_on(place(1));
                    in = true;
                    co_await until([&end] { return end.load(); });
                    co_await resume_on(place(2));  // cancelled by now, but under the shield
                }(inside, may_end));
                log += std::to_string(here());
                try {
                    co_await yield();
                } catch (const operation_cancelled&) {
                    log += " cancelled";
                    throw;
                }
            });
            co_await until([&] { return inside.load(); });
            protected_one.cancel();
            co_await give_place_1_a_turn();
            CHECK_FALSE(protected_one.done());
            may_end = true;
            co_await group.join();
            CHECK(log == "2 cancelled");
        });
    });
}

TEST_CASE("a shield's grace that runs goes on running across a hop, neither longer nor twice") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            std::string log;
            const auto clean_up = [&log]() -> task<> {
                co_await resume_on(place(1));
                co_await resume_on(place(2));
                co_await resume_on(place(0));
                co_await resume_on(place(1));
                log += "there";
                co_await sleep_for(1h);
            };
            task_group group;
            auto polite = group.spawn([&]() -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    log += "asked ";
                }
                co_await shield(clean_up(), 100ms);
            });
            co_await settle();
            polite.cancel();
            co_await group.join();
            CHECK(log == "asked there");
        });
    });
}

TEST_CASE("a grace begins when the cancellation reaches the shield, wherever that is") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            task_group group;
            auto polite = group.spawn(
                [&]() -> task<> { co_await shield(go_and_rest("1", started, cancelled), 5ms); });
            co_await until([&] { return started == 1; });
            CHECK(cancelled == 0);
            polite.cancel();
            co_await group.join();
            CHECK(cancelled == 1);
        });
    });
}

TEST_CASE("nested scopes travel, each with its own cancellation and deadline") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            std::string log;
            const bool outer_ended = co_await with_cancel_scope([&](cancel_scope& outer) -> task<> {
                outer.set_deadline(std::chrono::steady_clock::now() + 1h);
                const bool inner_ended =
                    co_await with_cancel_scope([&](cancel_scope& inner) -> task<> {
                        co_await resume_on(place(1));
                        inner.set_deadline(std::chrono::steady_clock::now() + 100ms);
                        co_await shield(resume_on(place(2)));  // it may be time on the way
                        co_await sleep_for(1h);
                    });
                log += inner_ended ? "?" : "inner ended at " + std::to_string(here());
                CHECK_FALSE(outer.cancelled());
                co_await resume_on(place(1));
                outer.set_deadline(std::chrono::steady_clock::now());
                co_await yield();
                log += "?";
            });
            CHECK_FALSE(outer_ended);
            CHECK(log == "inner ended at 2");
            CHECK(here() == 1);
            co_await yield();  // nothing of it is left
        });
    });
}

TEST_CASE("a deadline that passes while the task is between two reactors counts on arrival") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            bool timed_out = false;
            task_group group;
            group.spawn([&]() -> task<> {
                try {
                    co_await with_timeout(1ms, []() -> task<> {
                        co_await resume_on(place(1));
                        for (;;) co_await yield();
                    }());
                } catch (const timeout_error&) {
                    timed_out = true;
                }
            });
            hold_up held{place(1)};
            co_await settle();
            const auto past = std::chrono::steady_clock::now() + 2ms;
            co_await sleep_until(past);
            held.end();
            co_await group.join();
            CHECK(timed_out);
        });
    });
}

TEST_CASE("a hop away from running children is a logic_error, and the task goes on") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            event gate;
            task_group group;
            auto child = group.spawn([&gate]() -> task<int> {
                co_await gate.wait();
                co_return 3;
            });
            std::string told;
            try {
                co_await resume_on(place(1));
            } catch (const std::logic_error& error) {
                told = error.what();
            }
            CHECK(told ==
                  "resume_on: a task_group of this task has tasks on the scheduler that it would "
                  "leave");
            CHECK(here() == 0);
            gate.set();
            const int three = co_await child;
            CHECK(three == 3);
            co_await group.join();
            // The group is empty now, and goes along.
            co_await resume_on(place(1));
            auto other = group.spawn(travel(""));
            co_await group.join();
            CHECK(other.done());
            co_await resume_on(place(0));
            group.spawn(travel("1"));
            co_await group.join();
        });
    });
}

TEST_CASE("the same holds for a task that is away already") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            co_await resume_on(place(1));
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            task_group group;
            group.spawn(rest(started, cancelled));
            for (const std::size_t to : {0U, 2U}) {
                bool refused = false;
                try {
                    co_await resume_on(place(to));
                } catch (const std::logic_error&) {
                    refused = true;
                }
                CHECK(refused);
                CHECK(here() == 1);
            }
            group.cancel();
            co_await group.join();
            co_await resume_on(place(2));
            CHECK(here() == 2);
        });
    });
}

TEST_CASE("a hop to a runtime that has stopped is an error, and the task stays") {
    on_each_reactor_kind([](auto run) {
        runtime other{{.reactors = 2, .reactor = run.kind()}};
        other.stop();
        run([&]() -> task<> {
            std::error_code code;
            std::string told;
            try {
                co_await resume_on(other.scheduler(1));
            } catch (const std::system_error& error) {
                code = error.code();
                told = error.what();
            }
            CHECK(code == runtime_errc::scheduler_stopped);
            CHECK(told == "resume_on: the scheduler has stopped");
            CHECK(&this_runtime() != &other);
            const auto again = co_await as_result(resume_on(other.scheduler(0)));
            CHECK(again.error() == runtime_errc::scheduler_stopped);
            // Its scopes and deadlines are as they were.
            const auto late = co_await as_result(with_timeout(1ms, [](scheduler& to) -> task<> {
                const auto refused = co_await as_result(resume_on(to));
                CHECK_FALSE(refused);
                co_await sleep_for(1h);
            }(other.scheduler(1))));
            CHECK(late.error() == std::errc::timed_out);
        });
    });
}

TEST_CASE("a task visits another runtime and comes home to its own") {
    on_each_reactor_kind([](auto run) {
        runtime other{{.reactors = 2, .reactor = run.kind()}};
        const int sum = run_many(run, 2, [&]() -> task<int> {
            int total = 0;
            for (std::size_t i = 0; i < 2; ++i) {
                co_await resume_on(other.scheduler(i));
                CHECK(&this_runtime() == &other);
                CHECK(&this_scheduler() == &other.scheduler(i));
                total += static_cast<int>(co_await other_index());
            }
            co_return total;
        });
        CHECK(sum == 1);
    });
}

TEST_CASE("a runtime that stops cancels its visitors, and waits until they have left") {
    on_each_reactor_kind([](auto run) {
        auto other =
            std::make_unique<runtime>(runtime_options{.reactors = 2, .reactor = run.kind()});
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        std::atomic<int> cleaned_up{0};
        std::thread stopper([&] {
            while (started != 4) std::this_thread::yield();
            other.reset();
            CHECK(cancelled == 4);
            CHECK(cleaned_up == 4);
        });
        run_many(run, 2, [&]() -> task<> {
            task_group group;
            std::vector<task_handle<void>> handles;
            for (std::size_t i = 0; i < 4; ++i) {
                handles.push_back(group.spawn([&, i]() -> task<> {
                    co_await resume_on(other->scheduler(i % 2));
                    try {
                        co_await rest(started, cancelled);
                    } catch (const operation_cancelled&) {
                        ++cleaned_up;
                        throw;
                    }
                }));
            }
            // Nobody cancelled the group, so its tasks must not vanish from it in silence.
            CHECK_THROWS_AS(co_await group.join(), operation_cancelled);
            for (auto& each : handles) {
                bool was_cancelled = false;
                try {
                    co_await each;
                } catch (const operation_cancelled&) {
                    was_cancelled = true;
                }
                CHECK(was_cancelled);
            }
            CHECK(here() == 0);
        });
        stopper.join();
    });
}

TEST_CASE("a task is cancelled while it is on its way home from a runtime that is gone") {
    on_each_reactor_kind([](auto run) {
        run([&]() -> task<> {
            auto other = std::make_unique<runtime>(runtime_options{.reactor = run.kind()});
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            task_group group;
            group.spawn([&]() -> task<> {
                co_await resume_on(other->scheduler(0));
                co_await rest(started, cancelled);
            });
            co_await until([&] { return started == 1; });
            other.reset();  // its visitor has left; the message that says so lies in this inbox
            CHECK(contains(dumped(), "its return"));
            group.cancel();
            co_await group.join();
            CHECK(cancelled == 1);
        });
    });
}

TEST_CASE("a dump shows the task that is away at home, and the visitor where it is") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            task_group group;
            group.spawn(go_and_rest("1", started, cancelled));
            co_await until([&] { return started == 1; });
            const std::string at_home = dumped();
            CHECK(contains(at_home, "task 2, waits for its return from reactor 1\n"));
            CHECK_FALSE(contains(at_home, "many_reactors.hpp"));
            std::string away;
            auto looking = place(1).submit([&away]() -> task<> {
                away = dumped();
                co_return;
            });
            co_await until([&] { return looking.wait_for(0s) == std::future_status::ready; });
            CHECK(contains(away, "task 2 of reactor 0, waits for a timer"));
            CHECK(contains(away, "many_reactors.hpp"));
            CHECK(contains(away, "go_and_rest"));
            group.cancel();
            CHECK(contains(dumped(), "its return from reactor 1, cancelled\n"));
            co_await group.join();
            CHECK_FALSE(contains(dumped(), "its return"));
        });
    });
}

TEST_CASE("hops leave no memory behind, though frames are freed elsewhere than they were made") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            const auto rounds = [](int count) -> task<> {
                for (int i = 0; i < count; ++i) {
                    task_group group;
                    group.spawn(travel("101"));
                    group.spawn(travel("1"));
                    co_await group.join();
                }
            };
            co_await rounds(200);
            const auto before = live_bytes();
            co_await rounds(500);
            CHECK(live_bytes() <= before + 64 * 1024);
        });
    });
}

}  // namespace rondo::test
