#include <rondo/sync/oneshot.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "support/hammer.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

template <class T>
task<std::optional<T>> receive(oneshot_receiver<T> receiver) {
    co_return co_await receiver;
}

/// "gone", or "cancelled".
template <class T>
task<std::string> outcome_of_closed(oneshot_sender<T>& sender) {
    try {
        co_await sender.closed();
    } catch (const operation_cancelled&) {
        co_return "cancelled";
    }
    co_return "gone";
}

/// Throws when it is moved for the nth time.
struct throws_on_move {
    explicit throws_on_move(int moves) : left(moves) {}
    throws_on_move(throws_on_move&& other) : left(other.left - 1) {
        if (left == 0) throw std::runtime_error("moved too often");
    }
    throws_on_move& operator=(throws_on_move&&) = default;
    int left;
};

}  // namespace

TEST_CASE("a oneshot is an object with two ends, which can be taken apart where it is made") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            oneshot<int> pair;
            CHECK(pair.sender.send(1));
            CHECK(co_await pair.receiver == 1);

            auto [sender, receiver] = oneshot<std::string>();
            static_assert(std::is_same_v<decltype(sender), oneshot_sender<std::string>>);
            static_assert(std::is_same_v<decltype(receiver), oneshot_receiver<std::string>>);
            CHECK(sender.send("both"));
            CHECK(co_await receiver == "both");

            struct request {  // as a member, and moved with it
                oneshot<int> answer = {};
            };
            request first;
            request moved{std::move(first)};
            CHECK(moved.answer.sender.send(2));
            CHECK(moved.answer.receiver.try_receive() == 2);
        });
    });
}

TEST_CASE("a oneshot's value arrives, whether it is sent before the wait or during it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto before = oneshot<std::unique_ptr<int>>();
            CHECK(before.sender.send(std::make_unique<int>(1)));
            auto first = co_await before.receiver;
            REQUIRE(first.has_value());
            CHECK(**first == 1);
            const auto again = co_await before.receiver;
            CHECK_FALSE(again.has_value());

            auto during = oneshot<std::unique_ptr<int>>();
            task_group group;
            auto waiter = group.spawn(receive(std::move(during.receiver)));
            co_await settle();
            CHECK_FALSE(waiter.done());
            CHECK(during.sender.send(std::make_unique<int>(2)));
            auto second = co_await waiter;
            CHECK(**second == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("a oneshot's receiver learns that the sender has gone, before the wait or during it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto both = oneshot<int>();
            std::optional<oneshot_sender<int>> sender(std::move(both.sender));
            task_group group;
            auto waiter = group.spawn(receive(std::move(both.receiver)));
            co_await settle();
            CHECK_FALSE(waiter.done());
            sender.reset();
            const auto nothing = co_await waiter;
            CHECK_FALSE(nothing.has_value());
            co_await group.join();

            auto other = oneshot<int>();
            {
                const auto gone = std::move(other.sender);
            }
            const auto at_once = co_await other.receiver;
            CHECK_FALSE(at_once.has_value());
        });
    });
}

TEST_CASE("a value that was sent outlives its sender") {
    run([]() -> task<> {
        auto both = oneshot<int>();
        {
            auto sender = std::move(both.sender);
            sender.send(5);
        }
        CHECK(both.receiver.try_receive() == 5);
        CHECK_FALSE(both.receiver.try_receive().has_value());
        co_return;
    });
}

TEST_CASE("a oneshot's sender keeps the value when the receiver has gone") {
    auto both = oneshot<std::unique_ptr<int>>();
    CHECK_FALSE(both.sender.is_closed());
    {
        const auto gone = std::move(both.receiver);
    }
    CHECK(both.sender.is_closed());
    auto value = std::make_unique<int>(3);
    CHECK_FALSE(both.sender.send(std::move(value)));
    REQUIRE(value != nullptr);
    CHECK(*value == 3);
}

TEST_CASE("a oneshot's sender can wait for its receiver to go") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto both = oneshot<int>();
            task_group group;
            auto waiter = group.spawn(outcome_of_closed(both.sender));
            co_await settle();
            CHECK_FALSE(waiter.done());
            {
                const auto gone = std::move(both.receiver);
            }
            CHECK(co_await waiter == "gone");
            co_await both.sender.closed();

            auto other = oneshot<int>();
            auto impatient = group.spawn(outcome_of_closed(other.sender));
            co_await settle();
            impatient.cancel();
            CHECK(co_await impatient == "cancelled");
            CHECK(other.sender.send(1));
            CHECK(co_await other.receiver == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("a oneshot's receiver is cancelled before and during its wait, but not after the send") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto both = oneshot<int>();
            const auto late = co_await as_result(with_timeout(1ms, both.receiver));
            CHECK(late.error() == std::errc::timed_out);

            const bool ended = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                const auto before = co_await as_result(both.receiver);
                CHECK(before.error() == std::errc::operation_canceled);
            });
            CHECK(ended);

            task_group group;
            auto waiter = group.spawn(receive(std::move(both.receiver)));
            co_await settle();
            CHECK(both.sender.send(4));
            waiter.cancel();
            CHECK(co_await waiter == 4);
            co_await group.join();
        });
    });
}

TEST_CASE("a move that throws leaves a oneshot as it was") {
    auto both = oneshot<throws_on_move>();
    CHECK_THROWS_AS(both.sender.send(throws_on_move{1}), std::runtime_error);
    CHECK_FALSE(both.receiver.try_receive().has_value());
    CHECK(both.sender.send(throws_on_move{100}));
    CHECK(both.receiver.try_receive().has_value());
}

TEST_CASE("a oneshot goes between a plain thread and a task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto both = oneshot<std::string>();
            std::thread thread(
                [](oneshot_sender<std::string> sender) { sender.send("from a thread"); },
                std::move(both.sender));
            CHECK(co_await both.receiver == "from a thread");
            thread.join();
        });
    });
}

TEST_CASE("oneshots between reactors lose no value, whoever is cancelled") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> wrong{0};
        std::atomic<int> alive{0};
        hammer(run, 50, [&](hammered& self) -> task<> {
            auto both = oneshot<std::pair<int, std::unique_ptr<counted>>>();
            task_group group;
            std::optional<bool> sent;
            struct sender_task {
                static task<> run(decltype(both.sender) sender, std::optional<bool>& sent,
                                  std::atomic<int>& alive, hammered random) {
                    co_await random.pause();
                    if (random.one_in(3)) co_await sender.closed();
                    sent = sender.send({7, std::make_unique<counted>(alive)});
                }
            };
            group.spawn_on(self.elsewhere(), sender_task::run(std::move(both.sender), sent, alive,
                                                              hammered{self.random}));
            std::optional<std::pair<int, std::unique_ptr<counted>>> got;
            {
                auto receiver = std::move(both.receiver);
                const auto in_time =
                    co_await as_result(with_timeout(std::chrono::microseconds(200), receiver));
                if (!in_time) got = receiver.try_receive();
                if (in_time && in_time->has_value() && (*in_time)->first != 7) ++wrong;
                if (in_time && in_time->has_value()) got.emplace(7, nullptr);
            }
            std::exception_ptr cancelled;
            try {
                co_await group.join();
            } catch (const operation_cancelled&) {
                cancelled = std::current_exception();
            }
            if (got && sent == false) ++wrong;
            if (cancelled) std::rethrow_exception(cancelled);
        });
        CHECK(wrong == 0);
        CHECK(alive == 0);
    });
}

}  // namespace rondo::test
