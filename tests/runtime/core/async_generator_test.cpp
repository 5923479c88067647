#include <rondo/runtime/core/async_generator.hpp>

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/stack_depth.hpp"
#include "support/support.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

static_assert(std::is_nothrow_move_constructible_v<async_generator<int>>);
static_assert(!std::is_copy_constructible_v<async_generator<int>>);

async_generator<int> count_up(int first, int last) {
    for (int i = first; i <= last; ++i) {
        co_await yield();
        co_yield i;
    }
}

template <class T>
task<std::vector<T>> all_of(async_generator<T> items) {
    std::vector<T> all;
    while (auto item = co_await items.next()) all.push_back(std::move(*item));
    co_return all;
}

}  // namespace

TEST_CASE("an async_generator gives its items in order and then nothing, however often asked") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto numbers = count_up(1, 3);
            for (int expected = 1; expected <= 3; ++expected) {
                const std::optional<int> item = co_await numbers.next();
                REQUIRE(item.has_value());
                CHECK(*item == expected);
            }
            for (int again = 0; again < 3; ++again) {
                const std::optional<int> item = co_await numbers.next();
                CHECK_FALSE(item.has_value());
            }
        });
    });
}

TEST_CASE("an async_generator without items ends at once") {
    on_each_reactor_kind([](auto run) {
        CHECK(run([]() -> task<std::vector<int>> {
                  co_return co_await all_of(count_up(1, 0));
              }).empty());
    });
}

TEST_CASE("an async_generator runs only while an item is awaited") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string log;
            auto letters = [](std::string& out) -> async_generator<char> {
                out += "[a";
                co_yield 'a';
                out += "b";
                co_yield 'b';
                out += "]";
            }(log);
            co_await yield();
            CHECK(log.empty());
            (void)co_await letters.next();
            co_await yield();
            CHECK(log == "[a");
            (void)co_await letters.next();
            CHECK(log == "[ab");
            (void)co_await letters.next();
            CHECK(log == "[ab]");
        });
    });
}

TEST_CASE("an async_generator may wait between its items while other tasks run") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event arrived;
            task_group group;
            auto reader = group.spawn(
                [](event& gate) -> task<std::vector<int>> {
                    auto gated = [](event& each) -> async_generator<int> {
                        for (int i = 0; i < 3; ++i) {
                            co_await each.wait();
                            each.clear();
                            co_yield i;
                        }
                    };
                    co_return co_await all_of(gated(gate));
                },
                std::ref(arrived));
            for (int i = 0; i < 3; ++i) {
                co_await settle();
                CHECK_FALSE(reader.done());
                arrived.set();
            }
            co_await group.join();
            const std::vector<int> got = co_await reader;
            CHECK(got == std::vector<int>{0, 1, 2});
        });
    });
}

TEST_CASE("an async_generator gives move-only items") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto boxes = []() -> async_generator<std::unique_ptr<int>> {
                co_yield std::make_unique<int>(1);
                auto second = std::make_unique<int>(2);
                co_yield std::move(second);
            };
            const auto got = co_await all_of(boxes());
            REQUIRE(got.size() == 2);
            CHECK(*got[0] == 1);
            CHECK(*got[1] == 2);
        });
    });
}

TEST_CASE("an item that an async_generator gives by name stays what it was") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<std::string> names{std::string(50, 'a'), std::string(60, 'b')};
            const std::vector<std::string> expected = names;
            auto of = [](std::vector<std::string>& from) -> async_generator<std::string> {
                for (auto& name : from) co_yield name;
                for (const auto& name : from) co_yield name;
            };
            const auto got = co_await all_of(of(names));
            CHECK(names == expected);
            REQUIRE(got.size() == 4);
            CHECK(got[1] == expected[1]);
            CHECK(got[2] == expected[0]);
        });
    });
}

TEST_CASE("an exception inside an async_generator ends it and is thrown by next") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto broken = []() -> async_generator<int> {
                co_yield 1;
                co_await yield();
                throw std::runtime_error("no more");
            }();
            const auto first = co_await broken.next();
            CHECK(first == 1);
            CHECK_THROWS_WITH_AS((void)co_await broken.next(), "no more", std::runtime_error);
            const auto after = co_await broken.next();
            CHECK_FALSE(after.has_value());
        });
    });
}

TEST_CASE("an async_generator destroyed early destroys what it holds") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto held = std::make_shared<int>(1);
            auto endless = [](std::shared_ptr<int> copy) -> async_generator<int> {
                const auto another = copy;
                for (;;) co_yield *another;
            };
            {
                auto never_asked = endless(held);
                auto asked = endless(held);
                (void)co_await asked.next();
                CHECK(held.use_count() == 4);  // a parameter each, and one local
                asked = std::move(never_asked);
                CHECK(held.use_count() == 2);
            }
            CHECK(held.use_count() == 1);
        });
    });
}

TEST_CASE("an async_generator that was moved goes on where it stood") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto first = count_up(1, 9);
            (void)co_await first.next();
            auto second = std::move(first);
            const auto item = co_await second.next();
            CHECK(item == 2);
        });
    });
}

TEST_CASE("async_generators read from each other") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            struct stages {
                static async_generator<int> even(async_generator<int> from) {
                    while (auto item = co_await from.next()) {
                        if (*item % 2 == 0) co_yield std::move(*item);
                    }
                }
                static async_generator<std::string> named(async_generator<int> from) {
                    while (auto item = co_await from.next()) co_yield std::to_string(*item);
                }
            };
            const auto got = co_await all_of(stages::named(stages::even(count_up(1, 7))));
            CHECK(got == std::vector<std::string>{"2", "4", "6"});
        });
    });
}

TEST_CASE("a million items do not grow the stack") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto numbers = []() -> async_generator<int> {
                for (int i = 0; i < 1'000'000; ++i) co_yield i + 0;
            }();
            stack_depth stack;
            long sum = 0;
            while (auto item = co_await numbers.next()) {
                sum += *item;
                stack.look();
            }
            CHECK(sum == 499'999'500'000);
            CHECK(stack.grown() < stack_depth::harmless);
        });
    });
}

TEST_CASE("cancellation reaches the await inside an async_generator and leaves through next") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool cleaned_up = false;
            auto slow = [](bool& flag) -> async_generator<int> {
                struct sets {
                    bool& flag;
                    ~sets() { flag = true; }
                };
                const sets at_end{flag};
                co_yield 1;
                co_await sleep_for(1h);
                co_yield 2;
            };
            auto items = slow(cleaned_up);
            task_group group;
            auto reader = group.spawn(
                [](async_generator<int>& from) -> task<> {
                    while (co_await from.next()) {
                    }
                },
                std::ref(items));
            co_await settle();
            CHECK_FALSE(reader.done());
            CHECK_FALSE(cleaned_up);
            reader.cancel();
            co_await group.join();
            CHECK_THROWS_AS(co_await reader, operation_cancelled);
            CHECK(cleaned_up);
            const auto after = co_await items.next();
            CHECK_FALSE(after.has_value());
        });
    });
}

TEST_CASE("an async_generator that does not wait gives its item even when cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto items = []() -> async_generator<int> {
                co_yield 1;
                co_await yield();
                co_yield 2;
            }();
            std::optional<int> first;
            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                first = co_await items.next();
                (void)co_await items.next();
            });
            CHECK_FALSE(ended);
            CHECK(first == 1);
        });
    });
}

}  // namespace rondo::test
