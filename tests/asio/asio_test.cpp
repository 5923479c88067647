// Awaiting Asio from tasks: use_task, and the io_context beside the runtime.

#include <rondo/asio/context.hpp>
#include <rondo/asio/use_task.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/dump.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>
#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "support/asio_support.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"

// Asio 1.22, which Debian 12 has, keeps it elsewhere.
#if __has_include(<asio/as_tuple.hpp>)
#include <asio/as_tuple.hpp>
using asio::as_tuple;
#else
#include <asio/experimental/as_tuple.hpp>
using asio::experimental::as_tuple;
#endif

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;

struct socket_pair {
    tcp::socket client;
    tcp::socket server;
};

task<socket_pair> connected_sockets(asio_context& context) {
    const tcp::endpoint any_port{asio::ip::address_v4::loopback(), 0};
    tcp::acceptor acceptor{context.context(), any_port};
    tcp::socket client{context.context()};
    co_await client.async_connect(acceptor.local_endpoint(), use_task);
    tcp::socket server = co_await acceptor.async_accept(use_task);
    socket_pair both{std::move(client), std::move(server)};
    co_return both;
}

/// Runs f() on the context's thread, as what touches an I/O object must.
template <class F>
task<> on_thread_of(asio_context& context, F f) {
    co_await asio::post(context.get_executor(), use_task);  // the task itself stays here
    asio::post(context.get_executor(), std::move(f));
    co_await asio::post(context.get_executor(), use_task);
}

/// An operation whose start fails.
template <class Token>
auto async_fail_to_start(Token&& token) {
    return asio::async_initiate<Token, void(std::error_code)>(
        [](auto handler) {
            const auto dies_here = std::move(handler);
            throw std::runtime_error("cannot start");
        },
        token);
}

/// Can be passed on so often, and then throws.
struct fragile {
    explicit fragile(int moves) : moves_left(moves) {}
    fragile(const fragile& other) : moves_left(other.moves_left - 1) {
        if (moves_left < 0) throw std::runtime_error("broken");
    }

    int moves_left;
};

template <class Token>
auto async_give_fragile(int moves, Token&& token) {
    return asio::async_initiate<Token, void(fragile)>(
        [moves](auto handler) { std::move(handler)(fragile{moves}); }, token);
}

}  // namespace

TEST_CASE("a task awaits a timer of Asio and resumes on its own scheduler") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            const auto thread = std::this_thread::get_id();
            asio::steady_timer timer{background.get_executor(), 1ms};
            co_await timer.async_wait(use_task);
            CHECK(std::this_thread::get_id() == thread);
            CHECK(timer.expiry() <= std::chrono::steady_clock::now());
        });
    });
}

TEST_CASE("a timer that is made for one await lives as long as that") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            co_await asio::steady_timer{background.get_executor(), 1ms}.async_wait(use_task);
            const auto waited = co_await as_result(with_timeout(
                1ms, asio::steady_timer{background.get_executor(), 1h}.async_wait(use_task)));
            CHECK(waited.error() == std::errc::timed_out);
        });
    });
}

TEST_CASE("two tasks read and write one socket of Asio at the same time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            auto [client, server] = co_await connected_sockets(background);
            const std::string sent(1 << 20, 'x');
            std::string received(sent.size(), '\0');
            std::string echoed(sent.size(), '\0');
            co_await when_all(
                asio::async_write(client, asio::buffer(sent), use_task),
                asio::async_read(client, asio::buffer(echoed), use_task), [&]() -> task<> {
                    std::size_t done = 0;
                    while (done < received.size()) {
                        const auto part = asio::buffer(received) + done;
                        const std::size_t size = co_await server.async_read_some(part, use_task);
                        co_await asio::async_write(server, asio::buffer(part, size), use_task);
                        done += size;
                    }
                }());
            CHECK(received == sent);
            CHECK(echoed == sent);
        });
    });
}

TEST_CASE("what an operation gives is nothing, its one result, or a tuple") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            manual_operation<> nothing;
            manual_operation<std::unique_ptr<int>> one;
            manual_operation<std::error_code, int, std::string> two;
            manual_operation<std::exception_ptr, int> checked;
            static_assert(
                std::is_void_v<detail::await_result_t<decltype(nothing.start(use_task))>>);
            group.spawn([&]() -> task<> {
                co_await settle();
                nothing.complete();
                co_await settle();
                one.complete(std::make_unique<int>(1));
                co_await settle();
                two.complete({}, 2, "two");
                co_await settle();
                checked.complete(nullptr, 3);
            });
            co_await nothing.start(use_task);
            const std::unique_ptr<int> first = co_await one.start(use_task);
            CHECK(*first == 1);
            const std::tuple<int, std::string> second = co_await two.start(use_task);
            CHECK(second == std::tuple{2, std::string{"two"}});
            const result<int> third = co_await as_result(checked.start(use_task));
            CHECK(third.value() == 3);
            co_await group.join();
        });
    });
}

TEST_CASE("an error code that comes first is thrown, or is the result's error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            const auto closed = [&] {
                tcp::acceptor acceptor{background.context(), {asio::ip::address_v4::loopback(), 0}};
                return acceptor.local_endpoint();
            }();
            tcp::socket socket{background.context()};
            std::error_code thrown;
            try {
                co_await socket.async_connect(closed, use_task);
            } catch (const std::system_error& error) {
                thrown = error.code();
            }
            CHECK(thrown == asio::error::connection_refused);
            tcp::socket again{background.context()};
            const auto outcome = co_await as_result(again.async_connect(closed, use_task));
            CHECK(outcome.error() == asio::error::connection_refused);
        });
    });
}

TEST_CASE("an exception that comes first is thrown in the task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            manual_operation<std::exception_ptr, int> operation;
            auto waiter = group.spawn(ending_of(operation.start(use_task)));
            co_await settle();
            operation.complete(std::make_exception_ptr(std::runtime_error("from there")), 0);
            CHECK(co_await waiter == "from there");

            auto code = group.spawn(as_result(operation.start(use_task)));
            co_await settle();
            const std::error_code pipe = std::make_error_code(std::errc::broken_pipe);
            operation.complete(std::make_exception_ptr(std::system_error(pipe)), 0);
            const auto outcome = co_await code;
            CHECK(outcome.error() == pipe);
            co_await group.join();
        });
    });
}

TEST_CASE("what a result throws as it is passed on is thrown in the task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int moves = 0;
            std::string ending;
            for (; moves < 20 && ending != "value"; ++moves) {
                ending = co_await ending_of(async_give_fragile(moves, use_task));
                CHECK((ending == "value" || ending == "broken"));
            }
            CHECK(ending == "value");
            CHECK(moves > 1);
        });
    });
}

TEST_CASE("what an operation throws as it starts is thrown in the task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK(co_await ending_of(async_fail_to_start(use_task)) == "cannot start");
            asio_context background;
            const auto there = use_task(background.get_executor());
            CHECK(co_await ending_of(async_fail_to_start(there)) == "cannot start");
        });
    });
}

TEST_CASE("a task that is cancelled before does not start the operation") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code> operation;
            task_group group;
            auto waiter = group.spawn(ending_of(operation.start(use_task)));
            waiter.cancel();
            CHECK(co_await waiter == "cancelled");
            CHECK(operation.started == 0);
            co_await group.join();
        });
    });
}

TEST_CASE("cancelling the task reaches the operation and waits for its handler") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code> operation;
            task_group group;
            auto waiter = group.spawn(ending_of(operation.start(use_task)));
            co_await settle();
            waiter.cancel();
            co_await settle();
            CHECK(operation.cancelled == 1);
            CHECK(!waiter.done());
            operation.complete(asio::error::operation_aborted);
            CHECK(co_await waiter == "cancelled");
            co_await group.join();
        });
    });
}

TEST_CASE("a result that comes in spite of the cancellation is given") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code, int> operation;
            task_group group;
            int value = 0;
            auto waiter =
                group.spawn([&]() -> task<> { value = co_await operation.start(use_task); });
            co_await settle();
            waiter.cancel();
            operation.complete({}, 7);
            co_await waiter;
            CHECK(value == 7);

            auto failed = group.spawn(ending_of(operation.start(use_task)));
            co_await settle();
            failed.cancel();
            operation.complete(std::make_error_code(std::errc::broken_pipe), 0);
            CHECK(co_await failed == std::make_error_code(std::errc::broken_pipe).message());
            co_await group.join();
        });
    });
}

TEST_CASE("a cancellation that comes after the handler changes nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code, int> operation;
            task_group group;
            int value = 0;
            auto waiter =
                group.spawn([&]() -> task<> { value = co_await operation.start(use_task); });
            co_await settle();
            operation.complete({}, 7);
            waiter.cancel();  // the handler has run, the task has not
            co_await waiter;
            CHECK(value == 7);
            CHECK(operation.cancelled == 0);
            co_await group.join();
        });
    });
}

TEST_CASE("an operation that completes inside of its own cancellation is let go of once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code> operation;
            operation.on_cancel = [&] { operation.complete(asio::error::operation_aborted); };
            CHECK(!co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                task_group group;
                group.spawn([&]() -> task<> {
                    co_await settle();
                    scope.cancel();
                });
                auto waiter = group.spawn(ending_of(operation.start(use_task)));
                co_await group.join();
            }));
            CHECK(operation.cancelled == 1);
        });
    });
}

TEST_CASE("aborted by somebody else is an error and no cancellation") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor(), 1h};
            task_group group;
            auto waiter = group.spawn(ending_of(timer.async_wait(use_task)));
            co_await on_thread_of(background, [&] { timer.cancel(); });
            CHECK(co_await waiter == "aborted");
            co_await group.join();
        });
    });
}

TEST_CASE("a timer and a composed read of Asio end when the task is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor(), 1h};
            const auto slept = co_await as_result(with_timeout(1ms, timer.async_wait(use_task)));
            CHECK(slept.error() == std::errc::timed_out);

            auto [client, server] = co_await connected_sockets(background);
            std::string space(10, '\0');
            co_await asio::async_write(server, asio::buffer("ab", 2), use_task);
            const auto read = co_await as_result(
                with_timeout(1ms, asio::async_read(client, asio::buffer(space), use_task)));
            CHECK(read.error() == std::errc::timed_out);
            // The socket is as good as before.
            co_await asio::async_write(server, asio::buffer("c\n", 2), use_task);
            std::string line;
            co_await asio::async_read_until(client, asio::dynamic_buffer(line), '\n', use_task);
            CHECK(line.ends_with("c\n"));
        });
    });
}

TEST_CASE("a timer cancelled around the time that it is due ends one way or the other") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor()};
            for (int i = 0; i < 200; ++i) {
                timer.expires_after(std::chrono::microseconds(i));
                const auto outcome = co_await as_result(
                    with_timeout(std::chrono::microseconds(200 - i), timer.async_wait(use_task)));
                if (!outcome) CHECK(outcome.error() == std::errc::timed_out);
            }
        });
    });
}

TEST_CASE("bytes that a cancelled read has got are reported") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            auto [client, server] = co_await connected_sockets(background);
            char space[64];
            std::size_t received = 0;
            std::size_t sent = 0;
            for (int i = 0; i < 200; ++i) {
                task_group group;
                auto reader = group.spawn([&]() -> task<> {
                    const auto got =
                        co_await as_result(client.async_read_some(asio::buffer(space), use_task));
                    if (got) received += *got;
                });
                auto writer =
                    group.spawn(asio::async_write(server, asio::buffer("x", 1), use_task));
                for (int turns = i % 20; turns != 0; --turns) co_await yield();
                reader.cancel();
                sent += co_await writer;
                co_await group.join();
            }
            while (received < sent) {
                received += co_await client.async_read_some(asio::buffer(space), use_task);
            }
            CHECK(received == sent);
        });
    });
}

TEST_CASE("an adapted token is told its executor, and gives the code as a value") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor(), 1ms};
            const auto token = as_tuple(use_task(timer.get_executor()));
            auto [code] = co_await timer.async_wait(token);
            CHECK(!code);
            timer.expires_after(1h);
            task_group group;
            std::error_code outcome;
            auto waiter = group.spawn([&]() -> task<> {
                auto [aborted] = co_await timer.async_wait(token);
                outcome = aborted;
            });
            co_await asio::post(background.get_executor(), use_task);
            waiter.cancel();
            co_await group.join();
            CHECK(outcome == asio::error::operation_aborted);
        });
    });
}

TEST_CASE("an operation that is dropped is an error, and a cancellation if there was one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code> operation;
            task_group group;
            auto waiter = group.spawn(ending_of(operation.start(use_task)));
            co_await settle();
            operation.drop();
            CHECK(co_await waiter == "dropped");
            auto cancelled = group.spawn(ending_of(operation.start(use_task)));
            co_await settle();
            cancelled.cancel();
            operation.drop();
            CHECK(co_await cancelled == "cancelled");
            auto code = group.spawn(as_result(operation.start(use_task)));
            co_await settle();
            operation.drop();
            const auto outcome = co_await code;
            CHECK(outcome.error() == std::future_errc::broken_promise);
            co_await group.join();
        });
    });
}

TEST_CASE("an io_context destroyed first drops what is awaited on it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto background = std::make_unique<asio_context>();
            std::optional<asio::steady_timer> timer{std::in_place, background->get_executor(), 1h};
            auto waiting = group.spawn(ending_of(timer->async_wait(use_task)));
            co_await settle();
            co_await asio::post(background->get_executor(), use_task);
            background->context().stop();
            // Nobody runs the context any more: this one is not even started.
            auto queued = group.spawn(ending_of(asio::post(background->get_executor(), use_task)));
            co_await settle();
            timer.reset();  // as Asio asks for
            co_await settle();
            CHECK(!waiting.done());
            CHECK(!queued.done());
            background.reset();
            CHECK(co_await waiting == "dropped");
            CHECK(co_await queued == "dropped");
            co_await group.join();
        });
    });
}

TEST_CASE("a runtime that ends first cancels what it awaits and the io_context goes on") {
    on_each_reactor_kind([](auto run) {
        asio_context background;
        asio::steady_timer timer{background.get_executor(), 1h};
        std::string ending;
        {
            runtime rt{{.reactor = run.kind()}};
            auto waiter = rt.submit(
                [&]() -> task<> { ending = co_await ending_of(timer.async_wait(use_task)); });
            rt.run([&]() -> task<> { co_await asio::post(background.get_executor(), use_task); });
            rt.stop();
            waiter.wait();
        }
        CHECK(ending == "cancelled");
        std::promise<void> still_runs;
        asio::post(background.get_executor(), [&] { still_runs.set_value(); });
        still_runs.get_future().wait();
    });
}

TEST_CASE("a task away from home resumes where it is") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor(), 1ms};
            co_await resume_on(place(1));
            co_await timer.async_wait(use_task);
            CHECK(here() == 1);
            timer.expires_after(1h);
            const auto outcome = co_await as_result(with_timeout(1ms, timer.async_wait(use_task)));
            CHECK(outcome.error() == std::errc::timed_out);
            CHECK(here() == 1);
        });
    });
}

TEST_CASE("tasks of several reactors await Asio at the same time, some cancelled") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 3, []() -> task<> {
            asio_context background;
            std::atomic<int> ended{0};
            co_await on_each_reactor([&](std::size_t) -> task<> {
                asio::steady_timer timer{background.get_executor()};
                for (int i = 0; i < 100; ++i) {
                    timer.expires_after(i % 2 == 0 ? std::chrono::microseconds(i) : 1h);
                    auto outcome = co_await as_result(
                        with_timeout(i % 2 == 0 ? 1h : std::chrono::nanoseconds(i * 1000),
                                     timer.async_wait(use_task)));
                    if (outcome.has_value() == (i % 2 == 0)) ++ended;
                }
            });
            CHECK(ended == 300);
        });
    });
}

TEST_CASE("waiting for Asio is no deadlock") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            asio_context background;
            asio::steady_timer timer{background.get_executor(), 100ms};  // looks come after 20
            co_await timer.async_wait(use_task);
        });
    });
}

TEST_CASE("a dump names an await of Asio") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            manual_operation<std::error_code> operation;
            task_group group;
            group.spawn(operation.start(use_task));
            co_await settle();
            char text[4096] = {};
            std::FILE* const out = ::fmemopen(text, sizeof text - 1, "w");
            dump_tasks(out);
            std::fclose(out);
            CHECK(std::string(text).find("an operation of Asio") != std::string::npos);
            operation.complete({});
            co_await group.join();
        });
    });
}

TEST_CASE("an exception that leaves a handler on an asio_context stops the runtime") {
    on_each_reactor_kind([](auto run) {
        CHECK_THROWS_WITH(run([]() -> task<> {
                              asio_context background;
                              asio::post(background.get_executor(),
                                         [] { throw std::runtime_error("in a handler"); });
                              co_await sleep_for(1h);
                          }),
                          "in a handler");
    });
}

}  // namespace rondo::test
