#include <rondo/runtime/run.hpp>

#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include "support/live_memory.hpp"
#include "support/pipe_ends.hpp"
#include "support/process_state.hpp"
#include "support/support.hpp"
#include "support/unheard_errors.hpp"

#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<int> add(int a, int b) {
    co_await yield();
    co_return a + b;
}

task<int> sum_of_many(int count) {
    long sum = 0;
    task_group group;
    for (int i = 0; i < count; ++i) {
        group.spawn(
            [&sum](int number) -> task<> {
                co_await sleep_for(1us);
                co_await yield();
                sum += number;
            },
            i);
    }
    co_await group.join();
    co_return static_cast<int>(sum);
}

task<reactor_kind> kind_in_use() { co_return this_scheduler().reactor(); }

}  // namespace

TEST_CASE("run gives the result of a task: a value, a reference, a move-only thing, nothing") {
    on_each_reactor_kind([](auto run) {
        CHECK(run(add(1, 2)) == 3);
        int number = 0;
        int& same = run([](int& one) -> task<int&> { co_return one; }(number));
        CHECK(&same == &number);
        const auto box = run([]() -> task<std::unique_ptr<int>> {
            co_await yield();
            co_return std::make_unique<int>(4);
        });
        REQUIRE(box);
        CHECK(*box == 4);
        run([](int& one) -> task<> {
            one = 5;
            co_return;
        }(number));
        CHECK(number == 5);
    });
}

TEST_CASE("run takes a callable and keeps it until its task has ended") {
    on_each_reactor_kind([](auto run) {
        const std::string text(100, 'x');
        const auto length =
            run([copy = text, box = std::make_unique<int>(1)]() -> task<std::size_t> {
                co_await yield();
                co_return copy.size() + static_cast<std::size_t>(*box);
            });
        CHECK(length == 101);
    });
    CHECK(rondo::run(kind_in_use, {.reactor = reactor_kind::epoll}) == reactor_kind::epoll);
}

TEST_CASE("run throws what its task ended with, and can be called again") {
    on_each_reactor_kind([](auto run) {
        auto failing = []() -> task<int> {
            co_await yield();
            throw std::runtime_error("out of the main task");
        };
        for (int i = 0; i < 3; ++i) {
            CHECK_THROWS_WITH_AS((void)run(failing), "out of the main task", std::runtime_error);
            CHECK(run(add(i, 1)) == i + 1);
        }
        CHECK_THROWS_AS(run([]() -> task<> {
                            co_await yield();
                            throw operation_cancelled{};
                        }),
                        operation_cancelled);
    });
}

TEST_CASE("run inside a task is refused and leaves the outer one as it was") {
    on_each_reactor_kind([](auto run) {
        const int sum = run([]() -> task<int> {
            CHECK_THROWS_AS((void)rondo::run(add(1, 2)), std::logic_error);
            CHECK_THROWS_AS((void)rondo::run([]() -> task<> { co_return; }), std::logic_error);
            co_return co_await add(3, 4);
        });
        CHECK(sum == 7);
    });
}

TEST_CASE("run refuses options that make no sense") {
    CHECK_THROWS_AS((void)rondo::run(add(1, 2), {.reactors = 1025}), std::invalid_argument);
    CHECK(rondo::run(add(1, 2)) == 3);
}

TEST_CASE("several threads run at the same time, each with a scheduler of its own") {
    on_each_reactor_kind([](auto run) {
        constexpr int count = 4;
        std::array<int, count> sums{};
        std::array<const void*, count> schedulers{};
        std::atomic<int> inside{0};
        std::vector<std::thread> all;
        for (int i = 0; i < count; ++i) {
            const auto index = static_cast<std::size_t>(i);
            all.emplace_back([&, index] {
                sums[index] = run([&, index]() -> task<int> {
                    schedulers[index] = &this_scheduler();
                    ++inside;
                    while (inside != count) co_await yield();  // all are running now
                    co_return co_await sum_of_many(100 * static_cast<int>(index + 1));
                });
            });
        }
        for (auto& each : all) each.join();
        CHECK(sums == std::array<int, count>{4'950, 19'900, 44'850, 79'800});
        for (std::size_t i = 1; i < count; ++i) CHECK(schedulers[i] != schedulers[0]);
    });
}

TEST_CASE("run leaves no descriptor, no thread and no memory behind") {
    on_each_reactor_kind([](auto run) {
        const pipe_ends pipe;
        auto everything = [&]() -> task<> {
            CHECK(co_await sum_of_many(50) == 1'225);
            task_group group;
            group.spawn([&]() -> task<> { (void)co_await poll_fd(pipe.read_end, POLLIN); });
            group.spawn([]() -> task<> { co_await sleep_for(1h); });
            group.spawn([]() -> task<> {
                co_await settle();
                throw std::runtime_error("ends everything");
            });
            co_await group.join();
        };
        auto run_it = [&] {
            CHECK_THROWS_WITH_AS(run(everything), "ends everything", std::runtime_error);
        };
        run_it();
        const auto descriptors_before = open_descriptors();
        const auto threads_before = threads();
        const auto bytes_before = live_bytes();
        for (int i = 0; i < 20; ++i) run_it();
        CHECK(open_descriptors() == descriptors_before);
        CHECK(threads() == threads_before);
        CHECK(live_bytes() <= bytes_before + 4 * 1024);
    });
}

TEST_CASE("run starts no thread of its own") {
    on_each_reactor_kind([](auto run) {
        const auto before = threads();
        const auto caller = std::this_thread::get_id();
        run([&]() -> task<> {
            co_await sleep_for(1ms);
            CHECK(std::this_thread::get_id() == caller);
            CHECK(threads() == before);
        });
    });
}

TEST_CASE("RONDO_REACTOR decides for who does not ask by name") {
    on_each_reactor_kind([](auto run) {
        const std::string name(to_string(run.kind()));
        const environment variable("RONDO_REACTOR", name.c_str());
        CHECK(rondo::run(kind_in_use) == run.kind());
        CHECK(rondo::run(kind_in_use, {.reactor = reactor_kind::epoll}) == reactor_kind::epoll);
    });
    {
        const environment variable("RONDO_REACTOR", "");
        CHECK(rondo::run(kind_in_use) != reactor_kind::automatic);
    }
}

TEST_CASE("an unknown name in RONDO_REACTOR is an error that names the choices") {
    const environment variable("RONDO_REACTOR", "kqueue");
    CHECK_THROWS_WITH_AS(
        (void)rondo::run(kind_in_use),
        "RONDO_REACTOR: unknown reactor 'kqueue': it is automatic, io_uring or epoll",
        std::invalid_argument);
    CHECK(rondo::run(kind_in_use, {.reactor = reactor_kind::epoll}) == reactor_kind::epoll);
}

TEST_CASE("of the exceptions that end a run, those that it does not throw go to the hook") {
    on_each_reactor_kind([](auto run) {
        const unheard_errors unheard;
        const auto work = []() -> task<> {
            this_scheduler().post([] { throw std::runtime_error("first"); });
            this_scheduler().post([] { throw std::runtime_error("second"); });
            try {
                co_await sleep_for(std::chrono::hours(1));
            } catch (const operation_cancelled&) {
                throw std::runtime_error("clean-up failed");
            }
        };
        CHECK_THROWS_WITH_AS(run(work), "first", std::runtime_error);
        CHECK(unheard.all() == std::vector<std::string>{"second", "clean-up failed"});
        CHECK(unheard.last_origin() == "the task that run() was given");
    });
}

TEST_CASE("an exception of a posted call goes to the hook where nobody calls run() any more") {
    on_each_reactor_kind([](auto run) {
        const unheard_errors unheard;
        {
            runtime rt{{.reactor = run.kind()}};
            rt.post([] { throw std::runtime_error("posted"); });
            while (rt.post([] {})) std::this_thread::yield();
            CHECK(unheard.all().empty());
        }
        CHECK(unheard.all() == std::vector<std::string>{"posted"});
        {
            runtime rt{{.reactor = run.kind()}};
            rt.post([] { throw std::runtime_error("thrown"); });
            while (rt.post([] {})) std::this_thread::yield();
            CHECK_THROWS_WITH_AS(rt.run([]() -> task<> { co_return; }), "thrown",
                                 std::runtime_error);
        }
        CHECK(unheard.all() == std::vector<std::string>{"posted"});
    });
}

}  // namespace rondo::test
