#include <rondo/net/serve.hpp>

#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/future.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "support/child_process.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/pipe_ends.hpp"
#include "support/process_state.hpp"
#include "support/serve_support.hpp"
#include "support/support.hpp"

// What goes wrong around a server, and who hears of it.

namespace rondo::test {

namespace {

/// Tells the first thing that did not hold.
class verdict {
public:
    void expect(bool holds, const std::string& otherwise) {
        if (!holds && first_.empty()) first_ = otherwise;
    }
    std::string text() const { return first_.empty() ? "as expected" : first_; }

private:
    std::string first_;
};

/// Clients that close their connections while others wait for a descriptor.
task<std::string> close_one_by_one() {
    verdict found;
    task_group group;
    auto [here, server] = start_serving(group, echo);
    std::vector<plain_socket> served;
    for (int i = 0; i < 8; ++i) served.emplace_back(here);
    co_await settle();
    std::vector<plain_socket> waiting;
    for (int i = 0; i < 8; ++i) waiting.emplace_back(here).send("are you there?");
    {
        const descriptor_shortage shortage;
        co_await settle();
        std::size_t answered = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            served[i].close();
            // Long before the acceptor would look again by itself.
            co_await settle();
            co_await settle();
            for (plain_socket& one : waiting) answered += one.received().empty() ? 0 : 1;
            found.expect(answered > i,
                         "nobody was let in as connection " + std::to_string(i) + " closed");
        }
    }
    group.cancel();
    co_await group.join();
    co_return found.text();
}

/// Echoes, but takes offence at one word.
task<> picky(tcp_stream peer) {
    const std::string word = co_await read_text(peer, 4);
    if (word == "oops") throw std::runtime_error("a bad word");
    co_await peer.write_all(word);
    co_await echo(std::move(peer));
}

/// Makes standard error a pipe that is full, or that nobody reads.
class deaf_error_output {
public:
    explicit deaf_error_output(bool is_closed) {
        const int flags = ::fcntl(pipe_.write_end, F_GETFL);
        make_non_blocking(pipe_.write_end);
        const std::string filling(4'096, '.');
        while (::write(pipe_.write_end, filling.data(), filling.size()) > 0) {
        }
        ::fcntl(pipe_.write_end, F_SETFL, flags);
        REQUIRE(::dup2(pipe_.write_end, STDERR_FILENO) >= 0);
        if (is_closed) ::close(pipe_.read_end);
    }

private:
    pipe_ends pipe_;
};

task<std::string> serve_with_errors_unheard() {
    task_group group;
    const endpoint here = start_serving(group, picky).where;
    for (int i = 0; i < 50; ++i) {
        plain_socket bad{here};
        bad.send("oops");
        co_await settle();
    }
    plain_socket good{here};
    const bool right = co_await answers(good, "good");
    group.cancel();
    co_await group.join();
    co_return right ? "served" : "not served";
}

/// The error of a connection that is not the client's.
task<> lose_database(tcp_stream) {
    throw std::system_error(ECONNRESET, std::system_category(), "read from 192.0.2.1:5432");
    co_return;
}

}  // namespace

TEST_CASE("a connection that closes lets in one that waits for a descriptor, at once") {
    on_each_reactor_kind(
        [](auto run) { CHECK(in_child([=] { return run(close_one_by_one); }) == "as expected"); });
}

TEST_CASE("a client that leaves is no error, unless a hook wants to hear of it") {
    on_each_reactor_kind([](auto run) {
        const std::string text = in_child([=] {
            const error_output errors;
            return run([&]() -> task<std::string> {
                const auto flood = [](tcp_stream peer) -> task<> {
                    const std::string word = co_await read_text(peer, 2);
                    for (;;) co_await peer.write_all(word);
                };
                task_group group;
                const endpoint reads = start_serving(group, echo).where;
                const endpoint writes = start_serving(group, flood).where;
                plain_socket silent{reads};
                plain_socket deaf{writes};
                deaf.send("hi");
                co_await settle();
                silent.reset();
                deaf.reset();
                co_await settle();
                const plain_socket third{reads};
                const std::string heard = errors.text(third);
                group.cancel();
                co_await group.join();
                co_return "[" + heard + "]";
            });
        });
        CHECK(text == "[]");
    });
}

TEST_CASE("a reset of a connection that is not the client's is told of") {
    on_each_reactor_kind([](auto run) {
        const std::string text = in_child([=] {
            const error_output errors;
            return run([&]() -> task<std::string> {
                task_group group;
                const plain_socket client{start_serving(group, lose_database).where};
                co_await settle();
                group.cancel();
                co_await group.join();
                co_return errors.text(client);
            });
        });
        CHECK(text ==
              "rondo: connection of PEER: read from 192.0.2.1:5432: Connection reset by peer\n");
    });
}

TEST_CASE("a handler that ends by a cancellation of something else is told of, as any error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            promise<int> owed;
            future<int> answer = owed.get_future();
            std::vector<std::string> heard;
            const auto wait_for_answer = [&answer](tcp_stream) -> task<> { (void)co_await answer; };
            task_group group;
            const endpoint here =
                start_serving(group, wait_for_answer,
                              {.on_error =
                                   [&heard](std::exception_ptr error, const endpoint&) {
                                       heard.push_back(detail::text_of(error));
                                   }})
                    .where;
            const plain_socket client{here};
            co_await settle();
            answer.cancel();
            co_await settle();
            CHECK(heard == std::vector<std::string>{"operation_cancelled"});
            group.cancel();
            co_await group.join();
            CHECK(heard.size() == 1);
        });
    });
}

TEST_CASE("a server goes on where standard error is full, or nobody reads it") {
    on_each_reactor_kind([](auto run) {
        for (const bool is_closed : {false, true}) {
            CAPTURE(is_closed);
            const std::string text = in_child([=] {
                const deaf_error_output errors{is_closed};
                return run(serve_with_errors_unheard);
            });
            CHECK(text == "served");
        }
    });
}

TEST_CASE("what forbids single connections does not end a server") {
    // io_uring makes no system call that could be forbidden.
    const std::string text = in_child([] {
        return run(
            []() -> task<std::string> {
                task_group group;
                auto [here, server] = start_serving(group, echo);
                co_await settle();
                deny(SYS_accept4, EPERM);
                const plain_socket client{here};
                for (int i = 0; i < 100; ++i) co_await yield();
                co_await settle();
                const bool ended = server.done();
                group.cancel();
                co_await group.join();
                co_return ended ? "ended" : "went on";
            },
            {.reactor = reactor_kind::epoll});
    });
    CHECK(text == "went on");
}

TEST_CASE("a server lists the connections that it has open") {
    on_each_reactor_kind([](auto run) {
        for (const accept_mode mode :
             {accept_mode::single, accept_mode::balanced, accept_mode::per_reactor}) {
            CAPTURE(static_cast<int>(mode));
            run_many(run, 2, [=]() -> task<> {
                open_connections open;
                task_group group;
                const endpoint where =
                    start_serving(group, echo, {.mode = mode, .connections = &open}).where;
                co_await settle();
                CHECK(open.size() == 0);
                CHECK(open.peers().empty());
                std::vector<plain_socket> clients;
                std::vector<endpoint> expected;
                for (int i = 0; i < 5; ++i) {
                    plain_socket& client = clients.emplace_back(where);
                    const bool right = co_await answers(client, "hello");
                    REQUIRE(right);
                    expected.push_back(local_endpoint_of(client));
                }
                CHECK(open.size() == 5);
                CHECK((open.peers() == expected));  // in the order in which they came
                clients[1].close();
                expected.erase(expected.begin() + 1);
                co_await until([&] { return open.size() == 4; });
                CHECK((open.peers() == expected));
                group.cancel();
                co_await group.join();
                CHECK(open.size() == 0);
            });
        }
    });
}

}  // namespace rondo::test
