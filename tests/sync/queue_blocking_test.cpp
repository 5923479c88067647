// Queues as plain threads use them: with a limit on how long they block, and a way to stop them.

#include <rondo/sync/queue.hpp>

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/task_group.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// A thread in which work(stop) runs; it is stopped and joined by its destructor.
template <class Work>
std::jthread thread_of(Work work) {
    return std::jthread(std::move(work));
}

/// Kept in a box by the queue, since its move may throw.
struct boxed_text {
    explicit boxed_text(std::string words) : text(std::move(words)) {}
    boxed_text(boxed_text&& other) noexcept(false) : text(std::move(other.text)) {}  // NOLINT
    boxed_text& operator=(boxed_text&&) = default;
    std::string text;
};

}  // namespace

TEST_CASE("a put that blocks gives up after its limit, and leaves the value as it was") {
    queue<std::unique_ptr<int>> full{1};
    CHECK(full.put_blocking_for(1h, std::make_unique<int>(1)));
    auto value = std::make_unique<int>(2);
    for (const auto limit : {-1ms, 0ms, 5ms}) {
        const auto start = clock::now();
        CHECK_FALSE(full.put_blocking_for(limit, std::move(value)));
        CHECK(clock::now() - start >= limit);
        REQUIRE(value != nullptr);  // NOLINT(bugprone-use-after-move)
    }
    CHECK(full.size() == 1);
    full.get_blocking();
    CHECK(full.put_blocking_for(0ms, std::move(value)));
    CHECK(value == nullptr);  // NOLINT(bugprone-use-after-move)

    queue<boxed_text> texts{1};
    texts.put_blocking(boxed_text{"first"});
    boxed_text second{"second"};
    CHECK_FALSE(texts.put_blocking_for(1ms, std::move(second)));
    CHECK(second.text == "second");  // NOLINT(bugprone-use-after-move)

    queue<std::string> copies{1};
    const std::string text = "copied";
    CHECK(copies.put_blocking_for(1ms, text));
    CHECK_FALSE(copies.put_blocking_for(1ms, text));
    CHECK(text == "copied");
}

TEST_CASE("a get that blocks gives up after its limit, and takes what comes before") {
    queue<int> items;
    for (const auto limit : {-1ms, 0ms, 5ms}) {
        const auto start = clock::now();
        CHECK_FALSE(items.get_blocking_for(limit).has_value());
        CHECK(clock::now() - start >= limit);
    }
    const auto other = thread_of([&] { items.put_blocking(7); });
    CHECK(items.get_blocking_for(1h) == 7);
    CHECK(items.get_blocking_for(0ms) == std::nullopt);
    // Whoever gave up stands in no line any more.
    items.put_blocking(8);
    CHECK(items.size() == 1);
}

TEST_CASE("a stop ends a blocking put or get with operation_cancelled, and nothing has happened") {
    queue<int> full{1};
    full.put_blocking(1);
    queue<int> empty;
    for (const bool limited : {false, true}) {
        CAPTURE(limited);
        std::atomic<int> cancelled{0};
        std::vector<std::jthread> threads;
        threads.push_back(thread_of([&](std::stop_token stop) {
            try {
                if (limited) {
                    full.put_blocking_for(1h, 2, stop);
                } else {
                    full.put_blocking(2, stop);
                }
            } catch (const operation_cancelled&) {
                ++cancelled;
            }
        }));
        threads.push_back(thread_of([&](std::stop_token stop) {
            try {
                if (limited) {
                    empty.get_blocking_for(1h, stop);
                } else {
                    empty.get_blocking(stop);
                }
            } catch (const operation_cancelled&) {
                ++cancelled;
            }
        }));
        threads.clear();  // stops and joins each
        CHECK(cancelled == 2);
        CHECK(full.size() == 1);
    }
    CHECK(full.get_blocking() == 1);
    CHECK(full.empty());
    empty.put_blocking(3);
    CHECK(empty.size() == 1);
}

TEST_CASE("a stop that was requested before leaves done what needs no wait") {
    // g++ 12 takes a stop_source in a local variable for uninitialized.
    const auto source = std::make_unique<std::stop_source>();
    source->request_stop();
    queue<int> items{1};
    items.put_blocking(1, source->get_token());
    CHECK_THROWS_AS(items.put_blocking(2, source->get_token()), operation_cancelled);
    CHECK_THROWS_AS(items.put_blocking_for(1h, 2, source->get_token()), operation_cancelled);
    CHECK(items.get_blocking(source->get_token()) == 1);
    CHECK_THROWS_AS(items.get_blocking(source->get_token()), operation_cancelled);
    CHECK_THROWS_AS(items.get_blocking_for(1h, source->get_token()), operation_cancelled);
}

TEST_CASE("a queue that is closed ends what blocks, limited or not, with closed_error") {
    queue<int> full{1};
    full.put_blocking(1);
    std::atomic<int> closed{0};
    {
        const auto putter = thread_of([&] {
            try {
                full.put_blocking_for(1h, 2);
            } catch (const closed_error&) {
                ++closed;
            }
        });
        while (closed == 0 && !full.is_closed()) full.close();
    }
    CHECK(closed == 1);
    CHECK(full.get_blocking_for(1h) == 1);
    CHECK_THROWS_AS(full.get_blocking_for(1h), closed_error);
    CHECK_THROWS_AS(full.put_blocking_for(1h, 3), closed_error);
}

TEST_CASE("the other kinds of queue block with a limit, too, and tasks are at the other end") {
    on_each_reactor_kind([](auto run) {
        priority_queue<int> requests{1};
        lifo_queue<int> replies{1};
        const auto other = thread_of([&](std::stop_token stop) {
            for (;;) {
                std::optional<int> one;
                try {
                    one = requests.get_blocking_for(1h, stop);
                    replies.put_blocking_for(1h, *one + 1, stop);
                } catch (const closed_error&) {
                    return;
                }
            }
        });
        run([&]() -> task<> {
            for (int i = 0; i < 50; ++i) {
                co_await requests.put(i);
                const int reply = co_await replies.get();
                CHECK(reply == i + 1);
            }
        });
        requests.close();
    });
}

TEST_CASE("nothing is lost or doubled while threads give up and are stopped all the time") {
    queue<int> items{2};
    constexpr int count = 2'000;
    std::atomic<long> got_sum{0};
    std::atomic<int> got{0};
    long put_sum = 0;
    std::vector<std::jthread> getters;
    for (int i = 0; i < 2; ++i) {
        getters.push_back(thread_of([&](std::stop_token stop) {
            try {
                while (!stop.stop_requested()) {
                    if (const auto one = items.get_blocking_for(20us, stop)) {
                        got_sum += *one;
                        ++got;
                    }
                }
            } catch (const operation_cancelled&) {
            }
        }));
    }
    for (int i = 1; i <= count;) {
        const auto source = std::make_unique<std::stop_source>();
        const std::stop_token stop = source->get_token();
        std::optional<std::jthread> stopper;
        if (i % 50 == 0) stopper.emplace([&] { source->request_stop(); });
        try {
            if (!items.put_blocking_for(10us, i, stop)) continue;
        } catch (const operation_cancelled&) {
            continue;
        }
        put_sum += i++;
    }
    while (got < count) std::this_thread::yield();
    getters.clear();
    CHECK(got == count);
    CHECK(got_sum == put_sum);
    CHECK(items.empty());
}

}  // namespace rondo::test
