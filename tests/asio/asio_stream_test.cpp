// A rondo connection as a stream of Asio.

#include <rondo/asio/context.hpp>
#include <rondo/asio/stream.hpp>
#include <rondo/asio/use_task.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>
#include <asio/awaitable.hpp>
#include <asio/bind_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "support/asio_support.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// Runs body(stream, peer) with one end of a connection as an asio_stream.
template <class Body>
task<> with_stream(Body body) {
    auto [peer, connection] = co_await accept_peer();
    co_await with_task_group([&](task_group& group) -> task<> {
        asio_stream stream{std::move(connection), group};
        co_await body(stream, peer);
    });
}

/// What a handler was called with.
struct completion {
    bool called = false;
    std::error_code error;
    std::size_t size = 0;

    auto handler() {
        return [this](std::error_code code, std::size_t count) {
            called = true;
            error = code;
            size = count;
        };
    }
};

asio::awaitable<std::string> read_line(asio_stream& stream) {
    std::string text;
    const std::size_t size = co_await asio::async_read_until(stream, asio::dynamic_buffer(text),
                                                             '\n', asio::use_awaitable);
    co_return text.substr(0, size);
}

}  // namespace

TEST_CASE("Asio's read_until and write run over a connection of rondo") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto both = co_await connected_pair();
            co_await with_task_group([&](task_group& group) -> task<> {
                asio_stream client{std::move(both.client), group};
                asio_stream server{std::move(both.server), group};
                const std::string sent = pattern(1 << 20) + "\n";
                std::string first;
                std::string second;
                co_await when_all(
                    asio::async_write(client, asio::buffer(sent), use_task),
                    asio::async_read(server, asio::dynamic_buffer(first),
                                     asio::transfer_exactly(sent.size()), use_task),
                    asio::async_write(server, asio::buffer("one\ntwo\n", 8), use_task),
                    asio::async_read_until(client, asio::dynamic_buffer(second), "two\n",
                                           use_task));
                CHECK(first == sent);
                CHECK(second == "one\ntwo\n");
            });
        });
    });
}

TEST_CASE("a coroutine of Asio reads from a connection of rondo") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_stream([](asio_stream& stream, plain_socket& peer) -> task<> {
                peer.send("hello\nrest");
                const std::string line =
                    co_await asio::co_spawn(stream.get_executor(), read_line(stream), use_task);
                CHECK(line == "hello\n");
            });
        });
    });
}

TEST_CASE("the end is asio::error::eof, a reset is asio::error::connection_reset") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool reset : {false, true}) {
                co_await with_stream([&](asio_stream& stream, plain_socket& peer) -> task<> {
                    char space[8];
                    completion read;
                    stream.async_read_some(asio::buffer(space), read.handler());
                    co_await settle();
                    CHECK(!read.called);
                    reset ? peer.reset() : peer.close();
                    co_await until([&] { return read.called; });
                    CHECK(read.size == 0);
                    if (reset) {
                        CHECK(read.error == asio::error::connection_reset);
                    } else {
                        CHECK(read.error == asio::error::eof);
                    }
                });
            }
        });
    });
}

TEST_CASE("a read without room completes with nothing, but not from inside of its start") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_stream([](asio_stream& stream, plain_socket&) -> task<> {
                completion read;
                stream.async_read_some(asio::mutable_buffer{}, read.handler());
                CHECK(!read.called);
                co_await settle();
                CHECK(read.called);
                CHECK(!read.error);
            });
        });
    });
}

TEST_CASE("the first buffer that is not empty is used") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_stream([](asio_stream& stream, plain_socket& peer) -> task<> {
                peer.send("abc");
                char first[2];
                char second[8];
                const std::array<asio::mutable_buffer, 3> room{
                    asio::mutable_buffer{}, asio::buffer(first), asio::buffer(second)};
                CHECK(co_await stream.async_read_some(room, use_task) == 2);
                CHECK(co_await stream.async_read_some(asio::buffer(second), use_task) == 1);
            });
        });
    });
}

TEST_CASE("a read cancelled before, during and after its completion loses nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_stream([](asio_stream& stream, plain_socket& peer) -> task<> {
                char space[8];
                std::size_t received = 0;
                std::size_t sent = 0;
                for (const int moment : moments) {
                    task_group readers;
                    auto reader = readers.spawn([&]() -> task<> {
                        const auto got = co_await as_result(
                            stream.async_read_some(asio::buffer(space), use_task));
                        if (got) {
                            received += *got;
                        } else {
                            CHECK(got.error() == std::errc::operation_canceled);
                        }
                    });
                    co_await yield();
                    if (moment % 3 != 0) {
                        peer.send("x");
                        ++sent;
                    }
                    co_await yield_times(moment);
                    reader.cancel();
                    co_await readers.join();
                }
                // What was not read by then, is read now.
                while (received < sent) {
                    received += co_await stream.async_read_some(asio::buffer(space), use_task);
                }
                CHECK(received == sent);
            });
        });
    });
}

TEST_CASE("a write that cannot go on ends when it is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_stream([](asio_stream& stream, plain_socket&) -> task<> {
                const std::string much(16 << 20, 'x');
                const auto written = co_await as_result(
                    with_timeout(10ms, asio::async_write(stream, asio::buffer(much), use_task)));
                CHECK(written.error() == std::errc::timed_out);
            });
        });
    });
}

TEST_CASE("a group that is cancelled aborts the operations in it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto accepted = co_await accept_peer();
            completion read;
            char space[8];
            co_await with_task_group([&](task_group& group) -> task<> {
                asio_stream stream{std::move(accepted.stream), group};
                stream.async_read_some(asio::buffer(space), read.handler());
                co_await settle();
                group.cancel();
                // The body's end waits for the group, and so for the handler.
            });
            CHECK(read.error == asio::error::operation_aborted);
        });
    });
}

TEST_CASE("closing or destroying the stream aborts what is pending") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool destroy : {false, true}) {
                auto accepted = co_await accept_peer();
                completion read;
                char space[8];
                co_await with_task_group([&](task_group& group) -> task<> {
                    std::optional<asio_stream> stream{std::in_place, std::move(accepted.stream),
                                                      group};
                    stream->async_read_some(asio::buffer(space), read.handler());
                    co_await settle();
                    destroy ? stream.reset() : stream->close();
                });
                CHECK(read.error == asio::error::operation_aborted);
                CHECK(accepted.peer.at_end());
            }
        });
    });
}

TEST_CASE("a handler runs on the executor that is bound to it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            co_await with_stream([&](asio_stream& stream, plain_socket& peer) -> task<> {
                char space[8];
                std::atomic<bool> called{false};
                const auto thread = std::this_thread::get_id();
                stream.async_read_some(
                    asio::buffer(space),
                    asio::bind_executor(background.get_executor(),
                                        [&](std::error_code, std::size_t) {
                                            CHECK(std::this_thread::get_id() != thread);
                                            called = true;
                                        }));
                peer.send("x");
                co_await until([&] { return called.load(); });
            });
        });
    });
}

TEST_CASE("an operation may be started on another thread") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            co_await with_stream([&](asio_stream& stream, plain_socket& peer) -> task<> {
                char space[8];
                completion read;
                asio::post(background.get_executor(),
                           [&] { stream.async_read_some(asio::buffer(space), read.handler()); });
                peer.send("x");
                co_await until([&] { return read.called; });
                CHECK(read.size == 1);
            });
        });
    });
}

TEST_CASE("a read that arrives after its stream and group are gone is aborted") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, connection] = co_await accept_peer();
            auto group = std::make_unique<task_group>();
            std::optional<asio_stream> stream{std::in_place, std::move(connection), *group};
            char space[8];
            completion read;
            // This scheduler stands still meanwhile: the read is on its way, and not begun.
            std::thread starter{
                [&] { stream->async_read_some(asio::buffer(space), read.handler()); }};
            starter.join();
            stream.reset();
            co_await group->join();
            group.reset();
            co_await until([&] { return read.called; });
            CHECK(read.error == asio::error::operation_aborted);
            CHECK(read.size == 0);
        });
    });
}

TEST_CASE("an exception that leaves a handler of the stream stops the runtime") {
    on_each_reactor_kind([](auto run) {
        CHECK_THROWS_WITH(
            run([]() -> task<> {
                co_await with_stream([](asio_stream& stream, plain_socket& peer) -> task<> {
                    char space[8];
                    stream.async_read_some(asio::buffer(space), [](std::error_code, std::size_t) {
                        throw std::runtime_error("a bad reader");
                    });
                    peer.send("x");
                    co_await sleep_for(1h);
                });
            }),
            "a bad reader");
    });
}

}  // namespace rondo::test
