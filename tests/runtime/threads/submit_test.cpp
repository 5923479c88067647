#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/threads/as_completed.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <concepts>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/sample_tasks.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

static_assert(std::convertible_to<future<int>, std::future<int>>);
static_assert(std::convertible_to<const future<int>&, std::future<int>>);
static_assert(!std::convertible_to<future<int>, std::future<long>>);

task<int> give(int number) {
    co_await yield();
    co_return number;
}

task<> rest_for_long() { co_await sleep_for(1h); }

/// Throws when it is moved for the last of so many times.
class moved_at_most {
public:
    explicit moved_at_most(int times) : left_(times) {}
    moved_at_most(moved_at_most&& other) : left_(other.left_ - 1) {
        if (left_ < 0) throw std::runtime_error("moved too often");
    }
    moved_at_most& operator=(moved_at_most&&) = delete;
    ~moved_at_most() = default;

private:
    int left_;
};

task<moved_at_most> give_moved_at_most(int times) {
    co_await yield();
    co_return moved_at_most{times};
}

}  // namespace

TEST_CASE("what submit gives is taken as a std::future by whoever wants one") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        std::future<int> one = rt.submit(give(1));
        CHECK(one.get() == 1);
        CHECK_FALSE(one.valid());
        std::vector<std::future<int>> several;
        for (int i = 0; i < 3; ++i) several.push_back(rt.scheduler(1).submit(give(i)));
        several.emplace_back(rt.submit(give(3)));
        for (int i = 0; i < 4; ++i) CHECK(several[static_cast<std::size_t>(i)].get() == i);
        std::optional<std::future<int>> maybe = rt.submit(give(5));
        CHECK(maybe->get() == 5);
        const std::shared_future<int> shared = rt.submit(give(6)).share();
        CHECK(shared.get() == 6);
        std::future<std::unique_ptr<int>> box =
            rt.submit([]() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(7); });
        CHECK(*box.get() == 7);
        int number = 0;
        std::future<int&> reference = rt.submit([&]() -> task<int&> { co_return number; });
        CHECK(&reference.get() == &number);
        std::future<void> failing = rt.submit(fail_with("no"));
        CHECK_THROWS_WITH_AS(failing.get(), "no", std::runtime_error);
        std::future<void> cancelled = rt.submit(rest_for_long());
        CHECK(cancelled.wait_for(0s) == std::future_status::timeout);
        rt.stop();
        CHECK_THROWS_AS(cancelled.get(), operation_cancelled);
    });
}

TEST_CASE("what submit gives is used as a std::future without being one") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactor = run.kind()}};
        auto soon = rt.submit(give(1));
        CHECK(soon.valid());
        soon.wait();
        CHECK(soon.wait_for(0s) == std::future_status::ready);
        CHECK(soon.wait_until(std::chrono::steady_clock::now()) == std::future_status::ready);
        const std::future_status status = soon.wait_for(1s);
        CHECK(status == std::future_status::ready);
        const bool done = soon.wait_for(1s);
        CHECK(done);
        const std::future<int> copy = soon;
        CHECK(soon.get() == 1);
        soon = rt.submit(give(2));
        CHECK(soon.get() == 2);
        const auto late = rt.submit(rest_for_long());
        CHECK(late.wait_for(1ms) != std::future_status::ready);
        CHECK(late.wait_until(std::chrono::system_clock::now() + 1ms) ==
              std::future_status::timeout);
    });
}

TEST_CASE("a task awaits what it has submitted, here and to another runtime") {
    on_each_reactor_kind([](auto run) {
        runtime other{{.reactor = run.kind()}};
        run_many(run, 2, [&]() -> task<> {
            const int near = co_await place(0).submit(give(1));
            const int beside = co_await place(1).submit(give(2));
            const int far = co_await other.submit(give(3));
            CHECK(near == 1);
            CHECK(beside == 2);
            CHECK(far == 3);
            const auto failed = co_await as_result(other.submit([]() -> task<int> {
                throw std::system_error(std::make_error_code(std::errc::io_error));
                co_return 0;
            }));
            CHECK(failed.error() == std::errc::io_error);
            auto sleeper = other.submit(rest_for_long());
            const auto late = co_await as_result(with_timeout(1ms, sleeper));
            CHECK(late.error() == std::errc::timed_out);
            std::vector<future<int>> several;
            for (int i = 0; i < 5; ++i) {
                several.push_back(place(static_cast<std::size_t>(i) % 2).submit(give(i)));
            }
            int sum = 0;
            auto order = as_completed(several);
            while (auto done = co_await order.next()) sum += done->get();
            CHECK(sum == 10);
            other.stop();
            const auto cancelled = co_await as_result(sleeper);
            CHECK(cancelled.error() == std::errc::operation_canceled);
        });
    });
}

TEST_CASE("submitted work whose future is cancelled before it begins never begins") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactor = run.kind()}};
        std::latch entered{1};
        std::latch gate{1};
        rt.post([&] {
            entered.count_down();
            gate.wait();
        });
        entered.wait();
        std::atomic<int> began{0};
        std::atomic<int> alive{0};
        const auto soon = rt.submit([&began, kept = counted{alive}]() -> task<> {
            ++began;
            co_return;
        });
        CHECK(soon.cancel());
        CHECK_THROWS_AS(soon.get(), operation_cancelled);
        gate.count_down();
        CHECK(rt.run(give(1)) == 1);
        CHECK(began == 0);
        while (alive != 0) std::this_thread::yield();
        const auto running = rt.submit(rest_for_long());
        while (!running.running()) std::this_thread::yield();
        CHECK_FALSE(running.cancel());
    });
}

TEST_CASE("a result that throws as it is moved is the future's exception and nobody else's") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactor = run.kind()}};
        const auto bystander = rt.submit(rest_for_long());
        int failures = 0;
        for (int times = 1; times < 12; ++times) {
            auto soon = rt.submit(give_moved_at_most(times));
            try {
                (void)std::move(soon).get();
            } catch (const std::runtime_error& error) {
                CHECK(std::string(error.what()) == "moved too often");
                ++failures;
            }
        }
        CHECK(failures > 1);
        CHECK(failures < 11);
        CHECK_FALSE(bystander.done());
        CHECK(rt.run(give(1)) == 1);
    });
}

}  // namespace rondo::test
