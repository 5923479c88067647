#include <rondo/runtime/timeout.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <chrono>
#include <functional>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

}  // namespace

TEST_CASE("what is shielded runs to its end in a cancelled scope; the next await throws") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int got = 0;
            bool went_on = false;
            event open;
            open.set();
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                got = co_await shield(pass(open, 3));
                co_await shield(yield());
                got += co_await shield(pass(open, 4));
                co_await yield();
                went_on = true;
            });
            CHECK_FALSE(ended);
            CHECK(got == 7);
            CHECK_FALSE(went_on);
        });
    });
}

TEST_CASE("what is shielded is not disturbed when cancellation comes meanwhile") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int got = 0;
            task_group group;
            auto work = group.spawn([&]() -> task<> {
                got = co_await shield(pass(gate, 5));
                co_await yield();
                got = 0;
            });
            co_await settle();
            work.cancel();
            co_await settle();
            CHECK_FALSE(work.done());
            gate.set();
            CHECK_THROWS_AS(co_await work, operation_cancelled);
            CHECK(got == 5);
            co_await group.join();
        });
    });
}

TEST_CASE("a shield covers the groups and scopes inside it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int passed = 0;
            task_group outside;
            auto work = outside.spawn([&]() -> task<> {
                co_await shield(with_task_group([&](task_group& group) -> task<> {
                    for (int i = 0; i < 2; ++i) {
                        group.spawn([&]() -> task<> { passed += co_await pass(gate, 1); });
                    }
                    const bool ended = co_await with_cancel_scope(
                        [&](cancel_scope&) -> task<> { passed += co_await pass(gate, 1); });
                    CHECK(ended);
                }));
            });
            co_await settle();
            work.cancel();
            co_await settle();
            gate.set();
            co_await outside.join();
            co_await work;  // it had nothing to wait for after the shield
            CHECK(passed == 3);
        });
    });
}

TEST_CASE("a shield does not stop the deadlines and scopes inside it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK_THROWS_AS(co_await shield(with_timeout(1ms, sleep_for(1h))), timeout_error);
            auto scope_inside = [](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await yield();
            };
            const bool ended = co_await shield(with_cancel_scope(scope_inside));
            CHECK_FALSE(ended);
        });
    });
}

TEST_CASE("a shield hides a timeout until it ends, and the timeout comes then") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool finished = false;
            auto work = [&]() -> task<> {
                co_await shield(sleep_for(3ms));
                finished = true;
                co_await yield();
            };
            CHECK_THROWS_AS(co_await with_timeout(1ms, work()), timeout_error);
            CHECK(finished);
        });
    });
}

TEST_CASE("a shield with a grace has no limit while nobody cancels") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await shield(sleep_for(2ms), 1us);
            co_await shield(sleep_for(1ms), 0s);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("once cancelled, a shield with a grace holds that long and no longer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool went_on = false;
            task_group group;
            auto work = group.spawn([&]() -> task<> {
                co_await shield(sleep_for(1h), 2ms);
                went_on = true;
            });
            co_await settle();
            const auto cancelled_at = clock::now();
            work.cancel();
            CHECK_THROWS_AS(co_await work, operation_cancelled);
            CHECK(clock::now() >= cancelled_at + 2ms);
            CHECK_FALSE(went_on);
            co_await group.join();
        });
    });
}

TEST_CASE("the grace of a shield that is entered when cancelled counts from there") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool in_time = false;
            bool too_late = false;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await shield(sleep_for(1ms), 1h);
                in_time = true;
                co_await shield(sleep_for(1h), 1ms);
                too_late = true;
            });
            CHECK_FALSE(ended);
            CHECK(in_time);
            CHECK_FALSE(too_late);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a grace of zero lets what is shielded not wait once it is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto work = group.spawn([]() -> task<> { co_await shield(sleep_for(1h), 0s); });
            co_await settle();
            work.cancel();
            CHECK_THROWS_AS(co_await work, operation_cancelled);
            co_await group.join();
        });
    });
}

TEST_CASE("when its grace is over, a shield lets cancellation through to the groups inside") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            task_group outside;
            auto work = outside.spawn([&]() -> task<> {
                co_await shield(with_task_group([&](task_group& group) -> task<> {
                                    group.spawn([&]() -> task<> {
                                        try {
                                            co_await sleep_for(1h);
                                        } catch (const operation_cancelled&) {
                                            ++cancelled;
                                            throw;
                                        }
                                    });
                                    co_return;
                                }),
                                1ms);
            });
            co_await settle();
            work.cancel();
            CHECK(cancelled == 0);
            co_await outside.join();
            CHECK(cancelled == 1);
            CHECK_THROWS_AS(co_await work, operation_cancelled);
        });
    });
}

TEST_CASE("a shield inside a shield keeps its own time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            int got = 0;
            task_group group;
            auto work = group.spawn([&]() -> task<> {
                auto inner = [&]() -> task<> { got = co_await shield(pass(gate, 9)); };
                co_await shield(inner(), 0s);
            });
            co_await settle();
            work.cancel();
            co_await settle();
            CHECK_FALSE(work.done());  // the outer grace is over, the inner shield has no limit
            gate.set();
            co_await group.join();
            CHECK(got == 9);
        });
    });
}

}  // namespace rondo::test
