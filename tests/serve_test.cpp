#include <rondo/net/serve.hpp>

#include <rondo/runtime/poll_fd.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/testing.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "child_process.hpp"
#include "net_support.hpp"
#include "support.hpp"

namespace rondo::test {

namespace {

task<> echo(tcp_stream peer) {
    std::string space(4'096, '\0');
    for (;;) {
        const std::size_t got = co_await peer.read_some(bytes_of(space));
        if (got == 0) co_return;
        co_await peer.write_all(std::string_view(space).substr(0, got));
    }
}

/// Says something through the connection and expects it back.
task<bool> answers(plain_socket& client, std::string text) {
    client.send(text);
    std::string back;
    while (back.size() < text.size()) {
        co_await poll_fd(client.fd(), POLLIN);
        const std::string part = client.received();
        if (part.empty()) co_return false;
        back += part;
    }
    co_return back == text;
}

/// What the hook heard.
struct reported {
    std::vector<std::pair<std::string, endpoint>> errors;

    auto hook() {
        return [this](std::exception_ptr error, const endpoint& peer) {
            try {
                std::rethrow_exception(error);
            } catch (const std::exception& known) {
                errors.emplace_back(known.what(), peer);
            } catch (...) {
                errors.emplace_back("something else", peer);
            }
        };
    }
};

endpoint local_endpoint_of(const plain_socket& socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return endpoint::from_sockaddr(address);
}

bool accepts_connections(const endpoint& where) {
    sockaddr_storage address;
    const socklen_t size = where.to_sockaddr(address);
    const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool yes = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0;
    ::close(fd);
    return yes;
}

/// A server that runs out of descriptors; tells what went wrong. Lowers the process's limit.
task<std::string> short_of_descriptors() {
    std::string verdict;
    const auto expect = [&](bool holds, const char* otherwise) {
        if (!holds && verdict.empty()) verdict = otherwise;
    };
    auto listener = tcp_listener::bind(any_port());
    const endpoint here = listener.local_endpoint();
    reported heard;
    task_group group;
    auto server =
        group.spawn(serve(std::move(listener), echo, serve_options{.on_error = heard.hook()}));
    std::vector<plain_socket> clients;
    for (int i = 0; i < 8; ++i) clients.emplace_back(here);
    co_await settle();
    for (int i = 0; i < 8; ++i) clients.emplace_back(here);
    const rlimit few{open_descriptors() + 5, open_descriptors() + 5};
    expect(::setrlimit(RLIMIT_NOFILE, &few) == 0, "no limit");
    // Eight are served; for those that wait now there is no descriptor.
    std::vector<int> spare;
    for (int fd; (fd = ::dup(0)) >= 0;) spare.push_back(fd);
    co_await settle();
    const bool served = co_await answers(clients[0], "in spite of it");
    expect(served, "those who had a connection lost it");
    expect(!server.done(), "the server gave up");
    // The first may be served: io_uring sets a descriptor aside for the accept that waits.
    clients[15].send("are you there?");
    co_await settle();
    expect(clients[15].received().empty(), "it was not short of any");
    for (const int fd : spare) ::close(fd);
    for (std::size_t i = 0; i < 4; ++i) clients[i].close();
    while (clients[15].received().empty()) co_await poll_fd(clients[15].fd(), POLLIN);
    for (std::size_t i = 4; i < 16; ++i) {
        const bool late = co_await answers(clients[i], "late");
        expect(late, "one of the late ones was dropped");
    }
    expect(heard.errors.empty(), "a connection failed");
    group.cancel();
    co_await group.join();
    co_return verdict.empty() ? "served all" : verdict;
}

}  // namespace

TEST_CASE("serve runs its handler for each connection, all at the same time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            task_group group;
            auto server = group.spawn(serve(std::move(listener), echo));
            std::vector<plain_socket> clients;
            for (int i = 0; i < 100; ++i) clients.emplace_back(here);
            for (int round = 0; round < 3; ++round) {
                for (plain_socket& client : clients) {
                    const bool right = co_await answers(client, std::to_string(round));
                    REQUIRE(right);
                }
            }
            server.cancel();
            const auto end = co_await outcome_of(std::move(server), form::throwing);
            CHECK(end.error() == std::errc::operation_canceled);
            co_await group.join();
        });
    });
}

TEST_CASE("two thousand connections are held open while one more is served") {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = std::max<rlim_t>(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, 10'000));
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::size_t before = open_descriptors();
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            task_group group;
            group.spawn(serve(std::move(listener), echo));
            {
                std::vector<plain_socket> idle;
                for (int i = 0; i < 2'000; ++i) {
                    idle.emplace_back(here);
                    if (i % 100 == 0) co_await settle();
                }
                plain_socket one_more{here};
                const bool right = co_await answers(one_more, "one more");
                CHECK(right);
                // None of the others was dropped for it.
                for (std::size_t i = 0; i < idle.size(); i += 97) {
                    const bool alive = co_await answers(idle[i], "still there");
                    REQUIRE(alive);
                }
            }
            group.cancel();
            co_await group.join();
            co_await settle();
            CHECK(open_descriptors() == before);
        });
    });
}

TEST_CASE("serve never has more connections open than its limit, and serves all in the end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            std::size_t open = 0;
            std::size_t most = 0;
            std::size_t served = 0;
            task_group group;
            const auto count = [&](tcp_stream peer) -> task<> {
                most = std::max(most, ++open);
                co_await echo(std::move(peer));
                --open;
                ++served;
            };
            auto server =
                group.spawn(serve(std::move(listener), count, serve_options{.max_connections = 3}));
            std::vector<plain_socket> clients;
            for (int i = 0; i < 50; ++i) clients.emplace_back(here).send("hello");
            co_await settle();
            CHECK(open == 3);
            for (plain_socket& client : clients) {
                while (client.received().empty()) co_await poll_fd(client.fd(), POLLIN);
                client.close();
            }
            while (served < 50) co_await yield();
            CHECK(most == 3);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("serve at its limit is cancelled as well") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket client{listener.local_endpoint()};
            task_group group;
            auto server =
                group.spawn(serve(std::move(listener), echo, serve_options{.max_connections = 1}));
            const bool right = co_await answers(client, "full");
            CHECK(right);
            co_await settle();
            server.cancel();
            co_await group.join();
            co_await settle();
            CHECK(client.at_end());
        });
    });
}

TEST_CASE("a handler's exception ends its own connection only, and the hook hears whose it was") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            reported heard;
            task_group group;
            const auto picky = [](tcp_stream peer) -> task<> {
                const std::string word = co_await read_text(peer, 4);
                if (word == "oops") throw std::runtime_error("a bad word");
                if (word == "int!") throw 42;
                co_await peer.write_all(word);
                co_await echo(std::move(peer));
            };
            group.spawn(serve(std::move(listener), picky, serve_options{.on_error = heard.hook()}));
            plain_socket good{here};
            plain_socket bad{here};
            plain_socket worse{here};
            plain_socket rude{here};
            const bool welcome = co_await answers(good, "good");
            CHECK(welcome);
            bad.send("oops");
            co_await settle();
            worse.send("int!");
            co_await settle();
            rude.send("ru");
            co_await settle();
            const endpoint rude_end = local_endpoint_of(rude);
            rude.reset();
            co_await settle();
            REQUIRE(heard.errors.size() == 3);
            CHECK(heard.errors[0].first == "a bad word");
            CHECK((heard.errors[0].second == local_endpoint_of(bad)));
            CHECK(heard.errors[1].first == "something else");
            CHECK((heard.errors[1].second == local_endpoint_of(worse)));
            CHECK(heard.errors[2].first ==
                  "read from " + rude_end.to_string() + ": Connection reset by peer");
            CHECK((heard.errors[2].second == rude_end));
            CHECK(bad.at_end());
            CHECK(worse.at_end());
            const bool still = co_await answers(good, "still here");
            CHECK(still);
            group.cancel();
            co_await group.join();
            CHECK(heard.errors.size() == 3);  // the end of the server is no error of a connection
        });
    });
}

TEST_CASE("without a hook a handler's exception is one line on standard error") {
    on_each_reactor_kind([](auto run) {
        const std::string text = in_child([=]() -> std::string {
            int ends[2];
            if (::pipe(ends) != 0 || ::dup2(ends[1], STDERR_FILENO) < 0) return "no pipe";
            return run([&]() -> task<std::string> {
                auto listener = tcp_listener::bind(any_port());
                plain_socket client{listener.local_endpoint()};
                task_group group;
                const auto broken = [](tcp_stream) -> task<> {
                    throw std::runtime_error("out of ideas");
                    co_return;
                };
                group.spawn(serve(std::move(listener), broken));
                co_await settle();
                group.cancel();
                co_await group.join();
                char line[1'000];
                const ssize_t size = ::read(ends[0], line, sizeof line);
                std::string text(line, static_cast<std::size_t>(size));
                const std::string peer = local_endpoint_of(client).to_string();
                const std::size_t at = text.find(peer);
                if (at != std::string::npos) text.replace(at, peer.size(), "PEER");
                co_return text;
            });
        });
        CHECK(text == "rondo: connection of PEER: out of ideas\n");
    });
}

TEST_CASE("cancelling serve closes the listener at once and waits for what handlers shield") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            event may_finish;
            task_group group;
            const auto polite = [&](tcp_stream peer) -> task<> {
                const std::string word = co_await read_text(peer, 5);
                co_await shield([](tcp_stream& to, event& when) -> task<> {
                    co_await when.wait();
                    co_await to.write_all("the whole answer");
                }(peer, may_finish));
                co_await peer.write_all("never said");
            };
            auto server = group.spawn(serve(std::move(listener), polite));
            plain_socket asking{here};
            plain_socket idle{here};
            asking.send("query");
            co_await settle();
            CHECK(accepts_connections(here));
            co_await settle();
            server.cancel();
            co_await settle();
            CHECK_FALSE(server.done());
            CHECK_FALSE(accepts_connections(here));
            CHECK(idle.at_end());
            CHECK_FALSE(asking.at_end());
            may_finish.set();
            co_await group.join();
            co_await settle();
            CHECK(asking.received() == "the whole answer");
            CHECK(asking.at_end());
        });
    });
}

TEST_CASE("serve waits while descriptors are short, and goes on when there are some again") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([=] { return run(short_of_descriptors); }) == "served all");
    });
}

TEST_CASE("serve keeps its handler, with all it holds, until the last connection has ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket client{listener.local_endpoint()};
            auto word = std::make_shared<std::string>("kept");
            const std::weak_ptr<std::string> watch = word;
            task_group group;
            auto server = group.spawn(
                serve(std::move(listener), [word = std::move(word)](tcp_stream peer) -> task<> {
                    co_await read_text(peer, 1);
                    co_await peer.write_all(*word);
                    co_await read_text(peer);
                }));
            client.send("?");
            co_await settle();
            CHECK(client.received() == "kept");
            CHECK_FALSE(watch.expired());
            server.cancel();
            co_await group.join();
            CHECK(watch.expired());
        });
    });
}

TEST_CASE("a listener that serve only borrows is closed by the end of serve, too") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            task_group group;
            auto server = group.spawn(outcome_of(serve(listener, echo), form::throwing));
            plain_socket client{here};
            const bool right = co_await answers(client, "hello");
            CHECK(right);
            // Somebody else closing it is an error of the listener, which ends serve.
            listener.close();
            const auto end = co_await server;
            CHECK(end.error() == std::errc::bad_file_descriptor);
            CHECK_FALSE(accepts_connections(here));
            co_await group.join();
            co_await settle();
            CHECK(client.at_end());
        });
    });
}

TEST_CASE("connections that ended leave nothing behind while the server goes on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            reported heard;
            task_group group;
            group.spawn(serve(std::move(listener), echo, serve_options{.on_error = heard.hook()}));
            co_await settle();
            const std::size_t before = open_descriptors();
            for (int i = 0; i < 1'000; ++i) {
                plain_socket client{here};
                const bool right = co_await answers(client, "hello");
                REQUIRE(right);
                if (i % 2 == 0) client.reset();
            }
            co_await settle();
            co_await settle();
            CHECK(open_descriptors() == before);
            CHECK(heard.errors.size() == 500);
            group.cancel();
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
