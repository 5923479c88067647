#include <rondo/runtime/call_later.hpp>

#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/live_memory.hpp"
#include "support/many_reactors.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

auto adds(std::string& log, char what) {
    return [&log, what] { log += what; };
}

}  // namespace

TEST_CASE("calls run in the order in which they are due, and never early") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            const auto begin = std::chrono::steady_clock::now();
            std::chrono::steady_clock::time_point called;
            call_later(3ms, adds(log, 'c'));
            call_later(1ms, adds(log, 'a'));
            call_later(4ms, [&] {
                called = std::chrono::steady_clock::now();
                log += 'd';
            });
            call_later(2ms, adds(log, 'b'));
            call_later(0ms, adds(log, '0'));
            call_later(-5ms, adds(log, '-'));
            CHECK(log.empty());  // never from within call_later
            co_await until([&] { return log.size() == 6; });
            CHECK((log == "-0abcd" || log == "0-abcd"));
            CHECK(called - begin >= 4ms);
        });
    });
}

TEST_CASE("a call runs outside of any task, on the scheduler that it was made on") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            std::atomic<int> right{0};
            co_await on_each_reactor([&right](std::size_t index) -> task<> {
                bool called = false;
                call_later(1us, [&] {
                    if (here() == index) ++right;
                    called = true;
                });
                co_await until([&called] { return called; });
            });
            CHECK(right == 2);
        });
    });
}

TEST_CASE("a cancelled call does not run, and its function is destroyed at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::atomic<int> alive{0};
            std::string log;
            auto first = call_later(1us, [&log, kept = counted{alive}] { log += '1'; });
            auto second = call_later(2us, adds(log, '2'));
            CHECK(first.pending());
            CHECK(first.cancel());
            CHECK_FALSE(first.pending());
            CHECK_FALSE(first.cancel());
            co_await until([&] { return !second.pending(); });
            CHECK(log == "2");
            CHECK_FALSE(second.cancel());
            auto far = call_later(1h, [kept = counted{alive}] {});
            far.cancel();
        });
    });
}

TEST_CASE("a handle dropped, moved or assigned over changes nothing for its call") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            {
                const auto dropped = call_later(1us, adds(log, 'd'));
            }
            auto original = call_later(2us, adds(log, 'm'));
            auto moved = std::move(original);
            CHECK(moved.pending());
            auto target = call_later(3us, adds(log, 't'));
            target = call_later(4us, adds(log, 'u'));
            co_await until([&] { return log.size() == 4; });
            CHECK(log == "dmtu");
            CHECK_FALSE(moved.pending());
            CHECK_FALSE(target.pending());
            auto emptied = std::move(moved);
            CHECK_FALSE(emptied.cancel());
        });
    });
}

TEST_CASE("a call cancels itself in vain, and another one that is due as well, in time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            std::optional<timer_handle> self;
            std::optional<timer_handle> other;
            self.emplace(call_later(1us, [&] {
                log += self->pending() ? 'p' : 'r';
                log += self->cancel() ? 'c' : 'n';
                log += other->cancel() ? 'o' : '-';
            }));
            other.emplace(call_later(1us, adds(log, '!')));
            co_await until([&] { return log.size() >= 3; });
            co_await sleep_for(1us);
            CHECK(log == "rno");
            // The handle goes while its call runs.
            self.emplace(call_later(1us, [&] {
                self.reset();
                log += 'x';
            }));
            co_await until([&] { return log.size() >= 4; });
            CHECK(log == "rnox");
        });
    });
}

TEST_CASE("a call arranges the next one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            struct ticker {
                int left;
                void tick() {
                    if (--left != 0) call_later(1us, [this] { tick(); });
                }
            };
            ticker clock{100};
            call_later(0us, [&clock] { clock.tick(); });
            co_await until([&clock] { return clock.left == 0; });
        });
    });
}

TEST_CASE("an exception that leaves a call stops the runtime and is thrown by run") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t where : {0U, 1U}) {
            std::atomic<int> alive{0};
            CHECK_THROWS_WITH_AS(run_many(run, 2,
                                          [&]() -> task<> {
                                              co_await resume_on(place(where));
                                              call_later(1us, [kept = counted{alive}] {
                                                  throw std::runtime_error("late trouble");
                                              });
                                              co_await sleep_for(1h);
                                          }),
                                 "late trouble", std::runtime_error);
            CHECK(alive == 0);
        }
    });
}

TEST_CASE("what is still to come when the runtime ends does not run, and is destroyed") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        std::atomic<int> ran{0};
        std::vector<timer_handle> kept;
        run_many(run, 2, [&]() -> task<> {
            co_await on_each_reactor([&](std::size_t) -> task<> {
                call_later(1h, [&ran, own = counted{alive}] { ++ran; });
                co_return;
            });
            for (int i = 0; i < 3; ++i) {
                kept.push_back(call_later(1h, [&ran, own = counted{alive}] { ++ran; }));
            }
            CHECK(alive == 5);
        });
        CHECK(ran == 0);
        // Handles may outlive it.
        for (auto& each : kept) {
            CHECK_FALSE(each.pending());
            CHECK_FALSE(each.cancel());
        }
        kept.clear();
        CHECK(alive == 0);
    });
}

TEST_CASE("calls are arranged from posted calls, and hold nothing up") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactor = run.kind()}};
        std::atomic<bool> called{false};
        rt.post([&] {
            call_later(1h, [] {});
            call_later(1us, [&called] { called = true; });
        });
        while (!called) std::this_thread::yield();
    });
}

TEST_CASE("thousands of calls, every other one cancelled, leave no memory behind") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto round = []() -> task<> {
                int ran = 0;
                std::vector<timer_handle> handles;
                for (int i = 0; i < 2'000; ++i) {
                    handles.push_back(
                        call_later(std::chrono::microseconds(i % 50), [&ran] { ++ran; }));
                }
                int cancelled = 0;
                for (std::size_t i = 0; i < handles.size(); i += 2) {
                    cancelled += handles[i].cancel() ? 1 : 0;
                }
                co_await until([&] { return ran + cancelled == 2'000; });
                CHECK(cancelled == 1'000);
            };
            co_await round();
            const auto before = live_bytes();
            co_await round();
            CHECK(live_bytes() <= before + 4 * 1024);
        });
    });
}

}  // namespace rondo::test
