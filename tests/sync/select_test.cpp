#include <rondo/sync/select.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/broadcast.hpp>
#include <rondo/sync/channel.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/oneshot.hpp>
#include <rondo/sync/queue.hpp>
#include <rondo/sync/watch.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/hammer.hpp"
#include "support/many_reactors.hpp"
#include "support/support.hpp"
#include "support/throw_count.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// "a 1", "b 2", "set", "time" or "cancelled".
task<std::string> first_of(channel<int>& a, channel<int>& b, event& flag) {
    const auto how =
        co_await as_result(select(a.receive(), b.receive(), flag.wait(), sleep_for(1h)));
    if (!how) co_return "cancelled";
    const auto& first = *how;
    if (first.index() == 0) co_return "a " + std::to_string(std::get<0>(first).value_or(-1));
    if (first.index() == 1) co_return "b " + std::to_string(std::get<1>(first).value_or(-1));
    co_return first.index() == 2 ? "set" : "time";
}

}  // namespace

TEST_CASE("select does an operation that can be done, and only that") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a{1};
            channel<std::string> b{1};
            event flag;
            co_await b.send("hello");
            auto first = co_await select(a.receive(), b.receive(), flag.wait());
            REQUIRE(first.index() == 1);
            CHECK(*std::get<1>(first) == "hello");
            CHECK(a.size() == 0);
            flag.set();
            auto second = co_await select(a.receive(), b.receive(), flag.wait());
            CHECK(second.index() == 2);
            flag.clear();
            auto third = co_await select(a.receive(), b.receive(), flag.wait(), a.send(1));
            CHECK(third.index() == 3);
            CHECK(a.size() == 1);
        });
    });
}

TEST_CASE("of operations that can always be done, a select does each equally often") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event first;
            event second;
            event third;
            first.set();
            second.set();
            third.set();
            // Two tasks that take turns, as servers of several channels do.
            const auto count = [&](std::array<int, 3>& done, std::size_t& longest) -> task<> {
                std::array<std::size_t, 3> last{};
                for (std::size_t i = 1; i <= 600; ++i) {
                    const auto how = co_await select(first.wait(), second.wait(), third.wait());
                    ++done.at(how.index());
                    last.at(how.index()) = i;
                    for (const std::size_t one : last) longest = std::max(longest, i - one);
                    co_await yield();
                }
            };
            for (const int tasks : {1, 2, 3}) {
                CAPTURE(tasks);
                std::vector<std::array<int, 3>> done(tasks);
                std::size_t longest = 0;
                task_group group;
                for (auto& one : done) group.spawn(count(one, longest));
                co_await group.join();
                for (const auto& one : done) {
                    for (const int times : one) CHECK(std::abs(times - 200) < 10);
                }
                CHECK(longest < 12);
            }
        });
    });
}

TEST_CASE("two channels that are never empty both get through, and so does the end of the work") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a{1};
            channel<int> b{1};
            event stop;
            std::array<int, 2> received{};
            for (;;) {
                a.try_send(1);
                b.try_send(2);
                const auto next = co_await select(a.receive(), b.receive(), stop.wait());
                if (next.index() == 2) break;
                if (++received.at(next.index()) == 100) stop.set();
            }
            CHECK(std::abs(received[0] - received[1]) < 10);
        });
    });
}

TEST_CASE("a broadcast's items and a watch's changes can be selected, and none is missed") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            broadcast<int> news{4};
            watch<int> level{0};
            auto mine = news.subscribe();
            auto current = level.subscribe();
            channel<int> orders{1};
            const auto next = [&]() -> task<std::string> {
                const auto how = co_await as_result(
                    select(orders.receive(), mine.receive(), current.next(), level.changed(2)));
                if (!how) co_return "cancelled";
                if (how->index() == 0) co_return "order";
                if (how->index() == 2) co_return "level " + std::to_string(std::get<2>(*how));
                if (how->index() == 3) co_return "version " + std::to_string(std::get<3>(*how));
                const auto& item = std::get<1>(*how);
                co_return item ? "news " + std::to_string(item->item) : "end";
            };
            level.set(10);  // the second version
            CHECK(co_await next() == "level 10");

            task_group group;
            auto waiting = group.spawn(next);
            co_await settle();
            CHECK_FALSE(waiting.done());
            waiting.cancel();
            CHECK(co_await waiting == "cancelled");

            waiting = group.spawn(next);
            co_await settle();
            CHECK(orders.try_send(1));
            news.send(1);  // too late for this one, and not lost
            CHECK(co_await waiting == "order");
            CHECK(co_await next() == "news 1");

            waiting = group.spawn(next);
            co_await settle();
            news.send(2);
            level.set(11);
            news.send(3);
            CHECK(co_await waiting == "news 2");
            CHECK(current.has_changed());
            CHECK((co_await mine.receive())->item == 3);
            CHECK(current.get() == 11);
            CHECK(co_await next() == "version 3");

            news.close();
            const auto end = co_await select(mine.receive(), orders.receive());
            REQUIRE(end.index() == 0);
            CHECK_FALSE(std::get<0>(end).has_value());
            co_await group.join();
        });
    });
}

TEST_CASE("a oneshot's value can be selected, and stays where another case is done") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            oneshot<std::unique_ptr<int>> reply;
            event stop;
            task_group group;
            const auto wait = [&]() -> task<std::string> {
                auto how = co_await select(stop.wait(), reply.receiver.receive());
                if (how.index() == 0) co_return "stopped";
                const auto& value = std::get<1>(how);
                co_return value ? std::to_string(**value) : "nothing";
            };
            auto first = group.spawn(wait);
            co_await settle();
            stop.set();
            CHECK(reply.sender.send(std::make_unique<int>(1)));
            CHECK(co_await first == "stopped");
            stop.clear();
            CHECK(co_await wait() == "1");

            reply = oneshot<std::unique_ptr<int>>();
            auto second = group.spawn(wait);
            co_await settle();
            CHECK(reply.sender.send(std::make_unique<int>(2)));
            stop.set();
            CHECK(co_await second == "2");
            stop.clear();

            reply = oneshot<std::unique_ptr<int>>();
            auto third = group.spawn(wait);
            co_await settle();
            {
                const auto gone = std::move(reply.sender);
            }
            CHECK(co_await third == "nothing");

            oneshot<int> unwanted;
            std::optional<oneshot_receiver<int>> receiver(std::move(unwanted.receiver));
            auto fourth = group.spawn(select(stop.wait(), unwanted.sender.closed()));
            co_await settle();
            receiver.reset();
            const auto how = co_await fourth;
            CHECK(how.index() == 1);
            co_await group.join();
        });
    });
}

TEST_CASE("selects and the ends of oneshots and watches on other schedulers lose nothing") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> wrong{0};
        watch<int> level{0};
        broadcast<int> news{10'000};
        hammer(run, 60, [&](hammered& self) -> task<> {
            auto both = oneshot<int>();
            auto mine = news.subscribe();
            auto current = level.subscribe();
            task_group group;
            struct sender_task {
                static task<> run(oneshot_sender<int> sender, watch<int>& level,
                                  broadcast<int>& news, hammered random) {
                    co_await random.pause();
                    if (random.one_in(2)) level.set(1);
                    if (random.one_in(2)) news.send(2);
                    if (random.one_in(4)) co_return;
                    if (random.one_in(4)) {
                        co_await select(sender.closed(), sleep_for(20us));
                    }
                    sender.send(3);
                }
            };
            group.spawn_on(self.elsewhere(), sender_task::run(std::move(both.sender), level, news,
                                                              hammered{self.random}));
            std::exception_ptr cancelled;
            try {
                auto receiver = std::move(both.receiver);
                for (bool ended = false; !ended;) {
                    const auto how =
                        co_await select(mine.receive(), receiver.receive(), current.next(),
                                        sleep_for(std::chrono::microseconds(self.random() % 50)));
                    if (how.index() == 0) {
                        if (std::get<0>(how)->missed != 0 || std::get<0>(how)->item != 2) ++wrong;
                    }
                    if (how.index() == 1) {
                        ended = true;
                        if (std::get<1>(how).value_or(3) != 3) ++wrong;
                    }
                    if (how.index() == 2 && std::get<2>(how) != 1) ++wrong;
                }
            } catch (const operation_cancelled&) {
                cancelled = std::current_exception();
            }
            try {
                co_await group.join();
            } catch (const operation_cancelled&) {
                cancelled = std::current_exception();
            }
            if (cancelled) std::rethrow_exception(cancelled);
        });
        CHECK(wrong == 0);
    });
}

TEST_CASE("a select that waits ends with what comes first, and leaves the other lines") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a;
            channel<int> b;
            event flag;
            task_group group;
            auto one = group.spawn(first_of(a, b, flag));
            auto two = group.spawn(first_of(a, b, flag));
            auto three = group.spawn(first_of(a, b, flag));
            co_await settle();
            CHECK(b.try_send(5));
            CHECK(a.try_send(6));
            flag.set();
            CHECK_FALSE(a.try_send(7));
            CHECK(co_await one == "b 5");
            CHECK(co_await two == "a 6");
            CHECK(co_await three == "set");
            CHECK_FALSE(a.try_send(8));
            CHECK_FALSE(b.try_send(8));
            flag.clear();
            co_await group.join();
        });
    });
}

TEST_CASE("of two items that come before a select has resumed, it takes one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a{1};
            channel<int> b{1};
            event flag;
            task_group group;
            auto chooser = group.spawn(first_of(a, b, flag));
            co_await settle();
            CHECK(a.try_send(1));
            CHECK(b.try_send(2));  // lies in the channel: the choice is made
            CHECK(a.try_send(3));
            flag.set();
            CHECK(co_await chooser == "a 1");
            CHECK(*b.try_receive() == 2);
            CHECK(*a.try_receive() == 3);
            co_await group.join();
        });
    });
}

TEST_CASE("a select that sends sends what is taken, and keeps the rest where it was") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<std::unique_ptr<int>> a;
            channel<std::unique_ptr<int>> b;
            auto for_a = std::make_unique<int>(1);
            auto for_b = std::make_unique<int>(2);
            task_group group;
            auto receiver = group.spawn(b.receive());
            auto how = co_await select(a.send_from(for_a), b.send_from(for_b));
            CHECK(how.index() == 1);
            CHECK(for_a != nullptr);
            CHECK(for_b == nullptr);
            const auto got = co_await receiver;
            CHECK(**got == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("what has ended a select may be gone before the select has resumed") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a;
            channel<int> b;
            task_group group;
            auto flag = std::make_unique<event>();
            auto waits = group.spawn(first_of(a, b, *flag));
            co_await settle();
            flag->set();
            flag.reset();
            CHECK(co_await waits == "set");

            event other;
            auto closing = std::make_unique<channel<int>>();
            auto receives = group.spawn(first_of(a, *closing, other));
            co_await settle();
            CHECK(closing->try_send(7));
            closing.reset();
            CHECK(co_await receives == "b 7");
            co_await group.join();
        });
    });
}

TEST_CASE("two selects serve each other, and one does not serve itself") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> meeting;
            channel<int> other;
            task_group group;
            auto sender = group.spawn(select(meeting.receive(), meeting.send(1)));
            co_await settle();
            CHECK_FALSE(sender.done());
            auto receiver = group.spawn(select(other.receive(), meeting.receive()));
            const auto sent = co_await sender;
            const auto received = co_await receiver;
            CHECK(sent.index() == 1);
            REQUIRE(received.index() == 1);
            CHECK(*std::get<1>(received) == 1);
            CHECK_FALSE(meeting.try_send(2));
            CHECK_FALSE(meeting.try_receive().has_value());
            co_await group.join();
        });
    });
}

TEST_CASE("a sleep ends a select, and so does a channel's end") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a;
            queue<int> q;
            const auto late = co_await select(a.receive(), q.get(), sleep_for(1ms));
            CHECK(late.index() == 2);
            a.close();
            const auto end = co_await select(a.receive(), sleep_for(1h));
            REQUIRE(end.index() == 0);
            CHECK_FALSE(std::get<0>(end).has_value());
            CHECK_THROWS_AS(co_await select(a.send(1), sleep_for(1h)), closed_error);

            task_group group;
            event never;
            auto waiting = group.spawn(as_result(select(never.wait(), q.get(), sleep_for(1h))));
            co_await settle();
            const unsigned thrown = throw_count();
            q.close();
            const auto how = co_await waiting;
            CHECK(how.error() == sync_errc::closed);
            CHECK(throw_count() == thrown);
            co_await group.join();
        });
    });
}

TEST_CASE("a cancelled select has done nothing; one that has been served keeps what it got") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            channel<int> a;
            channel<int> b;
            event flag;
            task_group group;
            auto during = group.spawn(first_of(a, b, flag));
            co_await settle();
            during.cancel();
            CHECK_FALSE(a.try_send(1));
            CHECK(co_await during == "cancelled");
            CHECK_FALSE(b.try_send(1));

            flag.set();
            auto before = group.spawn(first_of(a, b, flag));
            before.cancel();
            CHECK(co_await before == "cancelled");
            flag.clear();

            auto after = group.spawn(first_of(a, b, flag));
            co_await settle();
            CHECK(b.try_send(2));
            after.cancel();
            CHECK(co_await after == "b 2");
            co_await group.join();
        });
    });
}

TEST_CASE("selects on four schedulers, cancelled at random, lose no item and take none twice") {
    on_each_reactor_kind([](auto run) {
        const unsigned seed = std::random_device{}();
        CAPTURE(seed);
        constexpr std::size_t per_task = 300;
        std::vector<std::atomic<int>> fate(8 * per_task);  // 1: sent; 2 more: received
        run_many(run, 4, [&]() -> task<> {
            channel<std::unique_ptr<std::size_t>> a;
            channel<std::unique_ptr<std::size_t>> b{1};
            event flag;
            const auto work = [&](std::size_t index) -> task<> {
                std::minstd_rand random{static_cast<unsigned>(seed + index)};
                for (std::size_t i = 0; i < per_task; ++i) {
                    const std::size_t number = 2 * (index * per_task + i);
                    auto to_a = std::make_unique<std::size_t>(number);
                    auto to_b = std::make_unique<std::size_t>(number + 1);
                    const auto patience = std::chrono::microseconds(random() % 40);
                    const unsigned what = random() % 4;
                    if (what == 0) {
                        const auto how = co_await as_result(with_timeout(
                            patience, select(a.send_from(to_a), b.send_from(to_b), flag.wait())));
                        const bool is_sent = how && how->index() < 2;
                        CHECK((to_a == nullptr) == (is_sent && how->index() == 0));
                        CHECK((to_b == nullptr) == (is_sent && how->index() == 1));
                    } else if (what == 1) {
                        auto how = co_await as_result(
                            select(b.receive(), a.receive(), flag.wait(), sleep_for(patience)));
                        if (how && how->index() == 0) fate[**std::get<0>(*how)] += 2;
                        if (how && how->index() == 1) fate[**std::get<1>(*how)] += 2;
                    } else if (what == 2) {
                        auto how = co_await as_result(with_timeout(
                            patience, select(a.receive(), b.send_from(to_b), flag.wait())));
                        if (how && how->index() == 0) fate[**std::get<0>(*how)] += 2;
                    } else {
                        flag.set();
                        flag.clear();
                        auto one = a.try_receive();
                        if (one) fate[**one] += 2;
                    }
                    if (to_a == nullptr) fate[number] += 1;
                    if (to_b == nullptr) fate[number + 1] += 1;
                }
            };
            co_await on_each_reactor(work);
            while (const auto one = b.try_receive()) fate[**one] += 2;
            CHECK_FALSE(a.try_receive().has_value());
        });
        int sent = 0;
        for (const auto& one : fate) {
            CHECK((one == 0 || one == 3));
            sent += one == 3;
        }
        CHECK(sent > 0);
    });
}

}  // namespace rondo::test
