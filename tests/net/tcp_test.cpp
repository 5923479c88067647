#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <netinet/tcp.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

task<> write_and_finish(tcp_stream& to, const std::string& text) {
    co_await to.write_all(text);
    to.shutdown_write();
}

task<> write_list_and_finish(tcp_stream& to, const std::vector<std::span<const std::byte>>& list) {
    co_await to.write_all(std::span(list));
    to.shutdown_write();
}

bool nodelay(const tcp_stream& stream) {
    int on = 0;
    socklen_t size = sizeof on;
    REQUIRE(getsockopt(stream.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0);
    return on != 0;
}

bool closes_on_exec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

}  // namespace

static_assert(readable_stream<tcp_stream> && writable_stream<tcp_stream>);

TEST_CASE("bytes go both ways over TCP, and both ends know each other, over IPv4 and IPv6") {
    on_each_reactor_kind([](auto run) {
        for (const ip_address address : {ip_address::loopback_v4(), ip_address::loopback_v6()}) {
            CAPTURE(address.to_string());
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair(address);
                CHECK(client.remote_endpoint() == server.local_endpoint());
                CHECK(server.remote_endpoint() == client.local_endpoint());
                CHECK(server.local_endpoint().address() == address);
                CHECK(server.local_endpoint().port() != 0);
                co_await client.write_all("ping");
                const std::string ping = co_await read_text(server, 4);
                CHECK(ping == "ping");
                co_await server.write_all("pong");
                const std::string pong = co_await read_text(client, 4);
                CHECK(pong == "pong");
            });
        }
    });
}

TEST_CASE("a read gives what has come, not more and not only when the space is full") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("abc");
            std::string space(100, '-');
            const std::size_t got = co_await server.read_some(bytes_of(space));
            CHECK(got == 3);
            CHECK(space.substr(0, 4) == "abc-");
        });
    });
}

TEST_CASE("a stream that has just been drained hears of the next bytes, again and again") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            std::string space(64, '\0');
            for (int i = 0; i < 500; ++i) {
                const std::string text = std::to_string(i);
                co_await client.write_all(text);
                const std::size_t got = co_await server.read_some(bytes_of(space));
                REQUIRE(space.substr(0, got) == text);
                co_await server.write_all(text);
                const std::string back = co_await read_text(client, got);
                REQUIRE(back == text);
            }
            client.shutdown_write();
            const std::size_t end = co_await server.read_some(bytes_of(space));
            CHECK(end == 0);
        });
    });
}

TEST_CASE("what was sent after urgent data is read without waiting for more") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            for (int round = 0; round < 3; ++round) {
                CAPTURE(round);
                task_group group;
                auto reader = group.spawn(
                    outcome_of(read_text(stream, sizeof "before after" - 1), form::throwing));
                co_await settle();
                CHECK_FALSE(reader.done());
                // A read ends in front of the urgent byte, short, though more is there behind it.
                peer.send("before ");
                peer.send_urgent('!');
                peer.send("after");
                co_await settle();
                reader.cancel();
                const auto text = co_await reader;
                CHECK(text.value_or("not read") == "before after");
                co_await group.join();
            }
        });
    });
}

TEST_CASE("several buffers arrive as one text, empty ones leave no trace") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const std::string text = "six";
            co_await client.write_all("HTTP/1.1 200 OK\r\n", std::string_view(), text,
                                      bytes_of(std::string_view("seven")));
            const std::string got = co_await read_text(server, 25);
            CHECK(got == "HTTP/1.1 200 OK\r\nsixseven");
            co_await client.write_all("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l",
                                      "m", "n", "o", "p");
            const std::string letters = co_await read_text(server, 16);
            CHECK(letters == "abcdefghijklmnop");
        });
    });
}

TEST_CASE(
    "a list of any number of buffers is sent whole, however little the kernel takes at once") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t count : {1u, 15u, 16u, 17u, 33u, 1'000u}) {
            CAPTURE(count);
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                set_option(client.native_handle(), SO_SNDBUF, 4'096);
                const std::string text = pattern(100'000);
                std::vector<std::span<const std::byte>> list;
                std::string_view rest = text;
                for (std::size_t i = 0; i < count; ++i) {
                    // Of all sizes; each third one is empty.
                    const std::size_t size =
                        i % 3 == 1 ? 0 : rest.size() / (count - i) * (i % 2 + 1);
                    const auto piece = i + 1 == count ? rest : rest.substr(0, size);
                    list.push_back(bytes_of(piece));
                    rest.remove_prefix(piece.size());
                }
                task_group group;
                group.spawn(write_list_and_finish(client, list));
                const std::string got = co_await read_text(server);
                CHECK((got == text));
                co_await group.join();
            });
        }
    });
}

TEST_CASE("writing nothing and reading exactly nothing complete at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const std::array<std::span<const std::byte>, 20> empties{};
            co_await client.write_all("");
            co_await client.write_all(std::span<const std::byte>());
            co_await client.write_all("", "");
            co_await client.write_all(std::span<const std::span<const std::byte>>());
            co_await client.write_all(std::span<const std::span<const std::byte>>(empties));
            const std::size_t sent = co_await client.write_some({});
            CHECK(sent == 0);
            const std::size_t got = co_await server.read_exactly({});
            CHECK(got == 0);
            co_await client.write_all("!");
            const std::string text = co_await read_text(server, 1);
            CHECK(text == "!");
        });
    });
}

TEST_CASE("one task reads and another writes on the same stream, many megabytes both ways") {
    on_each_reactor_kind([](auto run) {
        for (const int buffer : {0, 4'096}) {
            CAPTURE(buffer);
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                if (buffer != 0) {
                    set_option(client.native_handle(), SO_SNDBUF, buffer);
                    set_option(server.native_handle(), SO_SNDBUF, buffer);
                }
                const std::string there = pattern(8 * megabyte);
                const std::string back(there.rbegin(), there.rend());
                task_group group;
                group.spawn(write_and_finish(client, there));
                group.spawn(write_and_finish(server, back));
                auto at_server = group.spawn(read_text(server));
                auto at_client = group.spawn(read_text(client));
                co_await group.join();
                CHECK((co_await at_server == there));
                CHECK((co_await at_client == back));
            });
        }
    });
}

TEST_CASE("a write waits for a slow reader, and write_some takes what fits") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            set_option(client.native_handle(), SO_SNDBUF, 16'384);
            set_option(server.native_handle(), SO_RCVBUF, 16'384);
            const std::string text = pattern(megabyte);
            const std::size_t first = co_await client.write_some(bytes_of(std::string_view(text)));
            CHECK(first > 0);
            CHECK(first < text.size());
            const std::string rest = text.substr(first);
            task_group group;
            auto writer = group.spawn(write_and_finish(client, rest));
            co_await settle();
            CHECK_FALSE(writer.done());
            std::string got;
            while (got.size() < text.size()) {
                const std::string part = co_await read_text(server, 10'000);
                REQUIRE_FALSE(part.empty());
                got += part;
            }
            co_await group.join();
            CHECK((got == text));
        });
    });
}

TEST_CASE("after a half-close the other direction goes on, and the end is read as often as asked") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("request");
            client.shutdown_write();
            const std::string request = co_await read_text(server);
            CHECK(request == "request");
            std::string space(10, '\0');
            for (int i = 0; i < 3; ++i) {
                const std::size_t got = co_await server.read_some(bytes_of(space));
                CHECK(got == 0);
            }
            co_await server.write_all("answer");
            server.shutdown_write();
            const std::string answer = co_await read_text(client);
            CHECK(answer == "answer");
            const auto more = co_await as_result(client.write_all("more"));
            CHECK(more.error() == std::errc::broken_pipe);
        });
    });
}

TEST_CASE("read_exactly waits for all its bytes, and says so when the stream ends before") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            task_group group;
            std::string space(6, '-');
            auto reader =
                group.spawn(outcome_of(stream.read_exactly(bytes_of(space)), form::as_result));
            for (const char* part : {"a", "bc", "de"}) {
                peer.send(part);
                co_await settle();
                CHECK_FALSE(reader.done());
            }
            peer.send("fgh");
            co_await settle();
            REQUIRE(reader.done());
            const auto all = co_await reader;
            CHECK(all.value() == 6);
            CHECK(space == "abcdef");
            const std::string rest = co_await read_text(stream, 2);
            CHECK(rest == "gh");

            peer.send("xyz");
            peer.close();
            const std::string peer_name = stream.remote_endpoint().to_string();
            const auto text = co_await complaint_of(stream.read_exactly(bytes_of(space)));
            CHECK(text == "read from " + peer_name + ": the stream ended too early");
            const auto again = co_await as_result(stream.read_exactly(bytes_of(space)));
            CHECK(again.error() == stream_errc::unexpected_end);
            co_await group.join();
        });
    });
}

TEST_CASE("a connection refused and an address taken are errors that name the address") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::optional<tcp_listener> listener = tcp_listener::bind(any_port());
            const endpoint here = listener->local_endpoint();
            const std::string name = here.to_string();
            CHECK_THROWS_WITH_AS((void)tcp_listener::bind(here),
                                 ("listen on " + name + ": Address already in use").c_str(),
                                 std::system_error);
            listener.reset();
            const auto text = co_await complaint_of(tcp_stream::connect(here));
            CHECK(text == "connect to " + name + ": Connection refused");
            const auto refused = co_await as_result(tcp_stream::connect(here));
            CHECK(refused.error() == std::errc::connection_refused);
            CHECK_THROWS_WITH_AS((void)tcp_listener::bind(endpoint::parse("192.0.2.1:80")),
                                 "listen on 192.0.2.1:80: Cannot assign requested address",
                                 std::system_error);
        });
    });
}

TEST_CASE("listeners share a port when both ask for it") {
    rondo::run([]() -> task<> {
        auto one = tcp_listener::bind(any_port(), {.reuse_port = true});
        auto two = tcp_listener::bind(one.local_endpoint(), {.reuse_port = true});
        CHECK(one.local_endpoint() == two.local_endpoint());
        CHECK_THROWS_AS((void)tcp_listener::bind(one.local_endpoint()), std::system_error);
        co_return;
    });
}

TEST_CASE("two tasks may wait at the same listener: each connection goes to one of them") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            task_group group;
            auto one = group.spawn(outcome_of(listener.accept(), form::as_result));
            auto two = group.spawn(outcome_of(listener.accept(), form::as_result));
            co_await settle();
            plain_socket first{listener.local_endpoint()};
            co_await settle();
            CHECK(one.done() != two.done());
            plain_socket second{listener.local_endpoint()};
            co_await group.join();
            const auto at_one = co_await one;
            const auto at_two = co_await two;
            CHECK(at_one->remote_endpoint() != at_two->remote_endpoint());
        });
    });
}

TEST_CASE("connections that came all at once are accepted all, each in its turn") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            std::vector<plain_socket> peers;
            for (int i = 0; i < 500; ++i) {
                peers.emplace_back(listener.local_endpoint()).send(std::to_string(i));
                peers.back().close();
            }
            for (int i = 0; i < 500; ++i) {
                auto stream = co_await listener.accept();
                const std::string text = co_await read_text(stream);
                REQUIRE(text == std::to_string(i));
            }
        });
    });
}

TEST_CASE("sockets that somebody made non-blocking behave the same") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            make_non_blocking(listener.native_handle());
            task_group group;
            auto accept = group.spawn(outcome_of(listener.accept(), form::throwing));
            co_await settle();
            CHECK_FALSE(accept.done());
            plain_socket peer{listener.local_endpoint()};
            auto accepted = co_await accept;
            auto& stream = accepted.value();
            make_non_blocking(stream.native_handle());
            auto reader = group.spawn(read_text(stream));
            co_await settle();
            CHECK_FALSE(reader.done());
            peer.send("first ");
            co_await settle();
            peer.send("second");
            peer.close();
            CHECK(co_await reader == "first second");
            co_await group.join();
        });
    });
}

TEST_CASE("a non-blocking listener gives connections that come one by one, and waits between") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            make_non_blocking(listener.native_handle());
            task_group group;
            for (int i = 0; i < 3; ++i) {
                auto accept = group.spawn(outcome_of(listener.accept(), form::throwing));
                co_await settle();
                CHECK_FALSE(accept.done());
                const plain_socket peer{listener.local_endpoint()};
                const auto accepted = co_await accept;
                CHECK(accepted.value().local_endpoint() == listener.local_endpoint());
            }
            co_await group.join();
        });
    });
}

TEST_CASE("a big write to a non-blocking socket waits for the reader as on a blocking one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            make_non_blocking(client.native_handle());
            set_option(client.native_handle(), SO_SNDBUF, 4'096);
            const std::string text = pattern(megabyte);
            task_group group;
            group.spawn(write_and_finish(client, text));
            const std::string got = co_await read_text(server);
            CHECK((got == text));
            co_await group.join();
        });
    });
}

TEST_CASE("a listener made before the run serves in one run after the other") {
    on_each_reactor_kind([](auto run) {
        auto listener = tcp_listener::bind(any_port());
        for (int i = 0; i < 2; ++i) {
            run([&]() -> task<> {
                plain_socket peer{listener.local_endpoint()};
                peer.send("hello");
                peer.close();
                auto stream = co_await listener.accept();
                const std::string text = co_await read_text(stream);
                CHECK(text == "hello");
            });
        }
    });
}

TEST_CASE("sockets send small writes at once and stay out of programs that are started") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            auto server = co_await listener.accept();
            CHECK(nodelay(client));
            CHECK(nodelay(server));
            server.set_nodelay(false);
            CHECK_FALSE(nodelay(server));
            for (const int fd :
                 {listener.native_handle(), client.native_handle(), server.native_handle()}) {
                CHECK(closes_on_exec(fd));
            }
        });
    });
}

TEST_CASE("an assigned-over stream closes what it held") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket first{listener.local_endpoint()};
            plain_socket second{listener.local_endpoint()};
            auto stream = co_await listener.accept();
            stream = co_await listener.accept();
            co_await settle();
            CHECK(first.at_end());
            CHECK_FALSE(second.at_end());
        });
    });
}

}  // namespace rondo::test
