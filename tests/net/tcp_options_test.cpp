#include <rondo/net/tcp_options.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <string>
#include <system_error>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// What a call throws, as text.
template <class Call>
std::string complaint(Call call) {
    try {
        call();
    } catch (const std::system_error& error) {
        return error.what();
    }
    return "nothing";
}

}  // namespace

TEST_CASE("what is set on a connection is what the kernel has, and can be asked for") {
    on_each_reactor_kind([](auto run) {
        for (const ip_address address : {ip_address::loopback_v4(), ip_address::loopback_v6()}) {
            CAPTURE(address.to_string());
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair(address);
                for (tcp_stream* one : {&client, &server}) {
                    CHECK(one->nodelay());
                    one->set_nodelay(false);
                    CHECK_FALSE(one->nodelay());
                    CHECK_FALSE(one->cork());
                    one->set_cork(true);
                    CHECK(one->cork());
                    one->set_quick_ack(false);
                    CHECK_FALSE(one->quick_ack());
                    one->set_quick_ack(true);
                    CHECK(one->quick_ack());

                    CHECK(one->user_timeout() == 0ms);
                    one->set_user_timeout(1500ms);
                    CHECK(one->user_timeout() == 1500ms);
                    CHECK_FALSE(one->linger().has_value());
                    one->set_linger(7s);
                    CHECK(one->linger() == 7s);
                    one->set_linger(std::nullopt);
                    CHECK_FALSE(one->linger().has_value());

                    one->set_receive_buffer(16 * 1024);
                    CHECK(one->receive_buffer() == 32 * 1024);
                    one->set_send_buffer(16 * 1024);
                    CHECK(one->send_buffer() == 32 * 1024);
                    one->set_unsent_limit(4096);
                    CHECK(one->unsent_limit() == 4096);

                    one->set_ttl(5);
                    CHECK(one->ttl() == 5);
                    one->set_traffic_class(0x28);
                    CHECK(one->traffic_class() == 0x28);
                    const std::string algorithm = one->congestion_control();
                    CHECK_FALSE(algorithm.empty());
                    one->set_congestion_control(algorithm);
                    CHECK(one->congestion_control() == algorithm);
                }
            });
        }
    });
}

TEST_CASE("keep-alive is off to begin with, on with what is given, and off again") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const keep_alive_options before = client.keep_alive();
            CHECK_FALSE(before.on);
            CHECK(before.idle > 0s);
            client.set_keep_alive(true);
            CHECK(client.keep_alive().on);
            CHECK(client.keep_alive().idle == before.idle);
            client.set_keep_alive({.idle = 60s, .probes = 3});
            keep_alive_options now = client.keep_alive();
            CHECK(now.on);
            CHECK(now.idle == 60s);
            CHECK(now.interval == before.interval);
            CHECK(now.probes == 3);
            client.set_keep_alive(false);
            CHECK_FALSE(client.keep_alive().on);
            client.set_keep_alive({});
            CHECK(client.keep_alive().on);
        });
    });
}

TEST_CASE("a linger of zero makes a close a reset") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            client.set_linger(0s);
            client.close();
            std::string space(10, '\0');
            const auto got = co_await as_result(server.read_some(bytes_of(space)));
            CHECK(got.error() == std::errc::connection_reset);
        });
    });
}

TEST_CASE("writes under a small send buffer and unsent limit still arrive whole") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            client.set_send_buffer(8 * 1024);
            client.set_unsent_limit(4 * 1024);
            server.set_receive_buffer(8 * 1024);
            const std::string text = pattern(megabyte);
            task_group group;
            auto reading = group.spawn(read_text(server, text.size()));
            co_await client.write_all(text);
            const std::string got = co_await reading;
            CHECK(got == text);
            co_await group.join();
        });
    });
}

TEST_CASE("what the kernel refuses is an error that names the option and the peer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const std::string peer = client.remote_endpoint().to_string();
            const auto refused = [&](const char* option) {
                return std::string("set ") + option + " of the connection to " + peer +
                       ": Invalid argument";
            };
            CHECK(complaint([&] { client.set_ttl(0); }) == refused("IP_TTL"));
            CHECK(complaint([&] { client.set_ttl(256); }) == refused("IP_TTL"));
            CHECK(complaint([&] { client.set_ttl(-1); }) == refused("IP_TTL"));
            CHECK(complaint([&] { client.set_traffic_class(256); }) == refused("IP_TOS"));
            CHECK(complaint([&] { client.set_user_timeout(-1ms); }) == refused("TCP_USER_TIMEOUT"));
            CHECK(complaint([&] {
                      client.set_keep_alive({.idle = std::chrono::seconds::max()});
                  }) == refused("SO_KEEPALIVE"));
            CHECK(complaint([&] { client.set_keep_alive({.probes = -1}); }) ==
                  refused("SO_KEEPALIVE"));
            CHECK(complaint([&] {
                      client.set_congestion_control("no such algorithm");
                  }).starts_with("set TCP_CONGESTION of the connection to " + peer + ": "));
            client.close();
            const std::string closed = " of the connection to " + peer + ": Bad file descriptor";
            CHECK(complaint([&] { client.set_cork(true); }) == "set TCP_CORK" + closed);
            CHECK(complaint([&] { client.set_linger(0s); }) == "set SO_LINGER" + closed);
            CHECK(complaint([&] { (void)client.linger(); }) == "get SO_LINGER" + closed);
            CHECK(complaint([&] { (void)client.ttl(); }) == "get IP_TTL" + closed);
            CHECK(complaint([&] { (void)client.congestion_control(); }) ==
                  "get TCP_CONGESTION" + closed);
        });
    });
}

TEST_CASE("a listener hands its options down to the connections that it accepts") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(
                any_port(), {.keep_alive = keep_alive_options{.idle = 90s, .probes = 2},
                             .receive_buffer = 16 * 1024,
                             .send_buffer = 32 * 1024});
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            auto server = co_await listener.accept();
            const keep_alive_options alive = server.keep_alive();
            CHECK(alive.on);
            CHECK(alive.idle == 90s);
            CHECK(alive.probes == 2);
            CHECK(server.receive_buffer() == 32 * 1024);
            CHECK(server.send_buffer() == 64 * 1024);
            CHECK(server.nodelay());
            CHECK_FALSE(client.keep_alive().on);
        });
    });
    CHECK(complaint([] {
              (void)tcp_listener::bind(any_port(),
                                       {.keep_alive = keep_alive_options{.probes = -1}});
          }) == "listen on 127.0.0.1:0: Invalid argument");
}

TEST_CASE("a listener for IPv6 only refuses IPv4, another takes both") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool only : {false, true}) {
                CAPTURE(only);
                auto listener =
                    tcp_listener::bind(any_port(ip_address::any_v6()), {.v6_only = only});
                const std::uint16_t port = listener.local_endpoint().port();
                const auto old_one = co_await as_result(
                    tcp_stream::connect(endpoint{ip_address::loopback_v4(), port}));
                CHECK(old_one.has_value() == !only);
                const auto new_one = co_await as_result(
                    tcp_stream::connect(endpoint{ip_address::loopback_v6(), port}));
                CHECK(new_one.has_value());
                if (!old_one) continue;
                // Its packets are IPv4's, whatever the socket is.
                auto served = co_await listener.accept();
                served.set_ttl(9);
                CHECK(served.ttl() == 9);
                int ttl = 0;
                socklen_t size = sizeof ttl;
                REQUIRE(::getsockopt(served.native_handle(), IPPROTO_IP, IP_TTL, &ttl, &size) == 0);
                CHECK(ttl == 9);
            }
        });
    });
}

}  // namespace rondo::test
