#include <rondo/runtime/offload.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/testing/testing.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <latch>
#include <memory>

#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/process_state.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

template <class Work>
decltype(auto) run_with_pool(const run_on& run, unsigned threads, Work work) {
    return rondo::run(std::move(work), {.reactor = run.kind(), .pool_threads = threads});
}

/// Keeps one thread of the pool until it is told to end.
struct blocker {
    std::latch begun{1};
    std::latch may_end{1};
    std::atomic<bool> ended{false};

    task<> work() {
        co_await offload([this] {
            begun.count_down();
            may_end.wait();
            ended = true;
        });
    }
};

template <class T>
task<bool> ends_cancelled(task_handle<T>& handle) {
    try {
        co_await handle;
    } catch (const operation_cancelled&) {
        co_return true;
    }
    co_return false;
}

}  // namespace

TEST_CASE("offload runs a function on a thread of the pool and gives what it returns") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto reactor = std::this_thread::get_id();
            std::thread::id where = reactor;
            const int answer = co_await offload([&where] {
                where = std::this_thread::get_id();
                return 42;
            });
            CHECK(answer == 42);
            CHECK(where != reactor);
            CHECK(std::this_thread::get_id() == reactor);

            bool called = false;
            co_await offload([&called] { called = true; });
            CHECK(called);

            int number = 0;
            int& same = co_await offload([&number]() -> int& { return number; });
            CHECK(&same == &number);

            const auto hand_back = [](std::unique_ptr<int> given) { return given; };
            auto work = offload(hand_back, std::make_unique<int>(5));
            const std::unique_ptr<int> box = co_await work;
            REQUIRE(box);
            CHECK(*box == 5);
        });
    });
}

TEST_CASE("what an offloaded function throws is thrown by the await") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string told;
            try {
                co_await offload([]() -> int { throw std::runtime_error("from the pool"); });
            } catch (const std::runtime_error& error) {
                told = error.what();
            }
            CHECK(told == "from the pool");
            told.clear();
            try {
                co_await offload([](std::stop_token) { throw std::runtime_error("as well"); });
            } catch (const std::runtime_error& error) {
                told = error.what();
            }
            CHECK(told == "as well");
            const int fine = co_await offload(
                [](std::stop_token stop) { return stop.stop_requested() ? 0 : 3; });
            CHECK(fine == 3);
            const auto failed = co_await as_result(offload([]() -> int {
                throw std::system_error(std::make_error_code(std::errc::io_error), "disk");
            }));
            CHECK(failed.error() == std::errc::io_error);
        });
    });
}

TEST_CASE("the reactor goes on while a job runs") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            blocker one;
            task_group group;
            auto job = group.spawn(one.work());
            co_await until([&] { return one.begun.try_wait(); });
            for (int i = 0; i < 100; ++i) co_await yield();
            co_await sleep_for(1us);
            CHECK_FALSE(job.done());
            CHECK_FALSE(one.ended);
            one.may_end.count_down();
            co_await group.join();
            CHECK(one.ended);
        });
    });
}

TEST_CASE("a job that is cancelled before it has started never does") {
    on_each_reactor_kind([](auto run) {
        run_with_pool(run, 1, []() -> task<> {
            blocker one;
            std::atomic<int> ran{0};
            std::atomic<int> alive{0};
            task_group group;
            group.spawn(one.work());
            co_await until([&] { return one.begun.try_wait(); });
            auto plain = group.spawn(offload([&ran](counted&) { ++ran; }, counted{alive}));
            auto stoppable =
                group.spawn(offload([&ran](std::stop_token, counted&) { ++ran; }, counted{alive}));
            auto last = group.spawn(offload([&ran] { ++ran; }));
            co_await settle();
            plain.cancel();
            stoppable.cancel();
            const bool plain_cancelled = co_await ends_cancelled(plain);
            CHECK(plain_cancelled);  // it does not wait for the thread
            const bool stoppable_cancelled = co_await ends_cancelled(stoppable);
            CHECK(stoppable_cancelled);
            CHECK_FALSE(one.ended);
            one.may_end.count_down();
            co_await last;
            CHECK(ran == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("an offload in a cancelled scope does not reach the pool") {
    on_each_reactor_kind([](auto run) {
        const auto before = threads();
        run([&]() -> task<> {
            bool ran = false;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await offload([&ran] { ran = true; });
            });
            CHECK_FALSE(ended);
            const bool also_ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await offload([&ran](std::stop_token) { ran = true; });
            });
            CHECK_FALSE(also_ended);
            CHECK_FALSE(ran);
            CHECK(threads() == before);
        });
    });
}

TEST_CASE("a running job without a stop_token is waited for, and its result is given") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::latch begun{1};
            std::latch may_end{1};
            task_group group;
            auto job = group.spawn(offload([&] {
                begun.count_down();
                may_end.wait();
                return 6;
            }));
            co_await until([&] { return begun.try_wait(); });
            job.cancel();
            for (int i = 0; i < 100; ++i) co_await yield();
            CHECK_FALSE(job.done());
            may_end.count_down();
            const int six = co_await job;
            CHECK(six == 6);
            co_await group.join();
        });
    });
}

TEST_CASE("a running job with a stop_token is asked to stop, and waited for") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::atomic<bool> begun{false};
            std::atomic<bool> ended{false};
            const auto job = [&](std::stop_token stop) {
                begun = true;
                while (!stop.stop_requested()) std::this_thread::yield();
                ended = true;
                return 5;
            };
            task_group group;
            auto stopped = group.spawn(offload(job));
            co_await until([&] { return begun.load(); });
            stopped.cancel();
            const bool was_cancelled = co_await ends_cancelled(stopped);
            CHECK(was_cancelled);
            CHECK(ended);

            const auto late = co_await as_result(with_timeout(1ms, offload(job)));
            CHECK(late.error() == std::errc::timed_out);

            begun = false;
            auto failing = group.spawn(offload([&](std::stop_token stop) {
                begun = true;
                while (!stop.stop_requested()) std::this_thread::yield();
                throw std::runtime_error("stopped halfway");
            }));
            co_await until([&] { return begun.load(); });
            failing.cancel();
            std::string told;
            try {
                co_await group.join();
            } catch (const std::runtime_error& error) {
                told = error.what();
            }
            CHECK(told == "stopped halfway");
        });
    });
}

TEST_CASE("callbacks of the stop_token run on the reactor, while the job goes on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto reactor = std::this_thread::get_id();
            std::atomic<bool> begun{false};
            std::thread::id called_on;
            task_group group;
            auto job = group.spawn(offload([&](std::stop_token stop) {
                std::latch stopped{1};
                const std::stop_callback callback(stop, [&] {
                    called_on = std::this_thread::get_id();
                    stopped.count_down();
                });
                begun = true;
                while (!stopped.try_wait()) std::this_thread::yield();
            }));
            co_await until([&] { return begun.load(); });
            job.cancel();
            co_await group.join();
            CHECK(called_on == reactor);
        });
    });
}

TEST_CASE("jobs of a pool of one thread start in the order in which they come") {
    on_each_reactor_kind([](auto run) {
        run_with_pool(run, 1, []() -> task<> {
            std::vector<int> order;
            task_group group;
            for (int i = 0; i < 200; ++i) group.spawn(offload([&order, i] { order.push_back(i); }));
            co_await group.join();
            REQUIRE(order.size() == 200);
            for (int i = 0; i < 200; ++i) REQUIRE(order[static_cast<std::size_t>(i)] == i);
        });
    });
}

TEST_CASE("thousands of jobs from several reactors come back to the reactors they came from") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> ran{0};
        rondo::run(
            [&]() -> task<> {
                co_await on_each_reactor([&](std::size_t index) -> task<> {
                    task_group group;
                    for (int i = 0; i < 1'000; ++i) {
                        group.spawn(
                            [](std::atomic<int>& count, int number, std::size_t home) -> task<> {
                                const int back = co_await offload([&count, number] {
                                    ++count;
                                    return number;
                                });
                                REQUIRE(back == number);
                                REQUIRE(here() == home);
                            },
                            std::ref(ran), i, index);
                    }
                    co_await group.join();
                });
            },
            {.reactors = 3, .reactor = run.kind(), .pool_threads = 2});
        CHECK(ran == 3'000);
    });
}

TEST_CASE("jobs cancelled at random moments run once or never, and always end") {
    on_each_reactor_kind([](auto run) {
        run_with_pool(run, 2, []() -> task<> {
            std::atomic<int> ran{0};
            int completed = 0;
            int cancelled = 0;
            task_group group;
            std::vector<task_handle<void>> handles;
            for (int i = 0; i < 500; ++i) {
                handles.push_back(group.spawn(offload([&ran] { ++ran; })));
                if (i % 3 == 0) co_await yield();
                if (i % 2 == 0) handles[static_cast<std::size_t>(i / 2)].cancel();
            }
            for (auto& each : handles) {
                const bool was_cancelled = co_await ends_cancelled(each);
                ++(was_cancelled ? cancelled : completed);
            }
            co_await group.join();
            CHECK(ran == completed);
            CHECK(completed + cancelled == 500);
        });
    });
}

TEST_CASE("a runtime that stops waits for the jobs that run, and drops those that do not") {
    on_each_reactor_kind([](auto run) {
        blocker one;
        std::atomic<int> ran{0};
        std::atomic<bool> stopped_job{false};
        {
            runtime rt{{.reactors = 2, .reactor = run.kind(), .pool_threads = 2}};
            auto running = rt.submit(one.work());
            auto stoppable = rt.scheduler(1).submit(offload([&](std::stop_token stop) {
                while (!stop.stop_requested()) std::this_thread::yield();
                stopped_job = true;
            }));
            one.begun.wait();
            std::vector<std::future<void>> waiting;
            for (int i = 0; i < 10; ++i) waiting.push_back(rt.submit(offload([&] { ++ran; })));
            rt.stop();
            CHECK_THROWS_AS(stoppable.get(), operation_cancelled);
            for (auto& each : waiting) {
                try {
                    each.get();
                } catch (const operation_cancelled&) {
                }
            }
            CHECK_FALSE(one.ended);
            one.may_end.count_down();
            running.get();
        }
        CHECK(one.ended);
        CHECK(ran <= 10);
    });
}

TEST_CASE("a job that outlasts its cancelled task is waited for by the end of run") {
    on_each_reactor_kind([](auto run) {
        blocker one;
        std::thread helper;
        run_with_pool(run, 1, [&]() -> task<> {
            auto job = this_scheduler().submit(one.work());
            co_await until([&] { return one.begun.try_wait(); });
            helper = std::thread([&] { one.may_end.count_down(); });
        });
        CHECK(one.ended);
        helper.join();
    });
}

TEST_CASE("a task that is cancelled as it gives way before its job is queued ends cancelled") {
    on_each_reactor_kind([](auto run) {
        run_with_pool(run, 1, []() -> task<> {
            mutex lock;
            const auto use_up_turn_and_offload = [&](unsigned locks) -> task<> {
                co_await yield();
                for (unsigned i = 0; i < locks; ++i) {
                    const auto held = co_await lock.lock();
                }
                co_await offload([] {});
            };
            const auto cancel_at_next_turn = [](task_handle<void>& what) -> task<> {
                co_await yield();
                what.cancel();
            };
            // Each lock takes one of what a turn has, so one of these numbers leaves nothing for
            // the beginning of offload.
            constexpr unsigned a_turn = scheduler::immediate_operations * detail::operation_cost;
            for (unsigned locks = a_turn - 5; locks <= a_turn + 5; ++locks) {
                task_group group;
                auto one = group.spawn(use_up_turn_and_offload(locks));
                group.spawn(cancel_at_next_turn(one));
                co_await group.join();
            }
        });
    });
}

}  // namespace rondo::test
