#include <rondo/runtime/call_later.hpp>
#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/latch.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>

#include "support/child_process.hpp"
#include "support/support.hpp"

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

constexpr const char* still_ran = "exit status 7";

/// For a child that is to show that it goes on.
void end_process_in(std::chrono::microseconds delay) {
    std::signal(SIGALRM, [](int) { ::_exit(7); });
    const ::itimerval once{.it_interval = {}, .it_value = {0, delay.count()}};
    ::setitimer(ITIMER_REAL, &once, nullptr);
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

TEST_CASE("work that goes from a reactor to the pool and back is no deadlock at any moment") {
    on_each_reactor_kind([](auto run) {
        const runtime_options options{.reactors = 2, .reactor = run.kind(), .pool_threads = 1};
        const auto round_trips = []() -> task<> {
            const auto end = std::chrono::steady_clock::now() + 30ms;  // a look comes after 20
            while (std::chrono::steady_clock::now() < end) co_await offload([] {});
        };
        for (int i = 0; i < 10; ++i) {
            rondo::run(
                [&]() -> task<> {
                    co_await with_task_group([&](task_group& group) -> task<> {
                        group.spawn_on(this_runtime().scheduler(1), round_trips);
                        co_return;
                    });
                },
                options);
        }
    });
}

TEST_CASE("a reactor without tasks hides no deadlock") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                event never;
                co_await never.wait();
            },
            {.reactors = 3, .reactor = run.kind()});
        CHECK(contains(text, "waits for an event"));
    });
}

TEST_CASE("a pool that was shut down hides no deadlock") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                this_runtime().pool().shutdown();
                event never;
                co_await never.wait();
            },
            {.reactor = run.kind(), .pool_threads = 2});
        CHECK(contains(text, "waits for an event"));
    });
}

TEST_CASE("a limit that never runs out hides no deadlock") {
    on_each_reactor_kind([](auto run) {
        const std::string text = deadlock_of(
            []() -> task<> {
                event never;
                co_await with_timeout(std::chrono::hours::max(), never.wait());
            },
            {.reactor = run.kind()});
        CHECK(contains(text, "waits for an event"));
    });
}

TEST_CASE("a task that sleeps for ever on purpose is not deadlocked") {
    on_each_reactor_kind([](auto run) {
        const auto sleep_in_a_child = [&](auto sleep) {
            return in_child([&]() -> std::string {
                end_process_in(100ms);  // looks come after 20 and 60
                return deadlock_of(sleep, {.reactors = 2, .reactor = run.kind()});
            });
        };
        CHECK(sleep_in_a_child([]() -> task<> {
                  co_await sleep_until(std::chrono::steady_clock::time_point::max());
              }) == still_ran);
        CHECK(sleep_in_a_child([]() -> task<> { co_await sleep_for(std::chrono::hours::max()); }) ==
              still_ran);
        CHECK(sleep_in_a_child([]() -> task<> {
                  call_later(std::chrono::hours::max(), [] {});
                  event never;
                  co_await never.wait();
              }) == still_ran);
    });
}

TEST_CASE("a deadlock inside a shield with a grace ends after it") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned reactors : {1u, 2u}) {
            CAPTURE(reactors);
            const std::string text = deadlock_of(
                []() -> task<> {
                    event never;
                    co_await on_each_reactor(
                        [&](std::size_t) -> task<> { co_await shield(never.wait(), 1ms); });
                },
                {.reactors = reactors, .reactor = run.kind()});
            CHECK(contains(text, "waits for an event"));
        }
    });
}

TEST_CASE("a deadlock inside a shield without a limit is reported, and opens the shield") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned reactors : {1u, 2u}) {
            CAPTURE(reactors);
            const ended_child how = child_with_pipe([&](int out) {
                ::dup2(out, STDERR_FILENO);
                std::atomic<unsigned> cleaned_up{0};
                const auto work = [&]() -> task<> {
                    event never;
                    co_await on_each_reactor([&](std::size_t) -> task<> {
                        try {
                            co_await shield(shield(never.wait()));
                        } catch (const operation_cancelled&) {
                            ++cleaned_up;
                            throw;
                        }
                    });
                };
                const std::string text =
                    deadlock_of(work, {.reactors = reactors, .reactor = run.kind()});
                if (cleaned_up == reactors && contains(text, "waits for an event")) {
                    std::fputs("thrown and cleaned up", stderr);
                }
            });
            INFO(how.text);
            CHECK(how.status == 0);
            CHECK(contains(how.text, "it reaches them now"));
            CHECK(contains(how.text, "waits for an event"));
            CHECK(contains(how.text, "deadlock_test.cpp"));
            CHECK(contains(how.text, "thrown and cleaned up"));
        }
    });
}

TEST_CASE("what is shielded goes on when the cancellation of the others solves the deadlock") {
    on_each_reactor_kind([](auto run) {
        bool went_on = false;
        const auto work = [&]() -> task<> {
            event never;
            mutex lock;
            task_group group;
            group.spawn([&]() -> task<> {
                auto held = co_await lock.lock();
                co_await never.wait();
            });
            co_await settle();
            co_await shield([&]() -> task<> {
                auto held = co_await lock.lock();
                went_on = true;
            }());
            co_await group.join();
        };
        CHECK(contains(deadlock_of(work, {.reactor = run.kind()}), "waits for"));
        CHECK(went_on);
    });
}

TEST_CASE("a runtime that was stopped does not wait for ever for what is shielded") {
    on_each_reactor_kind([](auto run) {
        const ended_child how = child_with_pipe([&](int out) {
            ::dup2(out, STDERR_FILENO);
            const auto work = []() -> task<> {
                event never;
                this_runtime().stop();
                co_await shield(never.wait());
            };
            const std::string text = deadlock_of(work, {.reactor = run.kind()});
            if (contains(text, "waits for an event")) std::fputs("thrown", stderr);
        });
        INFO(how.text);
        CHECK(how.status == 0);
        CHECK(contains(how.text, "it reaches them now"));
        CHECK(contains(how.text, "thrown"));
    });
}
