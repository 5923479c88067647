#include <rondo/sync/channel.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/support.hpp"
#include "support/throw_count.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// "sent", "closed" or "cancelled".
task<std::string> outcome_of_send(channel<int>& into, int value) {
    const auto how = co_await as_result(into.send(value));
    if (how) co_return "sent";
    co_return how.error() == sync_errc::closed ? "closed" : "cancelled";
}

/// The item, or "closed", or "cancelled".
task<std::string> outcome_of_receive(channel<int>& from) {
    const auto how = co_await as_result(from.receive());
    if (!how) co_return "cancelled";
    co_return *how ? std::to_string(**how) : "closed";
}

task<> receive_all(channel<std::string>& from, std::vector<std::string>& into) {
    while (auto one = co_await from.receive()) into.push_back(*std::move(one));
}

}  // namespace

TEST_CASE("a channel gives its items in order, and ends once it is closed and drained") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t capacity : {0, 1, 3}) {
            CAPTURE(capacity);
            run([=]() -> task<> {
                channel<std::string> names{capacity};
                CHECK(names.capacity() == capacity);
                std::vector<std::string> received;
                std::vector<std::string> sent;
                task_group group;
                group.spawn(receive_all(names, received));
                for (int i = 0; i < 10; ++i) {
                    sent.push_back("a name too long for the string itself " + std::to_string(i));
                    co_await names.send(sent.back());
                }
                names.close();
                co_await group.join();
                CHECK(received == sent);
                const auto after = co_await names.receive();
                CHECK_FALSE(after.has_value());
                CHECK_THROWS_AS(co_await names.send("late"), closed_error);
                CHECK_THROWS_AS(names.try_send("late"), closed_error);
            });
        }
    });
}

TEST_CASE("a send into a channel of capacity 0 completes when somebody receives") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> meeting;
            CHECK_FALSE(meeting.try_send(1));
            CHECK_FALSE(meeting.try_receive().has_value());
            task_group group;
            auto first = group.spawn(outcome_of_send(meeting, 1));
            auto second = group.spawn(outcome_of_send(meeting, 2));
            co_await settle();
            CHECK_FALSE(first.done());
            CHECK(meeting.size() == 0);
            CHECK(*(co_await meeting.receive()) == 1);
            co_await settle();
            CHECK(first.done());
            CHECK_FALSE(second.done());
            CHECK(*meeting.try_receive() == 2);
            auto receiver = group.spawn(outcome_of_receive(meeting));
            co_await settle();
            CHECK(meeting.try_send(3));
            CHECK(co_await receiver == "3");
            co_await group.join();
        });
    });
}

TEST_CASE("a sender waits while the channel is full, and nobody overtakes it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> two{2};
            task_group group;
            std::vector<task_handle<std::string>> senders;
            for (int i = 0; i < 5; ++i) senders.push_back(group.spawn(outcome_of_send(two, i)));
            co_await settle();
            CHECK(two.size() == 2);
            for (int i = 0; i < 5; ++i) {
                CHECK(*two.try_receive() == i);
                CHECK_FALSE((i < 3 && two.try_send(99)));
            }
            co_await group.join();
        });
    });
}

TEST_CASE("closing a channel turns away who waits to send, and ends who waits to receive") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> one{1};
            co_await one.send(1);
            task_group group;
            auto sender = group.spawn(outcome_of_send(one, 2));
            co_await settle();
            const unsigned thrown = throw_count();
            one.close();
            CHECK(one.is_closed());
            CHECK(co_await sender == "closed");
            CHECK(*(co_await one.receive()) == 1);
            const auto after = co_await one.receive();
            CHECK_FALSE(after.has_value());
            CHECK_FALSE(one.try_receive().has_value());

            channel<int> empty;
            auto first = group.spawn(outcome_of_receive(empty));
            auto second = group.spawn(outcome_of_receive(empty));
            co_await settle();
            empty.close();
            CHECK(co_await first == "closed");
            CHECK(co_await second == "closed");
            CHECK(throw_count() == thrown);
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled send or receive leaves the line, and the others keep their order") {
    on_each_reactor_kind([](auto run) {
        for (std::size_t leaver = 0; leaver < 3; ++leaver) {
            CAPTURE(leaver);
            run([=]() -> task<> {
                channel<int> meeting;
                task_group group;
                std::vector<task_handle<std::string>> waiters;
                for (int i = 0; i < 3; ++i)
                    waiters.push_back(group.spawn(outcome_of_send(meeting, i)));
                co_await settle();
                waiters[leaver].cancel();
                for (int i = 0; i < 3; ++i) {
                    if (i != static_cast<int>(leaver)) CHECK(*(co_await meeting.receive()) == i);
                }
                CHECK_FALSE(meeting.try_receive().has_value());
                CHECK(co_await waiters[leaver] == "cancelled");
                waiters.clear();
                for (int i = 0; i < 3; ++i)
                    waiters.push_back(group.spawn(outcome_of_receive(meeting)));
                co_await settle();
                waiters[leaver].cancel();
                CHECK(meeting.try_send(0));
                CHECK(meeting.try_send(1));
                CHECK_FALSE(meeting.try_send(2));
                int next = 0;
                for (std::size_t i = 0; i < 3; ++i) {
                    const auto how = co_await waiters[i];
                    CHECK(how == (i == leaver ? "cancelled" : std::to_string(next++)));
                }
                co_await group.join();
            });
        }
    });
}

TEST_CASE("a send or receive is cancelled before it begins, but not once it has happened") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> meeting;
            task_group group;
            auto receiver = group.spawn(outcome_of_receive(meeting));
            co_await settle();
            auto before = group.spawn(outcome_of_send(meeting, 1));
            before.cancel();
            CHECK(co_await before == "cancelled");
            CHECK_FALSE(receiver.done());
            co_await meeting.send(2);
            receiver.cancel();
            CHECK(co_await receiver == "2");

            auto sender = group.spawn(outcome_of_send(meeting, 3));
            co_await settle();
            CHECK(*(co_await meeting.receive()) == 3);
            sender.cancel();
            CHECK(co_await sender == "sent");
            co_await group.join();
        });
    });
}

TEST_CASE("send_from moves its value only when it is sent") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<std::unique_ptr<int>> meeting;
            auto value = std::make_unique<int>(7);
            const auto late = co_await as_result(with_timeout(1ms, meeting.send_from(value)));
            CHECK(late.error() == std::errc::timed_out);
            REQUIRE(value != nullptr);
            task_group group;
            group.spawn([](channel<std::unique_ptr<int>>& into,
                           std::unique_ptr<int>& from) -> task<> { co_await into.send_from(from); },
                        std::ref(meeting), std::ref(value));
            co_await settle();
            CHECK(value != nullptr);
            const auto got = co_await meeting.receive();
            CHECK(value == nullptr);
            CHECK(**got == 7);
            co_await group.join();
            value = std::make_unique<int>(8);
            meeting.close();
            CHECK_THROWS_AS(co_await meeting.send_from(value), closed_error);
            CHECK(*value == 8);
            CHECK_THROWS_AS(meeting.try_send(std::move(value)), closed_error);
        });
    });
}

TEST_CASE("the items of a cancelled send and of an abandoned channel are destroyed, once") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        run([&]() -> task<> {
            channel<counted> one{1};
            co_await one.send(counted{alive});
            task_group group;
            group.spawn(one.send(counted{alive}));
            co_await settle();
            CHECK(alive.load() > 1);
            group.cancel();
            co_await group.join();
            CHECK(alive.load() == 1);
            {
                const auto got = co_await one.receive();
                CHECK(alive.load() == 1);
            }
            CHECK(alive.load() == 0);
            co_await one.send(counted{alive});
        });
        CHECK(alive.load() == 0);
    });
}

TEST_CASE("a plain thread sends into a channel and receives from it without waiting") {
    on_each_reactor_kind([](auto run) {
        channel<int> to{4};
        channel<int> back{4};
        std::thread other([&] {
            int sent = 0;
            for (int received = 0; received < 200;) {
                if (sent < 200 && to.try_send(sent)) ++sent;
                if (const auto one = back.try_receive()) CHECK(*one == received++);
                std::this_thread::yield();
            }
            to.close();
        });
        run([&]() -> task<> {
            while (const auto one = co_await to.receive()) co_await back.send(*one);
        });
        other.join();
    });
}

TEST_CASE("two tasks on two schedulers play ping-pong over channels") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            channel<int> ping;
            channel<int> pong;
            task_group group;
            group.spawn_on(
                place(1),
                [](channel<int>& in, channel<int>& out) -> task<> {
                    while (const auto ball = co_await in.receive()) {
                        CHECK(here() == 1);
                        co_await out.send(*ball + 1);
                    }
                },
                std::ref(ping), std::ref(pong));
            int ball = 0;
            for (int i = 0; i < 500; ++i) {
                co_await ping.send(ball);
                ball = *(co_await pong.receive());
                CHECK(here() == 0);
            }
            CHECK(ball == 500);
            ping.close();
            co_await group.join();
        });
    });
}

TEST_CASE("senders and receivers on four schedulers, cancelled at random, lose no item") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t capacity : {0, 2}) {
            CAPTURE(capacity);
            const unsigned seed = std::random_device{}();
            CAPTURE(seed);
            constexpr std::size_t per_task = 300;
            std::vector<std::atomic<int>> fate(4 * per_task);  // 1: sent; then 2 more: received
            run_many(run, 4, [&]() -> task<> {
                channel<std::unique_ptr<std::size_t>> items{capacity};
                const auto work = [&](std::size_t index) -> task<> {
                    std::minstd_rand random{static_cast<unsigned>(seed + index)};
                    for (std::size_t i = 0; i < per_task; ++i) {
                        const auto patience = std::chrono::microseconds(random() % 40);
                        const std::size_t number = index * per_task + i;
                        if (random() % 2 == 0) {
                            auto value = std::make_unique<std::size_t>(number);
                            const auto how =
                                co_await as_result(with_timeout(patience, items.send_from(value)));
                            CHECK(how.has_value() == (value == nullptr));
                            if (how) fate[number] += 1;
                        } else {
                            auto how = co_await as_result(with_timeout(patience, items.receive()));
                            if (how) fate[***how] += 2;
                        }
                    }
                };
                co_await on_each_reactor(work);
                while (const auto one = items.try_receive()) fate[**one] += 2;
            });
            int sent = 0;
            for (const auto& one : fate) {
                CHECK((one == 0 || one == 3));
                sent += one == 3;
            }
            CHECK(sent > 0);
        }
    });
}

}  // namespace rondo::test
