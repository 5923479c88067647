#include <rondo/sync/recursive_mutex.hpp>

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
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> lock_twice_and_note(recursive_mutex& lock, std::vector<int>& order, int name) {
    const auto outer = co_await lock.lock();
    order.push_back(name);
    co_await yield();
    const auto inner = co_await lock.lock();
    order.push_back(name);
    co_await yield();
}

/// "locked", or "cancelled".
task<std::string> outcome_of_lock(recursive_mutex& lock) {
    try {
        const auto guard = co_await lock.lock();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "locked";
}

}  // namespace

TEST_CASE("the holder of a recursive_mutex locks it again, and it is free after the last guard") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            auto first = co_await lock.lock();
            auto second = co_await lock.lock();
            auto third = lock.try_lock();
            CHECK(third.has_value());
            first.unlock();  // in any order
            CHECK_FALSE(first.owns_lock());
            CHECK(lock.is_locked());
            third.reset();
            const auto moved = std::move(second);
            CHECK_FALSE(second.owns_lock());
            CHECK(lock.is_locked());
            second = co_await lock.lock();
            second = co_await lock.lock();
            second.unlock();
            CHECK(lock.is_locked());
        });
        run([]() -> task<> {
            recursive_mutex lock;
            {
                const auto outer = co_await lock.lock();
                const auto inner = co_await lock.lock();
            }
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("other tasks wait until the holder of a recursive_mutex has unlocked it for good") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            std::vector<int> order;
            task_group group;
            auto outer = co_await lock.lock();
            auto inner = co_await lock.lock();
            for (int i = 0; i < 3; ++i) group.spawn(lock_twice_and_note(lock, order, i));
            auto tries = group.spawn([&lock]() -> task<bool> { co_return !!lock.try_lock(); });
            co_await settle();
            outer.unlock();
            co_await settle();
            CHECK(order.empty());
            CHECK_FALSE(co_await tries);
            inner.unlock();
            CHECK_FALSE(lock.try_lock());
            co_await group.join();
            CHECK(order == std::vector{0, 0, 1, 1, 2, 2});
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("a recursive_mutex belongs to its task across hops") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            recursive_mutex lock;
            auto outer = co_await lock.lock();
            co_await resume_on(place(1));
            {
                const auto inner = co_await lock.lock();
                CHECK(lock.is_locked());
            }
            co_await resume_on(place(0));
            const auto again = co_await lock.lock();
            outer.unlock();
            CHECK(lock.is_locked());
        });
    });
}

TEST_CASE("a lock of a recursive_mutex is cancelled before and while it waits, not once handed") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            task_group group;
            auto before = group.spawn(outcome_of_lock(lock));
            before.cancel();
            CHECK(co_await before == "cancelled");
            auto guard = co_await lock.lock();
            auto during = group.spawn(outcome_of_lock(lock));
            auto after = group.spawn(outcome_of_lock(lock));
            co_await settle();
            during.cancel();
            CHECK(co_await during == "cancelled");
            guard.unlock();
            after.cancel();
            CHECK(co_await after == "locked");
            co_await group.join();
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("locking a recursive_mutex again is a cancel point, too") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            const auto outer = co_await lock.lock();
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                const auto inner = co_await lock.lock();
            });
            CHECK_FALSE(ended);
            CHECK(lock.is_locked());
        });
    });
}

TEST_CASE("locking a recursive_mutex takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            const auto now = co_await as_result(lock.lock());
            CHECK(now.has_value());
            task_group group;
            auto late = group.spawn([&lock]() -> task<std::error_code> {
                const auto got = co_await as_result(with_timeout(1ms, lock.lock()));
                co_return got.error();
            });
            CHECK(co_await late == std::errc::timed_out);
            const auto again = co_await as_result(with_timeout(1h, lock.lock()));
            CHECK(again.has_value());
            co_await group.join();
        });
    });
}

TEST_CASE("plain threads own a recursive_mutex that they try to lock") {
    recursive_mutex lock;
    auto outer = lock.try_lock();
    auto inner = lock.try_lock();
    CHECK(inner.has_value());
    bool got = true;
    std::thread([&] { got = lock.try_lock().has_value(); }).join();
    CHECK_FALSE(got);
    outer.reset();
    inner.reset();
    std::thread([&] { got = lock.try_lock().has_value(); }).join();
    CHECK(got);
    CHECK_FALSE(lock.is_locked());
}

TEST_CASE("hammered by tasks that are cancelled at any moment, a recursive_mutex has one holder") {
    on_each_reactor_kind([](auto run) {
        recursive_mutex lock;
        int inside = 0;  // a plain int: ThreadSanitizer sees who is not excluded
        std::atomic<int> wrong{0};
        hammer(run, 40, [&](hammered& self) -> task<> {
            for (int i = 0; i < 3; ++i) {
                const auto outer = co_await lock.lock();
                if (++inside != 1) ++wrong;
                if (self.one_in(4)) co_await shield(resume_on(self.elsewhere()));
                if (self.one_in(2)) {
                    const auto inner = co_await shield(lock.lock());
                    if (++inside != 2) ++wrong;
                    --inside;
                }
                --inside;
            }
        });
        CHECK(wrong == 0);
        CHECK_FALSE(lock.is_locked());
    });
}

// The lock belonged to the task that when_any makes, which the holder waited for.
TEST_CASE("a recursive mutex belongs to the task that calls lock(), wherever that is awaited") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            recursive_mutex lock;
            const auto outer = co_await lock.lock();
            auto first = co_await when_any(lock.lock(), sleep_for(1h));
            CHECK(first.index() == 0);
            std::get<0>(first).unlock();
            const auto both = co_await when_all(lock.lock(), lock.lock());
            CHECK(std::get<0>(both).owns_lock());
        });
    });
}

}  // namespace rondo::test
