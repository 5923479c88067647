// A scheduler as an executor of Asio.

#include <rondo/asio/context.hpp>
#include <rondo/asio/executor.hpp>
#include <rondo/asio/use_task.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>
#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/dispatch.hpp>
#include <asio/experimental/parallel_group.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>
#include <asio/query.hpp>
#include <asio/require.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/asio_support.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
namespace execution = asio::execution;

asio::awaitable<int> wait_and_give(int value) {
    asio::steady_timer timer{co_await asio::this_coro::executor, 1ms};
    co_await timer.async_wait(asio::use_awaitable);
    co_return value;
}

asio::awaitable<void> wait_and_throw() {
    co_await asio::post(asio::use_awaitable);
    throw std::runtime_error("from a coroutine of Asio");
}

asio::awaitable<void> wait_for(asio::steady_timer& timer, counted) {
    co_await timer.async_wait(asio::use_awaitable);
}

asio::awaitable<void> post_for_ever(counted) {
    for (;;) co_await asio::post(asio::use_awaitable);
}

/// A function that submits itself again whenever it runs.
struct posts_itself {
    void operator()() const { asio::post(executor, *this); }

    asio_executor executor;
    counted kept;
};

asio::awaitable<void> wait_on(asio::any_io_executor where, counted) {
    asio::steady_timer timer{where, 1h};
    co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

TEST_CASE("functions posted from another thread run on the scheduler, in order") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_executor executor{this_scheduler()};
            const auto thread = std::this_thread::get_id();
            std::vector<int> order;
            std::atomic<bool> on_thread{true};
            std::thread poster([&] {
                for (int i = 0; i < 1000; ++i) {
                    asio::post(executor, [&, i] {
                        order.push_back(i);
                        if (std::this_thread::get_id() != thread) on_thread = false;
                    });
                }
            });
            co_await until([&] { return order.size() == 1000; });
            poster.join();
            CHECK(on_thread);
            for (int i = 0; i < 1000; ++i) REQUIRE(order[static_cast<std::size_t>(i)] == i);
        });
    });
}

TEST_CASE("dispatch runs at once on the scheduler's own thread, post never does") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_executor executor{this_scheduler()};
            std::string ran;
            asio::dispatch(executor, [&] { ran += 'd'; });
            CHECK(ran == "d");
            asio::post(executor, [&] { ran += 'p'; });
            asio::require(executor, execution::blocking.never).execute([&] { ran += 'n'; });
            executor.execute([&] { ran += 'e'; });
            CHECK(ran == "de");
            co_await settle();
            CHECK(ran == "depn");

            std::string elsewhere;
            std::thread other([&] {
                CHECK(!executor.running_in_this_thread());
                asio::dispatch(executor, [&] { elsewhere += 'x'; });
            });
            co_await until([&] { return !elsewhere.empty(); });
            other.join();
        });
    });
}

TEST_CASE("it has the properties that Asio asks for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const asio_executor plain{this_scheduler()};
            CHECK(plain == asio_executor{this_scheduler()});
            CHECK(plain.running_in_this_thread());
            CHECK(asio::query(plain, execution::blocking) == execution::blocking.possibly);
            CHECK(asio::query(plain, execution::mapping) == execution::mapping.thread);

            const auto never = asio::require(plain, execution::blocking.never);
            CHECK(asio::query(never, execution::blocking) == execution::blocking.never);
            CHECK(never != plain);
            CHECK(asio::require(never, execution::blocking.possibly) == plain);

            const auto tracked = asio::prefer(plain, execution::outstanding_work.tracked);
            CHECK(asio::query(tracked, execution::outstanding_work) ==
                  execution::outstanding_work.tracked);
            CHECK(asio::prefer(tracked, execution::outstanding_work.untracked) == plain);

            const auto continuing = asio::prefer(plain, execution::relationship.continuation);
            CHECK(asio::query(continuing, execution::relationship) ==
                  execution::relationship.continuation);
            CHECK(asio::prefer(continuing, execution::relationship.fork) == plain);

            const asio::any_io_executor any{plain};
            CHECK(any == asio::any_io_executor{plain});
            CHECK(&any.context() == &asio::query(plain, execution::context));
            const auto any_never = asio::require(any, execution::blocking.never);
            CHECK(asio::query(any_never, execution::blocking) == execution::blocking.never);
            co_return;
        });
    });
}

TEST_CASE("each scheduler has a context of its own") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            const asio_executor first{place(0)};
            const asio_executor second{place(1)};
            CHECK(first != second);
            CHECK(&asio::query(first, execution::context) !=
                  &asio::query(second, execution::context));
            co_await asio::post(second, use_task);
            CHECK(here() == 0);  // the handler ran over there, the task is where it was
            std::atomic<std::size_t> ran_on{99};
            asio::post(second, [&] { ran_on = here(); });
            co_await until([&] { return ran_on != 99; });
            CHECK(ran_on == 1);
        });
    });
}

TEST_CASE("a strand over it keeps handlers apart and runs them there") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto strand = asio::make_strand(asio_executor{this_scheduler()});
            int ran = 0;
            for (int i = 0; i < 10; ++i) asio::post(strand, [&] { ++ran; });
            co_await until([&] { return ran == 10; });
        });
    });
}

TEST_CASE("a coroutine of Asio runs on it, and its value or exception reaches the task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_executor executor{this_scheduler()};
            CHECK(co_await asio::co_spawn(executor, wait_and_give(7), use_task) == 7);
            CHECK(co_await ending_of(asio::co_spawn(executor, wait_and_throw(), use_task)) ==
                  "from a coroutine of Asio");
            const auto thread = std::this_thread::get_id();
            const bool same = co_await asio::co_spawn(
                executor,
                [thread]() -> asio::awaitable<bool> {
                    asio::steady_timer timer{co_await asio::this_coro::executor, 1ms};
                    co_await timer.async_wait(asio::use_awaitable);
                    co_return thread == std::this_thread::get_id();
                },
                use_task);
            CHECK(same);
        });
    });
}

TEST_CASE("cancelling a task reaches the coroutine of Asio that it awaits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio_executor executor{this_scheduler()};
            std::atomic<int> coroutines{0};
            for (const bool on_background : {false, true}) {
                asio::any_io_executor timers = executor;
                if (on_background) timers = background.get_executor();
                task_group group;
                const auto spawn = [&] {
                    return group.spawn(ending_of(
                        asio::co_spawn(executor, wait_on(timers, counted{coroutines}), use_task)));
                };
                auto before = spawn();
                before.cancel();
                CHECK(co_await before == "cancelled");
                for (int turns = 0; turns < 10; ++turns) {
                    auto during = spawn();
                    for (int i = 0; i < turns; ++i) co_await yield();
                    during.cancel();
                    CHECK(co_await during == "cancelled");
                }
                co_await group.join();
            }
            co_await until([&] { return coroutines == 0; });
        });
    });
}

TEST_CASE("a task awaits coroutines of Asio on their own thread, some of them cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            std::atomic<int> coroutines{0};
            for (int i = 0; i < 100; ++i) {
                CHECK(co_await asio::co_spawn(background.get_executor(), wait_and_give(i),
                                              use_task) == i);
                const auto limit = std::chrono::microseconds(10 * i);
                const auto outcome = co_await as_result(with_timeout(
                    limit, asio::co_spawn(background.get_executor(),
                                          wait_on(background.get_executor(), counted{coroutines}),
                                          use_task)));
                CHECK(outcome.error() == std::errc::timed_out);
            }
            CHECK(co_await ending_of(asio::co_spawn(background.get_executor(), wait_and_throw(),
                                                    use_task)) == "from a coroutine of Asio");
            co_await until([&] { return coroutines == 0; });
        });
    });
}

TEST_CASE("a parallel group of Asio is awaited as one operation") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            const auto executor = background.get_executor();
            asio::steady_timer soon{executor, 1ms};
            asio::steady_timer late{executor, 1h};
            for (int i = 0; i < 20; ++i) {
                soon.expires_after(1us);
                auto started = asio::experimental::make_parallel_group(
                    [&](auto token) { return soon.async_wait(token); },
                    [&](auto token) { return late.async_wait(token); });
                const auto [order, first, second] = co_await std::move(started).async_wait(
                    asio::experimental::wait_for_one(), use_task(executor));
                CHECK(order[0] == 0);
                CHECK(!first);
                CHECK(second == asio::error::operation_aborted);
            }
        });
    });
}

TEST_CASE("an exception that leaves a function stops the runtime") {
    on_each_reactor_kind([](auto run) {
        for (const bool at_once : {false, true}) {
            CHECK_THROWS_WITH(run([at_once]() -> task<> {
                                  asio_executor executor{this_scheduler()};
                                  const auto bad = [] { throw std::runtime_error("bad handler"); };
                                  if (at_once) {
                                      asio::dispatch(executor, bad);
                                  } else {
                                      asio::post(executor, bad);
                                  }
                                  co_await sleep_for(1h);
                              }),
                              "bad handler");
        }
        CHECK_THROWS_WITH(run([]() -> task<> {
                              asio_executor executor{this_scheduler()};
                              asio::co_spawn(executor, wait_and_throw(),
                                             [](std::exception_ptr error) {
                                                 if (error) std::rethrow_exception(error);
                                             });
                              co_await sleep_for(1h);
                          }),
                          "from a coroutine of Asio");
    });
}

TEST_CASE("a runtime that ends first destroys what waits there, uncalled") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> coroutines{0};
        asio_context background;
        std::optional<asio_executor> left;
        bool called = false;
        run([&]() -> task<> {
            left.emplace(this_scheduler());
            // One waits in the scheduler's own context, one in the io_context that lives on.
            asio::co_spawn(*left, wait_on(*left, counted{coroutines}), asio::detached);
            asio::co_spawn(*left, wait_on(background.get_executor(), counted{coroutines}),
                           asio::detached);
            co_await asio::post(*left, use_task);
            co_await asio::post(background.get_executor(), use_task);
            co_await asio::post(*left, use_task);
            CHECK(coroutines == 2);
        });
        CHECK(coroutines == 1);
        // The executor outlives its scheduler: what it gets, it drops.
        counted argument{coroutines};
        asio::post(*left, [&called, argument] { called = true; });
        asio::dispatch(*left, [&called, argument] { called = true; });
        CHECK(!called);
        CHECK(coroutines == 2);
        CHECK(!left->running_in_this_thread());
    });
}

TEST_CASE("an io_context destroyed first drops the coroutine that waits on it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::atomic<int> coroutines{0};
            const asio_executor executor{this_scheduler()};
            auto background = std::make_unique<asio_context>();
            std::optional<asio::steady_timer> timer{std::in_place, background->get_executor(), 1h};
            task_group group;
            auto waiter = group.spawn(ending_of(
                asio::co_spawn(executor, wait_for(*timer, counted{coroutines}), use_task)));
            co_await until([&] { return coroutines == 1; });
            co_await settle();
            background->context().stop();
            timer.reset();
            co_await settle();
            CHECK(!waiter.done());
            background.reset();
            CHECK(co_await waiter == "dropped");
            CHECK(coroutines == 0);
            co_await group.join();
        });
    });
}

TEST_CASE("threads that submit while the runtime ends are told nothing and lose nothing") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 20; ++round) {
            std::atomic<int> alive{0};
            std::atomic<bool> stop{false};
            std::vector<std::thread> posters;
            {
                runtime rt{{.reactor = run.kind()}};
                const asio_executor executor{rt.scheduler(0)};
                for (int i = 0; i < 2; ++i) {
                    posters.emplace_back([executor, &alive, &stop] {
                        while (!stop) {
                            asio::post(executor, [kept = counted{alive}] {});
                        }
                    });
                }
                rt.run([]() -> task<> { co_await yield(); });
            }
            stop = true;
            for (std::thread& each : posters) each.join();
            CHECK(alive == 0);
        }
    });
}

TEST_CASE("a runtime ends although functions and coroutines submit themselves for ever") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        run([&]() -> task<> {
            const asio_executor here{this_scheduler()};
            asio::post(here, posts_itself{here, counted{alive}});
            asio::co_spawn(here, post_for_ever(counted{alive}), asio::detached);
            co_await asio::post(here, use_task);
            CHECK(alive != 0);
        });
        CHECK(alive == 0);
    });
}

TEST_CASE("what the last task has submitted still runs") {
    on_each_reactor_kind([](auto run) {
        bool called = false;
        run([&]() -> task<> {
            asio::post(asio_executor{this_scheduler()}, [&] { called = true; });
            co_return;
        });
        CHECK(called);
    });
}

TEST_CASE("a runtime without tasks ends although work is tracked") {
    on_each_reactor_kind([](auto run) {
        std::optional<asio::any_io_executor> work;
        run([&]() -> task<> {
            work.emplace(
                asio::prefer(asio_executor{this_scheduler()}, execution::outstanding_work.tracked));
            co_return;
        });
        CHECK(work.has_value());
    });
}

}  // namespace rondo::test
