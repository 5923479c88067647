#include <rondo/sync/condition_variable.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

struct shared_state {
    mutex lock;
    condition_variable changed;
    std::vector<int> order;
    int value = 0;
};

task<> wait_and_note(shared_state& state, int name) {
    auto guard = co_await state.lock.lock();
    co_await state.changed.wait(guard);
    state.order.push_back(name);
}

/// "notified", or "cancelled"; with "unlocked" if the mutex is not held in the end.
task<std::string> outcome_of_wait(shared_state& state) {
    std::string how = "notified";
    auto guard = co_await state.lock.lock();
    try {
        co_await state.changed.wait(guard);
    } catch (const operation_cancelled&) {
        how = "cancelled";
    }
    if (!guard.owns_lock() || !state.lock.is_locked()) how += ", unlocked";
    co_return how;
}

}  // namespace

TEST_CASE("notify_one wakes the task that has waited longest, notify_all the rest in order") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            task_group group;
            state.changed.notify_one();  // to nobody: it is not kept
            state.changed.notify_all();
            for (int i = 0; i < 5; ++i) group.spawn(wait_and_note(state, i));
            co_await settle();
            CHECK(state.order.empty());
            CHECK_FALSE(state.lock.is_locked());
            state.changed.notify_one();
            co_await settle();
            CHECK(state.order == std::vector{0});
            state.changed.notify_one();
            state.changed.notify_one();
            co_await settle();
            CHECK(state.order == std::vector{0, 1, 2});
            state.changed.notify_all();
            co_await group.join();
            CHECK(state.order == std::vector{0, 1, 2, 3, 4});
            CHECK_FALSE(state.lock.is_locked());
        });
    });
}

TEST_CASE("a task that was notified goes on when it has the mutex again") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            task_group group;
            group.spawn(wait_and_note(state, 1));
            co_await settle();
            auto guard = co_await state.lock.lock();
            state.changed.notify_one();
            co_await settle();
            CHECK(state.order.empty());
            guard.unlock();
            co_await group.join();
            CHECK(state.order == std::vector{1});
        });
    });
}

TEST_CASE("a wait with a predicate goes on when that holds, at once if it does already") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            auto at_least = [&state](int least) -> task<> {
                auto guard = co_await state.lock.lock();
                co_await state.changed.wait(guard, [&] { return state.value >= least; });
                CHECK(guard.owns_lock());
                state.order.push_back(least);
            };
            co_await at_least(0);
            task_group group;
            group.spawn(at_least, 2);
            group.spawn(at_least, 1);
            for (int i = 0; i < 2; ++i) {
                co_await settle();
                const auto guard = co_await state.lock.lock();
                ++state.value;
                state.changed.notify_all();
            }
            co_await group.join();
            CHECK(state.order == std::vector{0, 1, 2});
        });
    });
}

TEST_CASE("a cancelled wait has the mutex again before it throws") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            task_group group;
            auto waiter = group.spawn(outcome_of_wait(state));
            auto other = group.spawn(outcome_of_wait(state));
            co_await settle();
            auto guard = co_await state.lock.lock();
            waiter.cancel();
            co_await settle();
            CHECK_FALSE(waiter.done());  // it waits for the mutex, and cannot be told not to
            waiter.cancel();
            group.cancel();
            co_await settle();
            CHECK_FALSE(waiter.done());
            guard.unlock();
            CHECK(co_await waiter == "cancelled");
            CHECK(co_await other == "cancelled");
            co_await group.join();
            CHECK_FALSE(state.lock.is_locked());
        });
    });
}

TEST_CASE("a wait in a cancelled scope throws with the mutex held, whatever the predicate says") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            auto guard = co_await state.lock.lock();
            for (const bool with_predicate : {false, true}) {
                const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                    scope.cancel();
                    if (with_predicate) {
                        co_await state.changed.wait(guard, [] { return true; });
                    } else {
                        co_await state.changed.wait(guard);
                    }
                });
                CHECK_FALSE(ended);
                CHECK(guard.owns_lock());
                CHECK(state.lock.is_locked());
            }
        });
    });
}

TEST_CASE("a notification counts that was given to a task which is cancelled then") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            task_group group;
            auto first = group.spawn(outcome_of_wait(state));
            auto second = group.spawn(outcome_of_wait(state));
            co_await settle();
            state.changed.notify_one();
            first.cancel();
            CHECK(co_await first == "notified");
            second.cancel();
            state.changed.notify_one();  // too late for it, and for nobody else
            CHECK(co_await second == "cancelled");
            auto third = group.spawn(outcome_of_wait(state));
            auto fourth = group.spawn(outcome_of_wait(state));
            co_await settle();
            third.cancel();
            state.changed.notify_one();  // goes to the one that is left
            CHECK(co_await fourth == "notified");
            CHECK(co_await third == "cancelled");
            co_await group.join();
        });
    });
}

TEST_CASE("waiting for a condition takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            auto guard = co_await state.lock.lock();
            const auto late = co_await as_result(with_timeout(1ms, state.changed.wait(guard)));
            CHECK(late.error() == std::errc::timed_out);
            CHECK(guard.owns_lock());
            CHECK(state.lock.is_locked());
        });
    });
}

TEST_CASE("a wait among others in when_any leaves the mutex with the task that has locked it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_state state;
            auto held = co_await state.lock.lock();
            const auto first = co_await when_any(state.changed.wait(held), yield());
            CHECK(first.index() == 1);
            CHECK(held.owns_lock());
            held.unlock();
            CHECK_FALSE(state.lock.is_locked());
        });
    });
}

TEST_CASE("a plain thread notifies tasks of several schedulers") {
    on_each_reactor_kind([](auto run) {
        shared_state state;
        std::atomic<int> waiting{0};
        std::thread notifier([&] {
            while (waiting != 3) std::this_thread::yield();
            for (bool done = false; !done; std::this_thread::yield()) {
                const auto guard = state.lock.try_lock();
                if (!guard) continue;
                state.value = 1;
                done = true;
            }
            state.changed.notify_all();
        });
        run_many(run, 3, [&]() -> task<> {
            co_await on_each_reactor([&](std::size_t index) -> task<> {
                auto guard = co_await state.lock.lock();
                ++waiting;
                co_await state.changed.wait(guard, [&] { return state.value == 1; });
                CHECK(here() == index);
            });
        });
        notifier.join();
        CHECK_FALSE(state.lock.is_locked());
    });
}

TEST_CASE("hammered by tasks that are cancelled at any moment, no item of a queue is lost") {
    on_each_reactor_kind([](auto run) {
        mutex lock;
        condition_variable changed;
        std::deque<int> items;
        int put = 0;
        int taken = 0;
        hammer(run, 40, [&](hammered& self) -> task<> {
            for (int i = 0; i < 2; ++i) {
                if (self.one_in(4)) co_await resume_on(self.elsewhere());
                {
                    const auto guard = co_await lock.lock();
                    items.push_back(++put);
                    if (self.one_in(2)) changed.notify_one();
                }
                changed.notify_one();
                co_await self.pause();
                auto guard = co_await lock.lock();
                co_await changed.wait(guard, [&] { return !items.empty(); });
                items.pop_front();
                ++taken;
            }
        });
        CHECK(put == taken + static_cast<int>(items.size()));
        CHECK_FALSE(lock.is_locked());
    });
}

}  // namespace rondo::test
