#include <rondo/runtime/cancel_scope.hpp>

#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/child_process.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <sys/resource.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// There under AddressSanitizer only.
extern "C" [[gnu::weak]] void __asan_init();

namespace rondo::test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

}  // namespace

TEST_CASE("a scope that is not cancelled gives the result of what runs in it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto number = co_await with_cancel_scope([](cancel_scope&) -> task<int> {
                co_await yield();
                co_return 7;
            });
            CHECK(number == 7);
            auto box = co_await with_cancel_scope([](cancel_scope&) -> task<std::unique_ptr<int>> {
                co_return std::make_unique<int>(8);
            });
            REQUIRE(box.has_value());
            CHECK(**box == 8);
            const bool ended = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                co_await yield();
                CHECK_FALSE(scope.cancelled());
            });
            CHECK(ended);
        });
    });
}

TEST_CASE("a cancelled scope gives nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool cancelled = false;
            const auto number = co_await with_cancel_scope([&](cancel_scope& scope) -> task<int> {
                scope.cancel();
                cancelled = scope.cancelled();
                co_await yield();
                co_return 7;
            });
            CHECK_FALSE(number.has_value());
            CHECK(cancelled);
            co_await yield();  // outside, nothing is cancelled
        });
    });
}

TEST_CASE("a result that was still returned from a cancelled scope counts") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto number = co_await with_cancel_scope([](cancel_scope& scope) -> task<int> {
                scope.cancel();
                co_return 7;
            });
            CHECK(number == 7);
        });
    });
}

TEST_CASE("cancelling a scope ends the await in progress, and each later one at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int thrown = 0;
            cancel_scope* scope = nullptr;
            task_group group;
            auto worker = group.spawn([&]() -> task<bool> {
                co_return co_await with_cancel_scope([&](cancel_scope& inside) -> task<> {
                    scope = &inside;
                    for (int i = 0; i < 5; ++i) {
                        try {
                            co_await sleep_for(1h);
                        } catch (const operation_cancelled&) {
                            ++thrown;
                        }
                    }
                    co_await sleep_for(1h);
                });
            });
            co_await settle();
            REQUIRE(scope != nullptr);
            scope->cancel();
            CHECK(thrown == 0);  // nothing is resumed from in there
            scope->cancel();
            co_await group.join();
            CHECK(thrown == 5);
            const bool ended = co_await worker;
            CHECK_FALSE(ended);
        });
    });
}

TEST_CASE("an exception leaves a cancelled scope as it leaves any other") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto body = [](cancel_scope& scope) -> task<int> {
                scope.cancel();
                try {
                    co_await yield();
                } catch (const operation_cancelled&) {
                    throw std::runtime_error("clean-up failed");
                }
                co_return 1;
            };
            CHECK_THROWS_WITH_AS((void)co_await with_cancel_scope(body), "clean-up failed",
                                 std::runtime_error);
        });
    });
}

TEST_CASE("the inner of two scopes ends alone") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto outer = co_await with_cancel_scope([](cancel_scope& outside) -> task<int> {
                const bool inner = co_await with_cancel_scope([](cancel_scope& inside) -> task<> {
                    inside.cancel();
                    co_await yield();
                });
                CHECK_FALSE(inner);
                CHECK_FALSE(outside.cancelled());
                co_await yield();
                co_return 1;
            });
            CHECK(outer == 1);
        });
    });
}

TEST_CASE("cancelling the outer of two scopes passes through the inner one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const bool inner_too : {false, true}) {
                CAPTURE(inner_too);
                bool inner_returned = false;
                const bool outer = co_await with_cancel_scope([&](cancel_scope& outside) -> task<> {
                    (void)co_await with_cancel_scope([&](cancel_scope& inside) -> task<> {
                        if (inner_too) inside.cancel();
                        outside.cancel();
                        CHECK(inside.cancelled() == inner_too);
                        co_await yield();
                    });
                    inner_returned = true;
                });
                CHECK_FALSE(outer);
                CHECK_FALSE(inner_returned);
            }
        });
    });
}

TEST_CASE("a scope entered inside a cancelled one is cancelled from the start") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool went_on = false;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& outside) -> task<> {
                outside.cancel();
                (void)co_await with_cancel_scope([&](cancel_scope& inside) -> task<> {
                    CHECK_FALSE(inside.cancelled());
                    co_await yield();
                    went_on = true;
                });
                went_on = true;
            });
            CHECK_FALSE(ended);
            CHECK_FALSE(went_on);
        });
    });
}

TEST_CASE("cancellation reaches tasks in groups in scopes in groups, and the scope waits for all") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ended = 0;
            bool siblings_ran_on = false;
            event gate;
            cancel_scope* scope = nullptr;
            task_group outside;
            outside.spawn([&]() -> task<> {
                co_await gate.wait();
                siblings_ran_on = true;
            });
            auto worker = outside.spawn([&]() -> task<bool> {
                co_return co_await with_cancel_scope([&](cancel_scope& here) -> task<> {
                    scope = &here;
                    co_await with_task_group([&](task_group& group) -> task<> {
                        group.spawn(sleep_and_note, std::ref(ended));
                        group.spawn([&]() -> task<> {
                            (void)co_await with_cancel_scope([&](cancel_scope&) -> task<> {
                                co_await with_task_group([&](task_group& deep) -> task<> {
                                    deep.spawn(sleep_and_note, std::ref(ended));
                                    deep.spawn(sleep_and_note, std::ref(ended));
                                    co_await sleep_and_note(ended);
                                });
                            });
                        });
                        co_await sleep_and_note(ended);
                    });
                });
            });
            co_await settle();
            REQUIRE(scope != nullptr);
            CHECK(ended == 0);
            scope->cancel();
            const bool completed = co_await worker;
            CHECK_FALSE(completed);
            CHECK(ended == 5);
            CHECK_FALSE(siblings_ran_on);
            gate.set();
            co_await outside.join();
            CHECK(siblings_ran_on);
        });
    });
}

TEST_CASE("cancellation reaches a task below a thousand groups") {
    struct chain {
        static task<> down(int depth, int& ended) {
            if (depth == 0) co_return co_await sleep_and_note(ended);
            task_group group;
            group.spawn(down, depth - 1, std::ref(ended));
            co_await group.join();
        }
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ended = 0;
            task_group group;
            auto top = group.spawn(chain::down, 1'000, std::ref(ended));
            co_await settle();
            CHECK(ended == 0);
            top.cancel();
            co_await group.join();
            CHECK(ended == 1);
            CHECK_THROWS_AS(co_await top, operation_cancelled);
        });
    });
}

TEST_CASE("cancelling a hundred thousand groups, each inside the one before, needs little stack") {
    struct chain {
        static task<> down(int depth, bool body_waits, int& ended) {
            if (depth == 0) {
                co_await sleep_and_note(ended);
            } else if (body_waits) {
                co_await with_task_group([&](task_group& group) -> task<> {
                    group.spawn(down, depth - 1, body_waits, std::ref(ended));
                    co_await sleep_for(1h);
                });
            } else {
                task_group group;
                group.spawn(down, depth - 1, body_waits, std::ref(ended));
                co_await group.join();
            }
        }
    };
    // The time that AddressSanitizer takes for a throw grows with the number of frames.
    const int depth = __asan_init != nullptr ? 5'000 : 100'000;
    on_each_reactor_kind([depth](auto run) {
        for (const bool body_waits : {false, true}) {
            CAPTURE(body_waits);
            CHECK(in_child([=]() -> std::string {
                      const rlimit little{1024 * 1024, 1024 * 1024};
                      if (::setrlimit(RLIMIT_STACK, &little) != 0) return "no limit";
                      int ended = 0;
                      run([&]() -> task<> {
                          task_group group;
                          auto top = group.spawn(chain::down, depth, body_waits, std::ref(ended));
                          co_await settle();
                          top.cancel();
                          co_await group.join();
                      });
                      return ended == 1 ? "all ended" : "not reached";
                  }) == "all ended");
        }
    });
}

TEST_CASE("a task spawned into a cancelled scope is cancelled from the start") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int ended = 0;
            const bool completed = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                task_group group;
                group.spawn(sleep_and_note, std::ref(ended));
                co_await group.join();
            });
            CHECK_FALSE(completed);
            CHECK(ended == 1);
        });
    });
}

TEST_CASE("a deadline cancels its scope, and not before it is due") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto deadline = clock::now() + 3ms;
            bool by_deadline = false;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.set_deadline(deadline);
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    by_deadline = scope.deadline_passed();
                    throw;
                }
            });
            CHECK_FALSE(ended);
            CHECK(by_deadline);
            CHECK(clock::now() >= deadline);
        });
    });
}

TEST_CASE("a deadline in the past cancels at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const bool ended = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                scope.set_deadline(clock::now() - 1s);
                CHECK(scope.cancelled());
                CHECK(scope.deadline_passed());
                co_await yield();
            });
            CHECK_FALSE(ended);
        });
    });
}

TEST_CASE("of several deadlines the latest call counts, and time_point::max takes it back") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const bool later = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                scope.set_deadline(clock::now() + 1ms);
                scope.set_deadline(clock::now() + 1h);
                co_await sleep_for(3ms);
            });
            CHECK(later);
            const bool sooner = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                scope.set_deadline(clock::now() + 1h);
                scope.set_deadline(clock::now() + 1ms);
                co_await sleep_for(2h);
            });
            CHECK_FALSE(sooner);
            const bool taken_back = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
                scope.set_deadline(clock::now() + 1ms);
                scope.set_deadline(clock::time_point::max());
                co_await sleep_for(3ms);
            });
            CHECK(taken_back);
        });
    });
}

TEST_CASE("expires_after counts from now, and each call puts the deadline off") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            int rounds = 0;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.expires_after(1h);
                scope.expires_after(2ms);
                scope.expires_after(30s);
                co_await sleep_for(4ms);
                ++rounds;
                const auto before = clock::now();
                scope.expires_after(1ms);
                try {
                    co_await sleep_for(1h);
                } catch (const operation_cancelled&) {
                    CHECK(clock::now() >= before + 1ms);
                    CHECK(scope.deadline_passed());
                    throw;
                }
            });
            CHECK_FALSE(ended);
            CHECK(rounds == 1);
            const bool at_once = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.expires_after(0s);
                CHECK(scope.cancelled());
                co_return;
            });
            CHECK(at_once);
            const bool never = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.expires_after(std::chrono::hours::max());
                co_await sleep_for(1ms);
            });
            CHECK(never);
        });
    });
}

TEST_CASE("a scope that ended before its deadline leaves no timer behind") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto number = co_await with_cancel_scope([](cancel_scope& scope) -> task<int> {
                scope.set_deadline(clock::now() + 1h);
                CHECK_FALSE(detail::current_core->timers.empty());
                co_return 1;
            });
            CHECK(number == 1);
            CHECK(detail::current_core->timers.empty());
        });
    });
}

TEST_CASE("a scope cancelled by hand did not end by its deadline") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool by_deadline = true;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                scope.set_deadline(clock::now() - 1s);
                by_deadline = scope.deadline_passed();
                co_await yield();
            });
            CHECK_FALSE(ended);
            CHECK_FALSE(by_deadline);
        });
    });
}

TEST_CASE("two tasks that wait in the scopes of their own are cancelled one by one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event gate;
            std::vector<cancel_scope*> scopes;
            auto worker = [&]() -> task<bool> {
                co_return co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                    scopes.push_back(&scope);
                    co_await wait_for(gate);
                });
            };
            task_group group;
            auto first = group.spawn(worker);
            auto second = group.spawn(worker);
            co_await settle();
            REQUIRE(scopes.size() == 2);
            scopes[0]->cancel();
            co_await settle();
            CHECK(first.done());
            CHECK_FALSE(second.done());
            gate.set();
            co_await group.join();
            const bool first_ended = co_await first;
            const bool second_ended = co_await second;
            CHECK_FALSE(first_ended);
            CHECK(second_ended);
        });
    });
}

}  // namespace rondo::test
