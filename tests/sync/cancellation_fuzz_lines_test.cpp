// The types that are built on others, and those that carry items, cancelled at every moment.

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/barrier.hpp>
#include <rondo/sync/channel.hpp>
#include <rondo/sync/condition_variable.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/latch.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/sync/once.hpp>
#include <rondo/sync/queue.hpp>
#include <rondo/sync/recursive_mutex.hpp>
#include <rondo/sync/select.hpp>
#include <rondo/sync/semaphore.hpp>
#include <rondo/sync/shared_mutex.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "support/each_point.hpp"

namespace rondo::test {

namespace {

/// Counts those inside for as long as it lives.
class presence {
public:
    explicit presence(int& inside) noexcept : inside_(inside) { ++inside_; }
    presence(const presence&) = delete;
    presence& operator=(const presence&) = delete;
    ~presence() { --inside_; }

private:
    int& inside_;
};

task<> lock_inside_lock(recursive_mutex& lock, int& inside) {
    const auto outer = co_await lock.lock();
    const presence here{inside};
    CHECK(inside == 1);
    co_await yield();
    const auto inner = co_await lock.lock();
    co_await yield();
}

task<> take_permits(bounded_semaphore& three, std::size_t count, std::size_t& taken) {
    auto permit = co_await three.acquire(count);
    taken += count;
    CHECK(taken <= 3);
    permit.dismiss();
    try {
        co_await yield();
    } catch (const operation_cancelled&) {
        taken -= count;
        three.release(count);
        throw;
    }
    taken -= count;
    three.release(count);
}

task<> read(shared_mutex& lock, int& readers, const int& writers) {
    const auto shared = co_await lock.lock_shared();
    const presence here{readers};
    CHECK(writers == 0);
    co_await yield();
}

task<> write_then_read(shared_mutex& lock, int& readers, int& writers) {
    auto alone = co_await lock.lock();
    {
        const presence here{writers};
        CHECK(writers == 1);
        CHECK(readers == 0);
        co_await yield();
    }
    const auto shared = std::move(alone).downgrade();
    const presence here{readers};
    co_await yield();
}

task<> wait_for_jobs(mutex& lock, condition_variable& changed, int& jobs, int& done) {
    auto held = co_await lock.lock();
    co_await changed.wait(held, [&] { return jobs > 0; });
    CHECK(held.owns_lock());
    --jobs;
    ++done;
}

task<> make_jobs(mutex& lock, condition_variable& changed, int& jobs, int count) {
    for (int i = 0; i < count; ++i) {
        const auto held = co_await lock.lock();
        ++jobs;
        changed.notify_one();
    }
}

task<> arrive(latch& all, int& passed) {
    co_await yield();
    co_await all.arrive_and_wait();
    ++passed;
}

task<> meet_twice(barrier& all, int& met) {
    try {
        co_await all.arrive_and_wait();
        ++met;
        co_await all.arrive_and_wait();
        ++met;
    } catch (const broken_barrier&) {
    }
}

task<> initialise(once& flag, int& started, int& finished) {
    co_await flag.call([&]() -> task<> {
        ++started;
        co_await yield();
        ++finished;
    });
    CHECK(finished == 1);
}

task<> send_numbers(channel<int>& numbers, int first, std::vector<int>& sent) {
    for (int i = first; i < first + 3; ++i) {
        co_await numbers.send(i);
        sent.push_back(i);
    }
}

task<> receive_numbers(channel<int>& numbers, std::vector<int>& received) {
    for (;;) {
        const auto number = co_await numbers.receive();
        if (!number) co_return;
        received.push_back(*number);
    }
}

template <class Queue>
task<> put_numbers(Queue& numbers, int first, std::vector<int>& put) {
    for (int i = first; i < first + 3; ++i) {
        co_await numbers.put(i);
        put.push_back(i);
    }
}

template <class Queue>
task<> get_numbers(Queue& numbers, int count, std::vector<int>& got) {
    for (int i = 0; i < count; ++i) {
        got.push_back(co_await numbers.get());
        numbers.task_done();
    }
}

template <class Queue>
task<> get_until_closed(Queue& numbers, std::vector<int>& got) {
    for (;;) {
        const auto number = co_await as_result(numbers.get());
        if (!number) co_return;
        got.push_back(*number);
        numbers.task_done();
    }
}

task<> select_numbers(channel<int>& one, channel<int>& other, event& stop,
                      std::vector<int>& received, std::size_t most) {
    while (received.size() < most) {
        const auto next = co_await select(one.receive(), other.receive(), stop.wait());
        if (next.index() == 0) received.push_back(std::get<0>(next).value_or(-1));
        if (next.index() == 1) received.push_back(std::get<1>(next).value_or(-1));
        if (next.index() == 2) co_return;
    }
}

/// What is left in it when everybody has gone.
template <class Numbers, class Take>
void drain(Numbers& numbers, Take take, std::vector<int>& into) {
    while (const auto number = take(numbers)) into.push_back(*number);
}

}  // namespace

TEST_CASE("a recursive mutex is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        recursive_mutex lock;
        int inside = 0;
        co_await point.run(all_of(lock_inside_lock(lock, inside), lock_inside_lock(lock, inside)));
        CHECK(inside == 0);
        CHECK(lock.try_lock().has_value());
    });
}

TEST_CASE("a bounded semaphore is cancelled at each point, and has all its permits in the end") {
    at_each_point([](cancellation_point& point) -> task<> {
        bounded_semaphore three{3};
        std::size_t taken = 0;
        task_group group;
        group.spawn(take_permits(three, 2, taken));
        group.spawn(take_permits(three, 1, taken));
        co_await point.run(all_of(take_permits(three, 3, taken), take_permits(three, 1, taken),
                                  take_permits(three, 2, taken)));
        co_await group.join();
        CHECK(taken == 0);
        CHECK(three.available() == 3);
        CHECK_THROWS_AS(three.release(), std::logic_error);
    });
}

TEST_CASE("a shared mutex is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        shared_mutex lock;
        int readers = 0;
        int writers = 0;
        task_group group;
        group.spawn(read(lock, readers, writers));
        group.spawn(write_then_read(lock, readers, writers));
        co_await point.run(all_of(write_then_read(lock, readers, writers),
                                  read(lock, readers, writers), read(lock, readers, writers)));
        co_await group.join();
        CHECK(readers + writers == 0);
        CHECK(lock.try_lock().has_value());
    });
}

TEST_CASE("a condition variable is cancelled at each point, and no notification is lost") {
    at_each_point([](cancellation_point& point) -> task<> {
        mutex lock;
        condition_variable changed;
        int jobs = 0;
        int done = 0;
        int done_here = 0;
        task_group group;
        group.spawn(wait_for_jobs(lock, changed, jobs, done));
        group.spawn(wait_for_jobs(lock, changed, jobs, done));
        group.spawn(make_jobs(lock, changed, jobs, 3));
        co_await point.run(wait_for_jobs(lock, changed, jobs, done_here));
        co_await group.join();
        CHECK(done == 2);
        CHECK(jobs + done_here == 1);
        CHECK_FALSE(lock.is_locked());
    });
}

TEST_CASE("a latch is cancelled at each point") {
    at_each_point([](cancellation_point& point) -> task<> {
        latch all{3};
        int passed = 0;
        const bool completed = co_await point.run(
            all_of(arrive(all, passed), arrive(all, passed), arrive(all, passed)));
        if (completed) CHECK(passed == 3);
    });
}

TEST_CASE("a barrier that loses a party at any point breaks for the others") {
    at_each_point([](cancellation_point& point) -> task<> {
        barrier all{3};
        int met = 0;
        int met_here = 0;
        task_group group;
        group.spawn(meet_twice(all, met));
        group.spawn(meet_twice(all, met));
        const bool completed = co_await point.run(meet_twice(all, met_here));
        co_await group.join();
        if (completed) CHECK(met + met_here == 6);
        CHECK(all.is_broken() != completed);
        CHECK(all.waiting() == 0);
    });
}

TEST_CASE("once is cancelled at each point, and somebody gets it done") {
    at_each_point([](cancellation_point& point) -> task<> {
        once flag;
        int started = 0;
        int finished = 0;
        co_await point.run(
            all_of(initialise(flag, started, finished), initialise(flag, started, finished)));
        co_await initialise(flag, started, finished);
        CHECK(finished == 1);
        CHECK(started >= 1);
        CHECK(flag.is_done());
    });
}

TEST_CASE("a channel is cancelled at each point: what was sent is received, once, in order") {
    for (const std::size_t capacity : {0u, 1u, 2u}) {
        CAPTURE(capacity);
        at_each_point([capacity](cancellation_point& point) -> task<> {
            channel<int> numbers{capacity};
            std::vector<int> sent;
            std::vector<int> received;
            task_group group;
            group.spawn(receive_numbers(numbers, received));
            co_await point.run(send_numbers(numbers, 0, sent));
            numbers.close();
            co_await group.join();
            CHECK(received == sent);
        });
        at_each_point([capacity](cancellation_point& point) -> task<> {
            channel<int> numbers{capacity};
            std::vector<int> sent;
            std::vector<int> received;
            task_group group;
            group.spawn(send_numbers(numbers, 0, sent));
            co_await point.run([](channel<int>& from, std::vector<int>& into) -> task<> {
                for (int i = 0; i < 3; ++i) into.push_back((co_await from.receive()).value());
            }(numbers, received));
            group.spawn(receive_numbers(numbers, received));
            co_await settle();
            numbers.close();
            co_await group.join();
            CHECK(received == std::vector{0, 1, 2});
        });
    }
}

TEST_CASE("a queue is cancelled at each point: what was put is got, once, in order") {
    at_each_point([](cancellation_point& point) -> task<> {
        queue<int> numbers{2};
        std::vector<int> put;
        std::vector<int> got;
        co_await point.run(all_of(put_numbers(numbers, 0, put), get_numbers(numbers, 3, got)));
        drain(numbers, [](queue<int>& from) { return from.try_get(); }, got);
        CHECK(got == put);
    });
}

// The numbers are put in ascending order, by one task.
TEST_CASE_TEMPLATE("what a cancellation leaves in a queue comes out once, in the queue's order",
                   Queue, lifo_queue<int>, priority_queue<int>) {
    constexpr bool ascending = std::is_same_v<Queue, priority_queue<int>>;
    at_each_point([](cancellation_point& point) -> task<> {
        Queue numbers{3};
        std::vector<int> put;
        std::vector<int> got;
        std::vector<int> left;
        co_await point.run(all_of(put_numbers(numbers, 0, put), get_numbers(numbers, 2, got)));
        drain(numbers, [](Queue& from) { return from.try_get(); }, left);
        CHECK((ascending ? std::is_sorted(left.begin(), left.end())
                         : std::is_sorted(left.rbegin(), left.rend())));
        got.insert(got.end(), left.begin(), left.end());
        std::sort(got.begin(), got.end());
        CHECK(got == put);
    });
}

TEST_CASE_TEMPLATE("who puts and gets beside those who are cancelled is not forgotten", Queue,
                   queue<int>, lifo_queue<int>, priority_queue<int>) {
    at_each_point([](cancellation_point& point) -> task<> {
        Queue numbers{1};
        std::vector<int> put;
        std::vector<int> got;
        task_group group;
        auto putting = group.spawn(put_numbers(numbers, 10, put));
        // Nine are put, and room is for one.
        co_await point.run(all_of(put_numbers(numbers, 0, put), get_numbers(numbers, 4, got),
                                  put_numbers(numbers, 20, put), get_numbers(numbers, 4, got)));
        group.spawn(get_until_closed(numbers, got));
        co_await putting;
        co_await numbers.join();
        numbers.close();
        co_await group.join();
        std::sort(put.begin(), put.end());
        std::sort(got.begin(), got.end());
        CHECK(got == put);
        CHECK(std::count_if(put.begin(), put.end(), [](int n) { return n / 10 == 1; }) == 3);
    });
}

TEST_CASE("a select is cancelled at each point, and takes from one line only") {
    at_each_point([](cancellation_point& point) -> task<> {
        channel<int> one;
        channel<int> other;
        event stop;
        std::vector<int> sent_one;
        std::vector<int> sent_other;
        std::vector<int> received;
        task_group group;
        group.spawn(send_numbers(one, 0, sent_one));
        group.spawn(send_numbers(other, 10, sent_other));
        co_await point.run(select_numbers(one, other, stop, received, 4));
        CHECK(received.size() <= 4);
        co_await select_numbers(one, other, stop, received, 6);
        co_await group.join();
        stop.set();
        co_await select_numbers(one, other, stop, received, 7);
        CHECK(received.size() == 6);
        CHECK(std::accumulate(received.begin(), received.end(), 0) == 0 + 1 + 2 + 10 + 11 + 12);
    });
}

}  // namespace rondo::test
