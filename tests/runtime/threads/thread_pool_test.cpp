#include <rondo/runtime/threads/thread_pool.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <latch>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/blocked_pool.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

static_assert(std::is_trivially_destructible_v<mapped<std::string>::next_awaiter>);
static_assert(std::is_trivially_destructible_v<mapped_unordered<std::string>::next_awaiter>);

int add(int a, int b) { return a + b; }

std::vector<int> numbers(int count) {
    std::vector<int> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    return all;
}

template <class Action>
std::string message_of(Action action) {
    try {
        action();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "nothing was thrown";
}

}  // namespace

TEST_CASE("a pool runs functions, lambdas, members and move-only callables") {
    struct counter {
        int value = 3;
        int next() { return ++value; }
    };
    thread_pool pool{2};
    CHECK(pool.size() == 2);
    CHECK(pool.submit(add, 1, 2).get() == 3);
    CHECK(pool.submit([](std::string text) { return text + "!"; }, "yes").get() == "yes!");
    counter one;
    CHECK(pool.submit(&counter::next, &one).get() == 4);
    CHECK(pool.submit([box = std::make_unique<int>(5)] { return *box; }).get() == 5);
    CHECK(*pool.submit([](std::unique_ptr<int> box) { return box; }, std::make_unique<int>(6))
               .get() == 6);
    int number = 7;
    CHECK(&pool.submit([](int& same) -> int& { return same; }, std::ref(number)).get() == &number);
    pool.submit([] {}).get();
    CHECK_THROWS_WITH_AS(pool.submit([] { throw std::runtime_error("job"); }).get(), "job",
                         std::runtime_error);
}

TEST_CASE("a job's callable is gone before its future is done") {
    thread_pool pool{1};
    const auto shared = std::make_shared<int>(1);
    pool.submit([shared] {}).get();
    CHECK(shared.use_count() == 1);
}

TEST_CASE("a cancelled job's callable is gone before its future is done") {
    thread_pool pool{1};
    blocked_pool blocked{pool};
    auto shared = std::make_shared<int>(1);
    future<> waiting = pool.submit([shared] {});
    long left = 0;
    waiting.add_done_callback([&](const future<>&) { left = shared.use_count(); });
    CHECK(waiting.cancel());
    CHECK(left == 1);
    blocked.open();
}

TEST_CASE("a task awaits a job, and its reactor goes on meanwhile") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{2};
        run([&]() -> task<> {
            const auto home = std::this_thread::get_id();
            const auto worker = co_await pool.submit([] { return std::this_thread::get_id(); });
            CHECK(worker != home);
            CHECK(std::this_thread::get_id() == home);
            std::latch gate{1};
            future<int> soon = pool.submit([&] {
                gate.wait();
                return 4;
            });
            gate.count_down();
            const int got = co_await soon;
            CHECK(got == 4);
            const std::unique_ptr<int> box =
                co_await pool.submit([] { return std::make_unique<int>(8); });
            CHECK(*box == 8);
        });
    });
}

TEST_CASE("many tasks await many jobs") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{4};
        std::atomic<int> sum{0};
        run([&]() -> task<> {
            task_group group;
            for (int i = 0; i < 300; ++i) {
                group.spawn(
                    [](thread_pool& on, std::atomic<int>& into, int number) -> task<> {
                        future<int> soon = on.submit(add, number, 1);
                        into += co_await soon;
                    },
                    std::ref(pool), std::ref(sum), i);
            }
            co_await group.join();
        });
        CHECK(sum == 300 * 299 / 2 + 300);
    });
}

TEST_CASE("a job that waits can be cancelled, one that runs cannot") {
    thread_pool pool{2};
    std::atomic<int> ran{0};
    const auto shared = std::make_shared<int>(1);
    blocked_pool blocked{pool};
    future<> waiting = pool.submit([&ran, shared] { ++ran; });
    CHECK(waiting.cancel());
    CHECK(waiting.cancelled());
    std::latch inside{1};
    std::latch gate{1};
    blocked.open();
    future<> going = pool.submit([&] {
        inside.count_down();
        gate.wait();
    });
    inside.wait();
    CHECK(going.running());
    CHECK_FALSE(going.cancel());
    gate.count_down();
    going.get();
    pool.shutdown();
    CHECK(ran == 0);
    CHECK(shared.use_count() == 1);
    CHECK_THROWS_AS(waiting.get(), operation_cancelled);
}

TEST_CASE("shutdown runs or cancels what is pending, and waits or does not") {
    for (const bool wait : {true, false}) {
        for (const bool cancel_pending : {true, false}) {
            CAPTURE(wait);
            CAPTURE(cancel_pending);
            std::vector<future<int>> pending;
            {
                thread_pool pool{2};
                blocked_pool blocked{pool};
                for (int i = 0; i < 50; ++i) pending.push_back(pool.submit(add, i, 1));
                if (!wait) {
                    pool.shutdown(false, cancel_pending);
                    CHECK(pending[0].cancelled() == cancel_pending);
                    CHECK(pending[0].done() == cancel_pending);
                    blocked.open();
                } else {
                    std::thread opener;
                    if (cancel_pending) {
                        // shutdown cancels them before it waits
                        opener = std::thread([&] {
                            pending[49].wait();
                            blocked.open_without_waiting();
                        });
                    } else {
                        blocked.open_without_waiting();
                    }
                    pool.shutdown(true, cancel_pending);
                    if (opener.joinable()) opener.join();
                    for (const auto& one : pending) CHECK(one.done());
                }
                CHECK(message_of([&] { (void)pool.submit(add, 1, 1); }) ==
                      "submit to a thread_pool that was shut down");
                CHECK(message_of([&] { (void)pool.try_submit(add, 1, 1); }) ==
                      "submit to a thread_pool that was shut down");
                CHECK(message_of([&] { (void)pool.map([](int) {}, numbers(3)); }) ==
                      "submit to a thread_pool that was shut down");
            }
            int value = 1;
            for (const auto& one : pending) {
                CHECK(one.cancelled() == cancel_pending);
                if (!cancel_pending) CHECK(one.get() == value++);
            }
        }
    }
}

TEST_CASE("a pool is destroyed with work pending: the work is done first") {
    std::vector<future<int>> pending;
    {
        thread_pool pool{3};
        for (int i = 0; i < 1'000; ++i) pending.push_back(pool.submit(add, i, i));
    }
    int sum = 0;
    for (const auto& one : pending) sum += one.get();
    CHECK(sum == 999 * 1'000);
}

TEST_CASE("a job cannot wait for the shutdown of its own pool, but can ask for it") {
    thread_pool pool{2};
    const future<> wrong = pool.submit([&] { pool.shutdown(true); });
    CHECK_THROWS_AS(wrong.get(), std::system_error);
    pool.submit([&] { pool.shutdown(false); }).get();
    CHECK_THROWS_AS((void)pool.submit([] {}), std::runtime_error);
}

TEST_CASE("a pool with a limit takes no more than that, and waits for room in a plain thread") {
    thread_pool pool{{.threads = 1, .max_pending = 2}};
    auto blocked = std::make_unique<blocked_pool>(pool);
    std::vector<future<int>> pending;
    for (int i = 0; i < 2; ++i) {
        auto one = pool.try_submit(add, i, 0);
        REQUIRE(one.has_value());
        pending.push_back(*one);
    }
    CHECK_FALSE(pool.try_submit(add, 9, 9).has_value());
    std::latch about_to{1};
    std::thread submitter([&] {
        about_to.count_down();
        for (int i = 2; i < 20; ++i) pending.push_back(pool.submit(add, i, 0));
    });
    about_to.wait();
    blocked->open();
    submitter.join();
    for (int i = 0; i < 20; ++i) CHECK(pending[static_cast<std::size_t>(i)].get() == i);
}

TEST_CASE("a thread that waits for room is told of the shutdown") {
    thread_pool pool{{.threads = 1, .max_pending = 1}};
    blocked_pool blocked{pool};
    (void)pool.submit([] {});
    std::latch about_to{1};
    std::string what;
    std::thread submitter([&] {
        about_to.count_down();
        what = message_of([&] { (void)pool.submit([] {}); });
    });
    about_to.wait();
    pool.shutdown(false);
    submitter.join();
    CHECK(what == "submit to a thread_pool that was shut down");
}

TEST_CASE("a task never waits for room, a job of the same pool neither") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{{.threads = 1, .max_pending = 1}};
        std::optional<blocked_pool> blocked{std::in_place, pool};
        (void)pool.submit([] {});
        run([&]() -> task<> {
            std::error_code error;
            try {
                (void)pool.submit([] {});
            } catch (const std::system_error& full) {
                error = full.code();
            }
            CHECK(error == std::errc::resource_unavailable_try_again);
            future<int> forced = detail::submit_job(pool, [] { return 5; });
            blocked->open_without_waiting();
            const int got = co_await forced;
            CHECK(got == 5);
        });
        blocked.reset();
        const future<int> nested = pool.submit([&] {
            int sum = 0;
            std::vector<future<int>> children;
            for (int i = 0; i < 5; ++i) children.push_back(pool.submit(add, i, 0));
            for (const auto& one : children) sum += one.cancel() ? 1 : 0;
            return sum;
        });
        CHECK(nested.get() == 5);
    });
}

TEST_CASE("the initializer runs once in each thread, before any job") {
    std::atomic<int> ran{0};
    thread_pool pool{{.threads = 3, .initializer = [&] { ++ran; }}};
    CHECK(pool.submit([&] { return ran.load(); }).get() >= 1);
    pool.shutdown();
    CHECK(ran == 3);
}

TEST_CASE("an initializer that throws breaks the pool") {
    std::latch gate{1};
    thread_pool pool{{.threads = 2, .initializer = [&] {
                          gate.wait();
                          throw std::runtime_error("no licence");
                      }}};
    std::vector<future<int>> pending;
    for (int i = 0; i < 10; ++i) pending.push_back(pool.submit(add, i, 1));
    gate.count_down();
    for (const auto& one : pending)
        CHECK_THROWS_WITH_AS(one.get(), "no licence", std::runtime_error);
    CHECK(message_of([&] { (void)pool.submit(add, 1, 1); }) == "no licence");
}

TEST_CASE("options that make no sense are refused") {
    CHECK(message_of([] { thread_pool pool{1'025}; }) ==
          "thread_pool: 1025 threads are asked for, 1024 is the most");
    const thread_pool as_many_as_cores;
    CHECK(as_many_as_cores.size() >= 1);
}

TEST_CASE("the threads of a background pool give way to others") {
    thread_pool pool{{.threads = 1, .background = true}};
    const int mine = ::getpriority(PRIO_PROCESS, 0);
    const int theirs = pool.submit([] { return ::getpriority(PRIO_PROCESS, 0); }).get();
    CHECK(theirs == std::min(mine + 10, 19));
}

TEST_CASE("map gives a thread its results in the order of the range") {
    thread_pool pool{4};
    std::vector<int> squares;
    for (const int one : pool.map([](int n) { return n * n; }, numbers(100)))
        squares.push_back(one);
    REQUIRE(squares.size() == 100);
    for (std::size_t i = 0; i < 100; ++i) CHECK(squares[i] == static_cast<int>(i * i));
    std::vector<int> sums;
    for (const int one : pool.map(add, numbers(5), std::views::iota(10))) sums.push_back(one);
    CHECK(sums == std::vector{10, 12, 14, 16, 18});
    std::vector<std::unique_ptr<int>> boxes;
    for (int i = 0; i < 3; ++i) boxes.push_back(std::make_unique<int>(i));
    int total = 0;
    for (auto& box : pool.map([](std::unique_ptr<int> in) { return in; }, std::move(boxes))) {
        total += *box;
    }
    CHECK(total == 3);
    int calls = 0;
    for (auto& nothing : pool.map([](int) {}, numbers(4)))
        calls += static_cast<int>(sizeof nothing);
    CHECK(calls == 4);
    for (const int one : pool.map([](int n) { return n; }, numbers(0))) {
        (void)one;
        FAIL("an empty range has no results");
    }
}

TEST_CASE("map gives a task its results in order, and an exception where its result would be") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{3};
        run([&]() -> task<> {
            auto results = pool.map(
                [](int n) {
                    if (n == 2) throw std::runtime_error("two");
                    return n;
                },
                numbers(5));
            std::string seen;
            for (bool more = true; more;) {
                try {
                    const auto one = co_await results.next();
                    more = one.has_value();
                    if (more) seen += std::to_string(*one) + " ";
                } catch (const std::runtime_error& error) {
                    seen += std::string(error.what()) + " ";
                }
            }
            CHECK(seen == "0 1 two 3 4 ");
            auto text = pool.map([](int n) { return std::to_string(n); }, numbers(20));
            std::string all;
            while (auto one = co_await text.next()) all += *one;
            CHECK(all == "012345678910111213141516171819");
        });
    });
}

TEST_CASE("the next result of a map takes a time limit, as_result and when_any") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{1};
        run([&]() -> task<> {
            blocked_pool blocked{pool};
            auto results = pool.map([](int number) { return number + 1; }, numbers(2));
            const auto late = co_await as_result(with_timeout(1ms, results.next()));
            CHECK(late.error() == std::errc::timed_out);
            const auto first = co_await when_any(results.next(), yield());
            CHECK(first.index() == 1);
            blocked.open_without_waiting();
            const auto now = co_await as_result(with_timeout(1h, results.next()));
            CHECK(now.has_value());
            CHECK(**now == 1);
            const auto second = co_await when_any(results.next(), sleep_for(1h));
            CHECK(second.index() == 0);
        });
    });
}

TEST_CASE("map_unordered gives every result once, as they get done") {
    on_each_reactor_kind([](auto run) {
        thread_pool pool{2};
        std::latch gate{1};
        const auto held_up = [&](int n) {
            if (n == 0) gate.wait();
            return n;
        };
        run([&]() -> task<> {
            auto results = pool.map_unordered(held_up, numbers(10));
            std::set<int> seen;
            while (auto one = co_await results.next()) {
                seen.insert(*one);
                if (seen.size() == 9) {
                    CHECK_FALSE(seen.contains(0));
                    gate.count_down();
                }
            }
            CHECK(seen.size() == 10);
        });
        std::set<int> seen;
        for (const int one : pool.map_unordered([](int n) { return n; }, numbers(200))) {
            seen.insert(one);
        }
        CHECK(seen.size() == 200);
    });
}

TEST_CASE("map waits for no room: jobs follow on jobs") {
    thread_pool pool{{.threads = 2, .max_pending = 3}};
    std::optional<blocked_pool> blocked{std::in_place, pool};
    auto results = pool.map([](int n) { return n; }, numbers(100));
    auto others = pool.map([](int n) { return n; }, numbers(100));
    CHECK_FALSE(pool.try_submit(add, 1, 1).has_value());
    blocked.reset();
    int expected = 0;
    for (const int one : results) CHECK(one == expected++);
    CHECK(expected == 100);
    int sum = 0;
    for (const int one : others) sum += one;
    CHECK(sum == 4'950);
}

TEST_CASE("a map that finds the pool full spreads over the threads that become free") {
    constexpr int threads = 4;
    thread_pool pool{{.threads = threads, .max_pending = 1}};
    std::optional<blocked_pool> blocked{std::in_place, pool};
    const auto waiting = pool.try_submit(add, 1, 1);  // takes the room
    REQUIRE(waiting.has_value());
    std::atomic<int> running{0};
    // True where all threads worked for the map at the same time.
    const auto meet = [&running](int) {
        ++running;
        const auto give_up = std::chrono::steady_clock::now() + 10s;
        while (running.load() < threads) {
            if (std::chrono::steady_clock::now() > give_up) return false;
            std::this_thread::yield();
        }
        return true;
    };
    auto results = pool.map(meet, numbers(3 * threads));
    blocked.reset();
    for (const bool together : results) CHECK(together);
}

TEST_CASE("a map that is dropped early cancels what has not started") {
    for (const std::size_t max_pending : {0u, 2u}) {
        CAPTURE(max_pending);
        thread_pool pool{{.threads = 2, .max_pending = max_pending}};
        std::atomic<int> ran{0};
        {
            blocked_pool blocked{pool};
            {
                auto ordered = pool.map([&](int) { ++ran; }, numbers(100));
                auto unordered = pool.map_unordered([&](int) { ++ran; }, numbers(100));
            }
        }
        pool.shutdown();
        CHECK(ran == 0);
    }
}

TEST_CASE("a pool with a map pending is shut down, running or cancelling it all") {
    for (const bool cancel_pending : {true, false}) {
        thread_pool pool{{.threads = 2, .max_pending = 2}};
        std::atomic<int> ran{0};
        std::optional<blocked_pool> blocked{std::in_place, pool};
        auto results = pool.map([&](int n) { return ++ran, n; }, numbers(10'000));
        pool.shutdown(false, cancel_pending);
        blocked.reset();
        pool.shutdown(true);
        CHECK(ran == (cancel_pending ? 0 : 10'000));
        if (cancel_pending) CHECK_THROWS_AS(results.begin(), operation_cancelled);
    }
}

TEST_CASE("jobs submit jobs") {
    thread_pool pool{2};
    std::atomic<int> leaves{0};
    const std::function<void(int)> grow = [&](int depth) {
        if (depth == 0) {
            ++leaves;
            return;
        }
        (void)pool.submit(std::ref(grow), depth - 1);
        (void)pool.submit(std::ref(grow), depth - 1);
    };
    // Submitting fails after shutdown: count them, do not shut down.
    pool.submit(std::ref(grow), 10).get();
    while (leaves != 1'024) std::this_thread::yield();
    CHECK(leaves == 1'024);
}

TEST_CASE("a job that waits for another finds a thread to run it") {
    for (int round = 0; round < 200; ++round) {
        thread_pool pool{2};
        const future<int> outer = pool.submit([&] {
            std::vector<future<int>> inner;
            for (int i = 0; i < 3; ++i) inner.push_back(pool.submit(add, i, 1));
            int sum = 0;
            for (const auto& one : inner) sum += one.get();
            return sum;
        });
        CHECK(outer.get() == 6);
    }
}

TEST_CASE("eight threads submit to four workers and nothing is lost") {
    thread_pool pool{4};
    std::atomic<long> sum{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            std::vector<future<int>> mine;
            for (int i = 0; i < 1'000; ++i) mine.push_back(pool.submit(add, t, i));
            for (const auto& one : mine) sum += one.get();
        });
    }
    for (std::thread& one : threads) one.join();
    CHECK(sum == 1'000L * 28 + 8L * 499'500);
}

TEST_CASE("submitting while the pool is shut down either is refused or gives a result") {
    for (int round = 0; round < 50; ++round) {
        thread_pool pool{2};
        std::atomic<int> accepted{0};
        std::atomic<int> ended{0};
        std::latch begin{4};
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                begin.arrive_and_wait();
                try {
                    for (;;) {
                        const future<int> one = pool.submit(add, 1, 1);
                        ++accepted;
                        one.wait();
                        ++ended;
                    }
                } catch (const std::runtime_error&) {
                }
            });
        }
        begin.arrive_and_wait();
        pool.shutdown(round % 2 == 0, round % 4 < 2);
        for (std::thread& one : threads) one.join();
        CHECK(accepted == ended);
    }
}

}  // namespace rondo::test
