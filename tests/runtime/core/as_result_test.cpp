#include <rondo/runtime/core/as_result.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/pipe_ends.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"
#include "support/throw_count.hpp"

#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

// Awaits as_result(work) in a scope that is cancelled already, and gives the error.
template <class Awaitable>
task<std::error_code> error_when_cancelled(Awaitable work) {
    std::error_code error;
    (void)co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
        scope.cancel();
        const auto got = co_await as_result(std::move(work));
        error = got.error();
    });
    co_return error;
}

// Starts as_result(work) as a task, cancels it while it waits, and gives the error.
template <class Awaitable>
task<std::error_code> error_when_cancelled_meanwhile(Awaitable work) {
    auto as_code = [](Awaitable inner) -> task<std::error_code> {
        const auto got = co_await as_result(std::move(inner));
        co_return got.error();
    };
    task_group group;
    auto waiter = group.spawn(as_code, std::move(work));
    co_await settle();
    waiter.cancel();
    const std::error_code error = co_await waiter;
    co_await group.join();
    co_return error;
}

}  // namespace

TEST_CASE("throw_count counts what is thrown and rethrown") {
    const unsigned before = throw_count();
    std::exception_ptr kept;
    try {
        throw 1;
    } catch (int) {
        kept = std::current_exception();
    }
    CHECK(throw_count() == before + 1);
    CHECK_THROWS_AS(std::rethrow_exception(kept), int);
    CHECK(throw_count() > before + 1);
}

TEST_CASE("as_result gives values, references, move-only things and nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const unsigned before = throw_count();
            int target = 0;
            const auto number = co_await as_result([]() -> task<int> { co_return 3; }());
            CHECK(number.value() == 3);
            const result<int&> same =
                co_await as_result([](int& one) -> task<int&> { co_return one; }(target));
            CHECK(&same.value() == &target);
            auto box = co_await as_result(
                []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); }());
            REQUIRE(box.has_value());
            CHECK(**box == 4);
            const result<> nothing = co_await as_result(yield());
            CHECK(nothing.has_value());
            const result<> slept = co_await as_result(sleep_for(1us));
            CHECK(slept.has_value());
            CHECK(throw_count() == before);
        });
    });
}

TEST_CASE("as_result turns a task's system_error and its cancellation into codes") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto refused = []() -> task<int> {
                co_await yield();
                throw std::system_error(std::make_error_code(std::errc::connection_refused));
            };
            const auto first = co_await as_result(refused());
            CHECK(first.error() == std::errc::connection_refused);
            auto gives_up = []() -> task<> {
                co_await yield();
                throw operation_cancelled{};
            };
            const auto second = co_await as_result(gives_up());
            CHECK(second.error() == std::errc::operation_canceled);
        });
    });
}

TEST_CASE("as_result throws on what cannot be a code") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto failing = []() -> task<int> {
                co_await yield();
                throw std::logic_error("no code for this");
            };
            CHECK_THROWS_WITH_AS((void)co_await as_result(failing()), "no code for this",
                                 std::logic_error);
        });
    });
}

TEST_CASE("an operation's error is a code under as_result, and nothing is thrown") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const int closed = pipe_ends().read_end;
            const unsigned before = throw_count();
            const result<short> got = co_await as_result(poll_fd(closed, POLLIN));
            CHECK(got.error() == std::errc::bad_file_descriptor);
            CHECK(throw_count() == before);

            std::string message;
            try {
                (void)co_await poll_fd(closed, POLLIN);
            } catch (const std::system_error& error) {
                message = error.what();
                CHECK(error.code() == std::errc::bad_file_descriptor);
            }
            CHECK(message.find("poll fd " + std::to_string(closed)) != std::string::npos);
        });
    });
}

TEST_CASE("a timeout is timed_out under as_result, and nothing is thrown") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            event never;
            const unsigned before = throw_count();
            const auto slept = co_await as_result(with_timeout(1us, sleep_for(1h)));
            CHECK(slept.error() == std::errc::timed_out);
            const auto waited = co_await as_result(with_timeout(1us, never.wait()));
            CHECK(waited.error() == std::errc::timed_out);
            const auto polled =
                co_await as_result(with_timeout(1us, poll_fd(pipe.read_end, POLLIN)));
            CHECK(polled.error() == std::errc::timed_out);
            const auto at_once = co_await as_result(with_timeout(0s, sleep_for(1h)));
            CHECK(at_once.error() == std::errc::timed_out);
            const auto inner =
                co_await as_result(with_timeout(1h, with_timeout(1us, sleep_for(1h))));
            CHECK(inner.error() == std::errc::timed_out);
            const auto outer =
                co_await as_result(with_timeout(1us, with_timeout(1h, sleep_for(2h))));
            CHECK(outer.error() == std::errc::timed_out);
            const auto shielded = co_await as_result(shield(with_timeout(1us, never.wait())));
            CHECK(shielded.error() == std::errc::timed_out);
            CHECK(throw_count() == before);
        });
    });
}

TEST_CASE("a time limit around as_result gives timed_out as a value, and nothing is thrown") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event never;
            const unsigned before = throw_count();
            const result<> slept = co_await with_timeout(1us, as_result(sleep_for(1h)));
            CHECK(slept.error() == std::errc::timed_out);
            const result<> waited = co_await with_timeout(0s, as_result(never.wait()));
            CHECK(waited.error() == std::errc::timed_out);
            const result<> outer =
                co_await with_timeout(1us, as_result(with_timeout(1h, sleep_for(2h))));
            CHECK(outer.error() == std::errc::timed_out);
            const result<> in_time = co_await with_timeout(1h, as_result(yield()));
            CHECK(in_time.has_value());
            CHECK(throw_count() == before);

            const result<int> number = co_await with_timeout(1us, as_result(pass(never, 1)));
            CHECK(number.error() == std::errc::timed_out);

            // Cancelled from outside, it is no timeout.
            result<> cancelled;
            task_group group;
            auto work = group.spawn([&]() -> task<> {
                cancelled = co_await with_timeout(1h, as_result(never.wait()));
            });
            co_await settle();
            work.cancel();
            co_await group.join();
            CHECK(cancelled.error() == std::errc::operation_canceled);
        });
    });
}

TEST_CASE("a result in time comes through with_timeout and shield, and nothing is thrown") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            pipe.write("x");
            const unsigned before = throw_count();
            const result<short> polled =
                co_await as_result(with_timeout(1h, poll_fd(pipe.read_end, POLLIN)));
            CHECK(polled.value_or(0) == POLLIN);
            const result<short> shielded =
                co_await as_result(shield(poll_fd(pipe.read_end, POLLIN)));
            CHECK(shielded.value_or(0) == POLLIN);
            CHECK(throw_count() == before);
        });
    });
}

TEST_CASE("a cancelled wait is operation_canceled under as_result, and nothing is thrown") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            event gate;
            task_group group;
            auto child = group.spawn(pass(gate, 1));
            auto other_child = group.spawn(pass(gate, 1));
            const unsigned before = throw_count();
            std::vector<std::error_code> errors;
            errors.push_back(co_await error_when_cancelled(sleep_for(1h)));
            errors.push_back(co_await error_when_cancelled_meanwhile(sleep_for(1h)));
            errors.push_back(co_await error_when_cancelled(yield()));
            errors.push_back(co_await error_when_cancelled(gate.wait()));
            errors.push_back(co_await error_when_cancelled_meanwhile(gate.wait()));
            errors.push_back(co_await error_when_cancelled(child.operator co_await()));
            errors.push_back(
                co_await error_when_cancelled_meanwhile(other_child.operator co_await()));
            errors.push_back(co_await error_when_cancelled(poll_fd(pipe.read_end, POLLIN)));
            errors.push_back(
                co_await error_when_cancelled_meanwhile(poll_fd(pipe.read_end, POLLIN)));
            errors.push_back(co_await error_when_cancelled(with_timeout(1us, sleep_for(1h))));
            errors.push_back(
                co_await error_when_cancelled_meanwhile(with_timeout(1h, gate.wait())));
            for (std::size_t i = 0; i < errors.size(); ++i) {
                CAPTURE(i);
                CHECK(errors[i] == std::errc::operation_canceled);
            }
            CHECK(throw_count() == before);
            gate.set();
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled join is operation_canceled under as_result, and the join counts") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            std::error_code error;
            unsigned thrown_by_join = 1;
            task_group outside;
            auto joiner = outside.spawn([&]() -> task<> {
                task_group group;
                group.spawn([](event& opens) -> task<> { co_await shield(opens.wait()); },
                            std::ref(gate));
                const unsigned before = throw_count();
                const auto joined = co_await as_result(group.join());
                thrown_by_join = throw_count() - before;
                error = joined.error();
            });
            co_await settle();
            joiner.cancel();
            gate.set();
            co_await outside.join();
            CHECK(error == std::errc::operation_canceled);
            CHECK(thrown_by_join == 0);
        });
    });
}

TEST_CASE("as_result says what the exception would have said, and throws nothing for that") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind({ip_address::loopback_v4(), 0});
            const endpoint here = listener.local_endpoint();
            listener.close();
            const std::string refused = ": Connection refused";

            const unsigned before = throw_count();
            const auto direct = co_await as_result(tcp_stream::connect(here));
            const auto by_name = co_await as_result(tcp_stream::connect("localhost", here.port()));
            const auto accepted = co_await as_result(listener.accept());
            const auto polled = co_await as_result(poll_fd(-1, POLLIN));
            const auto late = co_await as_result(with_timeout(1us, sleep_for(1h)));
            CHECK(throw_count() == before);

            CHECK(direct.message() == "connect to " + here.to_string() + refused);
            CHECK(by_name.message() ==
                  "connect to localhost:" + std::to_string(here.port()) + refused);
            CHECK(accepted.message() == "accept on a closed listener: Bad file descriptor");
            CHECK(polled.message() == "poll fd -1: Bad file descriptor");
            CHECK(late.message() == std::string(timeout_error().what()));
        });
    });
}

TEST_CASE("as_result of a task keeps the text of the exception that left it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto fail = []() -> task<int> {
                throw std::system_error(std::make_error_code(std::errc::io_error),
                                        "read the index");
                co_return 0;
            };
            const auto failed = co_await as_result(fail());
            CHECK(failed.error() == std::errc::io_error);
            CHECK(failed.message() == "read the index: Input/output error");
        });
    });
}

}  // namespace rondo::test
