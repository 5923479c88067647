#include <rondo/runtime/reactor/poll_fd.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "support/net_support.hpp"
#include "support/pipe_ends.hpp"
#include "support/support.hpp"

namespace rondo::test {

TEST_CASE("poll_fd completes when the descriptor becomes ready, and at once when it is") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                pipe_ends pipe;
                task_group group;
                auto waiter = group.spawn(outcome_of(poll_fd(pipe.read_end, POLLIN), how));
                co_await settle();
                CHECK_FALSE(waiter.done());
                pipe.write("x");
                const auto events = co_await waiter;
                CHECK(events.value_or(0) == POLLIN);
                const auto again = co_await outcome_of(poll_fd(pipe.read_end, POLLIN), how);
                CHECK(again.value_or(0) == POLLIN);
                const auto out = co_await outcome_of(poll_fd(pipe.write_end, POLLOUT), how);
                CHECK(out.value_or(0) == POLLOUT);
                co_await group.join();
            });
        }
    });
}

TEST_CASE("poll_fd waits for room to write") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            pipe_ends pipe;
            make_non_blocking(pipe.write_end);
            const std::string page(4'096, 'x');
            while (::write(pipe.write_end, page.data(), page.size()) > 0) {
            }
            task_group group;
            auto waiter =
                group.spawn(outcome_of(poll_fd(pipe.write_end, POLLOUT), form::as_result));
            co_await settle();
            CHECK_FALSE(waiter.done());
            char space[4'096];
            make_non_blocking(pipe.read_end);
            while (::read(pipe.read_end, space, sizeof space) > 0) {
            }
            const auto events = co_await waiter;
            CHECK(events.value_or(0) == POLLOUT);
            co_await group.join();
        });
    });
}

TEST_CASE("poll_fd tells of the other end's departure, asked or not") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            pipe_ends pipe;
            task_group group;
            auto waiter = group.spawn(outcome_of(poll_fd(pipe.read_end, POLLIN), form::as_result));
            co_await settle();
            pipe.close_write_end();
            const auto events = co_await waiter;
            CHECK((events.value_or(0) & POLLHUP) != 0);
            co_await group.join();
        });
    });
}

TEST_CASE("poll_fd of what is not open is an error that names the descriptor") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto text = co_await complaint_of(poll_fd(99'999, POLLIN));
            CHECK(text == "poll fd 99999: Bad file descriptor");
            for (const int fd : {99'999, -1, -100}) {
                CAPTURE(fd);
                const auto events = co_await as_result(poll_fd(fd, POLLIN));
                CHECK(events.error() == std::errc::bad_file_descriptor);
            }
        });
    });
}

TEST_CASE("several tasks wait for one descriptor, for the same and for different things") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            const int fd = server.native_handle();
            task_group group;
            auto one = group.spawn(outcome_of(poll_fd(fd, POLLIN), form::as_result));
            auto two = group.spawn(outcome_of(poll_fd(fd, POLLIN), form::as_result));
            auto out = group.spawn(outcome_of(poll_fd(fd, POLLOUT), form::as_result));
            const auto writable = co_await out;
            CHECK(writable.value_or(0) == POLLOUT);
            co_await settle();
            CHECK_FALSE(one.done());
            co_await client.write_all("x");
            const auto first = co_await one;
            CHECK(first.value_or(0) == POLLIN);
            const auto second = co_await two;
            CHECK(second.value_or(0) == POLLIN);
            co_await group.join();
        });
    });
}

TEST_CASE("poll_fd cancelled at any moment ends, and leaves the descriptor as it was") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                pipe_ends pipe;
                const int flags = ::fcntl(pipe.read_end, F_GETFL);
                int given = 0;
                int cancelled = 0;
                for (const int moment : moments) {
                    CAPTURE(moment);
                    task_group group;
                    auto waiter = group.spawn(outcome_of(poll_fd(pipe.read_end, POLLIN), how));
                    if (moment > 0) co_await yield();
                    pipe.write("x");
                    co_await yield_times(moment - 1);
                    waiter.cancel();
                    const auto events = co_await waiter;
                    if (events) {
                        ++given;
                        CHECK(*events == POLLIN);
                    } else {
                        ++cancelled;
                        CHECK(events.error() == std::errc::operation_canceled);
                    }
                    pipe.drain();
                    co_await group.join();
                }
                CHECK(given > 0);
                CHECK(cancelled > 0);
                CHECK(::fcntl(pipe.read_end, F_GETFL) == flags);
            });
        }
    });
}

TEST_CASE("a number that belongs to another descriptor by now is polled afresh") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (int round = 0; round < 50; ++round) {
                CAPTURE(round);
                const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                task_group group;
                auto waiter = group.spawn(outcome_of(poll_fd(fd, POLLIN), form::as_result));
                co_await settle();
                REQUIRE_FALSE(waiter.done());
                if (round % 2 == 0) {
                    REQUIRE(::eventfd_write(fd, 1) == 0);
                } else {
                    waiter.cancel();
                }
                const auto events = co_await waiter;
                CHECK(events.has_value() == (round % 2 == 0));
                // No word of it to the reactor: the descriptor is somebody else's.
                ::close(fd);
                co_await group.join();
            }
        });
    });
}

TEST_CASE("polling a stream's own descriptor does not disturb the stream") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            std::string space(10, '\0');
            for (int round = 0; round < 20; ++round) {
                CAPTURE(round);
                task_group group;
                auto poll = group.spawn(
                    outcome_of(poll_fd(server.native_handle(), POLLIN), form::as_result));
                co_await settle();
                if (round % 2 == 0) {
                    poll.cancel();
                    co_await settle();
                }
                auto read = group.spawn(
                    outcome_of(server.read_some(bytes_of(space).first(4)), form::as_result));
                co_await settle();
                CHECK_FALSE(read.done());
                co_await client.write_all(round % 3 == 0 ? "more than four" : "four");
                const auto got = co_await read;
                REQUIRE(got.value_or(0) == 4);
                CHECK(space.substr(0, 4) == (round % 3 == 0 ? "more" : "four"));
                if (round % 3 == 0) {
                    const std::string rest = co_await read_text(server, 10);
                    CHECK(rest == " than four");
                }
                poll.cancel();
                co_await group.join();
            }
        });
    });
}

TEST_CASE("poll_fd takes a time limit") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            pipe_ends pipe;
            const auto late = co_await as_result(
                with_timeout(std::chrono::milliseconds(1), poll_fd(pipe.read_end, POLLIN)));
            CHECK(late.error() == std::errc::timed_out);
            pipe.write("x");
            const auto now = co_await as_result(
                with_timeout(std::chrono::hours(1), poll_fd(pipe.read_end, POLLIN)));
            CHECK(now.value_or(0) == POLLIN);
        });
    });
}

TEST_CASE("what can never be waited for is the same error on every reactor") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const char* path : {"/dev/null", "/proc/self/exe", "/"}) {
                const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
                REQUIRE(fd >= 0);
                for (const short events : {short{POLLPRI}, short{0}}) {
                    CAPTURE(path);
                    CAPTURE(events);
                    const auto never = co_await as_result(poll_fd(fd, events));
                    CHECK(never.error() == std::errc::operation_not_permitted);
                }
                const auto ready = co_await as_result(poll_fd(fd, POLLIN));
                CHECK(ready.value_or(0) == POLLIN);
                ::close(fd);
            }
        });
    });
}

TEST_CASE("a poll of a stream's descriptor goes on when the stream is used for the first time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            task_group group;
            auto poll =
                group.spawn(outcome_of(poll_fd(stream.native_handle(), POLLIN), form::as_result));
            co_await settle();
            co_await stream.write_all("hello");
            std::string space(10, '\0');
            auto read = group.spawn(outcome_of(stream.read_some(bytes_of(space)), form::as_result));
            co_await settle();
            CHECK_FALSE(poll.done());
            peer.send("four");
            const auto events = co_await poll;
            CHECK(events.value_or(0) == POLLIN);
            const auto got = co_await read;
            CHECK(got.value_or(0) == 4);

            // Closing the stream ends the poll, as ever.
            auto last =
                group.spawn(outcome_of(poll_fd(stream.native_handle(), POLLIN), form::as_result));
            co_await settle();
            stream.close();
            const auto none = co_await last;
            CHECK(none.error() == std::errc::bad_file_descriptor);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
