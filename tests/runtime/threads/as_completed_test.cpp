#include <rondo/runtime/threads/as_completed.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <latch>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

struct sources {
    explicit sources(std::size_t count) : promises(count) {
        for (promise<int>& one : promises) futures.push_back(one.get_future());
    }
    std::vector<promise<int>> promises;
    std::vector<future<int>> futures;
};

std::exception_ptr broken() { return std::make_exception_ptr(std::runtime_error("broken")); }

static_assert(std::is_trivially_destructible_v<completion_order<int>::next_awaiter>);

task<> take_all(completion_order<int>& order, std::vector<int>& seen) {
    while (auto done = co_await order.next()) {
        const int value = done->get();
        seen.push_back(value);
    }
}

task<std::string> try_next(completion_order<int>& order) {
    try {
        const auto done = co_await order.next();
        co_return done ? std::to_string(done->get()) : "end";
    } catch (const operation_cancelled&) {
    }
    co_return "cancelled";
}

task<wait_result<int>> wait_in_task(std::vector<future<int>> futures, return_when when) {
    wait_result<int> result = co_await wait(futures, when);
    co_return result;
}

}  // namespace

TEST_CASE("as_completed gives a task futures in the order in which they get done") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{4};
            some.promises[2].set_value(2);
            some.promises[1].set_value(1);
            auto order = as_completed(some.futures);
            std::vector<int> seen;
            task_group group;
            group.spawn(take_all(order, seen));
            co_await settle();
            CHECK(seen == std::vector{1, 2});  // done before: as they were given
            some.promises[3].set_value(3);
            co_await settle();
            some.promises[0].set_value(0);
            co_await group.join();
            CHECK(seen == std::vector{1, 2, 3, 0});
            const auto end = co_await order.next();
            CHECK_FALSE(end.has_value());
        });
    });
}

TEST_CASE("as_completed gives a thread futures as other threads complete them") {
    sources some{100};
    std::thread worker([&] {
        for (std::size_t i = 100; i-- != 0;) some.promises[i].set_value(static_cast<int>(i));
    });
    std::vector<bool> seen(100);
    int count = 0;
    for (auto& done : as_completed(some.futures)) {
        REQUIRE(done.done());
        seen[static_cast<std::size_t>(done.get())] = true;
        ++count;
    }
    worker.join();
    CHECK(count == 100);
    CHECK(seen == std::vector<bool>(100, true));
    for (auto& done : as_completed(std::vector<future<int>>{})) {
        (void)done;
        FAIL("there is nothing to give");
    }
}

TEST_CASE("as_completed loses nothing between a task and several threads") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 10; ++round) {
            sources some{90};
            std::latch begin{3};
            std::vector<std::thread> threads;
            for (std::size_t t = 0; t < 3; ++t) {
                threads.emplace_back([&, t] {
                    begin.arrive_and_wait();
                    for (std::size_t i = t; i < 90; i += 3) {
                        some.promises[i].set_value(static_cast<int>(i));
                    }
                });
            }
            std::vector<int> seen;
            run([&]() -> task<> {
                auto order = as_completed(some.futures);
                co_await take_all(order, seen);
            });
            for (std::thread& one : threads) one.join();
            int sum = 0;
            for (const int one : seen) sum += one;
            CHECK(seen.size() == 90);
            CHECK(sum == 90 * 89 / 2);
        }
    });
}

TEST_CASE("as_completed is dropped early, while its futures are pending, done and gone") {
    sources some{3};
    {
        auto order = as_completed(std::exchange(some.futures, {}));
        some.promises[0].set_value(0);
        CHECK(order.begin()->get() == 0);
        some.promises[1].set_value(1);
    }
    some.promises[2].set_value(2);
}

TEST_CASE("as_completed is dropped at the very time when its futures get done") {
    for (int round = 0; round < 100; ++round) {
        sources some{20};
        std::latch begin{2};
        std::thread worker([&] {
            begin.arrive_and_wait();
            for (promise<int>& one : some.promises) one.set_value(1);
        });
        {
            auto order = as_completed(std::exchange(some.futures, {}));
            begin.arrive_and_wait();
            CHECK(order.begin()->get() == 1);
        }
        worker.join();
    }
}

TEST_CASE("a cancelled next() gives up and loses nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{2};
            auto order = as_completed(some.futures);
            task_group group;
            auto first = group.spawn(try_next(order));
            first.cancel();
            const std::string before = co_await first;
            CHECK(before == "cancelled");
            auto second = group.spawn(try_next(order));
            co_await settle();
            second.cancel();
            const std::string during = co_await second;
            CHECK(during == "cancelled");
            auto third = group.spawn(try_next(order));
            co_await settle();
            some.promises[1].set_value(1);
            third.cancel();  // too late
            const std::string after = co_await third;
            CHECK(after == "1");
            some.promises[0].set_value(0);
            const std::string last = co_await try_next(order);
            CHECK(last == "0");
            const std::string end = co_await try_next(order);
            CHECK(end == "end");
            co_await group.join();
        });
    });
}

TEST_CASE("next() takes a time limit, as_result and when_any, and loses nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{1};
            auto order = as_completed(some.futures);
            const auto late = co_await as_result(with_timeout(1ms, order.next()));
            CHECK(late.error() == std::errc::timed_out);
            const auto first = co_await when_any(order.next(), yield());
            CHECK(first.index() == 1);
            some.promises[0].set_value(7);
            const auto now = co_await as_result(with_timeout(1h, order.next()));
            CHECK(now.has_value());
            CHECK((*now)->get() == 7);
        });
    });
}

TEST_CASE("wait ends when all are done, in a task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{3};
            task_group group;
            auto waiter = group.spawn(wait_in_task(some.futures, return_when::all));
            some.promises[0].set_value(0);
            some.promises[1].set_exception(broken());
            co_await settle();
            CHECK_FALSE(waiter.done());
            CHECK(some.futures[2].cancel());
            const wait_result<int> result = co_await waiter;
            CHECK(result.done.size() == 3);
            CHECK(result.not_done.empty());
            co_await group.join();
        });
    });
}

TEST_CASE("wait ends with the first that is done, in a task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{3};
            task_group group;
            auto waiter = group.spawn(wait_in_task(some.futures, return_when::first_completed));
            co_await settle();
            CHECK_FALSE(waiter.done());
            some.promises[1].set_value(1);
            const auto [done, not_done] = co_await waiter;
            REQUIRE(done.size() == 1);
            CHECK(done[0].get() == 1);
            CHECK(not_done.size() == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("wait ends with the first exception, a cancelled future being none") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{4};
            task_group group;
            auto waiter = group.spawn(wait_in_task(some.futures, return_when::first_exception));
            some.promises[0].set_value(1);
            CHECK(some.futures[1].cancel());
            co_await settle();
            CHECK_FALSE(waiter.done());
            some.promises[2].set_exception(broken());
            const auto [done, not_done] = co_await waiter;
            CHECK(done.size() == 3);
            CHECK(not_done.size() == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled wait gives up, and its futures go on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{2};
            task_group group;
            auto waiter = group.spawn(wait_in_task(some.futures, return_when::all));
            co_await settle();
            waiter.cancel();
            const auto result = co_await as_result(std::move(waiter));
            CHECK(result.error() == std::errc::operation_canceled);
            some.promises[0].set_value(4);
            CHECK(some.futures[0].get() == 4);
            co_await group.join();
        });
    });
}

TEST_CASE("a plain thread waits in all three ways") {
    sources some{2};
    some.promises[0].set_exception(broken());
    const auto [first, rest] = wait(some.futures, return_when::first_completed).get();
    CHECK(first.size() == 1);
    CHECK(rest.size() == 1);
    const auto [failed, others] = wait(some.futures, return_when::first_exception).get();
    CHECK(failed.size() == 1);
    CHECK(others.size() == 1);
    std::thread worker([&] { some.promises[1].set_value(1); });
    const auto [all, none] = wait(some.futures).get();
    worker.join();
    CHECK(all.size() == 2);
    CHECK(none.empty());
    CHECK(wait(std::vector<future<int>>{}, return_when::first_completed).get().done.empty());
}

TEST_CASE("the same future given several times counts once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            sources some{3};
            std::vector<future<int>> repeated{some.futures[1], some.futures[0], some.futures[1],
                                              some.futures[2], some.futures[0]};
            some.promises[2].set_value(2);
            some.promises[0].set_value(0);
            some.promises[1].set_value(1);
            auto order = as_completed(repeated);
            std::vector<int> seen;
            co_await take_all(order, seen);
            CHECK(seen == std::vector{1, 0, 2});
            const auto all = co_await wait_in_task(repeated, return_when::all);
            CHECK(all.done.size() == 3);
            CHECK(all.not_done.empty());
        });
    });
    sources some{2};
    const std::vector<future<int>> repeated{some.futures[0], some.futures[1], some.futures[0]};
    some.promises[0].set_value(0);
    const auto first = wait(repeated, return_when::first_completed).get();
    CHECK(first.done.size() == 1);
    CHECK(first.not_done.size() == 1);
}

TEST_CASE("a future that stands for nothing is refused by as_completed and wait") {
    const std::vector<future<int>> nothing(2);
    CHECK_THROWS_AS((void)as_completed(nothing), std::future_error);
    CHECK_THROWS_AS((void)wait(nothing), std::future_error);
}

}  // namespace rondo::test
