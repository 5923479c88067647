// Operations that are made early and started late: what happened to their stream in between, and
// whom its number belongs to by then.

#include <rondo/io/buffered_reader.hpp>
#include <rondo/net/serve.hpp>
#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <sys/socket.h>

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
constexpr auto bad_descriptor = std::errc::bad_file_descriptor;

/// What operations read into and write from.
struct memory {
    std::string space = std::string(4, '\0');
    std::string large = pattern(64 * 1024);
    std::array<std::span<const std::byte>, 2> list{bytes_of(std::string_view("ping")),
                                                   bytes_of(std::string_view("pong"))};
};

/// Calls body(make) for every operation of a stream: make(stream, memory) gives the operation.
template <class Body>
void on_each_operation(Body body) {
    const auto named = [&body](const char* name, auto make) {
        CAPTURE(name);
        body(make);
    };
    named("read_some", [](tcp_stream& s, memory& m) { return s.read_some(bytes_of(m.space)); });
    named("read_exactly",
          [](tcp_stream& s, memory& m) { return s.read_exactly(bytes_of(m.space)); });
    named("receive", [](tcp_stream& s, memory&) { return s.receive(); });
    named("wait_hangup", [](tcp_stream& s, memory&) { return s.wait_hangup(); });
    named("write_some", [](tcp_stream& s, memory& m) {
        return s.write_some(bytes_of(std::string_view(m.large)).first(4));
    });
    named("write_all", [](tcp_stream& s, memory&) { return s.write_all("ping"); });
    named("write_all of two", [](tcp_stream& s, memory&) { return s.write_all("pi", "ng"); });
    named("write_all of a list", [](tcp_stream& s, memory& m) { return s.write_all(m.list); });
    named("write_all without copy", [](tcp_stream& s, memory& m) {
        s.set_zero_copy(true);
        return s.write_all(m.large);
    });
}

/// How an operation may come to be started late.
enum class start { awaited, in_a_task, in_when_all, in_when_any, under_a_limit };
constexpr start every_start[] = {start::awaited, start::in_a_task, start::in_when_all,
                                 start::in_when_any, start::under_a_limit};

template <class Operation>
task<std::error_code> error_of(Operation operation) {
    const auto outcome = co_await as_result(std::move(operation));
    co_return outcome.error();
}

template <class Operation>
task<std::error_code> start_now(Operation operation, start how) {
    switch (how) {
        case start::awaited: break;
        case start::in_a_task: {
            task_group group;
            auto running = group.spawn(error_of(std::move(operation)));
            const std::error_code error = co_await running;
            co_await group.join();
            co_return error;
        }
        case start::in_when_all: {
            const auto both = co_await when_all(error_of(std::move(operation)), yield());
            co_return std::get<0>(both);
        }
        case start::in_when_any: {
            event never;
            const auto first = co_await when_any(error_of(std::move(operation)), never.wait());
            co_return std::get<0>(first);
        }
        case start::under_a_limit: {
            const auto outcome = co_await as_result(with_timeout(1h, std::move(operation)));
            co_return outcome.error();
        }
    }
    co_return co_await error_of(std::move(operation));
}

/// The other end sends and ends, so that every operation of the stream can be completed.
void make_everything_ready(plain_socket& peer) {
    peer.send("data");
    REQUIRE(::shutdown(peer.fd(), SHUT_WR) == 0);
}

}  // namespace

TEST_CASE(
    "an operation whose stream was closed before it starts leaves its number's new owner alone") {
    on_each_reactor_kind([](auto run) {
        on_each_operation([&](auto make) {
            for (const start how : every_start) {
                CAPTURE(static_cast<int>(how));
                run([=]() -> task<> {
                    memory all;
                    auto listener = tcp_listener::bind(any_port());
                    plain_socket alices{listener.local_endpoint()};
                    auto alice = co_await listener.accept();
                    plain_socket bobs{listener.local_endpoint()};
                    const int number = alice.native_handle();
                    auto operation = make(alice, all);
                    alice.close();
                    co_await settle();
                    auto bob = co_await listener.accept();
                    REQUIRE(bob.native_handle() == number);
                    bobs.send("data for bob");
                    const std::error_code error = co_await start_now(operation, how);
                    CHECK(error == bad_descriptor);
                    CHECK(bobs.received().empty());
                    const std::string text = co_await read_text(bob, 12);
                    CHECK(text == "data for bob");
                });
            }
        });
    });
}

TEST_CASE("a stream closed and its number taken in the turn in which when_any starts its read") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket alices{listener.local_endpoint()};
            auto alice = co_await listener.accept();
            plain_socket bobs{listener.local_endpoint()};
            bobs.send("data for bob");
            std::string space(20, '\0');
            event never;
            const auto reads = [&]() -> task<std::error_code> {
                const auto first =
                    co_await when_any(error_of(alice.read_some(bytes_of(space))), never.wait());
                co_return std::get<0>(first);
            };
            const auto closes = [&]() -> task<tcp_stream> {
                alice.close();
                co_return co_await listener.accept();
            };
            task_group group;
            auto reader = group.spawn(reads());
            auto closer = group.spawn(closes());
            auto bob = co_await closer;
            const std::error_code error = co_await reader;
            CHECK(error == bad_descriptor);
            const std::string text = co_await read_text(bob, 12);
            CHECK(text == "data for bob");
            co_await group.join();
        });
    });
}

TEST_CASE("an operation follows its stream to where it has moved before the operation starts") {
    on_each_reactor_kind([](auto run) {
        on_each_operation([&](auto make) {
            for (const start how : every_start) {
                CAPTURE(static_cast<int>(how));
                run([=]() -> task<> {
                    memory all;
                    auto [peer, accepted] = co_await accept_peer();
                    auto first = std::make_unique<tcp_stream>(std::move(accepted));
                    auto operation = make(*first, all);
                    auto second = std::make_unique<tcp_stream>(std::move(*first));
                    first.reset();
                    tcp_stream third = std::move(*second);
                    second.reset();
                    make_everything_ready(peer);
                    const std::error_code error = co_await start_now(operation, how);
                    CHECK_FALSE(error);
                });
            }
        });
    });
}

TEST_CASE("an operation follows its stream to another reactor") {
    on_each_reactor_kind([](auto run) {
        on_each_operation([&](auto make) {
            run_many(run, 2, [=]() -> task<> {
                memory all;
                auto [peer, stream] = co_await accept_peer();
                peer.send("x");
                const std::string used_here = co_await read_text(stream, 1);
                CHECK(used_here == "x");
                auto operation = make(stream, all);
                const auto there = [](auto late, tcp_stream moved) -> task<std::error_code> {
                    const std::error_code error = co_await error_of(std::move(late));
                    co_await moved.write_all("over");
                    co_return error;
                };
                make_everything_ready(peer);
                task_group group;
                auto away = group.spawn_on(place(1), there(operation, std::move(stream)));
                const std::error_code error = co_await away;
                CHECK_FALSE(error);
                co_await group.join();
            });
        });
    });
}

TEST_CASE("an operation made of a stream that was assigned another connection is not of that") {
    on_each_reactor_kind([](auto run) {
        on_each_operation([&](auto make) {
            run([=]() -> task<> {
                memory all;
                auto [alices, stream] = co_await accept_peer();
                auto [carols, carol] = co_await accept_peer();
                auto operation = make(stream, all);
                stream = std::move(carol);
                carols.send("data for carol");
                const std::error_code error = co_await error_of(operation);
                CHECK(error == bad_descriptor);
                const std::string text = co_await read_text(stream, 14);
                CHECK(text == "data for carol");
                CHECK(carols.received().empty());
            });
        });
    });
}

TEST_CASE("a stream may move while operations of it are awaited") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, accepted] = co_await accept_peer();
            std::vector<tcp_stream> streams;
            streams.push_back(std::move(accepted));
            std::string space(4, '\0');
            const std::string much = pattern(8 * megabyte);
            task_group group;
            auto reader =
                group.spawn(outcome_of(streams[0].read_some(bytes_of(space)), form::throwing));
            auto writer = group.spawn(outcome_of(streams[0].write_all(much), form::throwing));
            auto waiter = group.spawn(outcome_of(streams[0].wait_hangup(), form::throwing));
            co_await settle();
            CHECK_FALSE(writer.done());
            for (int i = 0; i < 10; ++i) {
                auto [other_peer, other] = co_await accept_peer();
                streams.push_back(std::move(other));  // moves those before, now and then
            }
            peer.send("data");
            const auto got = co_await reader;
            CHECK(got.value_or(0) == 4);
            std::string all;
            while (all.size() < much.size()) {
                all += peer.received();
                co_await yield();
            }
            CHECK((all == much));
            const auto put = co_await writer;
            CHECK(put);
            peer.reset();
            const auto how = co_await waiter;
            REQUIRE(how);
            CHECK((*how == hangup::broken));
            co_await group.join();
        });
    });
}

TEST_CASE("a stream that is destroyed ends what is awaited of it, and early ones when they start") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, accepted] = co_await accept_peer();
            auto stream = std::make_unique<tcp_stream>(std::move(accepted));
            std::string space(4, '\0');
            auto early = stream->read_some(bytes_of(space));
            task_group group;
            auto reader = group.spawn(complaint_of(stream->read_some(bytes_of(space))));
            co_await settle();
            stream.reset();
            const std::string complaint = co_await reader;
            CHECK(complaint == "read from a closed connection: Bad file descriptor");
            const std::string same = co_await complaint_of(early);
            CHECK(same == complaint);
            co_await group.join();
        });
    });
}

TEST_CASE("an accept whose listener was closed before it starts leaves the next listener alone") {
    on_each_reactor_kind([](auto run) {
        for (const start how : every_start) {
            CAPTURE(static_cast<int>(how));
            run([=]() -> task<> {
                auto old = tcp_listener::bind(any_port());
                const int number = old.native_handle();
                auto early = old.accept();
                old.close();
                auto next = tcp_listener::bind(any_port());
                REQUIRE(next.native_handle() == number);
                plain_socket peer{next.local_endpoint()};
                const std::error_code error = co_await start_now(early, how);
                CHECK(error == bad_descriptor);
                peer.send("hello");
                auto stream = co_await next.accept();
                const std::string text = co_await read_text(stream, 5);
                CHECK(text == "hello");
            });
        }
    });
}

TEST_CASE("an accept follows its listener to where it has moved, before and while it waits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto first = std::make_unique<tcp_listener>(tcp_listener::bind(any_port()));
            auto early = first->accept();
            auto second = std::make_unique<tcp_listener>(std::move(*first));
            first.reset();
            task_group group;
            auto waiting = group.spawn(outcome_of(early, form::throwing));
            co_await settle();
            tcp_listener third = std::move(*second);
            second.reset();
            CHECK_FALSE(waiting.done());
            const plain_socket peer{third.local_endpoint()};
            const auto stream = co_await waiting;
            CHECK(stream.has_value());
            third.close();
            const std::string complaint = co_await complaint_of(early);
            CHECK(complaint == "accept on a closed listener: Bad file descriptor");
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a buffered read that is made early does not read what its stream's number stands for now") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket alices{listener.local_endpoint()};
            auto alice = co_await listener.accept();
            plain_socket bobs{listener.local_endpoint()};
            const int number = alice.native_handle();
            buffered_reader reader{alice};
            auto line = reader.read_line();
            auto text = reader.read_until(';');
            auto bytes = reader.read_exactly(4);
            auto skip = reader.discard_line();
            alice.close();
            co_await settle();
            auto bob = co_await listener.accept();
            REQUIRE(bob.native_handle() == number);
            bobs.send("a line\n");
            const auto no_line = co_await as_result(line);
            CHECK(no_line.error() == bad_descriptor);
            const auto no_text = co_await as_result(text);
            CHECK(no_text.error() == bad_descriptor);
            const auto no_bytes = co_await as_result(bytes);
            CHECK(no_bytes.error() == bad_descriptor);
            const auto no_skip = co_await as_result(skip);
            CHECK(no_skip.error() == bad_descriptor);
            buffered_reader bobs_reader{bob};
            const auto his = co_await bobs_reader.read_line();
            CHECK(his == "a line");
        });
    });
}

TEST_CASE(
    "serve whose listener was closed while it was full takes none of the next listener's clients") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto old = tcp_listener::bind(any_port());
            const int number = old.native_handle();
            event leave;
            const auto stays = [&leave](tcp_stream) -> task<> { co_await leave.wait(); };
            task_group group;
            auto server = group.spawn(complaint_of(serve(old, stays, {.max_connections = 1})));
            const plain_socket client{old.local_endpoint()};
            co_await settle();
            const std::string name = old.local_endpoint().to_string();
            old.close();
            auto next = tcp_listener::bind(any_port());
            REQUIRE(next.native_handle() == number);
            const plain_socket nexts_client{next.local_endpoint()};
            leave.set();
            const std::string complaint = co_await server;
            CHECK(complaint == "accept on " + name + ": Bad file descriptor");
            auto stream = co_await next.accept();
            CHECK(stream.local_endpoint() == next.local_endpoint());
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
