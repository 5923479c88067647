#include <rondo/runtime/timeout.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/pipe_ends.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// Keeps the thread, and so its scheduler, until then.
void block_until(clock::time_point time) {
    while (clock::now() < time) {
    }
}

// How a wait ended, as seen from inside a scope further out.
enum class ending { none, timed_out, cancelled };

template <class Awaitable>
task<> note_ending(ending& seen, Awaitable work) {
    try {
        co_await std::move(work);
    } catch (const timeout_error&) {
        seen = ending::timed_out;
        throw;
    } catch (const operation_cancelled&) {
        seen = ending::cancelled;
        throw;
    }
}

}  // namespace

TEST_CASE("with_timeout gives the result of what ends in time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event open;
            open.set();
            const int number = co_await with_timeout(1h, pass(open, 4));
            CHECK(number == 4);
            co_await with_timeout(1h, open.wait());
            const auto box = co_await with_timeout(1h, []() -> task<std::unique_ptr<int>> {
                co_await yield();
                co_return std::make_unique<int>(5);
            }());
            REQUIRE(box);
            CHECK(*box == 5);
            int target = 0;
            int& same =
                co_await with_timeout(1h, [](int& one) -> task<int&> { co_return one; }(target));
            CHECK(&same == &target);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("with_timeout passes exceptions on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto failing = []() -> task<> {
                co_await yield();
                throw std::runtime_error("broken");
            };
            CHECK_THROWS_WITH_AS(co_await with_timeout(1h, failing()), "broken",
                                 std::runtime_error);
        });
    });
}

TEST_CASE("with_timeout throws timeout_error when the time is up, not earlier") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto start = clock::now();
            CHECK_THROWS_AS(co_await with_timeout(2ms, sleep_for(1h)), timeout_error);
            CHECK(clock::now() >= start + 2ms);
            co_await yield();  // nothing is cancelled out here

            std::error_code code;
            try {
                co_await with_timeout(1us, sleep_for(1h));
            } catch (const std::system_error& error) {
                code = error.code();
            }
            CHECK(code == std::errc::timed_out);
        });
    });
}

TEST_CASE("a limit of zero or less gives what can be had without waiting") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event open;
            open.set();
            co_await with_timeout(0s, open.wait());
            const int number = co_await with_timeout(-1h, pass(open, 4));
            CHECK(number == 4);

            // What is there, and what io_uring asks the kernel for.
            const pipe_ends pipe;
            pipe.write("x");
            const short events = co_await with_timeout(0s, poll_fd(pipe.read_end, POLLIN));
            CHECK((events & POLLIN) != 0);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a limit of zero is over after one turn of the scheduler") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event never;
            const auto start = clock::now();
            CHECK_THROWS_AS(co_await with_timeout(0s, never.wait()), timeout_error);
            CHECK_THROWS_AS(co_await with_timeout(-1h, sleep_for(1h)), timeout_error);
            const auto how = co_await as_result(with_timeout(0s, pass(never, 1)));
            CHECK(how.error() == std::errc::timed_out);
            CHECK(clock::now() < start + 10s);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a task that yields under a limit of zero has given up the turn that it had") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int steps = 0;
            auto walk = [&]() -> task<> {
                ++steps;
                co_await yield();
                ++steps;
            };
            CHECK_THROWS_AS(co_await with_timeout(0s, yield()), timeout_error);
            CHECK_THROWS_AS(co_await with_timeout(-1h, walk()), timeout_error);
            CHECK(steps == 1);
            const auto how = co_await as_result(with_timeout(0s, yield()));
            CHECK(how.error() == std::errc::timed_out);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a limit beyond all clocks never runs out") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await with_timeout(std::chrono::hours::max(), sleep_for(1ms));
            co_await with_timeout(std::chrono::duration<double>(1e300), sleep_for(1ms));
        });
    });
}

TEST_CASE("the time of with_timeout counts from the call") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::int64_t due = 0;
            auto look = [&]() -> task<> {
                due = detail::current_core->timers.next_deadline();
                co_return;
            };
            auto limited = with_timeout(1h, look());
            const std::int64_t latest = detail::to_ns(clock::now() + 1h);
            block_until(clock::now() + 2ms);
            co_await std::move(limited);
            CHECK(due > 0);
            CHECK(due <= latest);

            // One that has run out before the await is as one of zero.
            event open;
            open.set();
            auto free = with_timeout(1ms, open.wait());
            auto blocked = with_timeout(1ms, sleep_for(1h));
            block_until(clock::now() + 2ms);
            co_await std::move(free);
            CHECK_THROWS_AS(co_await std::move(blocked), timeout_error);
        });
    });
}

TEST_CASE("with_timeout waits until what it cancelled has ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            bool cleaned_up = false;
            auto slow_to_end = [&]() -> task<> {
                bool cancelled = false;
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    cancelled = true;
                }
                gate.set();
                co_await shield(yield());
                cleaned_up = cancelled;
                co_await yield();
            };
            CHECK_THROWS_AS(co_await with_timeout(1ms, slow_to_end()), timeout_error);
            CHECK(gate.is_set());
            CHECK(cleaned_up);
        });
    });
}

TEST_CASE("a result that is there when the time runs out is given") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            task_group group;
            auto limited = group.spawn(
                [&]() -> task<int> { co_return co_await with_timeout(1ms, pass(gate, 6)); });
            co_await yield();  // it waits, and its clock runs
            block_until(clock::now() + 2ms);
            gate.set();  // before the scheduler looks at the time
            const int got = co_await limited;
            CHECK(got == 6);
            co_await group.join();
        });
    });
}

TEST_CASE("a result that the work returns although its time was up is given") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto stubborn = []() -> task<int> {
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                }
                co_return 7;
            };
            const int got = co_await with_timeout(1ms, stubborn());
            CHECK(got == 7);
        });
    });
}

TEST_CASE("cancellation from outside is no timeout") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto limited =
                group.spawn([]() -> task<> { co_await with_timeout(1h, sleep_for(2h)); });
            co_await settle();
            limited.cancel();
            CHECK_THROWS_AS(co_await limited, operation_cancelled);
            co_await group.join();

            ending seen = ending::none;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await note_ending(seen, with_timeout(0s, sleep_for(1h)));
            });
            CHECK_FALSE(ended);
            CHECK(seen == ending::cancelled);
        });
    });
}

TEST_CASE("of two nested limits, the one that ran out makes the error: the inner") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            ending inner = ending::none;
            bool went_on = false;
            auto work = [&]() -> task<> {
                CHECK_THROWS_AS(co_await note_ending(inner, with_timeout(1ms, sleep_for(1h))),
                                timeout_error);
                co_await yield();  // the outer limit is not touched
                went_on = true;
            };
            co_await with_timeout(1h, work());
            CHECK(inner == ending::timed_out);
            CHECK(went_on);
        });
    });
}

TEST_CASE("of two nested limits, the one that ran out makes the error: the outer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            ending inner = ending::none;
            CHECK_THROWS_AS(
                co_await with_timeout(1ms, note_ending(inner, with_timeout(1h, sleep_for(2h)))),
                timeout_error);
            CHECK(inner == ending::cancelled);
        });
    });
}

TEST_CASE("two nested limits that run out together make one error, of the outer") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            ending inner = ending::none;
            CHECK_THROWS_AS(
                co_await with_timeout(0s, note_ending(inner, with_timeout(0s, sleep_for(2h)))),
                timeout_error);
            CHECK(inner == ending::cancelled);

            // The same by the clock: both are over when the scheduler next looks at it.
            inner = ending::none;
            task_group group;
            auto limited = group.spawn([&]() -> task<> {
                co_await with_timeout(1ms, note_ending(inner, with_timeout(1ms, sleep_for(2h))));
            });
            co_await yield();
            block_until(clock::now() + 2ms);
            CHECK_THROWS_AS(co_await group.join(), timeout_error);
            CHECK(inner == ending::cancelled);
        });
    });
}

TEST_CASE("a limit inside a scope that is cancelled later still makes its own error first") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            ending inner = ending::none;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                try {
                    co_await note_ending(inner, with_timeout(1ms, sleep_for(1h)));
                } catch (const timeout_error&) {
                    scope.cancel();
                }
                co_await yield();
            });
            CHECK_FALSE(ended);
            CHECK(inner == ending::timed_out);
        });
    });
}

TEST_CASE("a limit reaches the tasks of the groups inside") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int cancelled = 0;
            auto work = [&]() -> task<> {
                co_await with_task_group([&](task_group& group) -> task<> {
                    for (int i = 0; i < 3; ++i) {
                        group.spawn([&]() -> task<> {
                            try {
                                co_await sleep_for(1h);
                            } catch (const operation_cancelled&) {
                                ++cancelled;
                                throw;
                            }
                        });
                    }
                    co_return;
                });
            };
            CHECK_THROWS_AS(co_await with_timeout(1ms, work()), timeout_error);
            CHECK(cancelled == 3);
        });
    });
}

}  // namespace rondo::test
