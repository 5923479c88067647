// What peers do to a connection that they should not, at each step of its life.

#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <string>

#include "support/child_process.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

bool gone(std::error_code error) {
    return error == std::errc::connection_reset || error == std::errc::broken_pipe;
}

task<std::error_code> error_of_write(tcp_stream& stream, int way, form how) {
    const auto text = bytes_of(std::string_view("text"));
    result<> all;
    if (way == 0) all = co_await outcome_of(stream.write_all(text), how);
    if (way == 1) all = co_await outcome_of(stream.write_all("two", "texts"), how);
    if (way != 2) co_return all.error();
    const auto some = co_await outcome_of(stream.write_some(text), how);
    co_return some.error();
}

}  // namespace

TEST_CASE("a peer that resets before it is accepted costs nothing but itself") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto listener = tcp_listener::bind(any_port());
                plain_socket rude{listener.local_endpoint()};
                plain_socket polite{listener.local_endpoint()};
                rude.reset();
                polite.send("hello");
                // Linux hands the dead connection out: it fails at the first read.
                auto first = co_await outcome_of(listener.accept(), how);
                REQUIRE(first);
                std::string space(10, '\0');
                const auto got = co_await outcome_of(first->read_some(bytes_of(space)), how);
                CHECK(got.error() == std::errc::connection_reset);
                auto second = co_await outcome_of(listener.accept(), how);
                REQUIRE(second);
                const std::string text = co_await read_text(*second, 5);
                CHECK(text == "hello");
            });
        }
    });
}

TEST_CASE("a reset before a read, and one during a read, end it with connection_reset") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            for (const bool during : {false, true}) {
                CAPTURE(during);
                run([=]() -> task<> {
                    auto [peer, stream] = co_await accept_peer();
                    if (!during) peer.reset();
                    std::string space(10, '\0');
                    task_group group;
                    auto some = group.spawn(outcome_of(stream.read_some(bytes_of(space)), how));
                    co_await settle();
                    CHECK(some.done() != during);
                    if (during) peer.reset();
                    const auto got = co_await some;
                    CHECK(got.error() == std::errc::connection_reset);
                    co_await group.join();
                });
            }
        }
    });
}

TEST_CASE("a reset in the middle of read_exactly is an error that names the peer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            const std::string name = stream.remote_endpoint().to_string();
            std::string space(10, '\0');
            task_group group;
            auto reader = group.spawn(complaint_of(stream.read_exactly(bytes_of(space))));
            peer.send("half");
            co_await settle();
            CHECK_FALSE(reader.done());
            peer.reset();
            CHECK(co_await reader == "read from " + name + ": Connection reset by peer");
            co_await group.join();
        });
    });
}

TEST_CASE("a reset during a write ends it with an error, in each way of writing") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                const std::string text = pattern(16 * 1024 * 1024);
                const std::span<const std::byte> buffers[] = {bytes_of(std::string_view(text)),
                                                              bytes_of(std::string_view(text))};
                for (const bool gathered : {false, true}) {
                    CAPTURE(gathered);
                    auto [peer, stream] = co_await accept_peer();
                    task_group group;
                    auto writer =
                        gathered ? group.spawn(outcome_of(
                                       stream.write_all(
                                           std::span<const std::span<const std::byte>>(buffers)),
                                       how))
                                 : group.spawn(outcome_of(stream.write_all(text), how));
                    co_await settle();
                    CHECK_FALSE(writer.done());
                    peer.reset();
                    const auto written = co_await writer;
                    CHECK(gone(written.error()));
                    co_await group.join();
                }
            });
        }
    });
}

TEST_CASE("a reset reaches the reader and the writer of the same stream") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            const std::string text = pattern(16 * 1024 * 1024);
            std::string space(10, '\0');
            task_group group;
            auto reader =
                group.spawn(outcome_of(stream.read_some(bytes_of(space)), form::as_result));
            auto writer = group.spawn(outcome_of(stream.write_all(text), form::as_result));
            co_await settle();
            CHECK_FALSE(reader.done());
            CHECK_FALSE(writer.done());
            peer.reset();
            co_await group.join();
            // The kernel tells one of them that it was a reset; the other finds the stream ended.
            const auto read = co_await reader;
            const auto written = co_await writer;
            CHECK(gone(written.error()));
            CHECK((read ? *read == 0 : gone(read.error())));
        });
    });
}

TEST_CASE("writing to a peer that is gone is an error, never a signal") {
    on_each_reactor_kind([](auto run) {
        const std::string ended = in_child([=] {
            std::signal(SIGPIPE, SIG_DFL);
            return run([]() -> task<std::string> {
                for (const form how : both_forms) {
                    for (int way = 0; way < 3; ++way) {
                        auto [peer, stream] = co_await accept_peer();
                        peer.reset();
                        for (int i = 0; i < 2; ++i) {
                            const std::error_code error = co_await error_of_write(stream, way, how);
                            if (!gone(error)) co_return "not noticed: " + error.message();
                        }
                    }
                }
                co_return "alive";
            });
        });
        CHECK(ended == "alive");
    });
}

TEST_CASE("a connection that its listener closed on before accepting it is reset") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            std::string space(10, '\0');
            task_group group;
            auto reader =
                group.spawn(outcome_of(client.read_some(bytes_of(space)), form::throwing));
            co_await settle();
            CHECK_FALSE(reader.done());
            listener.close();
            const auto got = co_await reader;
            CHECK(got.error() == std::errc::connection_reset);
            co_await group.join();
        });
    });
}

TEST_CASE("what was sent before a reset is the reader's, as far as the kernel still has it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::string space(4, '\0');
            task_group group;
            auto reader =
                group.spawn(outcome_of(stream.read_some(bytes_of(space)), form::as_result));
            co_await settle();
            peer.send("last");
            co_await settle();
            peer.reset();
            const auto got = co_await reader;
            CHECK(got.value() == 4);
            CHECK(space == "last");
            const auto next = co_await as_result(stream.read_some(bytes_of(space)));
            CHECK(next.error() == std::errc::connection_reset);
            co_await group.join();
        });
    });
}

TEST_CASE("shutting down the write side of a connection that is gone is an error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            const std::string name = stream.remote_endpoint().to_string();
            peer.reset();
            CHECK_THROWS_WITH_AS(
                stream.shutdown_write(),
                ("shut down the connection to " + name + ": Transport endpoint is not connected")
                    .c_str(),
                std::system_error);
            co_return;
        });
    });
}

TEST_CASE("once a write has heard of a reset, no read takes the data for complete") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            for (int way = 0; way < 3; ++way) {
                CAPTURE(way);
                run([=]() -> task<> {
                    auto [peer, stream] = co_await accept_peer();
                    peer.send("half of it");
                    peer.reset();
                    const std::error_code heard = co_await error_of_write(stream, way, how);
                    CHECK(heard == std::errc::connection_reset);
                    const auto end = co_await stream.wait_hangup();
                    CHECK((end == hangup::broken));
                    // What had come comes first, as far as the kernel still has it.
                    std::string before(20, '\0');
                    const auto first = co_await as_result(stream.read_some(bytes_of(before)));
                    CHECK((first ? first.value() == 10
                                 : first.error() == std::errc::connection_reset));
                    // Twice: the kernel tells of it once.
                    for (int i = 0; i < 2; ++i) {
                        std::string space(10, '\0');
                        const auto some =
                            co_await outcome_of(stream.read_some(bytes_of(space)), how);
                        CHECK(some.error() == std::errc::connection_reset);
                        const auto lent = co_await outcome_of(stream.receive(), how);
                        CHECK(lent.error() == std::errc::connection_reset);
                        const auto exactly =
                            co_await outcome_of(stream.read_exactly(bytes_of(space)), how);
                        CHECK(exactly.error() == std::errc::connection_reset);
                    }
                    const std::error_code later = co_await error_of_write(stream, way, how);
                    CHECK(gone(later));
                });
            }
        }
    });
}

TEST_CASE("a second read after a reset is no end of the stream either") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            peer.reset();
            std::string space(10, '\0');
            for (int i = 0; i < 3; ++i) {
                const auto got = co_await as_result(stream.read_some(bytes_of(space)));
                CHECK(got.error() == std::errc::connection_reset);
            }
            const auto end = co_await stream.wait_hangup();
            CHECK((end == hangup::broken));
        });
    });
}

TEST_CASE("an end of the stream that came before a reset stays an end, and a write is an error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            peer.send("all of it");
            REQUIRE(::shutdown(peer.fd(), SHUT_WR) == 0);
            const std::string text = co_await read_text(stream);
            CHECK(text == "all of it");
            peer.reset();
            const auto put = co_await as_result(stream.write_all("answer"));
            CHECK(gone(put.error()));
            const std::string nothing_more = co_await read_text(stream);
            CHECK(nothing_more.empty());
            const auto end = co_await stream.wait_hangup();
            CHECK((end == hangup::broken));
        });
    });
}

TEST_CASE("a write after one's own end says nothing about the connection: reading goes on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            stream.shutdown_write();
            const auto put = co_await as_result(stream.write_all("too late"));
            CHECK(put.error() == std::errc::broken_pipe);
            peer.send("answer");
            REQUIRE(::shutdown(peer.fd(), SHUT_WR) == 0);
            const std::string text = co_await read_text(stream);
            CHECK(text == "answer");
            const auto end = co_await stream.wait_hangup();
            CHECK((end == hangup::no_more_data));
        });
    });
}

}  // namespace rondo::test
