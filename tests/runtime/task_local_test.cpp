#include <rondo/runtime/task_local.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

#include "support/allocation_count.hpp"
#include "support/child_process.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"

#include <sys/resource.h>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

const task_local<std::string> user;
const task_local<int> depth{0};

std::string user_here() { return user.find() == nullptr ? "nobody" : user.get(); }

task<std::string> seen() { co_return user_here(); }
task<std::string> seen_later(event& when) {
    co_await when.wait();
    co_return user_here();
}
task<std::string> seen_on(std::size_t reactor) {
    co_await resume_on(place(reactor));
    co_return user_here();
}

}  // namespace

TEST_CASE("a value is seen by what is awaited while it is bound, and by nobody else") {
    on_each_reactor_kind([](auto run) {
        CHECK(user_here() == "nobody");
        run([]() -> task<> {
            CHECK(user_here() == "nobody");
            {
                const auto bound = user.bind("ada");
                CHECK(user.get() == "ada");
                CHECK(co_await seen() == "ada");
            }
            CHECK(user_here() == "nobody");
            CHECK_THROWS_AS(user.get(), std::logic_error);
            CHECK(co_await user.with("bob", seen()) == "bob");
            CHECK(co_await user.with("bob", user.with("cleo", seen())) == "cleo");
            CHECK(user_here() == "nobody");
        });
    });
}

TEST_CASE("an inner binding hides the outer one, and other names are apart") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK(depth.get() == 0);
            const auto outer = depth.bind(1);
            const auto name = user.bind("ada");
            {
                const auto inner = depth.bind(2);
                CHECK(depth.get() == 2);
                CHECK(user.get() == "ada");
                co_await yield();
                CHECK(depth.get() == 2);
            }
            CHECK(depth.get() == 1);
        });
        CHECK(depth.get() == 0);
    });
}

TEST_CASE("tasks inherit what is bound where their group was made, however deep") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group outside;
            const auto bound = user.bind("ada");
            task_group inside;
            auto of_outside = outside.spawn(seen_later(done));
            auto of_inside = inside.spawn(seen_later(done));
            auto named = inside.spawn(task_name{"a name"}, seen_later(done));
            auto deeper = inside.spawn(
                [](event& when) -> task<std::string> {
                    const auto mine = user.bind(user.get() + " and bob");
                    const auto both =
                        co_await when_all(seen_later(when), user.with("cleo", seen()));
                    co_return std::get<0>(both) + ", " + std::get<1>(both);
                },
                std::ref(done));
            co_await settle();
            done.set();
            CHECK(co_await of_outside == "nobody");
            CHECK(co_await of_inside == "ada");
            CHECK(co_await named == "ada");
            CHECK(co_await deeper == "ada and bob, cleo");
            co_await inside.join();
            co_await outside.join();
        });
    });
}

TEST_CASE("tasks that run at the same time see each their own") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            std::vector<task_handle<bool>> all;
            for (int i = 1; i <= 50; ++i) {
                all.push_back(group.spawn(
                    [](int mine) -> task<bool> {
                        const auto bound = depth.bind(mine);
                        bool right = true;
                        for (int turn = 0; turn < 5; ++turn) {
                            co_await yield();
                            right = right && depth.get() == mine;
                        }
                        co_return right;
                    },
                    i));
            }
            for (auto& one : all) {
                const bool right = co_await one;
                CHECK(right);
            }
            co_await group.join();
        });
    });
}

TEST_CASE("time limits, shields and cancel scopes let a value through") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto bound = user.bind("ada");
            CHECK(co_await with_timeout(1h, seen()) == "ada");
            CHECK(co_await shield(seen()) == "ada");
            CHECK(co_await shield(with_timeout(1h, shield(seen()))) == "ada");
            const auto body = [](task_group& group) -> task<std::string> {
                auto child = group.spawn(seen());
                co_return co_await child;
            };
            CHECK(co_await with_task_group(body) == "ada");
        });
    });
}

TEST_CASE("a cancellation passes through a binding, in both directions of the tree") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto limited =
                co_await as_result(with_timeout(1ms, user.with("ada", sleep_for(1h))));
            CHECK(limited.error() == std::errc::timed_out);
            task_group group;
            auto waits = group.spawn([]() -> task<> {
                const auto bound = user.bind("ada");
                task_group inner;
                inner.spawn(sleep_for(1h));
                co_await inner.join();
            });
            co_await settle();
            waits.cancel();
            const auto cancelled = co_await as_result(waits.operator co_await());
            CHECK(cancelled.error() == std::errc::operation_canceled);
            co_await group.join();
        });
    });
}

TEST_CASE(
    "offloaded work sees what its task sees, in both forms, and leaves nothing on the thread") {
    on_each_reactor_kind([](auto run) {
        rondo::run(
            []() -> task<> {
                const auto look = [] { return user_here(); };
                const auto look_and_stop = [](std::stop_token) { return user_here(); };
                CHECK(co_await offload(look) == "nobody");
                {
                    const auto bound = user.bind("ada");
                    CHECK(co_await offload(look) == "ada");
                    CHECK(co_await offload(look_and_stop) == "ada");
                    CHECK(co_await user.with("bob", offload(look)) == "bob");
                    const auto fail = []() -> int { throw std::runtime_error(user_here()); };
                    CHECK_THROWS_WITH_AS(co_await offload(fail), "ada", std::runtime_error);
                }
                CHECK(co_await offload(look) == "nobody");
                CHECK(co_await offload(look_and_stop) == "nobody");
            },
            {.reactor = run.kind(), .pool_threads = 1});
    });
}

TEST_CASE("a value goes along to other reactors, and through several") {
    on_each_reactor_kind([](auto run) {
        rondo::run(
            []() -> task<> {
                scheduler& home = this_scheduler();
                const auto bound = user.bind("ada");
                const auto look = [] { return user_here(); };
                task_group group;
                auto hops = group.spawn(
                    [](scheduler& back) -> task<std::string> {
                        const auto mine = depth.bind(1);
                        std::string all;
                        for (const std::size_t at : {1, 2, 1}) {
                            co_await resume_on(place(at));
                            all += user_here() + std::to_string(depth.get()) + " ";
                            task_group there;
                            auto child = there.spawn(seen());
                            auto sent = there.spawn_on(place(0), seen());
                            all += co_await child + " ";
                            all += co_await sent + " ";
                            co_await there.join();
                        }
                        co_await resume_on(back);
                        co_return all + user_here();
                    },
                    std::ref(home));
                auto sent = group.spawn_on(place(1), seen());
                auto further = group.spawn_on(place(1), seen_on(2));
                auto offloads = group.spawn_on(place(1), offload(look));
                CHECK(co_await hops == "ada1 ada ada ada1 ada ada ada1 ada ada ada");
                CHECK(co_await sent == "ada");
                CHECK(co_await further == "ada");
                CHECK(co_await offloads == "ada");
                std::atomic<int> right{0};
                co_await on_each_reactor([&right](std::size_t) -> task<> {
                    if (user_here() == "ada") ++right;
                    co_return;
                });
                CHECK(right == 3);
                co_await group.join();
            },
            {.reactors = 3, .reactor = run.kind()});
    });
}

TEST_CASE("what nobody has spawned here inherits nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto bound = user.bind("ada");
            std::string posted;
            event called;
            this_scheduler().post([&] {
                posted = user_here();
                called.set();
            });
            co_await called.wait();
            CHECK(posted == "nobody");
        });
    });
}

TEST_CASE("a binding takes no memory of its own") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            co_await depth.with(1, yield());
            const unsigned before = allocation_count();
            for (int i = 0; i < 100; ++i) {
                const auto bound = depth.bind(i);
                co_await depth.with(i, yield());
            }
            CHECK(allocation_count() == before);
        });
    });
}

TEST_CASE("a binding outside of a task, or left before a group inside it, aborts with a sentence") {
    const auto last_words = [](auto work) {
        return child_with_pipe([&](int out) {
                   const rlimit no_core{0, 0};
                   ::setrlimit(RLIMIT_CORE, &no_core);
                   ::dup2(out, STDERR_FILENO);
                   work();
               })
            .text;
    };
    const std::string outside = last_words([] { (void)depth.bind(1); });
    CHECK(outside.starts_with("rondo: a task_local is bound outside of a task ("));
    on_each_reactor_kind([&](auto run) {
        const std::string too_early = last_words([&] {
            run([]() -> task<> {
                std::optional<task_group> group;
                {
                    const auto bound = depth.bind(1);
                    group.emplace();
                }
                co_await group->join();
            });
        });
        CHECK(too_early.starts_with(
            "rondo: a task_group outlives the binding of a task_local that it was made in; it was "
            "made here ("));
    });
}

}  // namespace rondo::test
