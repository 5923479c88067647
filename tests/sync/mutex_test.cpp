#include <rondo/sync/mutex.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/emptied_line.hpp"
#include "support/hammer.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<> lock_and_note(mutex& lock, std::vector<int>& order, int name) {
    const auto guard = co_await lock.lock();
    order.push_back(name);
    co_await yield();
}

/// "locked", or "cancelled".
task<std::string> outcome_of_lock(mutex& lock) {
    try {
        const auto guard = co_await lock.lock();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "locked";
}

}  // namespace

TEST_CASE("a mutex is held as long as its guard, wherever that is moved") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            mutex lock;
            CHECK_FALSE(lock.is_locked());
            {
                auto guard = co_await lock.lock();
                CHECK(guard.owns_lock());
                CHECK(lock.is_locked());
                CHECK_FALSE(lock.try_lock());
                const auto elsewhere = std::move(guard);
                CHECK(lock.is_locked());
            }
            CHECK_FALSE(lock.is_locked());
            auto guard = lock.try_lock();
            CHECK(guard.has_value());
            guard->unlock();
            CHECK_FALSE(guard->owns_lock());
            CHECK_FALSE(lock.is_locked());
            mutex other;
            auto first = co_await lock.lock();
            auto second = co_await other.lock();
            first = std::move(second);
            CHECK_FALSE(lock.is_locked());
            CHECK(other.is_locked());
        });
    });
}

TEST_CASE("a mutex is handed on in the order in which the tasks came") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            mutex lock;
            std::vector<int> order;
            task_group group;
            auto guard = co_await lock.lock();
            for (int i = 0; i < 5; ++i) group.spawn(lock_and_note(lock, order, i));
            co_await settle();
            CHECK(order.empty());
            guard.unlock();
            // It has been handed on: nobody gets in between.
            CHECK_FALSE(lock.try_lock());
            co_await lock_and_note(lock, order, 5);
            co_await group.join();
            CHECK(order == std::vector{0, 1, 2, 3, 4, 5});
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("a cancelled waiter leaves a mutex's line, from its head, its middle and its end") {
    on_each_reactor_kind([](auto run) {
        for (std::size_t leaver = 0; leaver < 3; ++leaver) {
            CAPTURE(leaver);
            run([=]() -> task<> {
                mutex lock;
                task_group group;
                auto guard = co_await lock.lock();
                std::vector<task_handle<std::string>> waiters;
                for (int i = 0; i < 3; ++i) waiters.push_back(group.spawn(outcome_of_lock(lock)));
                co_await settle();
                waiters[leaver].cancel();
                co_await settle();
                for (std::size_t i = 0; i < 3; ++i) CHECK(waiters[i].done() == (i == leaver));
                guard.unlock();
                for (std::size_t i = 0; i < 3; ++i) {
                    const auto how = co_await waiters[i];
                    CHECK(how == (i == leaver ? "cancelled" : "locked"));
                }
                co_await group.join();
                CHECK_FALSE(lock.is_locked());
            });
        }
    });
}

TEST_CASE("a lock is cancelled before it begins, but not once the mutex was handed over") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            mutex lock;
            task_group group;
            auto before = group.spawn(outcome_of_lock(lock));
            before.cancel();
            CHECK(co_await before == "cancelled");
            auto guard = co_await lock.lock();
            auto after = group.spawn(outcome_of_lock(lock));
            co_await settle();
            guard.unlock();
            after.cancel();
            CHECK(co_await after == "locked");
            co_await group.join();
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("locking a mutex takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            mutex lock;
            {
                const auto guard = co_await lock.lock();
                const auto late = co_await as_result(with_timeout(1ms, lock.lock()));
                CHECK(late.error() == std::errc::timed_out);
            }
            const auto now = co_await as_result(with_timeout(1h, lock.lock()));
            CHECK(now.has_value());
            CHECK(lock.is_locked());
        });
    });
}

TEST_CASE("a task may hop to another scheduler with a mutex held") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            mutex lock;
            auto guard = co_await lock.lock();
            co_await resume_on(place(1));
            CHECK(lock.is_locked());
            guard.unlock();
            guard = co_await lock.lock();
            co_await resume_on(place(0));
            guard.unlock();
            CHECK_FALSE(lock.is_locked());
        });
    });
}

TEST_CASE("a mutex is handed on to a task of another scheduler, which resumes there") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            mutex lock;
            event waits;
            task_group group;
            auto guard = co_await lock.lock();
            auto waiter = [&]() -> task<std::size_t> {
                waits.set();
                const auto mine = co_await lock.lock();
                co_return here();
            };
            auto at = group.spawn_on(place(1), waiter);
            co_await waits.wait();
            guard.unlock();
            CHECK(co_await at == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("a plain thread may try to lock a mutex") {
    mutex lock;
    auto guard = lock.try_lock();
    CHECK(guard.has_value());
    bool got = true;
    std::thread([&] { got = lock.try_lock().has_value(); }).join();
    CHECK_FALSE(got);
    guard.reset();
    std::thread([&] { got = lock.try_lock().has_value(); }).join();
    CHECK(got);
    CHECK_FALSE(lock.is_locked());
}

TEST_CASE("hammered by tasks that are cancelled at any moment, a mutex has one holder") {
    on_each_reactor_kind([](auto run) {
        mutex lock;
        int inside = 0;  // a plain int: ThreadSanitizer sees who is not excluded
        long total = 0;
        std::atomic<long> expected{0};
        hammer(run, 60, [&](hammered& self) -> task<> {
            for (int i = 0; i < 3; ++i) {
                if (self.one_in(3)) co_await resume_on(self.elsewhere());
                const auto guard = co_await lock.lock();
                CHECK_MESSAGE(++inside == 1, "two hold it");
                ++total;
                ++expected;
                --inside;
                if (self.one_in(4)) co_await shield(self.pause());
            }
        });
        CHECK(total == expected);
        CHECK_FALSE(lock.is_locked());
    });
}

// Who gave it back unlocked its line after it was free.
TEST_CASE("a mutex may be destroyed by who has it after its line emptied while it was given back") {
    on_each_reactor_kind([](auto run) {
        destroy_when_line_empties<mutex>(
            run,
            [](mutex& one, signal_to_release& signal) -> task<> {
                auto guard = co_await one.lock();
                signal.holding();
                guard.unlock();
            },
            [](mutex& one) -> task<> { const auto guard = co_await one.lock(); },
            [](mutex& one) { return one.try_lock().has_value(); });
    });
}

TEST_CASE("a lock that lies in a parameter of a spawned task is the task's own to the end") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            mutex lock;
            using place_of_lock = std::optional<mutex::guard>;
            const auto keep = [&](std::shared_ptr<place_of_lock> kept) -> task<> {
                auto held = co_await lock.lock();
                kept->emplace(std::move(held));
            };
            for (const std::size_t where : {0U, 1U}) {
                task_group group;
                group.spawn_on(place(where), keep(std::make_shared<place_of_lock>()));
                co_await group.join();
                CHECK_FALSE(lock.is_locked());
            }
        });
    });
}

}  // namespace rondo::test
