// What becomes of callables that are handed to a function and awaited: each capture and each
// argument is destroyed as often as it was made.

#include <rondo/runtime/detail/callable.hpp>

#include <rondo/net/serve.hpp>
#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/channel.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/sync/once.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// Counts how many of it were made, and how many destroyed, in whatever way.
struct counted {
    counted() noexcept { ++made; }
    counted(const counted&) noexcept { ++made; }
    counted(counted&&) noexcept { ++made; }
    counted& operator=(const counted&) noexcept = default;
    counted& operator=(counted&&) noexcept = default;
    ~counted() { ++destroyed; }

    static void reset() noexcept { made = destroyed = 0; }
    static int too_many() noexcept { return destroyed - made; }

    static inline std::atomic<int> made{0};
    static inline std::atomic<int> destroyed{0};
};

/// A function of somebody else's that takes a callable and is awaited at once.
template <class F>
detail::yield_awaiter consider(F&&) {
    return yield();
}

struct aggregate {
    counted member;
};

class made_by_constructor {
public:
    explicit made_by_constructor(counted member) : member_(member) {}

private:
    counted member_;
};

/// Runs work(), a task, and gives how many more of `counted` were destroyed than made.
template <class Work>
int too_many_destroyed(Work work) {
    counted::reset();
    run(work);
    return counted::too_many();
}

constexpr bool compiler_is_wrong = detail::destroys_captures_twice;

}  // namespace

// Where these fail with a compiler, detail::destroys_captures_twice is to be set right for it.
TEST_CASE("a lambda written inside a co_await is destroyed twice by g++ 12 only") {
    const int copied = too_many_destroyed([]() -> task<> {
        const counted one;
        co_await consider([one] { (void)one; });
    });
    const int made =
        too_many_destroyed([]() -> task<> { co_await consider([one = counted()] { (void)one; }); });
    const int wrapped = too_many_destroyed([]() -> task<> {
        const counted one;
        co_await consider(std::function<void()>([one] { (void)one; }));
    });
    CHECK((copied != 0) == compiler_is_wrong);
    CHECK((made != 0) == compiler_is_wrong);
    CHECK((wrapped != 0) == compiler_is_wrong);
}

TEST_CASE("an aggregate written inside a co_await is destroyed twice by g++ 12 only") {
    const int wrong = too_many_destroyed([]() -> task<> {
        const counted one;
        co_await consider(aggregate{one});
    });
    CHECK((wrong != 0) == compiler_is_wrong);
}

TEST_CASE("what else is written inside a co_await is destroyed once by every compiler") {
    CHECK(too_many_destroyed([]() -> task<> {
              const counted one;
              co_await consider(made_by_constructor(one));
          }) == 0);
    CHECK(too_many_destroyed([]() -> task<> {
              const counted one;
              const auto named = [one] { (void)one; };
              co_await consider(named);
          }) == 0);
    CHECK(too_many_destroyed([]() -> task<> {
              const counted one;
              auto named = [one] { (void)one; };
              co_await consider(std::move(named));
          }) == 0);
    CHECK(too_many_destroyed([]() -> task<> {
              const counted one;
              auto waiting = consider([one] { (void)one; });
              co_await waiting;
          }) == 0);
}

TEST_CASE("g++ 12 refuses only what it may destroy twice") {
    const counted one;
    std::string text;
    auto harmful = [one] { (void)one; };
    auto harmless = [&text, number = 3] { return text.size() + number; };
    static_assert(detail::may_be_destroyed_twice<decltype(harmful)>() == compiler_is_wrong);
    static_assert(detail::may_be_destroyed_twice<aggregate>() == compiler_is_wrong);
    static_assert(!detail::may_be_destroyed_twice<decltype(harmful)&>());
    static_assert(!detail::may_be_destroyed_twice<const decltype(harmful)&>());
    static_assert(!detail::may_be_destroyed_twice<decltype(harmless)>());
    static_assert(!detail::may_be_destroyed_twice<made_by_constructor>());
    static_assert(!detail::may_be_destroyed_twice<std::function<void()>>());
    static_assert(!detail::may_be_destroyed_twice<decltype(std::ref(harmful))>());
    static_assert(!detail::may_be_destroyed_twice<void (*)()>());
    CHECK(harmless() == 3);
}

TEST_CASE("a lambda that has a name, and one with arguments behind it, are destroyed once") {
    const auto balanced = [](auto work) {
        on_each_reactor_kind([&](auto run) {
            counted::reset();
            run(work);
            CHECK(counted::too_many() == 0);
            CHECK(counted::made > 0);
        });
    };
    SUBCASE("offload") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one] { (void)one; };
            co_await offload(named);
            co_await offload(std::ref(named));
            co_await offload([](counted) {}, one);
            co_await offload([](counted&) {}, one);
            co_await offload([](std::stop_token, counted) {}, one);
            co_await with_timeout(1min, offload([](counted) {}, one));
            co_await when_all(offload(named), offload([](counted) {}, one));
        });
    }
    SUBCASE("with_task_group") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one](task_group&) -> task<> {
                (void)one;
                co_return;
            };
            co_await with_task_group(named);
            co_await with_task_group(std::ref(named));
            co_await with_task_group([](task_group&, counted) -> task<> { co_return; }, one);
            co_await when_all(with_task_group(named), with_task_group(named));
        });
    }
    SUBCASE("with_cancel_scope") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one](cancel_scope&) -> task<> {
                (void)one;
                co_return;
            };
            co_await with_cancel_scope(named);
            co_await with_cancel_scope(std::ref(named));
            co_await with_cancel_scope([](cancel_scope&, counted) -> task<> { co_return; }, one);
        });
    }
    SUBCASE("on_each_reactor") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one](std::size_t) -> task<> {
                (void)one;
                co_return;
            };
            co_await on_each_reactor(named);
            co_await on_each_reactor([](std::size_t, counted) -> task<> { co_return; }, one);
        });
    }
    SUBCASE("once::call") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one]() -> task<> {
                (void)one;
                co_return;
            };
            once first;
            co_await first.call(named);
            once second;
            co_await second.call([](counted) -> task<> { co_return; }, one);
        });
    }
    SUBCASE("serve") {
        balanced([]() -> task<> {
            const counted one;
            auto named = [one](tcp_stream) -> task<> {
                (void)one;
                co_return;
            };
            co_await when_any(serve(tcp_listener::bind(any_port()), named), yield());
            const auto talk = [](tcp_stream, counted) -> task<> { co_return; };
            co_await when_any(serve(tcp_listener::bind(any_port()), talk, {}, one), yield());
        });
    }
    SUBCASE("thread_pool::submit and channel::send") {
        balanced([]() -> task<> {
            const counted one;
            thread_pool pool{1};
            auto job = pool.submit([one] { (void)one; });
            co_await job;
            co_await pool.submit([](counted) {}, one);
            channel<aggregate> items{1};
            aggregate named{one};
            co_await items.send(named);
            co_await items.receive();
        });
    }
}

TEST_CASE("a lambda that only moves is passed by reference, or moves into an argument") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto number = std::make_unique<int>(7);
            auto named = [number = std::move(number)] { return *number; };
            CHECK(co_await offload(std::ref(named)) == 7);

            const auto read = [](std::unique_ptr<int> from) { return *from; };
            CHECK(co_await offload(read, std::make_unique<int>(8)) == 8);

            auto eight = co_await with_task_group(
                [](task_group&, std::unique_ptr<int> from) -> task<int> { co_return *from; },
                std::make_unique<int>(8));
            CHECK(eight == 8);
        });
    });
}

TEST_CASE("arguments behind a callable come after what the function itself passes") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::string text = "a text that is too long for the string itself";
            const auto length = [](const std::string& of) { return of.size(); };
            CHECK(co_await offload(length, text) == text.size());

            const auto can_stop = [](std::stop_token stop, std::string given) {
                return stop.stop_possible() ? given : "";
            };
            CHECK(co_await offload(can_stop, text) == text);

            const auto in_scope = [](cancel_scope& scope, std::string given) -> task<std::string> {
                CHECK(!scope.cancelled());
                co_return given;
            };
            CHECK(*co_await with_cancel_scope(in_scope, text) == text);

            std::vector<std::string> heard;
            once flag;
            const auto note = [](std::vector<std::string>& into, std::string given) -> task<> {
                into.push_back(given);
                co_return;
            };
            co_await flag.call(note, std::ref(heard), text);
            co_await flag.call(note, std::ref(heard), text);
            CHECK(heard.size() == 1);
        });
    });
}

TEST_CASE("an argument of with_task_group that is taken by reference lives until the group's end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::string heard;
            co_await with_task_group(
                [&heard](task_group& group, std::string& kept) -> task<> {
                    group.spawn(
                        [](std::string& from, std::string& into) -> task<> {
                            co_await yield();
                            into = from;
                        },
                        std::ref(kept), std::ref(heard));
                    co_return;
                },
                std::string("kept until all tasks have ended"));
            CHECK(heard == "kept until all tasks have ended");
        });
    });
}

TEST_CASE("each reactor and each connection gets the arguments that stand behind the callable") {
    on_each_reactor_kind([](auto on) {
        const auto listens = [](std::size_t index, std::vector<std::string>& into,
                                std::string given) -> task<> {
            into[index] = given;
            co_return;
        };
        const auto everywhere = [&]() -> task<> {
            std::vector<std::string> heard(3);
            co_await on_each_reactor(listens, std::ref(heard), std::string("to each of them"));
            for (const std::string& one : heard) CHECK(one == "to each of them");
        };
        rondo::run(everywhere, {.reactors = 3, .reactor = on.kind()});

        on([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            const endpoint here = listener.local_endpoint();
            const auto greet = [](tcp_stream peer, std::string greeting) -> task<> {
                co_await peer.write_all(greeting);
            };
            task_group group;
            auto server = group.spawn(serve(listener, greet, {}, std::string("hello")));
            for (int i = 0; i < 2; ++i) {
                auto client = co_await tcp_stream::connect(here);
                std::string heard(5, '\0');
                co_await client.read_exactly(bytes_of(heard));
                CHECK(heard == "hello");
            }
            server.cancel();
            co_await group.join();
        });
    });
}

TEST_CASE("what is spawned may be a member function and its object") {
    struct room {
        int guests = 0;
        task<> enter(int count) {
            guests += count;
            co_return;
        }
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            room here;
            task_group group;
            group.spawn(&room::enter, &here, 2);
            group.spawn(&room::enter, std::ref(here), 3);
            co_await group.join();
            CHECK(here.guests == 5);
        });
    });
}

}  // namespace rondo::test
