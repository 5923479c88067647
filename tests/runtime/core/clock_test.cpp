#include <rondo/runtime/core/clock.hpp>

#include <rondo/runtime/call_later.hpp>
#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/interval.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/rate_limiter.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <vector>

#include "support/leaping_reactor.hpp"
#include "support/support.hpp"

using namespace std::chrono_literals;

namespace rondo::test {

namespace {

using steady = std::chrono::steady_clock;
using wall = std::chrono::system_clock;

/// What a thread without a scheduler gets, and a task on the kernel's reactors.
void check_against_the_kernel() {
    const auto before = steady::now();
    const auto wall_before = wall::now();
    const auto got = now();
    const auto wall_got = wall_now();
    CHECK(before <= got);
    CHECK(got <= steady::now());
    // The machine's clock may be set meanwhile.
    CHECK(wall_before - 1min < wall_got);
    CHECK(wall_got < wall::now() + 1min);
}

}  // namespace

TEST_CASE("the time is the kernel's, in tasks and on threads without a scheduler") {
    check_against_the_kernel();
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            check_against_the_kernel();
            co_return;
        });
    });
}

TEST_CASE("sleeps, timeouts, deadlines, intervals and limiters go by the reactor's clock") {
    on_each_reactor_kind([](auto run) {
        const auto real_begin = steady::now();
        run_in_leaps(
            []() -> task<> {
                const auto begin = now();
                const auto wall_begin = wall_now();
                co_await sleep_for(1h);
                CHECK(now() - begin >= 1h);
                CHECK(now() - begin < 1h + 1min);
                CHECK(wall_now() - wall_begin >= 1h);

                event never;
                CHECK_THROWS_AS(co_await with_timeout(24h, never.wait()), timeout_error);
                CHECK(now() - begin >= 25h);

                bool was_called = false;
                const auto later = call_later(1h, [&was_called] { was_called = true; });
                co_await sleep_until(now() + 2h);
                CHECK(was_called);

                const auto in_scope = [&never](cancel_scope& scope) -> task<> {
                    scope.set_deadline(now() + 48h);
                    co_await never.wait();
                };
                CHECK(!co_await with_cancel_scope(in_scope));
                CHECK(now() - begin >= 75h);

                interval hourly{1h};
                co_await hourly.tick();
                const auto first = now();
                co_await hourly.tick();
                CHECK(now() - first >= 59min);

                rate_limiter slow{1.0 / 3600, 1};
                co_await slow.acquire();
                const auto taken = now();
                co_await slow.acquire();
                CHECK(now() - taken >= 59min);
            },
            run.kind());
        CHECK(steady::now() - real_begin < 1min);
    });
}

}  // namespace rondo::test
