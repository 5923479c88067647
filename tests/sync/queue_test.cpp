#include <rondo/sync/queue.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/channel.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/support.hpp"
#include "support/throw_count.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// "put", "closed" or "cancelled".
template <class Queue>
task<std::string> outcome_of_put(Queue& into, typename Queue::value_type value) {
    const auto how = co_await as_result(into.put(std::move(value)));
    if (how) co_return "put";
    co_return how.error() == sync_errc::closed ? "closed" : "cancelled";
}

/// The item, or "closed", or "cancelled".
template <class Queue>
task<std::string> outcome_of_get(Queue& from) {
    const auto how = co_await as_result(from.get());
    if (how) co_return std::to_string(*how);
    co_return how.error() == sync_errc::closed ? "closed" : "cancelled";
}

task<std::string> outcome_of_join(queue<int>& of) {
    const auto how = co_await as_result(of.join());
    co_return how ? "joined" : "cancelled";
}

template <class Queue>
task<std::vector<int>> drain(Queue& from) {
    std::vector<int> items;
    while (const auto one = from.try_get()) items.push_back(*one);
    co_return items;
}

/// Its copy and its move may throw, and do so while armed.
struct fragile {
    static inline bool armed = false;
    explicit fragile(int n) : number(n) {}
    fragile(const fragile& other) : number(other.number) { check(); }
    fragile(fragile&& other) : number(other.number) { check(); }  // NOLINT
    fragile& operator=(const fragile&) = default;
    static void check() {
        if (armed) throw std::runtime_error("moved");
    }
    bool operator<(const fragile& other) const { return number < other.number; }
    int number;
};

/// Kept in a box, since its move could throw; and gone from where it was moved from.
struct boxed_text {
    explicit boxed_text(const char* words) : text(words) {}
    boxed_text(boxed_text&& other) noexcept(false) : text(std::move(other.text)) {}  // NOLINT
    boxed_text& operator=(boxed_text&&) = default;
    std::string text;
};

}  // namespace

TEST_CASE("a queue gives first what came first, a lifo_queue what came last") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> fifo;
            lifo_queue<int> lifo;
            for (int i = 0; i < 20; ++i) {
                co_await fifo.put(i);
                co_await lifo.put(i);
            }
            CHECK(fifo.size() == 20);
            for (int i = 0; i < 20; ++i) {
                CHECK(co_await fifo.get() == i);
                CHECK(co_await lifo.get() == 19 - i);
            }
            CHECK(fifo.empty());
            CHECK(lifo.empty());
        });
    });
}

TEST_CASE("a queue that wraps round and grows keeps its order") {
    queue<std::unique_ptr<int>> fifo;
    int put = 0;
    int got = 0;
    for (int round = 0; round < 50; ++round) {
        for (int i = 0; i < 7; ++i) CHECK(fifo.try_put(std::make_unique<int>(put++)));
        for (int i = 0; i < 5; ++i) CHECK(**fifo.try_get() == got++);
    }
    while (auto one = fifo.try_get()) CHECK(**one == got++);
    CHECK(got == put);
}

TEST_CASE("a priority_queue gives the smallest first, and of equal ones the first that was put") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            using job = std::pair<int, int>;
            const auto less = [](const job& a, const job& b) { return a.first < b.first; };
            priority_queue<job, decltype(less)> jobs{0, less};
            int number = 0;
            for (const int priority : {3, 1, 2, 1, 3, 1, 2}) {
                co_await jobs.put(job{priority, number++});
            }
            std::vector<job> order;
            while (const auto one = jobs.try_get()) order.push_back(*one);
            CHECK(order ==
                  std::vector<job>{{1, 1}, {1, 3}, {1, 5}, {2, 2}, {2, 6}, {3, 0}, {3, 4}});

            priority_queue<int, std::greater<>> largest;
            for (const int n : {2, 9, 4}) co_await largest.put(n);
            const auto items = co_await drain(largest);
            CHECK(items == std::vector{9, 4, 2});
        });
    });
}

TEST_CASE("a put waits while the queue is full, and each get lets in the one who came first") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> two{2};
            task_group group;
            std::vector<task_handle<std::string>> putters;
            for (int i = 0; i < 5; ++i) putters.push_back(group.spawn(outcome_of_put(two, i)));
            co_await settle();
            CHECK(two.size() == 2);
            CHECK_FALSE(two.try_put(99));
            for (std::size_t i = 0; i < 5; ++i) {
                CHECK(putters[i].done() == (i < 2));
            }
            for (int i = 0; i < 5; ++i) {
                CHECK(co_await two.get() == i);
                CHECK_FALSE((i < 3 && two.try_put(99)));  // nobody gets in past the line
                co_await settle();
                for (std::size_t k = 0; k < 5; ++k) {
                    CHECK(putters[k].done() == (static_cast<int>(k) < 3 + i));
                }
            }
            co_await group.join();
            CHECK(two.max_size() == 2);
        });
    });
}

TEST_CASE("who waits to get is served in order, and handed the item directly") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> items;
            task_group group;
            std::vector<task_handle<std::string>> getters;
            for (int i = 0; i < 3; ++i) getters.push_back(group.spawn(outcome_of_get(items)));
            co_await settle();
            for (int i = 0; i < 4; ++i) co_await items.put(i);
            CHECK(items.size() == 1);
            co_await group.join();
            for (int i = 0; i < 3; ++i) {
                CHECK(co_await getters[static_cast<std::size_t>(i)] == std::to_string(i));
            }
            CHECK(co_await items.get() == 3);
        });
    });
}

TEST_CASE("what is put into a full priority_queue takes its place in the order once it is in") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            priority_queue<int> one{1};
            co_await one.put(5);
            task_group group;
            group.spawn(outcome_of_put(one, 7));
            group.spawn(outcome_of_put(one, 1));
            co_await settle();
            CHECK(co_await one.get() == 5);
            CHECK(co_await one.get() == 7);
            CHECK(co_await one.get() == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("join completes when every item that was put is done, and at once when none was") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> jobs;
            co_await jobs.join();
            CHECK_THROWS_AS(jobs.task_done(), std::logic_error);
            for (int i = 0; i < 3; ++i) co_await jobs.put(i);
            task_group group;
            auto first = group.spawn(outcome_of_join(jobs));
            auto impatient = group.spawn(outcome_of_join(jobs));
            auto second = group.spawn(outcome_of_join(jobs));
            for (int i = 0; i < 3; ++i) {
                co_await settle();
                CHECK_FALSE(first.done());
                impatient.cancel();
                co_await jobs.get();
                jobs.task_done();
            }
            CHECK_THROWS_AS(jobs.task_done(), std::logic_error);
            CHECK(co_await first == "joined");
            CHECK(co_await second == "joined");
            CHECK(co_await impatient == "cancelled");
            co_await group.join();
            co_await jobs.join();
        });
    });
}

TEST_CASE(
    "closing a queue turns putters away at once; getters have what is left, then closed_error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> two{2};
            co_await two.put(1);
            co_await two.put(2);
            task_group group;
            auto putter = group.spawn(outcome_of_put(two, 3));
            co_await settle();
            two.close();
            two.close();
            CHECK(two.is_closed());
            CHECK(co_await putter == "closed");
            CHECK_THROWS_AS(co_await two.put(4), closed_error);
            CHECK_THROWS_AS(two.try_put(4), closed_error);
            CHECK(co_await two.get() == 1);
            CHECK(*two.try_get() == 2);
            CHECK_THROWS_AS(co_await two.get(), closed_error);
            CHECK_THROWS_AS(two.try_get(), closed_error);

            queue<int> empty;
            auto getter = group.spawn(outcome_of_get(empty));
            co_await settle();
            const unsigned thrown = throw_count();
            empty.close();
            CHECK(co_await getter == "closed");
            CHECK(co_await group.spawn(outcome_of_put(empty, 4)) == "closed");
            CHECK(throw_count() == thrown);
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a cancelled put puts nothing, a cancelled get takes nothing, and the lines keep their order") {
    on_each_reactor_kind([](auto run) {
        for (std::size_t leaver = 0; leaver < 3; ++leaver) {
            CAPTURE(leaver);
            run([=]() -> task<> {
                queue<int> one{1};
                task_group group;
                std::vector<task_handle<std::string>> waiters;
                for (int i = 0; i < 3; ++i) waiters.push_back(group.spawn(outcome_of_get(one)));
                co_await settle();
                waiters[leaver].cancel();
                for (int i = 0; i < 2; ++i) co_await one.put(i);
                co_await group.join();
                int next = 0;
                for (std::size_t i = 0; i < 3; ++i) {
                    const auto how = co_await waiters[i];
                    CHECK(how == (i == leaver ? "cancelled" : std::to_string(next++)));
                }

                co_await one.put(100);
                waiters.clear();
                for (int i = 0; i < 3; ++i) waiters.push_back(group.spawn(outcome_of_put(one, i)));
                co_await settle();
                waiters[leaver].cancel();
                co_await settle();
                CHECK(co_await one.get() == 100);
                for (int i = 0; i < 3; ++i) {
                    if (i != static_cast<int>(leaver)) CHECK(co_await one.get() == i);
                }
                CHECK(one.empty());
                co_await group.join();
                for (std::size_t i = 0; i < 3; ++i) {
                    const auto how = co_await waiters[i];
                    CHECK(how == (i == leaver ? "cancelled" : "put"));
                }
            });
        }
    });
}

TEST_CASE("a put or get is cancelled before it begins, but not once it has happened") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            queue<int> items{1};
            task_group group;
            auto put_before = group.spawn(outcome_of_put(items, 1));
            put_before.cancel();
            CHECK(co_await put_before == "cancelled");
            CHECK(items.empty());

            auto get_after = group.spawn(outcome_of_get(items));
            co_await settle();
            co_await items.put(2);
            get_after.cancel();
            CHECK(co_await get_after == "2");

            co_await items.put(3);
            auto get_before = group.spawn(outcome_of_get(items));
            get_before.cancel();
            CHECK(co_await get_before == "cancelled");
            auto put_after = group.spawn(outcome_of_put(items, 4));
            co_await settle();
            CHECK(co_await items.get() == 3);
            put_after.cancel();
            CHECK(co_await put_after == "put");
            CHECK(co_await items.get() == 4);
            co_await group.join();
        });
    });
}

TEST_CASE("a try_put that is refused leaves the value alone") {
    queue<std::unique_ptr<int>> one{1};
    auto value = std::make_unique<int>(1);
    CHECK(one.try_put(std::move(value)));
    value = std::make_unique<int>(2);
    CHECK_FALSE(one.try_put(std::move(value)));
    REQUIRE(value != nullptr);  // NOLINT(bugprone-use-after-move)
    CHECK(*value == 2);
    CHECK(**one.try_get() == 1);
    CHECK_FALSE(one.try_get().has_value());
}

TEST_CASE("a closed queue or channel leaves the caller what it refuses, however it keeps items") {
    const auto refuses = [](auto& closed, auto value, auto put) {
        closed.close();
        CHECK_THROWS_AS(put(closed, value), closed_error);
        return value;
    };
    const auto put = [](auto& into, auto& value) { into.try_put(std::move(value)); };
    const auto send = [](auto& into, auto& value) { into.try_send(std::move(value)); };
    queue<std::unique_ptr<int>> pointers{1};
    queue<boxed_text> boxes{1};
    channel<boxed_text> pipe{1};
    CHECK(refuses(pointers, std::make_unique<int>(1), put) != nullptr);
    CHECK(refuses(boxes, boxed_text{"still here"}, put).text == "still here");
    CHECK(refuses(pipe, boxed_text{"still here"}, send).text == "still here");
}

TEST_CASE("items whose move throws leave a queue in order") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            priority_queue<fragile> items{4};
            for (const int n : {3, 1, 2}) co_await items.put(fragile{n});
            fragile::armed = true;
            CHECK_THROWS_AS(co_await items.put(fragile{0}), std::runtime_error);
            CHECK_THROWS_AS(co_await items.get(), std::runtime_error);  // and that one is gone
            fragile::armed = false;
            for (const int n : {2, 3}) {
                const fragile one = co_await items.get();
                CHECK(one.number == n);
            }
            CHECK(items.empty());
        });
    });
}

TEST_CASE("a queue is destroyed with the items that nobody got") {
    std::atomic<int> alive{0};
    {
        queue<counted> fifo{3};
        lifo_queue<counted> lifo;
        for (int i = 0; i < 3; ++i) {
            CHECK(fifo.try_put(counted{alive}));
            CHECK(lifo.try_put(counted{alive}));
        }
        CHECK(alive.load() == 6);
        fifo.try_get();
        CHECK(alive.load() == 5);
    }
    CHECK(alive.load() == 0);
}

TEST_CASE("plain threads put and get, and wait for tasks and each other") {
    on_each_reactor_kind([](auto run) {
        queue<int> requests{1};
        queue<int> replies{1};
        std::thread client([&] {
            for (int i = 0; i < 100; ++i) {
                requests.put_blocking(i);
                CHECK(replies.get_blocking() == i + 1);
            }
            requests.close();
            CHECK_THROWS_AS(replies.get_blocking(), closed_error);
            CHECK_THROWS_AS(requests.put_blocking(1), closed_error);
        });
        run([&]() -> task<> {
            for (;;) {
                const auto one = co_await as_result(requests.get());
                if (!one) break;
                co_await replies.put(*one + 1);
            }
            replies.close();
        });
        client.join();
    });
}

TEST_CASE("tasks of four schedulers share a queue; cancelled at random, they lose nothing") {
    on_each_reactor_kind([](auto run) {
        const unsigned seed = std::random_device{}();
        CAPTURE(seed);
        constexpr int per_task = 300;
        std::atomic<int> put{0};
        std::atomic<int> got{0};
        std::atomic<long long> sum_put{0};
        std::atomic<long long> sum_got{0};
        run_many(run, 4, [&]() -> task<> {
            queue<int> items{3};
            const auto work = [&](std::size_t index) -> task<> {
                std::minstd_rand random{static_cast<unsigned>(seed + index)};
                for (int i = 0; i < per_task; ++i) {
                    const int number = static_cast<int>(index) * per_task + i;
                    const auto patience = std::chrono::microseconds(random() % 40);
                    if (random() % 2 == 0) {
                        const auto how =
                            co_await as_result(with_timeout(patience, items.put(number)));
                        if (how) {
                            ++put;
                            sum_put += number;
                        }
                    } else {
                        const auto how = co_await as_result(with_timeout(patience, items.get()));
                        if (how) {
                            ++got;
                            sum_got += *how;
                            items.task_done();
                        }
                    }
                }
            };
            co_await on_each_reactor(work);
            while (const auto one = items.try_get()) {
                ++got;
                sum_got += *one;
                items.task_done();
            }
            co_await items.join();
        });
        CHECK(put == got);
        CHECK(sum_put == sum_got);
        CHECK(put > 0);
    });
}

}  // namespace rondo::test
