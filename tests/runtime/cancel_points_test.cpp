// Every await of the runtime, cancelled before it starts, while it waits, and when it has its
// result already.

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/async_generator.hpp>
#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/pipe_ends.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <poll.h>

#include <chrono>
#include <functional>
#include <optional>
#include <tuple>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// Each of these has
//   wait()      awaits the thing and gives 1 when it completed
//   complete()  makes it complete: when this returns, the task in wait() is ready but has not run
struct waits_for_event {
    event gate;
    task<int> wait() {
        co_await gate.wait();
        co_return 1;
    }
    task<> complete() {
        gate.set();
        co_return;
    }
};

struct sleeps {
    clock::time_point until = clock::now() + 1h;
    task<int> wait() {
        co_await sleep_until(until);
        co_return 1;
    }
    // Due a moment earlier: it runs before the other, which the same look at the clock has woken.
    task<> complete() { co_await sleep_until(until - 1ns); }
};

// The child that opens the gate runs before the task that set it goes on.
struct waits_for_child : waits_for_event {
    task<> complete() {
        gate.set();
        co_await yield();
    }
};

struct awaits_handle : waits_for_child {
    task<int> wait() {
        co_return co_await with_task_group([this](task_group& group) -> task<int> {
            auto child = group.spawn(pass(gate, 1));
            co_return co_await child;
        });
    }
};

struct joins : waits_for_child {
    task<int> wait() {
        task_group group;
        group.spawn(pass(gate, 1));
        co_await group.join();
        co_return 1;
    }
};

struct joins_with_task_group : waits_for_child {
    task<int> wait() {
        co_await with_task_group([this](task_group& group) -> task<> {
            group.spawn(pass(gate, 1));
            co_return;
        });
        co_return 1;
    }
};

struct waits_for_all : waits_for_child {
    task<int> wait() {
        const auto both = co_await when_all(gate.wait(), pass(gate, 1));
        co_return std::get<1>(both);
    }
};

struct waits_for_any : waits_for_child {
    task<int> wait() {
        const auto winner = co_await when_any(sleep_for(1h), pass(gate, 1));
        co_return static_cast<int>(winner.index());
    }
    task<> complete() {
        co_await waits_for_child::complete();
        co_await yield();  // the loser ends
    }
};

struct waits_for_item : waits_for_event {
    static async_generator<int> gated(event& gate) {
        co_await gate.wait();
        co_yield 1;
    }
    task<int> wait() {
        auto items = gated(gate);
        const auto item = co_await items.next();
        co_return item.value_or(0);
    }
};

struct waits_with_timeout : waits_for_event {
    task<int> wait() {
        co_await with_timeout(1h, gate.wait());
        co_return 1;
    }
};

struct waits_in_scope : waits_for_event {
    task<int> wait() {
        const bool ended =
            co_await with_cancel_scope([this](cancel_scope&) -> task<> { co_await gate.wait(); });
        co_return ended ? 1 : 0;
    }
};

using every_await =
    std::tuple<waits_for_event, sleeps, awaits_handle, joins, joins_with_task_group, waits_for_all,
               waits_for_any, waits_for_item, waits_with_timeout, waits_in_scope>;

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("an await in a cancelled scope throws", Await, cancelled_before) {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            Await thing;
            int thrown = 0;
            std::optional<int> got;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                for (int i = 0; i < 2; ++i) {
                    try {
                        got = co_await thing.wait();
                    } catch (const operation_cancelled&) {
                        ++thrown;
                    }
                }
                got = co_await thing.wait();
            });
            CHECK_FALSE(ended);
            CHECK(thrown == 2);
            CHECK_FALSE(got.has_value());
        });
    });
}

TEST_CASE_TEMPLATE_APPLY(cancelled_before, every_await);

TEST_CASE_TEMPLATE_DEFINE("an await in progress ends when it is cancelled", Await,
                          cancelled_meanwhile) {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            Await thing;
            task_group group;
            auto waiter = group.spawn(thing.wait());
            co_await settle();
            REQUIRE_FALSE(waiter.done());
            waiter.cancel();
            CHECK_FALSE(waiter.done());
            co_await settle();
            CHECK(waiter.done());
            CHECK_THROWS_AS(co_await waiter, operation_cancelled);
            co_await group.join();
            if constexpr (requires { thing.gate.set(); }) thing.gate.set();  // nobody is in line
        });
    });
}

TEST_CASE_TEMPLATE_APPLY(cancelled_meanwhile, every_await);

TEST_CASE_TEMPLATE_DEFINE("an await that has its result gives it although it is cancelled", Await,
                          cancelled_after) {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            Await thing;
            if constexpr (requires { thing.until; }) thing.until = clock::now() + 10ms;
            task_group group;
            auto waiter = group.spawn(thing.wait());
            co_await settle();
            co_await thing.complete();
            CHECK_FALSE(waiter.done());
            waiter.cancel();
            const int got = co_await waiter;
            CHECK(got == 1);
            co_await group.join();
        });
    });
}

TEST_CASE_TEMPLATE_APPLY(cancelled_after, every_await);

TEST_CASE("a yield throws in a cancelled scope, and when it is cancelled meanwhile") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const bool before = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await yield();
            });
            CHECK_FALSE(before);

            bool went_on = false;
            task_group group;
            auto yielder = group.spawn([&]() -> task<> {
                co_await yield();
                went_on = true;
            });
            co_await yield();  // it runs, and stands in the ready queue again
            yielder.cancel();
            CHECK_THROWS_AS(co_await yielder, operation_cancelled);
            CHECK_FALSE(went_on);
            co_await group.join();
        });
    });
}

TEST_CASE("settle is no cancel point") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto got = co_await with_cancel_scope([](cancel_scope& scope) -> task<int> {
                scope.cancel();
                co_await settle();
                co_return 1;
            });
            CHECK(got == 1);
        });
    });
}

TEST_CASE("a poll of a descriptor throws in a cancelled scope even if it is ready") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            pipe.write("x");
            short events = 0;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                events = co_await poll_fd(pipe.read_end, POLLIN);
            });
            CHECK_FALSE(ended);
            CHECK(events == 0);
        });
    });
}

TEST_CASE("a poll of a descriptor in progress ends when it is cancelled, and leaves it usable") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            auto poll = [](int fd) -> task<short> { co_return co_await poll_fd(fd, POLLIN); };
            task_group group;
            for (int i = 0; i < 3; ++i) {
                auto waiter = group.spawn(poll, pipe.read_end);
                co_await settle();
                REQUIRE_FALSE(waiter.done());
                waiter.cancel();
                CHECK_THROWS_AS((void)co_await waiter, operation_cancelled);
            }
            auto waiter = group.spawn(poll, pipe.read_end);
            co_await settle();
            pipe.write("x");
            const short events = co_await waiter;
            CHECK(events == POLLIN);
            co_await group.join();
        });
    });
}

TEST_CASE("a poll that has its result gives it although it is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            task_group group;
            std::optional<task_handle<short>> second;
            // Both become ready at once; the first then cancels the second.
            group.spawn([&]() -> task<> {
                (void)co_await poll_fd(pipe.read_end, POLLIN);
                second->cancel();
            });
            second.emplace(
                group.spawn([](int fd) -> task<short> { co_return co_await poll_fd(fd, POLLIN); },
                            pipe.read_end));
            co_await settle();
            pipe.write("x");
            co_await group.join();
            const short events = co_await *second;
            CHECK(events == POLLIN);
        });
    });
}

}  // namespace rondo::test
