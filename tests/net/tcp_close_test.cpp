// Descriptors that are closed while somebody waits on them, and whose numbers come back.

#include <rondo/net/tcp.hpp>

#include <rondo/runtime/reactor/signal.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "support/net_support.hpp"
#include "support/process_state.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

constexpr auto bad_descriptor = std::errc::bad_file_descriptor;
constexpr auto out_of_descriptors = std::errc::too_many_files_open;

template <class Open>
std::error_code open_error(Open open) {
    try {
        open();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

}  // namespace

TEST_CASE("closing a stream ends what others await on it with bad_file_descriptor") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                const std::string text = pattern(8 * 1024 * 1024);
                std::string space(10, '\0');
                task_group group;
                auto reader = group.spawn(outcome_of(client.read_some(bytes_of(space)), how));
                auto writer = group.spawn(outcome_of(client.write_all(text), how));
                co_await settle();
                CHECK_FALSE(reader.done());
                CHECK_FALSE(writer.done());
                client.close();
                const auto got = co_await reader;
                CHECK(got.error() == bad_descriptor);
                const auto put = co_await writer;
                CHECK(put.error() == bad_descriptor);
                co_await group.join();
                const std::string rest = co_await read_text(server);
                CHECK((rest == text.substr(0, rest.size())));
            });
        }
    });
}

TEST_CASE("closing a listener ends the accepts on it and frees its port at once") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto listener = tcp_listener::bind(any_port());
                const endpoint here = listener.local_endpoint();
                task_group group;
                auto one = group.spawn(outcome_of(listener.accept(), how));
                auto two = group.spawn(outcome_of(listener.accept(), how));
                co_await settle();
                listener.close();
                auto again = tcp_listener::bind(here);
                const auto first = co_await one;
                CHECK(first.error() == bad_descriptor);
                const auto second = co_await two;
                CHECK(second.error() == bad_descriptor);
                plain_socket peer{here};
                auto stream = co_await again.accept();
                CHECK(stream.remote_endpoint().address() == here.address());
                co_await group.join();
            });
        }
    });
}

TEST_CASE("every operation on a closed stream or listener fails at once with bad_file_descriptor") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                auto listener = tcp_listener::bind(any_port());
                plain_socket peer{listener.local_endpoint()};
                auto accepted = co_await listener.accept();
                client.close();
                listener.close();
                client.close();
                listener.close();
                std::string space(10, '\0');
                const auto some = co_await outcome_of(client.read_some(bytes_of(space)), how);
                CHECK(some.error() == bad_descriptor);
                const auto exactly = co_await outcome_of(client.read_exactly(bytes_of(space)), how);
                CHECK(exactly.error() == bad_descriptor);
                const auto put =
                    co_await outcome_of(client.write_some(bytes_of(std::string_view("text"))), how);
                CHECK(put.error() == bad_descriptor);
                const auto all = co_await outcome_of(client.write_all("text"), how);
                CHECK(all.error() == bad_descriptor);
                const auto gather = co_await outcome_of(client.write_all("two", "texts"), how);
                CHECK(gather.error() == bad_descriptor);
                const auto accept = co_await outcome_of(listener.accept(), how);
                CHECK(accept.error() == bad_descriptor);
                CHECK_THROWS_AS(client.shutdown_write(), std::system_error);
                CHECK_THROWS_AS(client.set_nodelay(true), std::system_error);
                CHECK_THROWS_AS((void)client.local_endpoint(), std::system_error);
            });
        }
    });
}

TEST_CASE("a read cancelled and its stream closed in the same breath ends with what came first") {
    on_each_reactor_kind([](auto run) {
        for (const bool cancel_first : {false, true}) {
            for (const bool submitted : {false, true}) {
                CAPTURE(cancel_first);
                CAPTURE(submitted);
                run([=]() -> task<> {
                    auto [client, server] = co_await connected_pair();
                    std::string space(10, '\0');
                    task_group group;
                    auto reader =
                        group.spawn(outcome_of(client.read_some(bytes_of(space)), form::throwing));
                    // After a yield the read is queued, after settle() the kernel has it.
                    if (submitted) {
                        co_await settle();
                    } else {
                        co_await yield();
                    }
                    if (cancel_first) reader.cancel();
                    client.close();
                    if (!cancel_first) reader.cancel();
                    const auto got = co_await reader;
                    CHECK(got.error() ==
                          (cancel_first ? std::errc::operation_canceled : bad_descriptor));
                    co_await group.join();
                    const std::string rest = co_await read_text(server);
                    CHECK(rest.empty());
                });
            }
        }
    });
}

TEST_CASE("data that came just before a close is given or dropped, and the read ends either way") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const int moment : moments) {
                CAPTURE(moment);
                auto [client, server] = co_await connected_pair();
                std::string space(4, '\0');
                task_group group;
                auto reader =
                    group.spawn(outcome_of(server.read_some(bytes_of(space)), form::as_result));
                co_await settle();
                REQUIRE(::send(client.native_handle(), "data", 4, 0) == 4);
                co_await yield_times(moment);
                server.close();
                const auto got = co_await reader;
                if (got) {
                    CHECK(space == "data");
                } else {
                    CHECK(got.error() == bad_descriptor);
                }
                co_await group.join();
            }
        });
    });
}

TEST_CASE("a descriptor's number may come back at once, with nothing left of its last life") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const std::size_t before = open_descriptors();
            std::vector<int> numbers;
            for (int round = 0; round < 300; ++round) {
                CAPTURE(round);
                plain_socket peer{listener.local_endpoint()};
                auto stream = co_await listener.accept();
                numbers.push_back(stream.native_handle());
                std::string space(10, '\0');
                task_group group;
                auto reader =
                    group.spawn(outcome_of(stream.read_some(bytes_of(space)), form::as_result));
                // One round closes under a read that the kernel has, one under a read that is only
                // queued, and one after data: the reactors remember each differently.
                if (round % 3 == 0) co_await settle();
                if (round % 3 == 1) co_await yield();
                if (round % 3 == 2) {
                    peer.send("data");
                    const auto got = co_await reader;
                    REQUIRE(got.value_or(0) == 4);
                }
                stream.close();
                if (round % 3 != 2) {
                    plain_socket next{listener.local_endpoint()};
                    auto other = co_await listener.accept();
                    auto next_reader = group.spawn(read_text(other, 4));
                    co_await yield();
                    const auto got = co_await reader;
                    REQUIRE(got.error() == bad_descriptor);
                    next.send("next");
                    const std::string text = co_await next_reader;
                    REQUIRE(text == "next");
                }
                co_await group.join();
            }
            co_await settle();
            CHECK(open_descriptors() == before);
            std::sort(numbers.begin(), numbers.end());
            numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
            CHECK(numbers.size() < 100);  // numbers did come back
        });
    });
}

TEST_CASE("when no other is left, a descriptor that was closed can be opened again at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            auto [one, two] = co_await connected_pair();
            auto [three, four] = co_await connected_pair();
            co_await settle();
            const descriptor_shortage shortage;
            CHECK(open_error([] { (void)tcp_listener::bind(any_port()); }) == out_of_descriptors);

            one.close();
            std::optional<tcp_listener> bound;
            CHECK(open_error([&] { bound = tcp_listener::bind(any_port()); }) == std::error_code());

            two.close();
            const auto connected =
                co_await as_result(tcp_stream::connect(listener.local_endpoint()));
            CHECK(connected.error() == std::error_code());

            three.close();
            const auto waited =
                co_await as_result(with_timeout(std::chrono::seconds(0), wait_signal(SIGUSR1)));
            CHECK(waited.error() == std::errc::timed_out);  // not out_of_descriptors
        });
    });
}

TEST_CASE("a stream goes on after its neighbours were closed, whatever was pending on them") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            std::vector<plain_socket> peers;
            std::vector<tcp_stream> streams;
            std::vector<std::string> spaces(50, std::string(10, '\0'));
            for (int i = 0; i < 50; ++i) {
                peers.emplace_back(listener.local_endpoint());
                streams.push_back(co_await listener.accept());
            }
            task_group group;
            std::vector<task_handle<result<std::size_t>>> readers;
            for (std::size_t i = 0; i < 50; ++i) {
                readers.push_back(group.spawn(
                    outcome_of(streams[i].read_some(bytes_of(spaces[i])), form::as_result)));
            }
            co_await settle();
            for (std::size_t i = 0; i < 50; ++i) {
                if (i != 25) streams[i].close();
            }
            co_await settle();
            for (std::size_t i = 0; i < 50; ++i) REQUIRE(readers[i].done() == (i != 25));
            peers[25].send("alive");
            const auto got = co_await readers[25];
            CHECK(got.value_or(0) == 5);
            co_await streams[25].write_all("so it is");
            co_await settle();
            CHECK(peers[25].received() == "so it is");
            co_await group.join();
        });
    });
}

TEST_CASE("a run leaves no descriptor behind, not even of what was pending at its end") {
    on_each_reactor_kind([](auto run) {
        const std::size_t before = open_descriptors();
        for (int i = 0; i < 20; ++i) {
            run([]() -> task<> {
                auto [client, server] = co_await connected_pair();
                std::string space(10, '\0');
                task_group group;
                group.spawn(outcome_of(client.read_some(bytes_of(space)), form::throwing));
                co_await settle();
                group.cancel();
                co_await group.join();
            });
        }
        CHECK(open_descriptors() == before);
    });
}

TEST_CASE("shutdown_write comes after the writes that were begun, and twice is no error") {
    on_each_reactor_kind([](auto run) {
        for (const bool in_pieces : {false, true}) {
            CAPTURE(in_pieces);
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                task_group group;
                const std::string text = pattern(1'000);
                const auto write = [&text, in_pieces](tcp_stream& to) -> task<> {
                    if (in_pieces) {
                        co_await to.write_all(text, text);
                    } else {
                        co_await to.write_all(text);
                    }
                };
                auto writer = group.spawn(write(client));
                co_await yield();  // begun, and on io_uring not yet with the kernel
                client.shutdown_write();
                client.shutdown_write();
                const std::string got = co_await read_text(server);
                CHECK((got == (in_pieces ? text + text : text)));
                co_await writer;
                // The other way is open, and a third time is no error when that has ended, too.
                co_await server.write_all("answer");
                server.close();
                const std::string answer = co_await read_text(client);
                CHECK(answer == "answer");
                client.shutdown_write();
                client.close();
                CHECK_THROWS_AS(client.shutdown_write(), std::system_error);
                co_await group.join();
            });
        }
    });
}

}  // namespace rondo::test
