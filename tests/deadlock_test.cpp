#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/errors.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/latch.hpp>
#include <rondo/sync/mutex.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "support.hpp"

using namespace rondo;
using namespace rondo::test;
using namespace std::chrono_literals;

namespace {

/// What run() says of the deadlock that it ends with.
template <class Work>
std::string deadlock_of(Work work, runtime_options options) {
    try {
        rondo::run(std::move(work), options);
    } catch (const deadlock_error& error) {
        return error.what();
    }
    return "no deadlock";
}

bool contains(const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("tasks that nothing can wake end run() with a deadlock_error that shows them") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                event never;
                co_await never.wait();
            },
            {.reactor = run.kind()});
        CHECK(contains(text, "deadlock"));
        CHECK(contains(text, "waits for an event"));
        CHECK(contains(text, "deadlock_test.cpp"));
    });
}

TEST_CASE("tasks on several reactors are looked at together") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                event never;
                co_await on_each_reactor([&](std::size_t) -> task<> { co_await never.wait(); });
            },
            {.reactors = 3, .reactor = run.kind()});
        CHECK(contains(text, "reactor 2"));
        CHECK(contains(text, "waits for an event"));
    });
}

TEST_CASE("a circle of mutexes is named: who holds which, locked where, and waits for which") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned reactors : {1u, 2u}) {
            CAPTURE(reactors);
            const std::string text = deadlock_of(
                []() -> task<> {
                    mutex first;
                    mutex second;
                    latch both{2};
                    const auto lock_both = [&](mutex& one, mutex& other) -> task<> {
                        auto held = co_await one.lock();
                        co_await both.arrive_and_wait();
                        auto never = co_await other.lock();
                    };
                    co_await with_task_group([&](task_group& group) -> task<> {
                        scheduler& here = this_scheduler();
                        scheduler& last = this_runtime().scheduler(this_runtime().size() - 1);
                        group.spawn_on(here, lock_both, std::ref(first), std::ref(second));
                        group.spawn_on(last, lock_both, std::ref(second), std::ref(first));
                        co_return;
                    });
                },
                {.reactors = reactors, .reactor = run.kind()});
            CHECK(contains(text, "holds mutex M1 (locked at"));
            CHECK(contains(text, "and waits for M2"));
            CHECK(contains(text, "holds mutex M2 (locked at"));
            CHECK(contains(text, "and waits for M1"));
            CHECK(contains(text, "deadlock_test.cpp"));
        }
    });
}

TEST_CASE("a pool that rests hides no deadlock") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                co_await offload([] {});
                event never;
                co_await never.wait();
            },
            {.reactor = run.kind()});
        CHECK(contains(text, "waits for an event"));
    });
}

TEST_CASE("a deadlock cancels the tasks, so that they clean up") {
    on_each_reactor_kind([](auto run) {
        bool cleaned_up = false;
        const auto cleaner = [&]() -> task<> {
            event never;
            try {
                co_await never.wait();
            } catch (const operation_cancelled&) {
                cleaned_up = true;
                throw;
            }
        };
        CHECK(contains(deadlock_of(cleaner, {.reactor = run.kind()}), "deadlock"));
        CHECK(cleaned_up);
    });
}

TEST_CASE("who waits for a timer, another reactor, the pool or a thread is not deadlocked") {
    on_each_reactor_kind([](auto run) {
        const runtime_options options{.reactors = 2, .reactor = run.kind(), .pool_threads = 1};
        // Each wait outlasts several looks for a deadlock.
        constexpr auto a_while = 100ms;
        rondo::run(
            [&]() -> task<> {
                co_await sleep_for(a_while);
                event from_there;
                co_await with_task_group([&](task_group& group) -> task<> {
                    group.spawn_on(this_runtime().scheduler(1), [&]() -> task<> {
                        co_await sleep_for(a_while);
                        from_there.set();
                    });
                    co_await from_there.wait();
                });
                co_await offload([&] { std::this_thread::sleep_for(a_while); });
                event from_outside;
                std::thread outside([&] {
                    std::this_thread::sleep_for(a_while);
                    from_outside.set();
                });
                co_await from_outside.wait();
                outside.join();
            },
            options);
    });
}
