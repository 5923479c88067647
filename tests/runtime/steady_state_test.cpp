// What happens once for every request allocates nothing, and what there is one of for every task,
// operation or scheduler has the size that was decided on.

#include <rondo/rondo.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <new>
#include <string>

#include "support/allocation_count.hpp"
#include "support/net_support.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// Who makes one of these larger pays for it in every task or connection: change the number here in
// the same breath. A task<> costs its promise, its task_state if it was spawned, and its locals.
static_assert(sizeof(detail::task_promise<void>) == 16);
static_assert(sizeof(task<>) == 8);
static_assert(sizeof(task_handle<void>) == 16);
static_assert(sizeof(detail::task_state) == 72);
static_assert(sizeof(task_group) == 104);
static_assert(sizeof(detail::operation) == 48);
static_assert(sizeof(detail::recv_operation) == 72);
static_assert(sizeof(detail::receive_operation) == 72);
static_assert(sizeof(detail::send_all_operation) == 72);
static_assert(sizeof(detail::accept_operation) == 88);
static_assert(sizeof(decltype(sleep_for(1s))) == 40);
static_assert(sizeof(tcp_stream) == 40);
static_assert(sizeof(buffer) == 24);
static_assert(sizeof(detail::scheduler_core) <= 9664);

constexpr int times = 500;

/// How often `times` rounds of `once` allocate, after some that may.
template <class Once>
task<unsigned> allocations_of(Once once) {
    for (int i = 0; i < 50; ++i) co_await once();
    const unsigned before = allocation_count();
    for (int i = 0; i < times; ++i) co_await once();
    co_return allocation_count() - before;
}

task<> echo_forever(tcp_stream& stream) {
    for (;;) {
        const buffer bytes = co_await stream.receive();
        if (bytes.empty()) co_return;
        co_await stream.write_all(bytes);
    }
}

task<> echo_lines_forever(tcp_stream& stream) {
    buffered_reader reader{stream};
    for (;;) {
        const auto line = co_await reader.read_line(100);
        if (!line) co_return;
        co_await stream.write_all(*line, std::string_view("\n"));
    }
}

task<> answer_forever(channel<int>& questions, channel<int>& answers) {
    for (;;) {
        const auto question = co_await questions.receive();
        if (!question) co_return;
        co_await answers.send(*question + 1);
    }
}

}  // namespace

TEST_CASE("allocation_count counts") {
    const unsigned before = allocation_count();
    // Not by new-expressions, which a compiler may leave out.
    void* const one = ::operator new(100);
    void* const two = ::operator new(1000, std::align_val_t{64});
    CHECK(allocation_count() == before + 2);
    ::operator delete(two, std::align_val_t{64});
    ::operator delete(one);
}

TEST_CASE("a task that is awaited, spawned and joined, or yields, allocates nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto awaits = [] { return nothing(); };
            const auto yields = []() -> task<> { co_await yield(); };
            const auto spawns = []() -> task<> {
                task_group group;
                group.spawn(nothing());
                auto kept = group.spawn(nothing());
                co_await kept;
                co_await group.join();
            };
            const auto all = []() -> task<> { co_await when_all(nothing(), nothing()); };
            const auto any = []() -> task<> { co_await when_any(nothing(), nothing()); };
            const unsigned by_awaits = co_await allocations_of(awaits);
            const unsigned by_yields = co_await allocations_of(yields);
            const unsigned by_spawns = co_await allocations_of(spawns);
            const unsigned by_all = co_await allocations_of(all);
            const unsigned by_any = co_await allocations_of(any);
            CHECK(by_awaits == 0);
            CHECK(by_yields == 0);
            CHECK(by_spawns == 0);
            CHECK(by_all == 0);
            CHECK(by_any == 0);
        });
    });
}

TEST_CASE("a timer and a timeout allocate nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto sleeps = []() -> task<> { co_await sleep_for(1us); };
            const auto limits = []() -> task<> { co_await with_timeout(1h, nothing()); };
            const unsigned by_sleeps = co_await allocations_of(sleeps);
            const unsigned by_limits = co_await allocations_of(limits);
            CHECK(by_sleeps == 0);
            CHECK(by_limits == 0);
        });
    });
}

TEST_CASE("messages and locks allocate nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> questions{0};
            channel<int> answers{4};
            mutex one;
            event bell;
            task_group group;
            group.spawn(answer_forever(questions, answers));
            const auto asks = [&]() -> task<> {
                co_await questions.send(1);
                co_await answers.receive();
            };
            const auto locks = [&]() -> task<> {
                auto guard = co_await one.lock();
                bell.set();
                co_await bell.wait();
                bell.clear();
            };
            const unsigned by_asks = co_await allocations_of(asks);
            const unsigned by_locks = co_await allocations_of(locks);
            CHECK(by_asks == 0);
            CHECK(by_locks == 0);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("an echo request allocates nothing at either end, by buffers, spaces and lines") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            auto [line_client, line_server] = co_await connected_pair();
            task_group group;
            group.spawn(echo_forever(server));
            group.spawn(echo_lines_forever(line_server));
            std::string space(64, '\0');
            const auto asks = [&]() -> task<> {
                co_await client.write_all("sixty-four bytes or so");
                co_await client.read_some(bytes_of(space));
            };
            const auto asks_lines = [&]() -> task<> {
                co_await line_client.write_all("a line\n");
                co_await line_client.read_some(bytes_of(space));
            };
            const unsigned by_asks = co_await allocations_of(asks);
            const unsigned by_lines = co_await allocations_of(asks_lines);
            CHECK(by_asks == 0);
            CHECK(by_lines == 0);
            group.cancel();
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
