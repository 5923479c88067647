// What a group makes of cancellations that come from elsewhere, of several errors, and of tasks
// that come while it ends: none of them is lost.

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/future.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/sample_tasks.hpp"
#include "support/support.hpp"
#include "support/unheard_errors.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// Fails as it cleans up, once it was cancelled.
task<> fail_to_clean_up(const char* why) {
    try {
        co_await sleep_for(1h);
    } catch (const operation_cancelled&) {
        throw std::runtime_error(why);
    }
}

// Spawns into the group as it is destroyed.
class spawns_at_end {
public:
    spawns_at_end(task_group& group, int& cleaned_up) : group_(&group), cleaned_up_(&cleaned_up) {}
    spawns_at_end(spawns_at_end&& other) noexcept
        : group_(std::exchange(other.group_, nullptr)), cleaned_up_(other.cleaned_up_) {}
    spawns_at_end& operator=(spawns_at_end&&) = delete;
    ~spawns_at_end() {
        if (group_ == nullptr) return;
        group_->spawn(
            [](int& count) -> task<> {
                co_await yield();
                ++count;
            },
            std::ref(*cleaned_up_));
    }

private:
    task_group* group_;
    int* cleaned_up_;
};

}  // namespace

TEST_CASE("a group whose task the surroundings cut short is cancelled, whatever its body gives") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool task_ends_first : {true, false}) {
                CAPTURE(task_ends_first);
                bool stored = false;
                event gate;
                auto body = [&](task_group& group) -> task<int> {
                    group.spawn([&]() -> task<> {
                        if (!task_ends_first) co_await shield(gate.wait());
                        co_await sleep_for(1h);
                        stored = true;
                    });
                    // It outlasts the cancellation, and gives a value.
                    auto patience = sleep_for(5ms);
                    co_await shield(std::move(patience));
                    gate.set();
                    co_return 7;
                };
                bool committed = false;
                auto work = [&]() -> task<> {
                    (void)co_await with_task_group(body);
                    committed = true;
                };
                CHECK_THROWS_AS(co_await with_timeout(1ms, work()), timeout_error);
                CHECK_FALSE(committed);
                CHECK_FALSE(stored);
                const auto outcome = co_await as_result(with_timeout(1ms, with_task_group(body)));
                CHECK(outcome.error() == std::errc::timed_out);
            }
        });
    });
}

TEST_CASE("a group whose tasks all ended by themselves keeps its result though it was cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool stored = false;
            auto body = [&](task_group& group) -> task<int> {
                group.spawn([&]() -> task<> {
                    auto patience = sleep_for(5ms);
                    co_await shield(std::move(patience));
                    stored = true;
                });
                co_return 7;
            };
            const int got = co_await with_timeout(1ms, with_task_group(body));
            CHECK(got == 7);
            CHECK(stored);
        });
    });
}

TEST_CASE("a task cancelled through its handle does not make the group cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto body = [&](task_group& group) -> task<int> {
                auto sleeper = group.spawn([]() -> task<> { co_await sleep_for(1h); });
                co_await yield();
                sleeper.cancel();
                auto patience = sleep_for(5ms);
                co_await shield(std::move(patience));
                co_return 7;
            };
            const int got = co_await with_timeout(1ms, with_task_group(body));
            CHECK(got == 7);
        });
    });
}

TEST_CASE("a group that was ended by its own cancel() keeps that end when more is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            bool reached = false;
            task_group outside;
            auto work = outside.spawn([&]() -> task<> {
                co_await with_task_group([&](task_group& group) -> task<> {
                    group.spawn([&]() -> task<> {
                        co_await shield(gate.wait());
                        co_await yield();
                    });
                    co_await yield();
                    group.cancel();
                });
                reached = true;
            });
            co_await settle();
            work.cancel();
            gate.set();
            co_await outside.join();
            CHECK(reached);
        });
    });
}

TEST_CASE("a join in a shield tells that the surroundings cut a task short") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            std::optional<bool> joined;
            task_group outside;
            auto work = outside.spawn([&]() -> task<> {
                task_group group;
                group.spawn([]() -> task<> { co_await sleep_for(1h); });
                co_await shield(gate.wait());
                const result<void> how = co_await as_result(shield(group.join()));
                joined = how.has_value();
            });
            co_await settle();
            work.cancel();
            co_await settle();
            gate.set();
            co_await outside.join();
            CHECK(joined == false);
        });
    });
}

TEST_CASE("a cancellation that a task only hears of is an error of its group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            task_group others;
            auto awaited = others.spawn([]() -> task<> { co_await sleep_for(1h); });
            auto body = [&](task_group& group) -> task<int> {
                group.spawn([&]() -> task<> { co_await awaited; });
                group.spawn(sleep_and_note, std::ref(cancelled));
                co_await settle();
                awaited.cancel();
                co_await sleep_for(1h);
                co_return 1;
            };
            CHECK_THROWS_AS((void)co_await with_task_group(body), operation_cancelled);
            CHECK(cancelled == 1);
            co_await others.join();
            co_await yield();  // nothing is cancelled out here
        });
    });
}

TEST_CASE("a cancellation that the body of a group only hears of cancels its tasks") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            promise<int> owed;
            auto answer = owed.get_future();
            answer.cancel();
            auto body = [&](task_group& group) -> task<> {
                group.spawn(sleep_and_note, std::ref(cancelled));
                (void)co_await answer;
            };
            CHECK_THROWS_AS(co_await with_task_group(body), operation_cancelled);
            CHECK(cancelled == 1);
        });
    });
}

TEST_CASE("when_all and when_any end when something that they wait for was cancelled elsewhere") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            promise<int> owed;
            auto answer = owed.get_future();
            task_group group;
            auto all = group.spawn([&]() -> task<> {
                const auto how = co_await as_result(when_all(answer, sleep_and_note(cancelled)));
                CHECK(how.error() == std::errc::operation_canceled);
            });
            auto any = group.spawn([&]() -> task<> {
                const auto how = co_await as_result(when_any(answer, sleep_and_note(cancelled)));
                CHECK(how.error() == std::errc::operation_canceled);
            });
            co_await settle();
            answer.cancel();
            co_await settle();
            CHECK(all.done());
            CHECK(any.done());
            CHECK(cancelled == 2);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("a second error of a group goes to the hook for unheard errors") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unheard_errors heard;
            auto body = [](task_group& group) -> task<> {
                group.spawn(fail_to_clean_up("roll-back failed"));
                group.spawn(fail_to_clean_up("log not written"));
                co_await settle();
                throw std::runtime_error("client left");
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "client left", std::runtime_error);
            CHECK(heard.all() == std::vector<std::string>{"log not written", "roll-back failed"});
            CHECK(heard.last_origin().starts_with("a task of the group made at "));
            CHECK(heard.last_origin().find("group_errors_test.cpp:") != std::string::npos);
        });
    });
}

TEST_CASE("the body's own error is not lost where a task failed first") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unheard_errors heard;
            auto body = [](task_group& group) -> task<> {
                group.spawn(fail_with("disk full"));
                co_await fail_to_clean_up("roll-back failed");
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "disk full", std::runtime_error);
            CHECK(heard.all() == std::vector<std::string>{"roll-back failed"});
        });
    });
}

TEST_CASE("one error that comes to a group on several ways is heard once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unheard_errors heard;
            auto body = [](task_group& group) -> task<> {
                auto failing = group.spawn(fail_with("disk full"));
                co_await failing;
            };
            CHECK_THROWS_WITH_AS(co_await with_task_group(body), "disk full", std::runtime_error);
            CHECK(heard.all().empty());
        });
    });
}

TEST_CASE("a second error that a handle can give is unheard only when the handle is dropped") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unheard_errors heard;
            {
                task_group group;
                auto first = group.spawn(fail_with("first"));
                auto second = group.spawn(fail_to_clean_up("second"));
                auto third = group.spawn(fail_to_clean_up("third"));
                CHECK_THROWS_WITH_AS(co_await group.join(), "first", std::runtime_error);
                CHECK(heard.all().empty());
                CHECK_THROWS_WITH_AS(co_await second, "second", std::runtime_error);
            }
            CHECK(heard.all() == std::vector<std::string>{"third"});
        });
    });
}

TEST_CASE("a task that is spawned while its group's last task is destroyed is joined as well") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cleaned_up = 0;
            const auto work = [](spawns_at_end) -> task<> { co_await yield(); };
            co_await with_task_group([&](task_group& group) -> task<> {
                group.spawn(work(spawns_at_end(group, cleaned_up)));
                co_return;
            });
            CHECK(cleaned_up == 1);
            task_group group;
            group.spawn(work(spawns_at_end(group, cleaned_up)));
            co_await group.join();
            CHECK(cleaned_up == 2);
        });
    });
}

TEST_CASE("a task that is spawned after the last one ended is joined if the join has not resumed") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group outside;
            int ended = 0;
            task_group* open = nullptr;
            event last_ends;
            const auto count = [](int& counter) -> task<> {
                co_await yield();
                co_await yield();
                ++counter;
            };
            auto joiner = outside.spawn([&]() -> task<> {
                task_group group;
                open = &group;
                group.spawn([&]() -> task<> { co_await last_ends.wait(); });
                co_await group.join();
                CHECK(ended == 1);
            });
            co_await settle();
            // In the turn after this one the last task ends, and then this goes on, before the
            // joiner does.
            last_ends.set();
            co_await yield();
            REQUIRE(!joiner.done());
            open->spawn(count(ended));
            co_await outside.join();
            CHECK(ended == 1);
        });
    });
}

TEST_CASE("a group knows how many of its tasks have not ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            CHECK(group.size() == 0);
            for (int i = 0; i < 3; ++i) group.spawn(wait_for(gate));
            auto one = group.spawn(sleep_for(1h));
            CHECK(group.size() == 4);
            co_await settle();
            CHECK(group.size() == 4);
            one.cancel();
            co_await settle();
            CHECK(group.size() == 3);
            gate.set();
            co_await group.join();
            CHECK(group.size() == 0);
        });
    });
}

}  // namespace rondo::test
