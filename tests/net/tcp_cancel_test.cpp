// Each operation of TCP ended early, at every moment: by cancellation and by the end of its group.

#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

constexpr auto cancelled = std::errc::operation_canceled;

/// A listener that answers nobody any more: its backlog is full, and a connect stays pending.
class full_listener {
public:
    full_listener() {
        for (int i = 0; i < 4; ++i) {
            const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            REQUIRE(fd >= 0);
            sockaddr_storage address;
            const socklen_t size = where().to_sockaddr(address);
            ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size);
            waiting_.push_back(fd);
        }
    }
    full_listener(const full_listener&) = delete;
    full_listener& operator=(const full_listener&) = delete;
    ~full_listener() {
        for (const int fd : waiting_) ::close(fd);
    }

    endpoint where() const { return listener_.local_endpoint(); }

private:
    tcp_listener listener_ = tcp_listener::bind(any_port(), {.backlog = 0});
    std::vector<int> waiting_;
};

/// What the stream has, taken without the reactor.
std::string received_now(tcp_stream& stream) {
    std::string text(1'000'000, '\0');
    const ssize_t got = ::recv(stream.native_handle(), text.data(), text.size(), MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
}

/// What the moments of a cancellation made of an operation.
struct tally {
    int given = 0;
    int cancelled = 0;

    void count(std::error_code error) {
        CHECK((!error || error == std::errc::operation_canceled));
        ++(error ? cancelled : given);
    }
};

}  // namespace

TEST_CASE("a read cancelled at any moment loses nothing: what came is given, then or by the next") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto [peer, stream] = co_await accept_peer();
                tally ends;
                for (const int moment : moments) {
                    CAPTURE(moment);
                    std::string space(10, '\0');
                    task_group group;
                    auto reader = group.spawn(outcome_of(stream.read_some(bytes_of(space)), how));
                    if (moment > 0) co_await yield();
                    peer.send("data");
                    co_await yield_times(moment - 1);
                    reader.cancel();
                    const auto got = co_await reader;
                    ends.count(got.error());
                    std::string text = space.substr(0, got.value_or(0));
                    text += co_await read_text(stream, 4 - text.size());
                    CHECK(text == "data");
                    co_await group.join();
                }
                CHECK(ends.given > 0);
                CHECK(ends.cancelled > 0);
            });
        }
    });
}

TEST_CASE(
    "a read whose data the reactor already has gives the data, though cancelled before it ran") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::string space(10, '\0');
            task_group group;
            auto reader =
                group.spawn(outcome_of(stream.read_some(bytes_of(space)), form::throwing));
            co_await settle();
            peer.send("data");
            char one;
            const int fd = stream.native_handle();
            while (::recv(fd, &one, 1, MSG_PEEK | MSG_DONTWAIT) == 1) co_await yield();
            // Taken from the socket, and its task has not run yet.
            CHECK_FALSE(reader.done());
            reader.cancel();
            const auto got = co_await reader;
            CHECK(got.value_or(0) == 4);
            CHECK(space.substr(0, 4) == "data");
            co_await group.join();
        });
    });
}

TEST_CASE("read_exactly is cancelled at any moment, and whole if it is given") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                tally ends;
                for (const int moment : moments) {
                    CAPTURE(moment);
                    auto [client, server] = co_await connected_pair();
                    co_await client.write_all("one");
                    std::string space(6, '\0');
                    task_group group;
                    auto reader =
                        group.spawn(outcome_of(server.read_exactly(bytes_of(space)), how));
                    if (moment > 0) co_await yield();
                    REQUIRE(::send(client.native_handle(), "two", 3, 0) == 3);
                    co_await yield_times(moment - 1);
                    reader.cancel();
                    const auto got = co_await reader;
                    ends.count(got.error());
                    if (got) CHECK(space == "onetwo");
                    co_await group.join();
                }
                CHECK(ends.given > 0);
                CHECK(ends.cancelled > 0);
            });
        }
    });
}

TEST_CASE("an accept cancelled at any moment loses no connection, and no descriptor") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            for (const bool non_blocking : {false, true}) {
                CAPTURE(non_blocking);
                run([=]() -> task<> {
                    auto listener = tcp_listener::bind(any_port());
                    if (non_blocking) make_non_blocking(listener.native_handle());
                    tally ends;
                    const std::size_t before = open_descriptors();
                    for (const int moment : moments) {
                        CAPTURE(moment);
                        task_group group;
                        auto accept = group.spawn(outcome_of(listener.accept(), how));
                        if (moment > 0) co_await yield();
                        plain_socket peer{listener.local_endpoint()};
                        peer.send("hello");
                        co_await yield_times(moment - 1);
                        accept.cancel();
                        auto accepted = co_await accept;
                        ends.count(accepted.error());
                        if (!accepted) accepted = co_await as_result(listener.accept());
                        REQUIRE(accepted);
                        const std::string text = co_await read_text(*accepted, 5);
                        CHECK(text == "hello");
                        co_await group.join();
                    }
                    CHECK(ends.given > 0);
                    CHECK(ends.cancelled > 0);
                    co_await settle();
                    CHECK(open_descriptors() == before);
                });
            }
        }
    });
}

TEST_CASE(
    "on a non-blocking socket a cancellation is a cancellation, not EAGAIN, whenever it comes") {
    on_each_reactor_kind([](auto run) {
        for (const int moment : moments) {
            CAPTURE(moment);
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                auto listener = tcp_listener::bind(any_port());
                make_non_blocking(listener.native_handle());
                make_non_blocking(server.native_handle());
                std::string space(10, '\0');
                task_group group;
                auto accept = group.spawn(outcome_of(listener.accept(), form::as_result));
                auto read =
                    group.spawn(outcome_of(server.read_some(bytes_of(space)), form::as_result));
                co_await yield_times(moment);
                group.cancel();
                const auto accepted = co_await accept;
                CHECK(accepted.error() == cancelled);
                const auto got = co_await read;
                CHECK(got.error() == cancelled);
                co_await group.join();
            });
        }
    });
}

TEST_CASE("a pending accept of which the result is not wanted any more closes the connection") {
    on_each_reactor_kind([](auto run) {
        run([=]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const std::size_t before = open_descriptors();
            for (const int moment : moments) {
                task_group group;
                group.spawn([](tcp_listener& from) -> task<> { co_await from.accept(); },
                            std::ref(listener));
                if (moment > 0) co_await yield();
                plain_socket peer{listener.local_endpoint()};
                co_await yield_times(moment - 1);
                group.cancel();
                co_await group.join();
                peer.close();
                // Nobody may be left in the backlog for the next round.
                (void)co_await as_result(with_timeout(std::chrono::seconds(0), listener.accept()));
            }
            co_await settle();
            CHECK(open_descriptors() == before);
        });
    });
}

TEST_CASE("a connect cancelled at any moment gives a connection or closes its socket") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto listener = tcp_listener::bind(any_port());
                tally ends;
                const std::size_t before = open_descriptors();
                for (const int moment : moments) {
                    CAPTURE(moment);
                    task_group group;
                    auto connect = group.spawn(
                        outcome_of(tcp_stream::connect(listener.local_endpoint()), how));
                    co_await yield_times(moment);
                    connect.cancel();
                    auto client = co_await connect;
                    ends.count(client.error());
                    if (client) {
                        co_await client->write_all("hello");
                        // Those that gave up before may be in the line as well.
                        std::string text;
                        while (text.empty()) {
                            auto server = co_await listener.accept();
                            std::string space(5, '\0');
                            auto got = co_await as_result(server.read_some(bytes_of(space)));
                            text = space.substr(0, got.value_or(0));
                        }
                        CHECK(text == "hello");
                    }
                    co_await group.join();
                }
                CHECK(ends.given > 0);
                CHECK(ends.cancelled > 0);
                co_await settle();
                CHECK(open_descriptors() == before);
            });
        }
    });
}

TEST_CASE("a connect that nobody answers ends when cancelled, or when its time is up") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                const full_listener full;
                const std::size_t before = open_descriptors();
                task_group group;
                auto connect = group.spawn(outcome_of(tcp_stream::connect(full.where()), how));
                co_await settle();
                REQUIRE_FALSE(connect.done());
                connect.cancel();
                const auto client = co_await connect;
                CHECK(client.error() == cancelled);
                const auto late = co_await outcome_of(
                    with_timeout(std::chrono::milliseconds(2), tcp_stream::connect(full.where())),
                    how);
                CHECK(late.error() == std::errc::timed_out);
                co_await group.join();
                co_await settle();
                CHECK(open_descriptors() == before);
            });
        }
    });
}

TEST_CASE("a write cancelled at any moment ends, and write_some tells how much it gave away") {
    on_each_reactor_kind([](auto run) {
        const std::string text = pattern(100'000);
        for (const form how : both_forms) {
            run([&]() -> task<> {
                tally ends;
                for (const int moment : moments) {
                    CAPTURE(moment);
                    auto [client, server] = co_await connected_pair();
                    set_option(client.native_handle(), SO_SNDBUF, 4'096);
                    std::string sent;
                    // Fills the connection, so that one more write must wait.
                    for (;;) {
                        const ssize_t put =
                            ::send(client.native_handle(), text.data(), text.size(), MSG_DONTWAIT);
                        if (put <= 0) break;
                        sent += text.substr(0, static_cast<std::size_t>(put));
                    }
                    task_group group;
                    const auto bytes = bytes_of(std::string_view(text));
                    auto writer = group.spawn(outcome_of(client.write_some(bytes), how));
                    if (moment > 0) co_await yield();
                    std::string got = received_now(server);
                    co_await yield_times(moment - 1);
                    writer.cancel();
                    const auto wrote = co_await writer;
                    ends.count(wrote.error());
                    sent += text.substr(0, wrote.value_or(0));
                    client.close();
                    got += co_await read_text(server);
                    CHECK((got == sent));
                    co_await group.join();
                }
                CHECK(ends.given > 0);
                CHECK(ends.cancelled > 0);
            });
        }
    });
}

TEST_CASE("a write of everything is cancelled before, during and after") {
    on_each_reactor_kind([](auto run) {
        const std::string text = pattern(8 * 1024 * 1024);
        const std::span<const std::byte> list[] = {bytes_of(std::string_view(text)).first(10),
                                                   bytes_of(std::string_view(text)).subspan(10)};
        for (const form how : both_forms) {
            for (const bool gathered : {false, true}) {
                CAPTURE(gathered);
                run([&]() -> task<> {
                    const auto write = [&](tcp_stream& to) -> task<result<>> {
                        if (!gathered) return outcome_of(to.write_all(text), how);
                        return outcome_of(
                            to.write_all(std::span<const std::span<const std::byte>>(list)), how);
                    };
                    auto [client, server] = co_await connected_pair();
                    task_group group;

                    auto before = group.spawn(write(client));
                    before.cancel();
                    const auto nothing = co_await before;
                    CHECK(nothing.error() == cancelled);

                    auto reader = group.spawn(read_text(server, text.size()));
                    auto after = group.spawn(write(client));
                    // The reader comes to its end after the writer came to its own.
                    CHECK((co_await reader == text));
                    after.cancel();
                    const auto all = co_await after;
                    CHECK_FALSE(all.error());

                    // A connection that has carried so much may have buffers for all of it by now.
                    auto [fresh, slow] = co_await connected_pair();
                    auto during = group.spawn(write(fresh));
                    co_await settle();
                    CHECK_FALSE(during.done());
                    during.cancel();
                    const auto some = co_await during;
                    CHECK(some.error() == cancelled);
                    fresh.close();
                    const std::string rest = co_await read_text(slow);
                    CHECK(rest.size() < text.size());
                    CHECK((rest == text.substr(0, rest.size())));
                    co_await group.join();
                });
            }
        }
    });
}

TEST_CASE("a group torn down takes all its pending operations with it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const full_listener full;
            auto listener = tcp_listener::bind(any_port());
            auto [client, server] = co_await connected_pair();
            const std::string text = pattern(8 * 1024 * 1024);
            std::string space(100, '\0');
            std::string more_space(100, '\0');
            const std::size_t before = open_descriptors();
            task_group group;
            std::vector<task_handle<result<tcp_stream>>> streams;
            streams.push_back(group.spawn(outcome_of(listener.accept(), form::as_result)));
            streams.push_back(group.spawn(outcome_of(listener.accept(), form::throwing)));
            streams.push_back(
                group.spawn(outcome_of(tcp_stream::connect(full.where()), form::throwing)));
            auto read = group.spawn(outcome_of(client.read_some(bytes_of(space)), form::throwing));
            auto write = group.spawn(outcome_of(client.write_all(text), form::throwing));
            co_await settle();
            group.cancel();
            co_await group.join();
            for (auto& one : streams) {
                const auto end = co_await one;
                CHECK(end.error() == cancelled);
            }
            const auto got = co_await read;
            CHECK(got.error() == cancelled);
            const auto wrote = co_await write;
            CHECK(wrote.error() == cancelled);
            co_await settle();
            CHECK(open_descriptors() == before);
        });
    });
}

TEST_CASE("an await in a cancelled task starts nothing: level-triggered") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("data");
            co_await settle();
            std::string space(4, '\0');
            task_group group;
            auto stubborn = group.spawn([&]() -> task<int> {
                int refused = 0;
                for (int i = 0; i < 3; ++i) {
                    const auto got = co_await as_result(server.read_some(bytes_of(space)));
                    refused += got.error() == cancelled ? 1 : 0;
                    const auto put = co_await as_result(server.write_all("never sent"));
                    refused += put.error() == cancelled ? 1 : 0;
                }
                co_return refused;
            });
            stubborn.cancel();
            CHECK(co_await stubborn == 6);
            const std::string text = co_await read_text(server, 4);
            CHECK(text == "data");
            server.close();
            const std::string nothing = co_await read_text(client);
            CHECK(nothing.empty());
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
