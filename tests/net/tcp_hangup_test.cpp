#include <rondo/net/tcp.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <sys/socket.h>

#include <string>
#include <system_error>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

TEST_CASE("wait_hangup hears of the peer's end, not of its data, and the data can still be read") {
    on_each_reactor_kind([](auto run) {
        for (const bool closes : {false, true}) {
            CAPTURE(closes);
            run([=]() -> task<> {
                auto [peer, stream] = co_await accept_peer();
                task_group group;
                auto waiter = group.spawn(outcome_of(stream.wait_hangup(), form::as_result));
                co_await settle();
                peer.send("some ");
                co_await settle();
                const std::string some = co_await read_text(stream, 5);
                CHECK(some == "some ");
                peer.send("more");
                co_await settle();
                CHECK_FALSE(waiter.done());
                if (closes) {
                    peer.close();
                } else {
                    REQUIRE(::shutdown(peer.fd(), SHUT_WR) == 0);
                }
                co_await settle();
                REQUIRE(waiter.done());
                const auto how = co_await waiter;
                REQUIRE(how);
                CHECK((*how == hangup::no_more_data));
                const auto again = co_await stream.wait_hangup();
                CHECK((again == hangup::no_more_data));
                const std::string more = co_await read_text(stream);
                CHECK(more == "more");
                const auto after = co_await stream.wait_hangup();
                CHECK((after == hangup::no_more_data));
                co_await group.join();
            });
        }
    });
}

TEST_CASE("wait_hangup tells a broken connection from a finished one, also with unread data") {
    on_each_reactor_kind([](auto run) {
        for (const bool unread : {false, true}) {
            for (const bool waits_before : {false, true}) {
                CAPTURE(unread);
                CAPTURE(waits_before);
                run([=]() -> task<> {
                    auto [peer, stream] = co_await accept_peer();
                    task_group group;
                    if (unread) peer.send("never read");
                    if (!waits_before) peer.reset();
                    auto waiter = group.spawn(outcome_of(stream.wait_hangup(), form::throwing));
                    co_await settle();
                    if (waits_before) peer.reset();
                    co_await settle();
                    REQUIRE(waiter.done());
                    const auto how = co_await waiter;
                    REQUIRE(how);
                    CHECK((*how == hangup::broken));
                    co_await group.join();
                });
            }
        }
    });
}

TEST_CASE("wait_hangup is cancelled at once, before, during and after a hangup") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            task_group group;
            auto waiter = group.spawn(outcome_of(stream.wait_hangup(), form::throwing));
            co_await settle();
            waiter.cancel();
            const auto cancelled = co_await waiter;
            CHECK(cancelled.error() == std::errc::operation_canceled);
            auto early = group.spawn(outcome_of(stream.wait_hangup(), form::as_result));
            early.cancel();
            const auto not_begun = co_await early;
            CHECK(not_begun.error() == std::errc::operation_canceled);
            // The stream is as good as before.
            peer.send("hello");
            const std::string text = co_await read_text(stream, 5);
            CHECK(text == "hello");
            co_await group.join();
        });
        for (const int moment : moments) {
            CAPTURE(moment);
            run([=]() -> task<> {
                auto [peer, stream] = co_await accept_peer();
                task_group group;
                auto waiter = group.spawn(outcome_of(stream.wait_hangup(), form::as_result));
                co_await settle();
                peer.close();
                co_await yield_times(moment);
                waiter.cancel();
                const auto how = co_await waiter;
                if (how) {
                    CHECK((*how == hangup::no_more_data));
                } else {
                    CHECK(how.error() == std::errc::operation_canceled);
                }
                co_await group.join();
            });
        }
    });
}

TEST_CASE("wait_hangup stands beside a read and a write that are pending") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            task_group group;
            const std::string much = pattern(8 * megabyte);
            auto waiter = group.spawn(outcome_of(server.wait_hangup(), form::as_result));
            auto reader = group.spawn(read_text(server, 5));
            auto writer = group.spawn(outcome_of(server.write_all(much), form::as_result));
            co_await settle();
            CHECK_FALSE(writer.done());
            co_await client.write_all("hello");
            const std::string hello = co_await reader;
            CHECK(hello == "hello");
            auto second = group.spawn(read_text(server));
            const std::string all = co_await read_text(client, much.size());
            CHECK(all == much);
            const auto written = co_await writer;
            CHECK(written);
            CHECK_FALSE(waiter.done());
            client.shutdown_write();
            const std::string rest = co_await second;
            CHECK(rest.empty());
            const auto how = co_await waiter;
            REQUIRE(how);
            CHECK((*how == hangup::no_more_data));
            co_await group.join();
        });
    });
}

TEST_CASE(
    "wait_hangup ends when its own stream is closed, and loses a race for work that is done") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const auto won = co_await when_any(yield_times(3), server.wait_hangup());
            CHECK(won.index() == 0);
            task_group group;
            auto waiter = group.spawn(outcome_of(server.wait_hangup(), form::as_result));
            co_await settle();
            server.close();
            const auto how = co_await waiter;
            CHECK(how.error() == std::errc::bad_file_descriptor);
            client.close();
            const auto none = co_await as_result(client.wait_hangup());
            CHECK(none.error() == std::errc::bad_file_descriptor);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
