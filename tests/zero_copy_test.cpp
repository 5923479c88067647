#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/testing.hpp>

#include <doctest/doctest.h>

#include <string>

#include "net_support.hpp"
#include "support.hpp"

namespace rondo::test {

namespace {

task<> write_pieces(tcp_stream& to, const std::string& text, std::size_t piece) {
    const std::string_view all = text;
    for (std::size_t at = 0; at < all.size(); at += piece) {
        co_await to.write_all(all.substr(at, piece));
    }
    to.shutdown_write();
}

/// Zero copy, again after each time that it turned out to be of no use.
task<> insist(tcp_stream& stream, const std::string& text, int times) {
    for (int i = 0; i < times; ++i) {
        stream.set_zero_copy(true);
        co_await stream.write_all(text);
    }
}

}  // namespace

TEST_CASE("what is sent without copy arrives whole, in pieces of any size") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::string text = pattern(3'000'000);
            for (const std::size_t piece :
                 {std::size_t{1000}, std::size_t{32 * 1024}, std::size_t{500'000}, text.size()}) {
                auto [client, server] = co_await connected_pair();
                client.set_zero_copy(true);
                task_group group;
                group.spawn(write_pieces(client, text, piece));
                const std::string got = co_await read_text(server);
                co_await group.join();
                CHECK((got == text));
            }
        });
    });
}

TEST_CASE("the memory of a write without copy may be used again when it completes") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const std::size_t size = 200'000;
            task_group group;
            auto sending = group.spawn(
                [](tcp_stream& to) -> task<> {
                    for (char letter = 'a'; letter <= 'z'; ++letter) {
                        const std::string text(size, letter);
                        to.set_zero_copy(true);
                        co_await to.write_all(text);
                    }
                },
                std::ref(client));
            for (char letter = 'a'; letter <= 'z'; ++letter) {
                const std::string got = co_await read_text(server, size);
                CHECK((got == std::string(size, letter)));
            }
            co_await group.join();
        });
    });
}

TEST_CASE("a stream whose way copies all the same goes back to plain sends") {
    on_each_reactor_kind([](auto run) {
        run([&]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const std::string text = pattern(100'000);
            CHECK_FALSE(client.zero_copy());
            client.set_zero_copy(true);
            task_group group;
            auto reading = group.spawn(read_text(server, text.size()));
            co_await client.write_all(text);
            const std::string got = co_await reading;
            CHECK((got == text));
            // Loopback copies, and io_uring says so; epoll never tries.
            const bool told = this_scheduler().reactor() == reactor_kind::io_uring &&
                              detail::current_core->io->sends_without_copy();
            CHECK(client.zero_copy() == !told);
            co_await group.join();
        });
    });
}

TEST_CASE("a write without copy ends by cancellation, close and reset, at any moment") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::string text = pattern(300'000);
            for (const int moment : moments) {
                for (const int how : {0, 1, 2}) {
                    auto [peer, stream] = co_await accept_peer();
                    task_group group;
                    auto writing = group.spawn(insist(stream, text, 100));
                    co_await yield_times(moment);
                    if (how == 0) {
                        writing.cancel();
                        CHECK_THROWS_AS(co_await writing, operation_cancelled);
                    } else if (how == 1) {
                        stream.close();
                        CHECK_THROWS_AS(co_await writing, std::system_error);
                    } else {
                        peer.reset();
                        CHECK_THROWS_AS(co_await writing, std::system_error);
                    }
                    try {
                        co_await group.join();
                    } catch (const std::system_error&) {
                    }
                }
            }
        });
    });
}

}  // namespace rondo::test
