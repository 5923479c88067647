#include <rondo/net/tcp.hpp>

#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

// Streams that go from one reactor to another.

namespace rondo::test {

TEST_CASE("a stream is used on one reactor, then on another, and back, with data on the way") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::string expected;
            std::string seen;
            int number = 0;
            const auto say = [&] {
                const std::string text = std::to_string(number++) + ";";
                peer.send(text);
                expected += text;
            };
            for (int round = 0; round < 60; ++round) {
                say();  // lies there while the stream moves
                co_await resume_on(place(static_cast<std::size_t>(round) % 3));
                say();
                std::string one(1, '\0');  // drained, and not
                const std::size_t got = co_await stream.read_some(bytes_of(one));
                REQUIRE(got == 1);
                seen += one;
                if (round % 2 == 0) {
                    seen += co_await read_text(stream, expected.size() - seen.size());
                    // Nothing is there: the reader must be woken where it waits now.
                    task_group group;
                    auto reader = group.spawn(read_text(stream, 1));
                    co_await settle();
                    CHECK_FALSE(reader.done());
                    say();
                    seen += co_await reader;
                    co_await group.join();
                }
                co_await stream.write_all("ok");
                while (peer.received().empty()) co_await yield();
            }
            co_await resume_on(place(0));
            seen += co_await read_text(stream, expected.size() - seen.size());
            CHECK(seen == expected);
            peer.close();
            const auto how = co_await stream.wait_hangup();
            CHECK((how == hangup::no_more_data));
        });
    });
}

TEST_CASE("both ends of a connection change places without end of data, and a cancelled read") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            auto [client, server] = co_await connected_pair();
            for (std::size_t round = 0; round < 20; ++round) {
                // A read that waits here is cancelled, then the stream is used over there.
                task_group group;
                auto reader = group.spawn(outcome_of(read_text(server, 1), form::throwing));
                co_await settle();
                reader.cancel();
                co_await group.join();
                const auto echo_there = [](tcp_stream& stream) -> task<> {
                    const std::string text = co_await read_text(stream, 4);
                    co_await stream.write_all(text);
                };
                group.spawn_on(place(round % 2), echo_there, std::ref(server));
                co_await client.write_all("ping");
                const std::string back = co_await read_text(client, 4);
                REQUIRE(back == "ping");
                co_await group.join();
            }
        });
    });
}

TEST_CASE("a stream moved and closed elsewhere leaves its number to a new one at the old place") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            int same_numbers = 0;
            for (int round = 0; round < 20; ++round) {
                auto listener = tcp_listener::bind(any_port());
                int number = -1;
                {
                    plain_socket peer{listener.local_endpoint()};
                    auto stream = co_await listener.accept();
                    number = stream.native_handle();
                    peer.send("x");
                    const std::string here_first = co_await read_text(stream, 1);
                    CHECK(here_first == "x");
                    const auto away = [](tcp_stream moved, plain_socket& other,
                                         bool use) -> task<> {
                        if (use) {
                            other.send("y");
                            const std::string there = co_await read_text(moved, 1);
                            CHECK(there == "y");
                        }
                        moved.close();
                        while (!other.at_end()) co_await yield();
                    };
                    task_group group;
                    group.spawn_on(place(1), away, std::move(stream), std::ref(peer),
                                   round % 2 == 0);
                    co_await group.join();
                }
                plain_socket peer{listener.local_endpoint()};
                auto stream = co_await listener.accept();
                if (stream.native_handle() == number) ++same_numbers;
                task_group group;
                auto reader = group.spawn(read_text(stream, 5));
                co_await settle();
                CHECK_FALSE(reader.done());
                peer.send("hello");
                const std::string text = co_await reader;
                CHECK(text == "hello");
                co_await group.join();
            }
            CHECK(same_numbers > 0);
        });
    });
}

TEST_CASE("a stream travels in a message to another reactor, and on to a third") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            auto [peer, accepted] = co_await accept_peer();
            peer.send("first second third ");
            const std::string first = co_await read_text(accepted, 6);
            CHECK(first == "first ");
            std::atomic<bool> done{false};
            const auto read_there = [](tcp_stream stream, std::atomic<bool>& told) -> task<> {
                const std::string second = co_await read_text(stream, 7);
                CHECK(second == "second ");
                co_await resume_on(place(2));
                const std::string third = co_await read_text(stream, 6);
                CHECK(third == "third ");
                co_await stream.write_all("thanks");
                told = true;
            };
            (void)place(1).submit(read_there(std::move(accepted), done));
            co_await until([&done] { return done.load(); });
            CHECK(peer.received() == "thanks");
            while (!peer.at_end()) co_await yield();
        });
    });
}

namespace {

/// How many of the process's epoll sets have a registration of this number.
int registrations_of(int fd) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        if (std::filesystem::read_symlink(entry, error) != "anon_inode:[eventpoll]") continue;
        std::ifstream set{"/proc/self/fdinfo" / entry.path().filename()};
        for (std::string word; set >> word;) {
            int number = -1;
            if (word == "tfd:" && set >> number && number == fd) ++count;
        }
    }
    return count;
}

}  // namespace

TEST_CASE("a stream that moved to another runtime does not wake the old reactor for ever") {
    on_each_reactor_kind([](auto run) {
        run([kind = run.kind()]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            auto [idle_peer, idle] = co_await accept_peer();
            const int number = stream.native_handle();
            task_group group;
            // With somebody who waits, a busy scheduler looks for events, too.
            auto idle_reader = group.spawn(outcome_of(read_text(idle, 1), form::throwing));
            auto reader = group.spawn(read_text(stream, 1));
            co_await settle();  // it is registered here
            peer.send("x");
            const std::string here = co_await reader;
            CHECK(here == "x");
            std::atomic<bool> waits{false};
            std::string there;
            // NOLINTNEXTLINE(bugprone-exception-escape)
            std::thread other([&waits, &there, kind, moved = std::move(stream)]() mutable {
                rondo::run(
                    [&]() -> task<> {
                        waits = true;
                        there = co_await read_text(moved, 5);
                    },
                    {.reactor = kind});
            });
            while (!waits) co_await yield();
            const int sets = this_scheduler().reactor() == reactor_kind::epoll ? 2 : 0;
            for (int i = 0; i < 10'000 && registrations_of(number) != sets; ++i) co_await yield();
            CHECK(registrations_of(number) == sets);
            peer.send("one");
            for (int i = 0; i < 10'000 && registrations_of(number) > 1; ++i) co_await yield();
            CHECK(registrations_of(number) == sets / 2);
            peer.send("22");
            other.join();
            CHECK(there == "one22");
            idle_reader.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("a connection that lives on under another number does not wake the reactor for ever") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [other_peer, other] = co_await accept_peer();
            task_group group;
            auto other_reader = group.spawn(read_text(other, 5));
            auto [peer, stream] = co_await accept_peer();
            const int number = stream.native_handle();
            auto reader = group.spawn(read_text(stream, 1));
            co_await settle();  // both are registered
            peer.send("x");
            const std::string text = co_await reader;
            CHECK(text == "x");
            const int copy = ::dup(number);
            REQUIRE(copy >= 0);
            stream.close();
            for (int i = 0; i < 1'000 && registrations_of(number) != 0; ++i) {
                peer.send("y");
                co_await yield_times(200);
            }
            CHECK(registrations_of(number) == 0);
            // Those that are waited for are in the new set, and so is who wakes the reactor.
            other_peer.send("hello");
            const std::string hello = co_await other_reader;
            CHECK(hello == "hello");
            const int answer = co_await offload([] { return 42; });
            CHECK(answer == 42);
            ::close(copy);
            co_await group.join();
        });
    });
}

TEST_CASE("events of a connection that lives on do not disturb the next one with its number") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket first_peer{listener.local_endpoint()};
            auto first = co_await listener.accept();
            const int number = first.native_handle();
            task_group group;
            auto reader = group.spawn(read_text(first, 1));
            co_await settle();
            first_peer.send("x");
            const std::string text = co_await reader;
            CHECK(text == "x");
            const int copy = ::dup(number);
            REQUIRE(copy >= 0);
            plain_socket second_peer{listener.local_endpoint()};
            first.close();
            co_await settle();
            auto second = co_await listener.accept();
            REQUIRE(second.native_handle() == number);
            auto waits = group.spawn(read_text(second, 5));
            co_await settle();
            for (int i = 0; i < 10; ++i) {
                first_peer.send("y");
                co_await yield_times(200);
            }
            CHECK_FALSE(waits.done());
            second_peer.send("hello");
            const std::string hello = co_await waits;
            CHECK(hello == "hello");
            ::close(copy);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
