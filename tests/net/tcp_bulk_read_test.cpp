#include <rondo/net/tcp.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "support/net_support.hpp"
#include "support/support.hpp"

// Reads that are filled, of a stream that has more.

namespace rondo::test {

namespace {

constexpr std::size_t chunk = 4;

// What one read of `chunk` bytes gives.
task<std::string> read_chunk(tcp_stream& from) {
    std::string space(chunk, '\0');
    const std::size_t got = co_await from.read_some(bytes_of(space));
    co_return space.substr(0, got);
}

}  // namespace

TEST_CASE("reads that are filled follow one another through all that has come, to its end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const std::string_view text :
                 {"", "abc", "abcd", "abcde", "abcdefgh", "abcdefghi"}) {
                CAPTURE(text);
                auto [client, server] = co_await connected_pair();
                co_await client.write_all(text);
                client.shutdown_write();
                for (std::size_t at = 0; at < text.size(); at += chunk) {
                    const std::string piece = co_await read_chunk(server);
                    REQUIRE(piece == text.substr(at, chunk));
                }
                for (int i = 0; i < 2; ++i) {
                    const std::string end = co_await read_chunk(server);
                    CHECK(end.empty());
                }
            }
        });
    });
}

TEST_CASE("after a filled read that left nothing the next one waits, and hears of more") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("abcdefgh");
            for (const std::string_view expected : {"abcd", "efgh"}) {
                const std::string piece = co_await read_chunk(server);
                REQUIRE(piece == expected);
            }
            task_group group;
            auto next = group.spawn(read_chunk(server));
            co_await settle();
            CHECK_FALSE(next.done());
            co_await client.write_all("ijkl");
            const std::string piece = co_await next;
            CHECK(piece == "ijkl");
            co_await group.join();
        });
    });
}

TEST_CASE("a read that finds data without waiting still ends where its task is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("abcdefgh");
            std::string log;
            task_group group;
            auto reader = group.spawn([&]() -> task<> {
                log += co_await read_chunk(server);
                group.cancel();
                log += co_await read_chunk(server);
            });
            co_await settle();
            CHECK(reader.done());
            co_await group.join();
            CHECK(log == "abcd");
            const std::string rest = co_await read_chunk(server);
            CHECK(rest == "efgh");
        });
    });
}

TEST_CASE("what came before a connection broke is read, and the next read is the error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("abcdefgh");
            const std::string before = co_await read_chunk(server);
            CHECK(before == "abcd");
            reset_on_close(client.native_handle());
            client.close();
            co_await settle();
            const std::string after = co_await read_chunk(server);
            CHECK(after == "efgh");
            std::string space(chunk, '\0');
            const auto got = co_await as_result(server.read_some(bytes_of(space)));
            CHECK(got.error() == std::errc::connection_reset);
        });
    });
}

TEST_CASE("who reads on and on gives way to others after a stated number of reads") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await client.write_all(std::string(100 * chunk, 'x'));
            unsigned reads = 0;
            task_group group;
            group.spawn([&]() -> task<> {
                for (; reads < 100; ++reads) (void)co_await read_chunk(server);
            });
            while (reads < 100) {
                const unsigned before = reads;
                co_await yield();
                CHECK(reads - before <= scheduler::immediate_operations);
            }
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
