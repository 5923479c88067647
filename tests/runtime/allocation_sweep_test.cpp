// Every allocation of the library fails in turn, one at a time: nothing aborts, hangs or leaks, and
// a server lives on.

#include <rondo/rondo.hpp>

#include <doctest/doctest.h>

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "support/allocation_faults.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// Larger than what fits into a frame's neighbourhood: an allocation of its own.
std::unique_ptr<int> boxed(int value) { return std::make_unique<int>(value); }

task<int> later(int value) {
    co_await yield();
    co_return value;
}

task<> sum_up_tasks() {
    const auto body = [](task_group& group) -> task<int> {
        auto first = group.spawn(later(1));
        auto second = group.spawn(later, 2);
        group.spawn(nothing());
        const int a = co_await first;
        const int b = co_await second;
        co_return a + b;
    };
    const int sum = co_await with_task_group(body);
    if (sum != 3) throw std::logic_error("the group gave another sum");
    const auto both = co_await when_all(later(1), later(2));
    if (std::get<1>(both) != 2) throw std::logic_error("when_all gave another result");
    std::vector<task<int>> many;
    for (int i = 0; i < 10; ++i) many.push_back(later(i));
    const auto results = co_await when_all(std::move(many));
    if (results.size() != 10) throw std::logic_error("when_all lost some");
    const auto first_of_two = co_await when_any(later(1), sleep_for(1h));
    if (first_of_two.index() != 0) throw std::logic_error("when_any waited for the sleeper");
    co_await with_timeout(1h, later(1));
    co_await shield(later(1), 1h);
    const auto none = co_await as_result(with_timeout(1us, sleep_for(1h)));
    if (none.error() != std::errc::timed_out && none.error() != std::errc::not_enough_memory) {
        throw std::logic_error("the limit did not count");
    }
    const auto cancels = [](cancel_scope& scope) -> task<> {
        scope.cancel();
        co_await yield();
    };
    co_await with_cancel_scope(cancels);
}

task<> go_round() {
    co_await on_each_reactor([](std::size_t) -> task<> { co_await yield(); });
    const auto body = [](task_group& group) -> task<> {
        auto there = group.spawn_on(place(1), later(3));
        group.spawn_on(place(1), later, 4);
        const int three = co_await there;
        if (three != 3) throw std::logic_error("spawn_on gave another result");
    };
    co_await with_task_group(body);
    scheduler& home = this_scheduler();
    co_await resume_on(place(1));
    co_await resume_on(home);
    // A group that is cancelled by a task of its own that is elsewhere.
    const auto cancelled = [](task_group& group) -> task<> {
        group.spawn_on(place(1), [&group]() -> task<> {
            group.cancel();
            co_return;
        });
        co_await sleep_for(1h);
    };
    co_await with_task_group(cancelled);
}

task<> come_in_from_outside(runtime& all) {
    auto soon = all.submit(later(5));
    bool called = false;
    {
        struct cancelled_at_end {
            timer_handle call;
            ~cancelled_at_end() { call.cancel(); }
        } later_call{call_later(1us, [&called] { called = true; })};
        while (!called) co_await yield();
    }
    while (soon.wait_for(0s) != std::future_status::ready) co_await yield();
    if (soon.get() != 5) throw std::logic_error("submit gave another result");
    if (all.size() == 1) co_return;
    auto from_there = all.scheduler(1).submit(later(6));
    while (from_there.wait_for(0s) != std::future_status::ready) co_await yield();
    if (from_there.get() != 6) throw std::logic_error("submit gave another result");
    std::atomic<bool> posted{false};
    all.scheduler(1).post([&posted] { posted = true; });
    while (!posted) co_await yield();
}

task<> hear_signals() {
    const auto raise_one = []() -> task<> {
        co_await yield();
        ::raise(SIGUSR1);
    };
    signal_subscription heard{SIGUSR1};
    co_await when_all(heard.next(), raise_one());
    const auto raise_another = []() -> task<> {
        co_await yield();
        ::raise(SIGUSR2);
    };
    // What hears it is there before it comes.
    const signal_subscription kept{SIGUSR2};
    co_await when_any(wait_signal({SIGUSR2}), raise_another());
}

task<> have_names() {
    const auto body = [](task_group& group) -> task<> {
        auto named = group.spawn(task_name{"a name that does not fit into a string"}, later(1));
        co_await named;
    };
    co_await with_task_group(body);
    interval ticks{1us};
    for (int i = 0; i < 3; ++i) co_await ticks.tick();
}

task<> use_locks() {
    mutex lock;
    recursive_mutex again;
    shared_mutex readers;
    semaphore permits{1};
    capacity_limiter places{2};
    rate_limiter quick{1e6, 10};
    latch down{3};
    barrier meet{3};
    once loaded;
    condition_variable changed;
    int turns = 0;
    const auto each = [&]() -> task<> {
        {
            auto guard = co_await lock.lock();
            co_await yield();
            ++turns;
            changed.notify_all();
        }
        {
            auto guard = co_await lock.lock();
            const auto all_were_here = [&] { return turns == 3; };
            co_await changed.wait(guard, all_were_here);
        }
        {
            auto guard = co_await again.lock();
        }
        {
            auto guard = co_await readers.lock_shared();
        }
        {
            auto guard = co_await readers.lock();
        }
        {
            auto permit = co_await permits.acquire();
        }
        {
            auto place = co_await places.acquire();
        }
        co_await quick.acquire();
        co_await down.arrive_and_wait();
        co_await loaded.call([]() -> task<> { co_await yield(); });
        co_await meet.arrive_and_wait();
    };
    co_await when_all(each(), each(), each());
}

task<> use_queues() {
    queue<std::unique_ptr<int>> items{2};
    priority_queue<int> sorted;
    lifo_queue<int> stack;
    channel<std::unique_ptr<int>> pipe{1};
    broadcast<int> news{4};
    watch<int> value{0};
    oneshot<int> both;
    constexpr int count = 5;
    const auto produce = [&]() -> task<> {
        for (int i = 0; i < count; ++i) {
            co_await items.put(boxed(i));
            co_await sorted.put(i);
            co_await stack.put(i);
            co_await pipe.send(boxed(i));
            news.send(i);
            value.set(i);
        }
        items.close();
        sorted.close();
        stack.close();
        pipe.close();
        news.close();
        both.sender.send(1);
    };
    const auto consume = [&]() -> task<> {
        auto hears = news.subscribe();
        for (int i = 0; i < count; ++i) {
            const auto got = co_await items.get();
            (void)co_await sorted.get();
            (void)co_await stack.get();
            const auto received = co_await pipe.receive();
            if (!received) throw std::logic_error("the channel lost an item");
        }
        (void)co_await hears.receive();
        (void)co_await both.receiver;
    };
    co_await when_all(produce(), consume());
}

task<> use_pool() {
    thread_pool pool{2};
    auto one = pool.submit([] { return 1; });
    const int value = co_await one;
    if (value != 1) throw std::logic_error("the pool gave another result");
    auto mapped = pool.map([](int n) { return n + 1; }, std::vector{1, 2, 3, 4, 5});
    while (auto each = co_await mapped.next()) {
    }
    std::vector<future<int>> all;
    for (int i = 0; i < 5; ++i) all.push_back(pool.submit([i] { return i; }));
    auto order = as_completed(all);
    while (auto done = co_await order.next()) {
    }
    co_await wait(all);
    std::atomic<bool> called{false};
    auto last = pool.submit([] {});
    last.add_done_callback([&called](const future<>&) { called = true; });
    while (!called) co_await yield();
    const auto square = [] { return std::make_unique<int>(9); };
    const auto nine = co_await offload(square);
    const auto stoppable = [](const std::stop_token&) { return 1; };
    co_await offload(stoppable);
}

/// Sends some lines to itself, and reads them in all the ways there are.
task<> talk_to_oneself() {
    auto [client, server] = co_await connected_pair();
    const auto say = [](tcp_stream& to) -> task<> {
        for (int i = 0; i < 20; ++i) co_await to.write_all(std::string_view("a line\n"));
        co_await to.write_all("and ", "more\n");
        to.shutdown_write();
    };
    const auto hear = [](tcp_stream& from) -> task<> {
        {
            const buffer first = co_await from.receive();
            if (first.empty()) throw std::logic_error("nothing came");
        }
        buffered_reader reader{from};
        while (auto line = co_await reader.read_line(1'000)) {
        }
        co_await from.wait_hangup();
    };
    co_await when_all(say(client), hear(server));
    (void)co_await resolve("127.0.0.1", 1);
    (void)co_await resolve("localhost", 1);
    auto listener = tcp_listener::bind(any_port());
    auto stream = co_await tcp_stream::connect("127.0.0.1", listener.local_endpoint().port());
}

task<> look_up() {
    // The machine's own name, which needs no name server; it may have none.
    std::string name(256, '\0');
    ::gethostname(name.data(), name.size() - 1);
    const auto found = co_await as_result(resolve(name.c_str(), 1));
    if (found.error() == std::errc::not_enough_memory) throw std::system_error(found.error());
}

task<> echo_all(tcp_stream peer) {
    buffered_reader reader{peer};
    while (auto line = co_await reader.read_line(100)) {
        co_await peer.write_all(*line, std::string_view("\n"));
    }
}

/// A client in plain system calls, which waits for at most some seconds.
class patient_client {
public:
    explicit patient_client(const endpoint& where) : socket_(where) {
        const timeval limit{5, 0};
        ::setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
    /// False: the connection was dropped.
    bool is_served() {
        constexpr std::string_view line = "hello\n";
        if (::send(socket_.fd(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return false;
        for (std::size_t got = 0; got < line.size();) {
            std::array<char, line.size()> answer;
            const ssize_t count = ::recv(socket_.fd(), answer.data(), line.size() - got, 0);
            // A ring that this thread had before may still interrupt it as the kernel ends it.
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) return false;
            got += static_cast<std::size_t>(count);
        }
        return true;
    }

private:
    plain_socket socket_;
};

/// A server on threads of its own; tells by what it ended.
class server_under_test {
public:
    server_under_test(reactor_kind kind, unsigned reactors, accept_mode mode)
        : thread_([=, this] { serve_until_stopped(kind, reactors, mode); }) {
        listens_.wait();
    }
    server_under_test(const server_under_test&) = delete;
    server_under_test& operator=(const server_under_test&) = delete;
    ~server_under_test() {
        if (thread_.joinable()) stop();
    }

    const endpoint& where() const { return where_; }
    std::string stop() {
        stop_.set();
        thread_.join();
        return ended_by_;
    }

private:
    void serve_until_stopped(reactor_kind kind, unsigned reactors, accept_mode mode) {
        const auto work = [&]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            where_ = listener.local_endpoint();
            task_group group;
            const auto ignore = [](const std::exception_ptr&, const endpoint&) {};
            auto server = group.spawn(
                serve(std::move(listener), echo_all, {.mode = mode, .on_error = ignore}));
            // From here on it serves, on each reactor: what fails while it begins is an error.
            co_await settle();
            co_await on_each_reactor([](std::size_t) -> task<> { co_await settle(); });
            listens_.count_down();
            co_await stop_.wait();
            ended_by_ = server.done() ? "an error" : "the stop";
            server.cancel();
            co_await group.join();
        };
        try {
            rondo::run(work, {.reactors = reactors, .reactor = kind});
        } catch (const std::exception& error) {
            ended_by_ = error.what();
        }
    }

    std::latch listens_{1};
    event stop_;
    endpoint where_;
    std::string ended_by_;
    std::thread thread_;
};

template <class Work>
auto in_run(Work work, unsigned reactors = 1) {
    return [=](auto run, allocation_fault& fault) {
        run_many(run, reactors, [&]() -> task<> {
            fault.arm();
            co_await work();
        });
    };
}

}  // namespace

TEST_CASE("a runtime begins and ends though an allocation fails") {
    for (const unsigned reactors : {1U, 3U}) {
        CAPTURE(reactors);
        sweep("a runtime", [=](auto run, allocation_fault& fault) {
            fault.arm();
            run_many(run, reactors, nothing);
        });
    }
}

TEST_CASE("groups and scopes end though an allocation fails") {
    sweep("groups", in_run(sum_up_tasks));
}

TEST_CASE("tasks that travel come home though an allocation fails") {
    sweep("hops", in_run(go_round, 2));
}

TEST_CASE("work that comes in from outside ends though an allocation fails") {
    for (const unsigned reactors : {1U, 2U}) {
        CAPTURE(reactors);
        sweep("submit", in_run([] { return come_in_from_outside(this_runtime()); }, reactors));
    }
}

TEST_CASE("signals, names and intervals do without memory that is not there") {
    sweep("signals", in_run(hear_signals));
    sweep("names", in_run(have_names));
}

TEST_CASE("locks are free again though an allocation fails") { sweep("locks", in_run(use_locks)); }

TEST_CASE("queues and channels keep their promises though an allocation fails") {
    sweep("queues", in_run(use_queues));
}

TEST_CASE("a thread pool goes on though an allocation fails") { sweep("a pool", in_run(use_pool)); }

TEST_CASE("streams go on though an allocation fails") { sweep("streams", in_run(talk_to_oneself)); }

TEST_CASE("a look-up ends though an allocation fails") { sweep("a look-up", in_run(look_up)); }

TEST_CASE("a server lives on though an allocation fails while forty clients dial") {
    for (const auto& [reactors, mode] :
         {std::pair{1U, accept_mode::single}, std::pair{2U, accept_mode::balanced},
          std::pair{2U, accept_mode::per_reactor}}) {
        CAPTURE(static_cast<int>(mode));
        sweep("a server", [=, mode = mode, reactors = reactors](auto run, allocation_fault& fault) {
            allocation_fault::spare_this_thread(true);
            std::string ended_by;
            int dropped = 0;
            bool is_served = false;
            {
                server_under_test server{run.kind(), reactors, mode};
                fault.arm();
                std::vector<patient_client> clients;
                for (int i = 0; i < 40; ++i) clients.emplace_back(server.where());
                for (patient_client& client : clients) dropped += client.is_served() ? 0 : 1;
                fault.disarm();
                patient_client late{server.where()};
                is_served = late.is_served();
                clients.clear();
                ended_by = server.stop();
            }
            allocation_fault::spare_this_thread(false);
            CHECK(is_served);
            CHECK(dropped <= 1);
            CHECK(ended_by == "the stop");
        });
    }
}

}  // namespace rondo::test
