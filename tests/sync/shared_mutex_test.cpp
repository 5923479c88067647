#include <rondo/sync/shared_mutex.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "support/emptied_line.hpp"
#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// They hold it until the gate opens, and write down who got it: r or w.
task<> read(shared_mutex& lock, std::string& order, event& gate) {
    const auto guard = co_await lock.lock_shared();
    order += 'r';
    co_await gate.wait();
}
task<> write(shared_mutex& lock, std::string& order, event& gate) {
    const auto guard = co_await lock.lock();
    order += 'w';
    co_await gate.wait();
}

/// "locked", or "cancelled".
task<std::string> outcome_of_lock(shared_mutex& lock, bool shared) {
    try {
        if (shared) {
            const auto guard = co_await lock.lock_shared();
        } else {
            const auto guard = co_await lock.lock();
        }
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "locked";
}

bool is_free(shared_mutex& lock) { return lock.try_lock().has_value(); }

}  // namespace

TEST_CASE("a shared_mutex has many readers or one writer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_mutex lock;
            {
                auto one = co_await lock.lock_shared();
                const auto two = co_await lock.lock_shared();
                const auto three = lock.try_lock_shared();
                CHECK(three.has_value());
                CHECK_FALSE(lock.try_lock());
                one.unlock();
                CHECK_FALSE(one.owns_lock());
                one = co_await lock.lock_shared();
                const auto moved = std::move(one);
                CHECK_FALSE(lock.try_lock());
            }
            auto writing = co_await lock.lock();
            CHECK_FALSE(lock.try_lock());
            CHECK_FALSE(lock.try_lock_shared());
            writing.unlock();
            CHECK(is_free(lock));
            auto again = lock.try_lock();
            CHECK(again.has_value());
            writing = *std::move(again);
            CHECK(writing.owns_lock());
        });
    });
}

TEST_CASE("a shared_mutex is first come first served, and neighbouring readers go in together") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_mutex lock;
            std::string order;
            event gates[3];
            task_group group;
            group.spawn(read(lock, order, gates[0]));
            co_await settle();
            group.spawn(write(lock, order, gates[1]));
            group.spawn(read(lock, order, gates[2]));
            group.spawn(read(lock, order, gates[2]));
            group.spawn(write(lock, order, gates[2]));
            co_await settle();
            // A reader that comes after a waiting writer waits.
            CHECK(order == "r");
            CHECK_FALSE(lock.try_lock_shared());
            gates[0].set();
            co_await settle();
            CHECK(order == "rw");
            gates[1].set();
            co_await settle();
            CHECK(order == "rwrr");
            gates[2].set();
            co_await group.join();
            CHECK(order == "rwrrw");
            CHECK(is_free(lock));
        });
    });
}

TEST_CASE("a writer that becomes a reader lets in the readers at the head of the line, no writer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_mutex lock;
            std::string order;
            event gate;
            gate.set();
            task_group group;
            auto writing = co_await lock.lock();
            group.spawn(read(lock, order, gate));
            group.spawn(read(lock, order, gate));
            group.spawn(write(lock, order, gate));
            group.spawn(read(lock, order, gate));
            co_await settle();
            CHECK(order.empty());
            auto reading = std::move(writing).downgrade();
            CHECK_FALSE(writing.owns_lock());
            CHECK(reading.owns_lock());
            co_await settle();
            CHECK(order == "rr");
            reading.unlock();
            co_await group.join();
            CHECK(order == "rrwr");
            // With nobody in the line.
            auto alone = co_await lock.lock();
            reading = std::move(alone).downgrade();
            CHECK(lock.try_lock_shared().has_value());
            CHECK_FALSE(lock.try_lock());
            reading.unlock();
            CHECK(is_free(lock));
        });
    });
}

TEST_CASE("a cancelled writer lets in the readers that waited behind it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_mutex lock;
            std::string order;
            event gate;
            gate.set();
            task_group group;
            auto reading = co_await lock.lock_shared();
            auto writer = group.spawn(outcome_of_lock(lock, false));
            group.spawn(read(lock, order, gate));
            auto leaver = group.spawn(outcome_of_lock(lock, true));
            group.spawn(read(lock, order, gate));
            group.spawn(write(lock, order, gate));
            co_await settle();
            leaver.cancel();
            CHECK(co_await leaver == "cancelled");
            CHECK(order.empty());
            writer.cancel();
            CHECK(co_await writer == "cancelled");
            co_await settle();
            CHECK(order == "rr");
            reading.unlock();
            co_await group.join();
            CHECK(order == "rrw");
            CHECK(is_free(lock));
        });
    });
}

TEST_CASE("a shared_mutex's lock is cancelled before it begins, but not once it was handed over") {
    on_each_reactor_kind([](auto run) {
        for (const bool shared : {false, true}) {
            CAPTURE(shared);
            run([shared]() -> task<> {
                shared_mutex lock;
                task_group group;
                auto before = group.spawn(outcome_of_lock(lock, shared));
                before.cancel();
                CHECK(co_await before == "cancelled");
                auto guard = co_await lock.lock();
                auto after = group.spawn(outcome_of_lock(lock, shared));
                co_await settle();
                guard.unlock();
                after.cancel();
                CHECK(co_await after == "locked");
                co_await group.join();
                CHECK(is_free(lock));
            });
        }
    });
}

TEST_CASE("locking a shared_mutex takes a time limit and as_result") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            shared_mutex lock;
            const auto reading = co_await as_result(with_timeout(1h, lock.lock_shared()));
            CHECK(reading.has_value());
            const auto late = co_await as_result(with_timeout(1ms, lock.lock()));
            CHECK(late.error() == std::errc::timed_out);
            CHECK(lock.try_lock_shared().has_value());
        });
    });
}

TEST_CASE("a shared_mutex works between schedulers, hops and plain threads") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            shared_mutex lock;
            event waits;
            task_group group;
            auto guard = co_await lock.lock();
            auto waiter = [&]() -> task<std::size_t> {
                waits.set();
                const auto mine = co_await lock.lock_shared();
                co_return here();
            };
            auto at = group.spawn_on(place(1), waiter);
            co_await waits.wait();
            bool got = true;
            std::thread([&] { got = lock.try_lock_shared().has_value(); }).join();
            CHECK_FALSE(got);
            guard.unlock();
            CHECK(co_await at == 1);
            co_await group.join();
            guard = co_await lock.lock();
            co_await resume_on(place(1));
            guard.unlock();
            std::thread([&] { got = lock.try_lock().has_value(); }).join();
            CHECK(got);
            CHECK(is_free(lock));
        });
    });
}

TEST_CASE("hammered by tasks that are cancelled at any moment, a shared_mutex excludes") {
    on_each_reactor_kind([](auto run) {
        shared_mutex lock;
        int written = 0;  // a plain int: ThreadSanitizer sees who is not excluded
        std::atomic<int> readers{0};
        std::atomic<int> wrong{0};
        hammer(run, 60, [&](hammered& self) -> task<> {
            for (int i = 0; i < 3; ++i) {
                if (self.one_in(4)) co_await resume_on(self.elsewhere());
                if (self.one_in(2)) {
                    auto writing = co_await lock.lock();
                    if (readers != 0) ++wrong;
                    const int mine = ++written;
                    if (self.one_in(4)) co_await shield(self.pause());
                    if (!self.one_in(3)) continue;
                    const auto reading = std::move(writing).downgrade();
                    ++readers;
                    if (self.one_in(2)) co_await shield(self.pause());
                    if (written != mine) ++wrong;
                    --readers;
                } else {
                    const auto reading = co_await lock.lock_shared();
                    ++readers;
                    const int before = written;
                    if (self.one_in(2)) co_await shield(self.pause());
                    if (written != before) ++wrong;
                    --readers;
                }
            }
        });
        CHECK(wrong == 0);
        CHECK(is_free(lock));
    });
}

// Who gave it back unlocked its line after it was free.
TEST_CASE(
    "a shared mutex may be destroyed by who has it after its line emptied while it was given "
    "back") {
    on_each_reactor_kind([](auto run) {
        destroy_when_line_empties<shared_mutex>(
            run,
            [](shared_mutex& one, signal_to_release& signal) -> task<> {
                auto guard = co_await one.lock();
                signal.holding();
                guard.unlock();
            },
            [](shared_mutex& one) -> task<> { const auto guard = co_await one.lock(); },
            [](shared_mutex& one) { return one.try_lock().has_value(); });
    });
}

}  // namespace rondo::test
