// The bound that scheduler states, for every await of the library: a task whose awaits are all done
// on the spot gives way once its turn's allowance is used up.

#include <rondo/rondo.hpp>

#include <doctest/doctest.h>

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/net_support.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

constexpr unsigned most_operations = scheduler::immediate_operations;
constexpr unsigned most_in_memory = most_operations * detail::operation_cost;

/// Does `once`, which awaits one thing, again and again, while another task asks for its turn all
/// the time; CHECKs that the other one never has to wait for more than `most` of them.
/// Where `is_cancelled`, it goes on awaiting though it has been cancelled.
template <class Once>
task<> check_turns(std::string name, unsigned most, Once once, bool is_cancelled = false) {
    CAPTURE(name);
    const unsigned times = 4 * most;
    unsigned done = 0;
    bool ended = false;
    unsigned longest = 0;
    const auto repeat = [&]() -> task<> {
        while (done < times) {
            co_await once();
            ++done;
        }
        ended = true;
    };
    const auto watch_turns = [&]() -> task<> {
        unsigned before = 0;
        while (!ended) {
            longest = std::max(longest, done - before);
            before = done;
            co_await yield();
        }
        longest = std::max(longest, done - before);
    };
    const auto repeat_cancelled = [&](cancel_scope& scope) -> task<> {
        scope.cancel();
        co_await repeat();
    };
    if (is_cancelled) {
        co_await when_all(watch_turns(), with_cancel_scope(repeat_cancelled));
    } else {
        co_await when_all(watch_turns(), repeat());
    }
    CHECK(done == times);
    CHECK(longest <= most);
}

/// Always has more lines.
class endless_lines {
public:
    task<std::size_t> read_some(std::span<std::byte> space) {
        std::memset(space.data(), '\n', space.size());
        co_return space.size();
    }
};

async_generator<int> numbers() {
    for (int i = 0;; ++i) co_yield i;
}
async_generator<int> no_numbers() { co_return; }

}  // namespace

TEST_CASE("a task whose reads and writes are all done at once gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_operations;
            auto [ended_peer, stream] = co_await connected_pair();
            ended_peer.close();
            std::array<std::byte, 16> space{};
            co_await check_turns("read_some", most, [&]() -> task<> {
                const std::size_t got = co_await stream.read_some(space);
                CHECK(got == 0);
            });
            co_await check_turns("receive", most, [&]() -> task<> {
                const buffer got = co_await stream.receive();
                CHECK(got.empty());
            });
            co_await check_turns("read_exactly", most, [&]() -> task<> {
                (void)co_await as_result(stream.read_exactly(space));
            });
            co_await check_turns("wait_hangup", most,
                                 [&]() -> task<> { co_await stream.wait_hangup(); });
            stream.shutdown_write();
            co_await check_turns("write_some", most, [&]() -> task<> {
                (void)co_await as_result(stream.write_some(space));
            });
            co_await check_turns("write_all", most, [&]() -> task<> {
                (void)co_await as_result(stream.write_all(space));
            });
            co_await check_turns("write_all of several", most, [&]() -> task<> {
                (void)co_await as_result(stream.write_all(std::string_view("a"), "b"));
            });
            co_await check_turns("poll_fd", most, [&]() -> task<> {
                co_await poll_fd(stream.native_handle(), POLLIN);
            });
            stream.close();
            co_await check_turns("a read of a closed stream", most, [&]() -> task<> {
                (void)co_await as_result(stream.read_some(space));
            });

            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            listener.close();
            co_await check_turns("accept", most,
                                 [&]() -> task<> { (void)co_await as_result(listener.accept()); });
            co_await check_turns("connect", most, [&]() -> task<> {
                (void)co_await as_result(tcp_stream::connect(here));
            });
        });
    });
}

TEST_CASE("a task that finds all its lines in the buffer gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_in_memory;
            endless_lines source;
            buffered_reader reader{source};
            // So much without a delimiter has the buffer grow to hold it.
            (void)co_await as_result(reader.read_until('x', 8 * most_in_memory));
            co_await check_turns("read_line", most,
                                 [&]() -> task<> { (void)co_await reader.read_line(); });
            (void)co_await as_result(reader.read_until('x', 8 * most_in_memory));
            co_await check_turns("read_until", most,
                                 [&]() -> task<> { (void)co_await reader.read_until('\n'); });
            (void)co_await as_result(reader.read_until('x', 8 * most_in_memory));
            co_await check_turns("read_exactly", most,
                                 [&]() -> task<> { (void)co_await reader.read_exactly(1); });
            (void)co_await as_result(reader.read_until('x', 8 * most_in_memory));
            co_await check_turns("discard_line", most,
                                 [&]() -> task<> { (void)co_await reader.discard_line(); });
            co_await check_turns("a line that is too long", most, [&]() -> task<> {
                (void)co_await as_result(reader.read_until('x', 0));
            });
        });
    });
}

TEST_CASE(
    "a task whose waits for time, tasks and results are over at once gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_in_memory;
            co_await check_turns("yield", most, []() -> task<> { co_await yield(); });
            co_await check_turns("sleep_for", most, []() -> task<> { co_await sleep_for(0s); });
            co_await check_turns("resume_on", most,
                                 []() -> task<> { co_await resume_on(this_scheduler()); });
            co_await check_turns("resolve", most,
                                 []() -> task<> { (void)co_await resolve("127.0.0.1", 1); });
            co_await check_turns("resolve localhost", most,
                                 []() -> task<> { (void)co_await resolve("localhost", 1); });

            auto counting = numbers();
            co_await check_turns("a generator's item", most,
                                 [&]() -> task<> { (void)co_await counting.next(); });
            auto none = no_numbers();
            co_await check_turns("a generator's end", most,
                                 [&]() -> task<> { (void)co_await none.next(); });

            co_await check_turns("a task's end", most, []() -> task<> {
                co_await with_task_group([](task_group& group) -> task<> {
                    auto one = group.spawn(nothing());
                    co_await one;
                });
            });
            co_await check_turns("the end of no tasks", most, []() -> task<> {
                co_await with_task_group([](task_group&) -> task<> { co_return; });
            });
            co_await check_turns("when_all of nothing", most, []() -> task<> {
                std::vector<task<>> none_at_all;
                co_await when_all(std::move(none_at_all));
            });
            co_await check_turns("when_any", most,
                                 []() -> task<> { co_await when_any(nothing(), nothing()); });

            promise<> kept;
            const future<> result = kept.get_future();
            kept.set_value();
            co_await check_turns("future", most, [&]() -> task<> { co_await result; });
            co_await check_turns("with_timeout", most,
                                 [&]() -> task<> { co_await with_timeout(1h, result); });
            co_await check_turns("shield", most, [&]() -> task<> { co_await shield(result); });
            co_await check_turns("wait", most, [&]() -> task<> {
                const std::vector<future<>> all{result};
                (void)co_await wait(all);
            });
            const std::vector<future<>> many(4 * most, result);
            auto completed = as_completed(many);
            co_await check_turns("as_completed", most,
                                 [&]() -> task<> { (void)co_await completed.next(); });
            co_await check_turns("the end of as_completed", most,
                                 [&]() -> task<> { (void)co_await completed.next(); });
            thread_pool pool{1};
            auto mapped = pool.map([](int n) { return n; }, std::vector<int>{});
            co_await check_turns("the end of map", most,
                                 [&]() -> task<> { (void)co_await mapped.next(); });
            auto unordered = pool.map_unordered([](int n) { return n; }, std::vector<int>{});
            co_await check_turns("the end of map_unordered", most,
                                 [&]() -> task<> { (void)co_await unordered.next(); });
        });
    });
}

TEST_CASE("a task that is cancelled, and goes on awaiting, gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_in_memory;
            event never;
            task_group others;
            auto other = others.spawn(never.wait());
            const auto check = [&](std::string name, auto once) {
                return check_turns(std::move(name), most, std::move(once), true);
            };
            auto [peer, stream] = co_await connected_pair();
            std::array<std::byte, 16> space{};
            co_await check("read_some",
                           [&]() -> task<> { (void)co_await as_result(stream.read_some(space)); });
            co_await check("event", [&]() -> task<> { (void)co_await as_result(never.wait()); });
            co_await check("sleep_for",
                           []() -> task<> { (void)co_await as_result(sleep_for(1h)); });
            co_await check("yield", []() -> task<> { (void)co_await as_result(yield()); });
            co_await check("task_handle", [&]() -> task<> { (void)co_await as_result(other); });
            promise<> late;
            const future<> result = late.get_future();
            co_await check("future", [&]() -> task<> { (void)co_await as_result(result); });
            co_await check("when_any", [&]() -> task<> {
                (void)co_await as_result(when_any(never.wait(), sleep_for(1h)));
            });
            co_await check("with_task_group", [&]() -> task<> {
                const auto body = [](task_group&) -> task<> { co_return; };
                (void)co_await as_result(with_task_group(body));
            });
            co_await check("offload", []() -> task<> {
                const auto work = [] {};
                (void)co_await as_result(offload(work));
            });
            co_await check("resume_on", []() -> task<> {
                (void)co_await as_result(resume_on(this_scheduler()));
            });
            others.cancel();
            co_await others.join();
        });
    });
}

TEST_CASE("a task that finds every lock free and every item there gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_in_memory;
            mutex lock;
            co_await check_turns("mutex", most, [&]() -> task<> { (void)co_await lock.lock(); });
            recursive_mutex again;
            co_await check_turns("recursive_mutex", most,
                                 [&]() -> task<> { (void)co_await again.lock(); });
            shared_mutex readers;
            co_await check_turns("shared_mutex", most,
                                 [&]() -> task<> { (void)co_await readers.lock(); });
            co_await check_turns("lock_shared", most,
                                 [&]() -> task<> { (void)co_await readers.lock_shared(); });
            semaphore permits{1};
            co_await check_turns("semaphore", most,
                                 [&]() -> task<> { (void)co_await permits.acquire(); });
            capacity_limiter places{1};
            co_await check_turns("capacity_limiter", most,
                                 [&]() -> task<> { (void)co_await places.acquire(); });
            rate_limiter quick{1e9, 1'000'000};
            co_await check_turns("rate_limiter", most,
                                 [&]() -> task<> { co_await quick.acquire(); });
            event up;
            up.set();
            co_await check_turns("event", most, [&]() -> task<> { co_await up.wait(); });
            latch down{0};
            co_await check_turns("latch", most, [&]() -> task<> { co_await down.wait(); });
            barrier alone{1};
            co_await check_turns("barrier", most,
                                 [&]() -> task<> { (void)co_await alone.arrive_and_wait(); });
            once done;
            co_await done.call(nothing);
            co_await check_turns("once", most, [&]() -> task<> { co_await done.call(nothing); });
            condition_variable changed;
            auto held = co_await lock.lock();
            const auto holds = [] { return true; };
            co_await check_turns("condition_variable", most,
                                 [&]() -> task<> { co_await changed.wait(held, holds); });
        });
    });
}

TEST_CASE("a task that finds every item there, and room for every item, gives way to the others") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned most = most_in_memory;
            queue<int> items;
            co_await check_turns("put", most, [&]() -> task<> { co_await items.put(1); });
            co_await check_turns("get", most, [&]() -> task<> { (void)co_await items.get(); });
            queue<int> finished;
            co_await check_turns("join", most, [&]() -> task<> { co_await finished.join(); });
            channel<int> pipe{4 * most_in_memory};
            co_await check_turns("send", most, [&]() -> task<> { co_await pipe.send(1); });
            co_await check_turns("receive", most,
                                 [&]() -> task<> { (void)co_await pipe.receive(); });
            co_await check_turns("select", most, [&]() -> task<> {
                (void)co_await select(pipe.send(1));
                (void)co_await select(pipe.receive());
            });
            pipe.close();
            co_await check_turns("the end of a channel", most,
                                 [&]() -> task<> { (void)co_await pipe.receive(); });
            oneshot<int> both;
            {
                oneshot_receiver<int> gone = std::move(both.receiver);
            }
            co_await check_turns("a sender whose receiver has gone", most,
                                 [&]() -> task<> { co_await both.sender.closed(); });
            broadcast<int> news{4};
            auto hears = news.subscribe();
            co_await check_turns("broadcast", most, [&]() -> task<> {
                news.send(1);
                (void)co_await hears.receive();
            });
            watch<int> value{0};
            co_await check_turns("watch", most, [&]() -> task<> {
                const auto seen = value.version();
                value.set(1);
                (void)co_await value.changed(seen);
            });
            auto looks = value.subscribe();
            co_await check_turns("a watch's next value", most, [&]() -> task<> {
                value.set(1);
                (void)co_await looks.next();
            });
        });
    });
}

}  // namespace rondo::test
