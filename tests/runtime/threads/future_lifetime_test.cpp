#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/core/unheard_error.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/future.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <exception>
#include <future>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/live_memory.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

std::exception_ptr broken() { return std::make_exception_ptr(std::runtime_error("broken")); }

std::vector<std::string> unheard;

/// Notes what no one hears, while it lives.
class listening {
public:
    listening() {
        unheard.clear();
        before_ = set_unheard_error_hook([](const unheard_error& lost) {
            unheard.push_back(std::string(lost.origin) + ": " + detail::text_of(lost.error));
        });
    }
    listening(const listening&) = delete;
    listening& operator=(const listening&) = delete;
    ~listening() { set_unheard_error_hook(before_); }

private:
    unheard_error_hook before_;
};

const std::vector<std::string> broken_once{"a future that nobody asked: broken"};

/// A result that says on which thread it ended.
class noting_its_end {
public:
    explicit noting_its_end(std::thread::id& end) : end_(&end) {}
    noting_its_end(noting_its_end&& other) noexcept : end_(std::exchange(other.end_, nullptr)) {}
    noting_its_end& operator=(noting_its_end&&) = delete;
    ~noting_its_end() {
        if (end_ != nullptr) *end_ = std::this_thread::get_id();
    }

private:
    std::thread::id* end_;
};

/// Waits for a future that another task may drop meanwhile.
task<int> value_of(std::unique_ptr<future<int>>& soon) {
    const int value = co_await *soon;
    co_return value;
}

/// Asks as the last thing in its turn, after as many awaits as one has.
task<int> value_at_the_end_of_a_turn(std::unique_ptr<future<int>>& soon) {
    promise<> source;
    const future<> there = source.get_future();
    source.set_value();
    for (unsigned i = 1; i < scheduler::immediate_operations; ++i) co_await there;
    REQUIRE(soon != nullptr);
    const int value = co_await *soon;
    CHECK(soon == nullptr);
    co_return value;
}

task<> drop(std::unique_ptr<future<int>>& soon) {
    soon.reset();
    co_return;
}

task<> wait_for(future<> soon) { co_await soon; }

/// A promise on the stack of the one that waits for it.
task<int> ask(std::vector<promise<int>*>& asked) {
    promise<int> answer;
    asked.push_back(&answer);
    future<int> soon = answer.get_future();
    const int value = co_await soon;
    co_return value;
}

}  // namespace

TEST_CASE("a done callback may drop the promise that is being kept") {
    for (const bool fails : {false, true}) {
        auto source = std::make_unique<promise<int>>();
        promise<int>& answer = *source;
        int ran = 0;
        source->get_future().add_done_callback([&](const future<int>&) {
            source.reset();
            ++ran;
        });
        if (fails) {
            const listening ears;
            answer.set_exception(broken());
        } else {
            answer.set_value(1);
        }
        CHECK(source == nullptr);
        CHECK(ran == 1);
    }
}

TEST_CASE("a done callback may drop the promise that another one takes the place of") {
    promise<int> source;
    source.get_future().add_done_callback([&](const future<int>&) { source = promise<int>{}; });
    source = promise<int>{};
    CHECK_FALSE(source.get_future().done());
}

TEST_CASE("a promise may lie on the stack of a thread or in the frame of a task that waits") {
    for (int round = 0; round < 200; ++round) {
        std::atomic<promise<int>*> asked{nullptr};
        std::thread asking([&] {
            promise<int> answer;
            const future<int> soon = answer.get_future();
            asked = &answer;
            CHECK(soon.get() == 3);
        });
        while (asked.load() == nullptr) std::this_thread::yield();
        asked.load()->set_value(3);
        asking.join();
    }
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<promise<int>*> asked;
            task_group group;
            auto one = group.spawn(ask(asked));
            auto other = group.spawn(ask(asked));
            co_await settle();
            std::thread answering([&] {
                for (promise<int>* each : asked) each->set_value(5);
            });
            const int sum = co_await one + co_await other;
            CHECK(sum == 10);
            answering.join();
            co_await group.join();
        });
    });
}

TEST_CASE("the work of a job may hold the future that it is cancelled through") {
    thread_pool pool{1};
    std::latch gate{1};
    std::latch busy{1};
    const future<> running = pool.submit([&] {
        busy.count_down();
        gate.wait();
    });
    busy.wait();
    auto box = std::make_shared<future<>>();
    *box = pool.submit([box] {});
    future<>& inside = *box;
    const std::weak_ptr<future<>> left = box;
    box.reset();
    CHECK(inside.cancel());
    CHECK(left.expired());
    gate.count_down();
    running.wait();
}

TEST_CASE("a task may wait for a future whose handle another task drops") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            auto soon = std::make_unique<future<int>>(source.get_future());
            task_group group;
            auto waiter = group.spawn(value_of(soon));
            co_await settle();
            soon.reset();
            source.set_value(7);
            const int got = co_await waiter;
            CHECK(got == 7);
            co_await group.join();
        });
    });
}

TEST_CASE("a task that has to give way before it takes a result that is there gets it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            auto soon = std::make_unique<future<int>>(source.get_future());
            source.set_value(1);
            source = promise<int>{};
            task_group group;
            auto waiter = group.spawn(value_at_the_end_of_a_turn(soon));
            group.spawn(drop(soon));
            const int got = co_await waiter;
            CHECK(got == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("a result goes with the last handle, whoever else knows of the future") {
    const auto shared = std::make_shared<int>(1);
    promise<std::shared_ptr<int>> source;
    {
        future<std::shared_ptr<int>> one = source.get_future();
        const future<std::shared_ptr<int>> other = one;
        source.set_value(shared);
        one = {};
        CHECK(shared.use_count() == 2);
    }
    CHECK(shared.use_count() == 1);

    promise<std::shared_ptr<int>> late;
    (void)late.get_future();
    late.set_value(shared);  // nobody can ask for it
    CHECK(shared.use_count() == 1);

    promise<std::shared_ptr<int>> kept;
    kept.set_value(shared);  // the future comes later
    CHECK(shared.use_count() == 2);
    CHECK(kept.get_future().get() == shared);
    CHECK(shared.use_count() == 1);
}

TEST_CASE("a job's result goes on the thread that drops the last handle") {
    thread_pool pool{2};
    for (int round = 0; round < 500; ++round) {
        std::thread::id end;
        {
            const auto soon = pool.submit([&] { return noting_its_end{end}; });
            soon.wait();
        }
        REQUIRE(end == std::this_thread::get_id());
    }
}

TEST_CASE("a future that many tasks wait for and give up again and again does not grow") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<> source;
            const future<> soon = source.get_future();
            std::size_t before = 0;
            for (int round = 0; round < 300; ++round) {
                if (round == 10) before = live_bytes();
                task_group group;
                for (int i = 0; i < 20; ++i) group.spawn(wait_for(soon));
                co_await settle();
                group.cancel();
                co_await group.join();
            }
            CHECK(live_bytes() <= before + 1'000);
        });
    });
}

TEST_CASE("the exception of a future that everybody dropped reaches the hook") {
    const listening ears;
    promise<int> early;
    (void)early.get_future();
    early.set_exception(broken());
    CHECK(unheard == broken_once);

    unheard.clear();
    promise<int> late;
    {
        const future<int> soon = late.get_future();
        late.set_exception(broken());
        CHECK(unheard.empty());
    }
    CHECK(unheard == broken_once);

    unheard.clear();
    {
        promise<int> without_future;
        without_future.set_exception(broken());
    }
    CHECK(unheard == broken_once);

    unheard.clear();
    {
        thread_pool pool{1};
        (void)pool.submit([] { throw std::runtime_error("broken"); });
    }
    CHECK(unheard == broken_once);
}

TEST_CASE("a done callback that does not ask leaves the exception unheard") {
    const listening ears;
    promise<int> source;
    int ran = 0;
    source.get_future().add_done_callback([&](const future<int>&) { ++ran; });
    source.set_exception(broken());
    CHECK(ran == 1);
    CHECK(unheard == broken_once);
}

TEST_CASE("an exception that somebody was thrown is not told again") {
    const listening ears;
    {
        promise<int> source;
        const future<int> one = source.get_future();
        const future<int> other = one;
        source.set_exception(broken());
        CHECK_THROWS_AS(other.get(), std::runtime_error);
    }
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> source;
            future<int> soon = source.get_future();
            source.set_exception(broken());
            bool thrown = false;
            try {
                co_await std::move(soon);
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            CHECK(thrown);
        });
    });
    CHECK(unheard.empty());
}

TEST_CASE("a cancellation, a broken promise and what somebody cancelled in vain are not told") {
    const listening ears;
    {
        promise<int> source;
        (void)source.get_future().cancel();
    }
    {
        promise<int> source;
        (void)source.get_future();
    }
    {
        promise<int> source;
        (void)source.get_future();
        source.set_exception(std::make_exception_ptr(operation_cancelled{}));
    }
    for (const bool before : {true, false}) {
        promise<int> source;
        const future<int> soon = source.get_future();
        source.set_running();
        if (before) CHECK_FALSE(soon.cancel());
        source.set_exception(broken());
        if (!before) CHECK_FALSE(soon.cancel());
    }
    CHECK(unheard.empty());
}

}  // namespace rondo::test
