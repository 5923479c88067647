#include <rondo/sync/once.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/emptied_line.hpp"
#include "support/hammer.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// "ran", "done" by another one, "failed", or "cancelled". Its call waits at the gate.
task<std::string> outcome_of_call(once& flag, event& gate, bool fails = false) {
    bool ran = false;
    try {
        co_await flag.call([&]() -> task<> {
            ran = true;
            co_await gate.wait();
            if (fails) throw std::runtime_error("no luck");
        });
    } catch (const std::runtime_error&) {
        co_return "failed";
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return ran ? "ran" : "done";
}

}  // namespace

TEST_CASE("the first to call a once runs its function, and the others wait for that") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            once flag;
            event gate;
            task_group group;
            auto first = group.spawn(outcome_of_call(flag, gate));
            auto second = group.spawn(outcome_of_call(flag, gate));
            auto third = group.spawn(outcome_of_call(flag, gate));
            co_await settle();
            CHECK_FALSE(flag.is_done());
            CHECK_FALSE(second.done());
            gate.set();
            CHECK(co_await first == "ran");
            CHECK(co_await second == "done");
            CHECK(co_await third == "done");
            CHECK(flag.is_done());
            CHECK(co_await outcome_of_call(flag, gate) == "done");
            co_await group.join();
        });
    });
}

TEST_CASE("where a once's function fails, the next in line tries its own") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            once flag;
            event gate;
            gate.set();
            CHECK(co_await outcome_of_call(flag, gate, true) == "failed");
            CHECK_FALSE(flag.is_done());
            gate.clear();
            task_group group;
            auto first = group.spawn(outcome_of_call(flag, gate, true));
            auto second = group.spawn(outcome_of_call(flag, gate, true));
            auto third = group.spawn(outcome_of_call(flag, gate));
            auto fourth = group.spawn(outcome_of_call(flag, gate));
            co_await settle();
            gate.set();
            CHECK(co_await first == "failed");
            CHECK(co_await second == "failed");
            CHECK(co_await third == "ran");
            CHECK(co_await fourth == "done");
            co_await group.join();
        });
    });
}

TEST_CASE("where the one that runs a once's function is cancelled, the next in line tries") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            once flag;
            event gate;
            task_group group;
            auto first = group.spawn(outcome_of_call(flag, gate));
            auto leaver = group.spawn(outcome_of_call(flag, gate));
            auto chosen = group.spawn(outcome_of_call(flag, gate));
            auto last = group.spawn(outcome_of_call(flag, gate));
            co_await settle();
            leaver.cancel();
            CHECK(co_await leaver == "cancelled");
            first.cancel();
            CHECK(co_await first == "cancelled");
            chosen.cancel();  // it is its turn already, or will be
            CHECK(co_await chosen == "cancelled");
            co_await settle();
            CHECK_FALSE(last.done());
            gate.set();
            CHECK(co_await last == "ran");
            auto before = group.spawn(outcome_of_call(flag, gate));
            before.cancel();
            CHECK(co_await before == "cancelled");
            co_await group.join();
        });
    });
}

TEST_CASE("a once whose waiters have all left is fresh again after a failure") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            once flag;
            event gate;
            task_group group;
            auto first = group.spawn(outcome_of_call(flag, gate, true));
            auto second = group.spawn(outcome_of_call(flag, gate));
            co_await settle();
            second.cancel();
            co_await settle();
            gate.set();
            CHECK(co_await first == "failed");
            CHECK(co_await second == "cancelled");
            CHECK(co_await outcome_of_call(flag, gate) == "ran");
            co_await group.join();
        });
    });
}

TEST_CASE("a once keeps the callable that it is given, and what fails in calling it is a failure") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            once flag;
            int got = 0;
            const auto fails = []() -> task<> { throw std::logic_error("at once"); };
            CHECK_THROWS_AS(co_await flag.call(fails), std::logic_error);
            const auto work = [&got](std::unique_ptr<int>& box) -> task<> {
                co_await yield();
                got = *box;
            };
            co_await flag.call(work, std::make_unique<int>(7));
            CHECK(got == 7);
            const auto late = co_await as_result(with_timeout(1h, flag.call(fails)));
            CHECK_FALSE(late.error());
        });
    });
}

TEST_CASE("a once is done once for all schedulers, and they see what was done") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 20; ++round) {
            once flag;
            int value = 0;  // a plain int: ThreadSanitizer sees what is not handed on
            run_many(run, 3, [&]() -> task<> {
                co_await on_each_reactor([&](std::size_t index) -> task<> {
                    auto work = [&value]() -> task<> {
                        ++value;
                        co_await yield();
                    };
                    co_await flag.call(work);
                    CHECK(value == 1);
                    CHECK(here() == index);
                });
            });
        }
    });
}

TEST_CASE("hammered by tasks that are cancelled or fail at any moment, a once is done once") {
    on_each_reactor_kind([](auto run) {
        constexpr std::size_t count = 100;
        std::vector<once> flags(count);
        std::vector<int> done(count);
        std::atomic<std::size_t> next{0};
        std::atomic<int> wrong{0};
        hammer(run, 40, [&](hammered& self) -> task<> {
            for (int i = 0; i < 3; ++i) {
                const std::size_t at = next++ / 8 % count;
                auto work = [&self, &done, at]() -> task<> {
                    if (self.one_in(4)) throw std::runtime_error("no luck");
                    co_await self.pause();
                    ++done[at];
                };
                if (self.one_in(4)) co_await resume_on(self.elsewhere());
                try {
                    co_await flags[at].call(work);
                } catch (const std::runtime_error&) {
                    continue;
                }
                if (done[at] != 1) ++wrong;
            }
        });
        CHECK(wrong == 0);
        for (std::size_t i = 0; i < count; ++i) {
            if (done[i] != (flags[i].is_done() ? 1 : 0)) ++wrong;
        }
        CHECK(wrong == 0);
    });
}

// Who had done it unlocked its line after it was complete.
TEST_CASE("a once may be destroyed by who finds it done after its line emptied meanwhile") {
    on_each_reactor_kind([](auto run) {
        destroy_when_line_empties<once>(
            run,
            [](once& one, signal_to_release& signal) -> task<> {
                co_await one.call([&]() -> task<> {
                    signal.holding();
                    co_return;
                });
            },
            [](once& one) -> task<> { co_await one.call([]() -> task<> { co_return; }); },
            [](once& one) { return one.is_done(); });
    });
}

}  // namespace rondo::test
