#include <rondo/runtime/threads/as_completed.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/blocked_pool.hpp"
#include "support/live_memory.hpp"
#include "support/support.hpp"

namespace rondo::test {

TEST_CASE("a job that is cancelled gives its place to another at once") {
    thread_pool pool{{.threads = 1, .max_pending = 2}};
    blocked_pool blocked{pool};
    const auto nothing = [] {};
    const auto first = pool.try_submit(nothing);
    const auto second = pool.try_submit(nothing);
    REQUIRE(second.has_value());
    CHECK_FALSE(pool.try_submit(nothing).has_value());
    CHECK(first->cancel());
    const auto third = pool.try_submit(nothing);
    CHECK(third.has_value());
    CHECK_FALSE(pool.try_submit(nothing).has_value());
    CHECK(second->cancel());
    CHECK(third->cancel());
    const auto fourth = pool.try_submit(nothing);
    const auto fifth = pool.try_submit(nothing);
    CHECK(fifth.has_value());
    CHECK_FALSE(pool.try_submit(nothing).has_value());
    blocked.open();
    fourth->wait();
    fifth->wait();
    // No place was given back twice.
    blocked_pool again{pool};
    CHECK(pool.try_submit(nothing).has_value());
    CHECK(pool.try_submit(nothing).has_value());
    CHECK_FALSE(pool.try_submit(nothing).has_value());
}

TEST_CASE("a thread that waits for room gets that of a cancelled job") {
    thread_pool pool{{.threads = 1, .max_pending = 1}};
    blocked_pool blocked{pool};
    const future<> first = pool.submit([] {});
    std::latch about_to{1};
    std::optional<future<int>> second;
    std::thread submitter([&] {
        about_to.count_down();
        second = pool.submit([] { return 2; });
    });
    about_to.wait();
    CHECK(first.cancel());
    submitter.join();
    blocked.open();
    CHECK(second->get() == 2);
}

TEST_CASE("cancelled jobs do not pile up behind a thread that is busy") {
    for (const int waiting : {0, 50}) {
        CAPTURE(waiting);
        thread_pool pool{2};
        blocked_pool blocked{pool};
        std::vector<future<int>> kept;
        for (int i = 0; i < waiting; ++i) kept.push_back(pool.submit([i] { return i; }));
        std::size_t before = 0;
        for (int i = 0; i < 20'000; ++i) {
            if (i == 1'000) before = live_bytes();
            const future<> unwanted = pool.submit([text = std::string(100, 'x')] {});
            REQUIRE(unwanted.cancel());
        }
        CHECK(live_bytes() <= before + 100'000);
        blocked.open();
        for (int i = 0; i < waiting; ++i) CHECK(kept[static_cast<std::size_t>(i)].get() == i);
    }
}

TEST_CASE("what is left between cancelled jobs runs in the order of submission") {
    thread_pool pool{1};
    blocked_pool blocked{pool};
    std::vector<int> ran;
    std::vector<future<>> all;
    for (int i = 0; i < 200; ++i) all.push_back(pool.submit([&ran, i] { ran.push_back(i); }));
    for (std::size_t i = 0; i < 200; ++i) {
        if (i % 3 != 0) CHECK(all[i].cancel());
    }
    blocked.open();
    pool.shutdown();
    std::vector<int> expected;
    for (int i = 0; i < 200; i += 3) expected.push_back(i);
    CHECK(ran == expected);
}

TEST_CASE("jobs are cancelled while others of them run, come, and the pool goes") {
    for (int round = 0; round < 30; ++round) {
        std::atomic<int> ran{0};
        std::atomic<int> cancelled{0};
        std::atomic<int> submitted{0};
        {
            thread_pool pool{{.threads = 2, .max_pending = round % 2 == 0 ? 0u : 20u}};
            std::vector<std::thread> threads;
            std::latch begin{3};
            for (int t = 0; t < 3; ++t) {
                threads.emplace_back([&, t] {
                    begin.arrive_and_wait();
                    std::vector<future<>> mine;
                    try {
                        for (int i = 0; i < 300; ++i) {
                            mine.push_back(pool.submit([&] { ++ran; }));
                            ++submitted;
                            if (i % 4 != t && mine[mine.size() / 2].cancel()) {
                                mine[mine.size() / 2] = future<>{};
                                std::swap(mine[mine.size() / 2], mine.back());
                                mine.pop_back();
                                ++cancelled;
                            }
                        }
                    } catch (const std::runtime_error&) {  // the pool was shut down
                    }
                });
            }
            if (round % 3 == 0) pool.shutdown(false, false);
            for (std::thread& one : threads) one.join();
        }
        CHECK(ran + cancelled == submitted);
    }
}

TEST_CASE("a map that is dropped gives its places and its arguments back at once") {
    thread_pool pool{{.threads = 1, .max_pending = 2}};
    blocked_pool blocked{pool};
    const auto shared = std::make_shared<int>(1);
    {
        const auto results = pool.map([](const std::shared_ptr<int>&) {},
                                      std::vector<std::shared_ptr<int>>(100, shared));
        CHECK_FALSE(pool.try_submit([] {}).has_value());
    }
    CHECK(shared.use_count() == 1);
    CHECK(pool.try_submit([] {}).has_value());
}

TEST_CASE("a map that is dropped leaves nothing in the heap behind a thread that is busy") {
    for (const std::size_t max_pending : {0u, 2u}) {
        thread_pool pool{{.threads = 1, .max_pending = max_pending}};
        blocked_pool blocked{pool};
        std::size_t before = 0;
        for (int round = 0; round < 20; ++round) {
            if (round == 10) before = live_bytes();
            const auto results = pool.map([](std::size_t) {}, std::vector<std::size_t>(1'000));
        }
        CHECK(live_bytes() <= before + 50'000);
    }
}

TEST_CASE("the elements of a map are cancelled while others run") {
    for (int round = 0; round < 40; ++round) {
        const std::size_t max_pending = round % 2 == 0 ? 0 : 3;
        std::atomic<int> ran{0};
        thread_pool pool{{.threads = 2, .max_pending = max_pending}};
        for (int i = 0; i < 10; ++i) {
            auto results = pool.map([&](int) { return ++ran; }, std::vector<int>(50));
            if (i % 2 == 0) (void)results.begin();
        }
        pool.shutdown(true);
        CHECK(ran <= 500);
        CHECK(ran >= 5);
    }
}

}  // namespace rondo::test
