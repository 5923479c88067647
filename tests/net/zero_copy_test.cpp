#include <rondo/net/tcp.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <string>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

task<> write_pieces(tcp_stream& to, const std::string& text, std::size_t piece) {
    const std::string_view all = text;
    for (std::size_t at = 0; at < all.size(); at += piece) {
        co_await to.write_all(all.substr(at, piece));
    }
    to.shutdown_write();
}

/// Writes so much with zero copy wished for: all of it arrives.
task<> write_and_check(tcp_stream& from, tcp_stream& to, std::size_t size) {
    from.set_zero_copy(true);
    const std::string text = pattern(size);
    task_group group;
    auto reading = group.spawn(read_text(to, text.size()));
    co_await from.write_all(text);
    const std::string got = co_await reading;
    CHECK((got == text));
    co_await group.join();
}

/// Zero copy, again after each time that it turned out to be of no use.
task<> insist(tcp_stream& stream, const std::string& text, int times) {
    for (int i = 0; i < times; ++i) {
        stream.set_zero_copy(true);
        co_await stream.write_all(text);
    }
}

/// No more than 1 MiB of memory may be locked, for a while, not even by privilege.
class locked_memory_shortage {
public:
    locked_memory_shortage() {
        REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &before_) == 0);
        const rlimit little{1024 * 1024, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &little) == 0);
        REQUIRE(::syscall(SYS_capget, &thread_, had_.data()) == 0);
        auto less = had_;
        less[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
        REQUIRE(::syscall(SYS_capset, &thread_, less.data()) == 0);
    }
    locked_memory_shortage(const locked_memory_shortage&) = delete;
    locked_memory_shortage& operator=(const locked_memory_shortage&) = delete;
    ~locked_memory_shortage() {
        ::syscall(SYS_capset, &thread_, had_.data());
        ::setrlimit(RLIMIT_MEMLOCK, &before_);
    }

private:
    rlimit before_{};
    __user_cap_header_struct thread_{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> had_{};
};

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

TEST_CASE("a write goes on with copies where no more memory may be locked") {
    on_each_reactor_kind([](auto run) {
        const locked_memory_shortage shortage;
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            co_await write_and_check(client, server, 3'000'000);
        });
    });
}

TEST_CASE("a socket that cannot send without copy sends with one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ends[2];
            REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
            tcp_stream client{detail::socket_handle{ends[0]}, any_port()};
            tcp_stream server{detail::socket_handle{ends[1]}, any_port()};
            co_await write_and_check(client, server, 1'000'000);
        });
    });
}

TEST_CASE("a write cancelled after its stream was closed leaves the next of that number alone") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::string text = pattern(300'000);
            auto listener = tcp_listener::bind(any_port());
            plain_socket peer{listener.local_endpoint()};
            auto stream = co_await listener.accept();
            plain_socket other_peer{listener.local_endpoint()};
            auto other = co_await listener.accept();
            const int number = stream.native_handle();
            stream.set_zero_copy(true);
            std::string space(100, '\0');
            task_group group;
            auto writing = group.spawn(outcome_of(stream.write_all(text), form::as_result));
            auto reading =
                group.spawn(outcome_of(other.read_some(bytes_of(space)), form::as_result));
            co_await yield();
            stream.close();
            other.close();  // with its pending read at the latest, the first descriptor is free
            plain_socket newcomer{listener.local_endpoint()};
            REQUIRE(newcomer.fd() == number);
            writing.cancel();
            auto accepted = co_await listener.accept();
            newcomer.send("untouched");
            const std::string got = co_await read_text(accepted, 9);
            CHECK(got == "untouched");
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
