#include <rondo/runtime/threads/future.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/dump.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
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

#include "support/child_process.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

static_assert(std::is_nothrow_copy_constructible_v<future<std::unique_ptr<int>>>);
static_assert(!std::is_copy_constructible_v<promise<int>>);
static_assert(std::is_trivially_destructible_v<detail::future_awaiter<std::string>>);

/// "5", "cancelled" or "failed: why".
task<std::string> outcome_of(future<int> soon) {
    try {
        const int value = co_await soon;
        co_return std::to_string(value);
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    } catch (const std::exception& error) {
        co_return std::string("failed: ") + error.what();
    }
}

std::exception_ptr broken() { return std::make_exception_ptr(std::runtime_error("broken")); }

/// The code of the std::future_error that `action` throws.
template <class Action>
std::optional<std::future_errc> future_error_of(Action action) {
    try {
        action();
    } catch (const std::future_error& error) {
        return static_cast<std::future_errc>(error.code().value());
    }
    return std::nullopt;
}

}  // namespace

TEST_CASE("a future gives its value to every handle, again and again") {
    promise<std::string> source;
    future<std::string> one = source.get_future();
    future<std::string> other = one;
    CHECK(one.valid());
    CHECK_FALSE(one.done());
    source.set_value("a value longer than any small string");
    CHECK(one.done());
    CHECK_FALSE(one.running());
    CHECK(one.get() == "a value longer than any small string");
    CHECK(other.get() == "a value longer than any small string");
    CHECK(std::move(other).get() == one.get());  // not the last handle: a copy
}

TEST_CASE("the last handle, given away, moves the value out") {
    struct counted {
        counted() = default;
        counted(const counted& other) : copies(other.copies + 1) {}
        counted(counted&& other) noexcept : copies(other.copies) {}
        counted& operator=(const counted&) = delete;
        int copies = 0;
    };
    promise<counted> source;
    future<counted> soon = source.get_future();
    source.set_value(counted{});
    CHECK(soon.get().copies == 1);
    const counted moved = std::move(soon).get();
    CHECK(moved.copies == 0);
    CHECK(future_error_of([&] { (void)soon.get(); }) == std::future_errc::future_already_retrieved);
}

TEST_CASE("a value that cannot be copied is moved out once") {
    promise<std::unique_ptr<int>> source;
    const future<std::unique_ptr<int>> soon = source.get_future();
    const auto copy = soon;
    source.set_value(std::make_unique<int>(3));
    CHECK(*soon.get() == 3);
    CHECK(future_error_of([&] { (void)copy.get(); }) == std::future_errc::future_already_retrieved);
}

TEST_CASE("a future of a reference gives that reference, one of nothing gives nothing") {
    int number = 1;
    promise<int&> reference;
    const future<int&> soon = reference.get_future();
    reference.set_value(number);
    CHECK(&soon.get() == &number);
    promise<> nothing;
    const future<> end = nothing.get_future();
    nothing.set_value();
    end.get();
    CHECK(end.done());
}

TEST_CASE("a future throws the exception it was given, each time") {
    promise<int> source;
    const future<int> soon = source.get_future();
    source.set_exception(broken());
    CHECK_THROWS_WITH_AS(soon.get(), "broken", std::runtime_error);
    CHECK_THROWS_WITH_AS(soon.get(), "broken", std::runtime_error);
    future<int> last = soon;
    CHECK_THROWS_WITH_AS(std::move(last).get(), "broken", std::runtime_error);
}

TEST_CASE("what a value's constructor throws becomes the result") {
    struct picky {
        explicit(false) picky(int) { throw std::runtime_error("picky"); }
    };
    promise<picky> source;
    const future<picky> soon = source.get_future();
    source.set_value(1);
    CHECK_THROWS_WITH_AS(soon.get(), "picky", std::runtime_error);
}

TEST_CASE("a promise that is dropped leaves broken_promise, one that is kept does not") {
    future<int> soon;
    CHECK_FALSE(soon.valid());
    {
        promise<int> source;
        soon = source.get_future();
    }
    CHECK(future_error_of([&] { (void)soon.get(); }) == std::future_errc::broken_promise);
    promise<int> kept;
    soon = kept.get_future();
    kept.set_value(1);
    kept = promise<int>{};
    CHECK(soon.get() == 1);
}

TEST_CASE("a promise gives one future and takes one result") {
    promise<int> source;
    const future<int> soon = source.get_future();
    CHECK(future_error_of([&] { (void)source.get_future(); }) ==
          std::future_errc::future_already_retrieved);
    source.set_value(1);
    CHECK(future_error_of([&] { source.set_value(2); }) ==
          std::future_errc::promise_already_satisfied);
    CHECK(future_error_of([&] { source.set_exception(broken()); }) ==
          std::future_errc::promise_already_satisfied);
    CHECK(soon.get() == 1);
}

TEST_CASE("a future can be cancelled until it runs") {
    promise<int> early;
    const future<int> stopped = early.get_future();
    CHECK(stopped.cancel());
    CHECK(stopped.cancel());
    CHECK(stopped.cancelled());
    CHECK(stopped.done());
    CHECK_FALSE(early.set_running());
    early.set_value(1);  // nobody wants it
    CHECK_THROWS_AS(stopped.get(), operation_cancelled);

    promise<int> late;
    const future<int> going = late.get_future();
    CHECK(late.set_running());
    CHECK(going.running());
    CHECK_FALSE(going.cancel());
    late.set_value(2);
    CHECK_FALSE(going.cancel());
    CHECK(going.get() == 2);
}

// cancel() went on with a future that its own callback had destroyed.
TEST_CASE("a done callback may drop the last handle of the future that is being cancelled") {
    promise<int> early;
    auto handle = std::make_unique<future<int>>(early.get_future());
    handle->add_done_callback([&](const future<int>&) {
        handle.reset();
        early = promise<int>{};
    });
    CHECK(handle->cancel());
    CHECK(handle == nullptr);
}

TEST_CASE("a thread waits for a future, with a limit or without") {
    promise<int> source;
    const future<int> soon = source.get_future();
    CHECK_FALSE(soon.wait_for(0s));
    CHECK_FALSE(soon.wait_for(1ms));
    std::latch waiting{3};
    std::atomic<int> sum{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            waiting.count_down();
            sum += soon.get();
        });
    }
    threads.emplace_back([&] {
        waiting.count_down();
        if (soon.wait_for(1h)) sum += soon.get();
    });
    waiting.wait();
    source.set_value(5);
    for (std::thread& one : threads) one.join();
    CHECK(sum == 15);
}

TEST_CASE("done callbacks run once, in the order of adding, late ones at once") {
    promise<int> source;
    const future<int> soon = source.get_future();
    std::vector<int> seen;
    for (int i = 0; i < 5; ++i) {
        soon.add_done_callback([&seen, i](future<int> done) { seen.push_back(done.get() + i); });
    }
    CHECK(seen.empty());
    source.set_value(10);
    CHECK(seen == std::vector{10, 11, 12, 13, 14});
    soon.add_done_callback([&](const future<int>& done) { seen.push_back(done.get() + 5); });
    CHECK(seen.back() == 15);
}

TEST_CASE("a callback that throws does not keep the others from running") {
    promise<int> source;
    const future<int> soon = source.get_future();
    int ran = 0;
    soon.add_done_callback([](future<int>) { throw std::runtime_error("callback, as expected"); });
    soon.add_done_callback([](future<int>) { throw operation_cancelled{}; });
    soon.add_done_callback([&](future<int> done) { ran += done.cancelled() ? 1 : 100; });
    CHECK(soon.cancel());
    CHECK(ran == 1);
}

TEST_CASE("a callback holds a handle: the value is not moved away before it has run") {
    promise<std::string> source;
    std::string seen;
    {
        future<std::string> soon = source.get_future();
        soon.add_done_callback([&](future<std::string> done) { seen = std::move(done).get(); });
    }
    source.set_value("text");
    CHECK(seen == "text");
}

TEST_CASE("a task awaits a future that a thread completes, and resumes on its own scheduler") {
    on_each_reactor_kind([](auto run) {
        promise<int> source;
        future<int> soon = source.get_future();
        std::latch waiting{1};
        std::thread worker([&] {
            waiting.wait();
            source.set_value(7);
        });
        run([&]() -> task<> {
            const auto home = std::this_thread::get_id();
            task_group group;
            auto waiter = group.spawn(outcome_of(soon));
            co_await settle();
            CHECK_FALSE(waiter.done());
            waiting.count_down();
            const std::string got = co_await waiter;
            CHECK(got == "7");
            CHECK(std::this_thread::get_id() == home);
            const int again = co_await soon;
            CHECK(again == 7);
            co_await group.join();
        });
        worker.join();
    });
}

TEST_CASE("a task gets values, references, nothing and what moves only from futures") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int number = 1;
            promise<std::unique_ptr<int>> box;
            promise<int&> reference;
            promise<> nothing;
            auto soon_box = box.get_future();
            auto soon_reference = reference.get_future();
            auto soon_nothing = nothing.get_future();
            box.set_value(std::make_unique<int>(4));
            reference.set_value(number);
            nothing.set_value();
            const std::unique_ptr<int> got = co_await std::move(soon_box);
            CHECK(*got == 4);
            int& same = co_await soon_reference;
            CHECK(&same == &number);
            co_await soon_nothing;
        });
    });
}

TEST_CASE("a task is thrown a future's exception, its cancellation and its broken promise") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> failing;
            promise<int> unwanted;
            std::optional<promise<int>> dropped{std::in_place};
            task_group group;
            const future<int> stopped = unwanted.get_future();
            auto one = group.spawn(outcome_of(failing.get_future()));
            auto two = group.spawn(outcome_of(stopped));
            auto three = group.spawn(outcome_of(dropped->get_future()));
            co_await settle();
            failing.set_exception(broken());
            CHECK(stopped.cancel());
            dropped.reset();
            const std::string first = co_await one;
            const std::string second = co_await two;
            const std::string third = co_await three;
            CHECK(first == "failed: broken");
            CHECK(second == "cancelled");
            CHECK(third.starts_with("failed: "));
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled task gives up a future: before, while, and not after it is done") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            const future<int> soon = source.get_future();
            task_group group;
            auto before = group.spawn(outcome_of(soon));
            before.cancel();
            auto during = group.spawn(outcome_of(soon));
            auto after = group.spawn(outcome_of(soon));
            co_await settle();
            during.cancel();
            const std::string first = co_await before;
            const std::string second = co_await during;
            CHECK(first == "cancelled");
            CHECK(second == "cancelled");
            CHECK_FALSE(soon.done());
            CHECK_FALSE(after.done());
            source.set_value(3);
            after.cancel();
            const std::string third = co_await after;
            CHECK(third == "3");
            co_await group.join();
        });
    });
}

TEST_CASE("a task gives up the same future again and again, then gets its value") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            const future<int> soon = source.get_future();
            for (int i = 0; i < 100; ++i) {
                task_group group;
                auto one = group.spawn(outcome_of(soon));
                auto two = group.spawn(outcome_of(soon));
                co_await settle();
                group.cancel();
                co_await group.join();
            }
            task_group group;
            auto last = group.spawn(outcome_of(soon));
            co_await settle();
            source.set_value(6);
            const std::string got = co_await last;
            CHECK(got == "6");
            co_await group.join();
        });
    });
}

TEST_CASE("a future works with time limits, as_result and when_any") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            promise<int> never;
            const future<int> soon = source.get_future();
            const future<int> late = never.get_future();
            const auto timed_out = co_await as_result(with_timeout(1ms, late));
            CHECK(timed_out.error() == std::errc::timed_out);
            source.set_value(1);
            const auto value = co_await as_result(soon);
            CHECK(value.value() == 1);
            const auto winner = co_await when_any(late, soon);
            CHECK(winner.index() == 1);
            CHECK(late.cancel());
            const auto cancelled = co_await as_result(late);
            CHECK(cancelled.error() == std::errc::operation_canceled);
        });
    });
}

TEST_CASE("threads, tasks and callbacks wait for one future at once, and one thread completes it") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 20; ++round) {
            promise<int> source;
            const future<int> soon = source.get_future();
            std::atomic<int> sum{0};
            std::latch ready{3};
            std::vector<std::thread> threads;
            for (int i = 0; i < 2; ++i) {
                threads.emplace_back([&] {
                    for (int n = 0; n < 10; ++n) {
                        soon.add_done_callback([&](future<int> done) { sum += done.get(); });
                    }
                    ready.count_down();
                    sum += soon.get();
                });
            }
            threads.emplace_back([&] {
                ready.arrive_and_wait();
                source.set_value(1);
            });
            run([&]() -> task<> {
                task_group group;
                std::vector<task_handle<std::string>> waiters;
                for (int i = 0; i < 20; ++i) waiters.push_back(group.spawn(outcome_of(soon)));
                co_await yield();
                // half of them give up, at the very time when the value comes
                for (std::size_t i = 0; i < 20; i += 2) waiters[i].cancel();
                for (std::size_t i = 0; i < 20; ++i) {
                    const std::string got = co_await waiters[i];
                    const bool may_be_cancelled = i % 2 == 0 && got == "cancelled";
                    CHECK((got == "1" || may_be_cancelled));
                }
                co_await group.join();
            });
            for (std::thread& one : threads) one.join();
            CHECK(sum == 22);
        }
    });
}

TEST_CASE("a dump says that a task waits for a future") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            const future<int> soon = source.get_future();
            task_group group;
            group.spawn(outcome_of(soon));
            co_await settle();
            char* text = nullptr;
            std::size_t size = 0;
            std::FILE* const out = ::open_memstream(&text, &size);
            dump_tasks(out);
            std::fclose(out);
            CHECK(std::string(text, size).find("a future") != std::string::npos);
            std::free(text);
            source.set_value(1);
            co_await group.join();
        });
    });
}

// Checks that cost something at each use are left out of release builds.
#ifndef NDEBUG

TEST_CASE("a task that blocks on a future aborts and says so") {
    on_each_reactor_kind([](auto run) {
        const ended_child died = child_with_pipe([&](int out) {
            ::dup2(out, STDERR_FILENO);
            run([]() -> task<> {
                promise<int> source;
                const future<int> soon = source.get_future();
                (void)soon.get();
                co_return;
            });
        });
        CHECK(WIFSIGNALED(died.status));
        CHECK(WTERMSIG(died.status) == SIGABRT);
        CHECK(died.text.starts_with("rondo: a task blocks on a future; co_await it instead ("));
        CHECK(died.text.find("future_test.cpp") != std::string::npos);
    });
}

#endif

}  // namespace rondo::test
