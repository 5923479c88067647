#include <rondo/net/serve.hpp>

#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/process_state.hpp"
#include "support/serve_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

bool accepts_connections(const endpoint& where) {
    sockaddr_storage address;
    const socklen_t size = where.to_sockaddr(address);
    const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool yes = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0;
    ::close(fd);
    return yes;
}

/// A server that runs out of descriptors; tells what went wrong.
task<std::string> short_of_descriptors() {
    std::string verdict;
    const auto expect = [&](bool holds, const char* otherwise) {
        if (!holds && verdict.empty()) verdict = otherwise;
    };
    reported heard;
    task_group group;
    auto [here, server] = start_serving(group, echo, {.on_error = heard.hook()});
    std::vector<plain_socket> clients;
    for (int i = 0; i < 8; ++i) clients.emplace_back(here);
    co_await settle();
    for (int i = 0; i < 8; ++i) clients.emplace_back(here);
    // Eight are served; for those that wait now there is no descriptor.
    const descriptor_shortage shortage;
    co_await settle();
    const bool served = co_await answers(clients[0], "in spite of it");
    expect(served, "those who had a connection lost it");
    expect(!server.done(), "the server gave up");
    // The first may be served: io_uring sets a descriptor aside for the accept that waits.
    clients[15].send("are you there?");
    co_await settle();
    expect(clients[15].received().empty(), "it was not short of any");
    // Each leaves two: the client's and the server's.
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
            task_group group;
            auto [here, server] = start_serving(group, echo);
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
            task_group group;
            const endpoint here = start_serving(group, echo).where;
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
            const endpoint here = start_serving(group, count, {.max_connections = 3}).where;
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
            task_group group;
            auto [here, server] = start_serving(group, echo, {.max_connections = 1});
            plain_socket client{here};
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
            reported heard;
            task_group group;
            const auto picky = [](tcp_stream peer) -> task<> {
                const std::string word = co_await read_text(peer, 4);
                if (word == "oops") throw std::runtime_error("a bad word");
                if (word == "int!") throw 42;
                co_await peer.write_all(word);
                co_await echo(std::move(peer));
            };
            const endpoint here = start_serving(group, picky, {.on_error = heard.hook()}).where;
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
        const std::string text = in_child([=] {
            const error_output errors;
            return run([&]() -> task<std::string> {
                task_group group;
                const plain_socket client{start_serving(group, out_of_ideas).where};
                co_await settle();
                group.cancel();
                co_await group.join();
                co_return errors.text(client);
            });
        });
        CHECK(text == "rondo: connection of PEER: out of ideas\n");
    });
}

TEST_CASE("a hook that throws is told of on standard error, after what it was called for") {
    on_each_reactor_kind([](auto run) {
        const std::string text = in_child([=] {
            const error_output errors;
            return run([&]() -> task<std::string> {
                const auto broken_hook = [](const std::exception_ptr&, const endpoint&) {
                    throw std::runtime_error("nobody listens");
                };
                task_group group;
                auto [here, server] = start_serving(group, out_of_ideas, {.on_error = broken_hook});
                std::string text;
                for (int i = 0; i < 2; ++i) {  // the second: the server went on
                    const plain_socket client{here};
                    co_await settle();
                    if (server.done()) break;
                    text += errors.text(client);
                }
                group.cancel();
                co_await group.join();
                co_return text;
            });
        });
        const std::string both =
            "rondo: connection of PEER: out of ideas\n"
            "rondo: connection of PEER: nobody listens\n";
        CHECK(text == both + both);
    });
}

TEST_CASE("cancelling serve closes the listener at once and waits for what handlers shield") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
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
            auto [here, server] = start_serving(group, polite);
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
            auto word = std::make_shared<std::string>("kept");
            const std::weak_ptr<std::string> watch = word;
            task_group group;
            auto [here, server] =
                start_serving(group, [word = std::move(word)](tcp_stream peer) -> task<> {
                    co_await read_text(peer, 1);
                    co_await peer.write_all(*word);
                    co_await read_text(peer);
                });
            plain_socket client{here};
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
            reported heard;
            task_group group;
            const endpoint here = start_serving(group, echo, {.on_error = heard.hook()}).where;
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

namespace {

/// Counts connections on each reactor; its handler tells the client where it is, then echoes.
struct reactor_counts {
    std::array<std::atomic<int>, 4> open{};
    std::array<std::atomic<int>, 4> most{};
    std::array<std::atomic<int>, 4> served{};

    auto handler() {
        return [this](tcp_stream peer) -> task<> {
            const std::size_t index = here();
            const one_open counting{*this, index};
            const std::string name = std::to_string(index);
            co_await peer.write_all(name);
            co_await echo(std::move(peer));
            REQUIRE(here() == index);
        };
    }

    int total() const {
        int sum = 0;
        for (const auto& each : open) sum += each;
        return sum;
    }

private:
    struct one_open {
        one_open(reactor_counts& counts, std::size_t index) : all(counts), at(index) {
            const int now = ++all.open.at(at);
            ++all.served.at(at);
            all.most.at(at) = std::max(now, all.most.at(at).load());
        }
        one_open(const one_open&) = delete;
        one_open& operator=(const one_open&) = delete;
        ~one_open() { --all.open.at(at); }
        reactor_counts& all;
        std::size_t at;
    };
};

struct served_client {
    plain_socket socket;
    std::size_t place;
};

/// Which reactor serves it; waits for that.
task<std::size_t> told_place(plain_socket& client) {
    co_await poll_fd(client.fd(), POLLIN);
    char index = '?';
    REQUIRE(::recv(client.fd(), &index, 1, MSG_DONTWAIT) == 1);
    co_return static_cast<std::size_t>(index - '0');
}

task<> connect_one(std::list<served_client>& to, const endpoint& where) {
    plain_socket client{where};
    const std::size_t at = co_await told_place(client);
    to.push_back({std::move(client), at});
}

/// Completes when what the handlers have ended with has come to the reactor that accepts, this one.
task<> news_from_everywhere() {
    co_await on_each_reactor([](std::size_t) -> task<> { co_await yield(); });
    co_await settle();
}

/// Closes it and waits until the server has counted that.
task<> disconnect(std::list<served_client>& from, std::list<served_client>::iterator who,
                  reactor_counts& counts) {
    const int left = counts.total() - 1;
    from.erase(who);
    co_await until([&counts, left] { return counts.total() == left; });
    co_await news_from_everywhere();
}

int difference(const reactor_counts& counts) {
    return std::abs(counts.open[0].load() - counts.open[1].load());
}

constexpr std::array all_modes{accept_mode::single, accept_mode::balanced,
                               accept_mode::per_reactor};

}  // namespace

TEST_CASE("a balanced server's reactors never differ by more than one connection") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            reactor_counts counts;
            task_group group;
            const endpoint where =
                start_serving(group, counts.handler(), {.mode = accept_mode::balanced}).where;
            std::list<served_client> clients;
            for (int i = 0; i < 200; ++i) {
                co_await connect_one(clients, where);
                REQUIRE(difference(counts) <= 1);
            }
            CHECK(counts.open[0] == 100);
            CHECK(counts.open[1] == 100);
            // Half of them leave, from either side in turn, and new ones come.
            for (std::size_t i = 0; i < 100; ++i) {
                const auto leaving = std::find_if(
                    clients.begin(), clients.end(),
                    [i](const served_client& client) { return client.place == i % 2; });
                REQUIRE(leaving != clients.end());
                co_await disconnect(clients, leaving, counts);
                REQUIRE(difference(counts) <= 1);
                if (i % 3 == 0) {
                    co_await connect_one(clients, where);
                    REQUIRE(difference(counts) <= 1);
                }
            }
            // Where all that leave are on one side, the next ones fill it up again.
            for (int gone = 0; gone < 20; ++gone) {
                const auto leaving =
                    std::find_if(clients.begin(), clients.end(),
                                 [](const served_client& client) { return client.place == 1; });
                REQUIRE(leaving != clients.end());
                co_await disconnect(clients, leaving, counts);
            }
            CHECK(difference(counts) >= 19);
            while (difference(counts) > 1) {
                co_await connect_one(clients, where);
                REQUIRE(clients.back().place == 1);
            }
            for (served_client& client : clients) {
                const bool right = co_await answers(client.socket, "still there");
                REQUIRE(right);
            }
            group.cancel();
            co_await group.join();
            CHECK(counts.total() == 0);
        });
    });
}

TEST_CASE("two hundred clients that come at once are spread evenly over balanced reactors") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 4, []() -> task<> {
            co_await resume_on(place(2));  // whichever reactor accepts
            reactor_counts counts;
            task_group group;
            const endpoint where =
                start_serving(group, counts.handler(), {.mode = accept_mode::balanced}).where;
            std::vector<plain_socket> clients;
            for (int i = 0; i < 200; ++i) clients.emplace_back(where);
            for (plain_socket& client : clients) {
                (void)co_await told_place(client);
                const bool right = co_await answers(client, "hello");
                REQUIRE(right);
            }
            for (const auto& open : counts.open) CHECK(open == 50);
            group.cancel();
            co_await group.join();
            CHECK(counts.total() == 0);
        });
    });
}

TEST_CASE("a server with a listener for each reactor serves all who come, on all of them") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned reactors : {2U, 3U}) {
            for (const bool shared_from_the_start : {false, true}) {
                CAPTURE(reactors);
                CAPTURE(shared_from_the_start);
                run_many(run, reactors, [=]() -> task<> {
                    reactor_counts counts;
                    task_group group;
                    auto listener =
                        tcp_listener::bind(any_port(), {.reuse_port = shared_from_the_start});
                    const endpoint where = listener.local_endpoint();
                    group.spawn(
                        serve(listener, counts.handler(), {.mode = accept_mode::per_reactor}));
                    co_await settle();  // all listen now
                    std::vector<plain_socket> clients;
                    for (int i = 0; i < 120; ++i) clients.emplace_back(where);
                    for (plain_socket& client : clients) {
                        (void)co_await told_place(client);
                        const bool right = co_await answers(client, "hello");
                        REQUIRE(right);
                    }
                    CHECK(counts.total() == 120);
                    for (std::size_t i = 0; i < reactors; ++i) CHECK(counts.open.at(i) > 0);
                    group.cancel();
                    co_await group.join();
                    CHECK(counts.total() == 0);
                    CHECK_FALSE(accepts_connections(where));
                });
            }
        }
    });
}

TEST_CASE("a single server stays on the reactor of its task, whichever that is") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            co_await resume_on(place(1));
            reactor_counts counts;
            task_group group;
            const endpoint where = start_serving(group, counts.handler()).where;
            std::list<served_client> clients;
            for (int i = 0; i < 10; ++i) co_await connect_one(clients, where);
            CHECK(counts.open[1] == 10);
            group.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("in every mode a server keeps its limit, and serves all in the end") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode : all_modes) {
            CAPTURE(static_cast<int>(mode));
            run_many(run, 2, [=]() -> task<> {
                reactor_counts counts;
                task_group group;
                const endpoint where =
                    start_serving(group, counts.handler(), {.max_connections = 4, .mode = mode})
                        .where;
                co_await settle();
                std::vector<plain_socket> clients;
                for (int i = 0; i < 50; ++i) clients.emplace_back(where);
                co_await until([&counts] { return counts.total() == 4; });
                co_await news_from_everywhere();
                CHECK(counts.total() == 4);
                for (plain_socket& client : clients) {
                    (void)co_await told_place(client);
                    CHECK(counts.total() <= 4);
                    client.close();
                }
                const auto served = [&counts] {
                    return counts.served[0] + counts.served[1] == 50 && counts.total() == 0;
                };
                co_await until(served);
                const int share = mode == accept_mode::per_reactor ? 2 : 4;
                CHECK(counts.most[0] <= share);
                CHECK(counts.most[1] <= share);
                group.cancel();
                co_await group.join();
            });
        }
    });
}

TEST_CASE("in every mode cancelling a server ends all connections and leaves nothing open") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode : all_modes) {
            CAPTURE(static_cast<int>(mode));
            run_many(run, 3, [=]() -> task<> {
                const std::size_t before = open_descriptors();
                reactor_counts counts;
                std::vector<plain_socket> clients;
                task_group group;
                auto [where, server] = start_serving(group, counts.handler(), {.mode = mode});
                co_await settle();
                for (int i = 0; i < 60; ++i) clients.emplace_back(where);
                for (plain_socket& client : clients) (void)co_await told_place(client);
                CHECK(counts.total() == 60);
                server.cancel();
                const auto end = co_await outcome_of(std::move(server), form::throwing);
                CHECK(end.error() == std::errc::operation_canceled);
                CHECK(counts.total() == 0);
                CHECK_FALSE(accepts_connections(where));
                for (plain_socket& client : clients) {
                    while (!client.at_end()) co_await yield();
                }
                clients.clear();
                co_await group.join();
                co_await until([before] { return open_descriptors() == before; });
            });
        }
    });
}

TEST_CASE("in every mode a server is cancelled while clients keep coming") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode : all_modes) {
            for (const int turns : {0, 1, 5, 40, 150}) {
                CAPTURE(static_cast<int>(mode));
                CAPTURE(turns);
                run_many(run, 2, [=]() -> task<> {
                    reactor_counts counts;
                    task_group group;
                    auto [where, server] = start_serving(group, counts.handler(), {.mode = mode});
                    std::vector<plain_socket> clients;
                    for (int i = 0; i < 30; ++i) clients.emplace_back(where);
                    co_await yield_times(turns);
                    server.cancel();
                    co_await group.join();
                    CHECK(counts.total() == 0);
                    for (plain_socket& client : clients) {
                        while (!client.received().empty() || !client.at_end()) co_await yield();
                    }
                });
            }
        }
    });
}

TEST_CASE("in every mode errors of handlers reach the hook, where it says") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode : all_modes) {
            CAPTURE(static_cast<int>(mode));
            run_many(run, 2, [=]() -> task<> {
                std::atomic<int> heard{0};
                std::atomic<int> elsewhere{0};
                std::atomic<int> wrong{0};
                const auto hook = [&](const std::exception_ptr& error, const endpoint& peer) {
                    if (here() != 0) ++elsewhere;
                    try {
                        std::rethrow_exception(error);
                    } catch (const std::runtime_error& known) {
                        if (std::string(known.what()) != "out of ideas") ++wrong;
                    } catch (...) {
                        ++wrong;
                    }
                    if (peer.port() == 0) ++wrong;
                    ++heard;
                };
                task_group group;
                const endpoint where =
                    start_serving(group, out_of_ideas, {.mode = mode, .on_error = hook}).where;
                co_await settle();
                std::vector<plain_socket> clients;
                for (int i = 0; i < 40; ++i) clients.emplace_back(where);
                co_await until([&heard] { return heard == 40; });
                CHECK(wrong == 0);
                if (mode != accept_mode::per_reactor) CHECK(elsewhere == 0);
                for (plain_socket& client : clients) {
                    while (!client.at_end()) co_await yield();
                }
                group.cancel();
                co_await group.join();
            });
        }
    });
}

TEST_CASE("a handler that cannot be copied serves one reactor, and is refused for several") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode : all_modes) {
            for (const unsigned reactors : {1U, 2U}) {
                CAPTURE(static_cast<int>(mode));
                CAPTURE(reactors);
                run_many(run, reactors, [=]() -> task<> {
                    const auto handler = [](tcp_stream peer, std::unique_ptr<int>& box) -> task<> {
                        const std::string text(static_cast<std::size_t>(*box), '!');
                        co_await peer.write_all(text);
                    };
                    auto listener = tcp_listener::bind(any_port());
                    const endpoint where = listener.local_endpoint();
                    task_group group;
                    std::string told;
                    auto server = group.spawn(
                        serve(listener, handler, {.mode = mode}, std::make_unique<int>(1)));
                    co_await settle();
                    if (reactors == 1 || mode == accept_mode::single) {
                        plain_socket client{where};
                        while (client.received().empty()) co_await poll_fd(client.fd(), POLLIN);
                        server.cancel();
                    }
                    try {
                        co_await group.join();
                    } catch (const std::invalid_argument& error) {
                        told = error.what();
                    }
                    if (reactors == 1 || mode == accept_mode::single) {
                        CHECK(told.empty());
                    } else {
                        CHECK(told == "serve: a handler for several reactors must be copyable");
                    }
                });
            }
        }
    });
}

}  // namespace rondo::test
