#include "support/support.hpp"

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/dump.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

using namespace rondo;
using namespace rondo::test;
using namespace std::chrono_literals;

namespace {

std::string dumped() {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* out = ::open_memstream(&text, &size);
    dump_tasks(out);
    std::fclose(out);
    std::string copy{text, size};
    std::free(text);
    return copy;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// The lines of `text` from the one that holds `part` on, as far as they are indented deeper.
std::string entry_of(const std::string& text, const std::string& part) {
    const std::size_t at = text.find(part);
    if (at == std::string::npos) return {};
    std::size_t begin = text.rfind('\n', at) + 1;
    const std::size_t depth = text.find_first_not_of(' ', begin) - begin;
    std::size_t end = text.find('\n', at) + 1;
    while (end < text.size() && text.find_first_not_of(' ', end) - end > depth) {
        end = text.find('\n', end) + 1;
    }
    return text.substr(begin, end - begin);
}

constexpr int wait_line = __LINE__ + 1;
task<> wait_for(event& what) { co_await what.wait(); }

constexpr int middle_line = __LINE__ + 1;
task<> middle(event& what) { co_await wait_for(what); }

task<> hold_group(event& what) {
    task_group inner;
    inner.spawn(wait_for(what));
    co_await inner.join();
}
constexpr int inner_group_line = __LINE__ - 4;

task<> sleep_long() { co_await sleep_for(2h); }

std::string place(int line) { return "dump_test.cpp:" + std::to_string(line) + " "; }

}  // namespace

TEST_CASE("a dump shows a blocked task's asynchronous stack, innermost frame first") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group group;
            group.spawn(middle(done));
            co_await settle();
            const std::string entry = entry_of(dumped(), "waits for an event");
            const std::size_t inner = entry.find(place(wait_line));
            const std::size_t outer = entry.find(place(middle_line));
            CHECK(inner != std::string::npos);
            CHECK(outer != std::string::npos);
            CHECK(inner < outer);
            CHECK(contains(entry, "wait_for"));
            CHECK(contains(entry, "middle"));
            done.set();
            co_await group.join();
        });
    });
}

TEST_CASE("a dump names the operation and the peer of the connection, or the listener's address") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind({ip_address::loopback_v4(), 0});
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            auto server = co_await listener.accept();
            const std::string from = server.remote_endpoint().to_string();
            const std::string to = client.remote_endpoint().to_string();
            std::array<std::byte, 8> space{};
            const std::string much(32 * 1024 * 1024, 'x');
            const std::string_view half = std::string_view(much).substr(0, much.size() / 2);

            const auto check = [&](auto operation, const std::string& description) -> task<> {
                CAPTURE(description);
                task_group group;
                group.spawn(std::move(operation));
                co_await settle();
                const std::string entry = entry_of(dumped(), "waits for " + description);
                CHECK_FALSE(entry.empty());
                group.cancel();
                co_await group.join();
            };
            co_await check(listener.accept(), "accept on " + to + "\n");
            co_await check(server.read_some(space), "recv from " + from + "\n");
            co_await check(server.read_exactly(space),
                           "recv from " + from + ", 0 of 8 bytes there\n");
            co_await check(server.receive(), "receive from " + from + "\n");
            co_await check(server.wait_hangup(), "the end of the connection with " + from + "\n");
            co_await check(client.write_all(much), "send to " + to + ", ");
            co_await check(client.write_all(half, half), "sendmsg to " + to + "\n");
            co_await check(client.write_some(std::as_bytes(std::span(much))),
                           "send to " + to + "\n");
        });
    });
}

TEST_CASE("a dump tells how long a timer still runs, and what has a deadline around it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            group.spawn([]() -> task<> { co_await with_timeout(3h, sleep_long()); });
            co_await settle();
            const std::string entry = entry_of(dumped(), "waits for a timer");
            CHECK((contains(entry, "a timer, 7199.") || contains(entry, "a timer, 7200.000")));
            CHECK(contains(entry, " s left"));
            CHECK(contains(entry, "sleep_long"));
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("a dump is a tree by task group") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group outer;
            outer.spawn(hold_group(done));
            co_await settle();
            const std::string text = dumped();
            const std::string waiting = "waits for 1 tasks of the group made at ";
            const std::string parent = entry_of(text, waiting);
            CHECK(contains(parent, "dump_test.cpp:" + std::to_string(inner_group_line)));
            CHECK(contains(parent, "waits for an event"));
            CHECK(contains(text, "task 1, running"));
            done.set();
            co_await outer.join();
        });
    });
}

TEST_CASE("a dump tells which tasks are ready, which are cancelled, and where one was spawned") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            constexpr int spawn_line = __LINE__ + 1;
            auto handle = group.spawn(sleep_long());
            CHECK(contains(entry_of(dumped(), ", ready\n"), place(spawn_line)));
            handle.cancel();
            CHECK(contains(dumped(), ", ready, cancelled\n"));
            co_await group.join();
            CHECK_FALSE(contains(dumped(), "ready"));
        });
    });
}

TEST_CASE("outside of run a dump is empty") { CHECK(dumped().empty()); }
