// Queues and channels are linearisable: whatever tasks of four schedulers do with one at the same
// time, there is an order of their operations, each at some moment between its begin and its end,
// in which a plain container would have given the same results. The search for that order is the
// one of J. Wing and C. Gong, "Testing and Verifying Concurrent Objects", 1993; an operation that
// was cancelled must not be needed for it.

#include <rondo/sync/channel.hpp>
#include <rondo/sync/queue.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/timeout.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

struct operation {
    enum what { put, put_refused, get, get_refused } kind;
    int value;
    std::uint64_t begin;
    std::uint64_t end;
};
using history = std::vector<operation>;

enum class order { fifo, lifo, priority };

/// What the operations are held against.
struct model {
    order comes_out;
    std::size_t limit;
    std::vector<int> items = {};

    bool apply(const operation& one) {
        switch (one.kind) {
            case operation::put:
                if (items.size() == limit) return false;
                items.push_back(one.value);
                return true;
            case operation::put_refused: return items.size() == limit;
            case operation::get_refused: return items.empty();
            case operation::get: break;
        }
        if (items.empty()) return false;
        auto next = items.begin();
        if (comes_out == order::lifo) next = items.end() - 1;
        if (comes_out == order::priority) next = std::min_element(items.begin(), items.end());
        if (*next != one.value) return false;
        items.erase(next);
        return true;
    }
};

class search {
public:
    explicit search(history operations) : operations_(std::move(operations)) {}

    /// Whether the operations that are not in `done` can follow one another from `state` on.
    bool finds_order(const model& state, std::uint64_t done = 0) {
        if (done == (std::uint64_t{1} << operations_.size()) - 1) return true;
        if (!seen_.insert({done, state.items}).second) return false;
        std::uint64_t first_end = UINT64_MAX;
        for (std::size_t i = 0; i < operations_.size(); ++i) {
            if ((done >> i & 1) == 0) first_end = std::min(first_end, operations_[i].end);
        }
        for (std::size_t i = 0; i < operations_.size(); ++i) {
            if ((done >> i & 1) != 0 || operations_[i].begin > first_end) continue;
            model next = state;
            if (next.apply(operations_[i]) && finds_order(next, done | std::uint64_t{1} << i)) {
                return true;
            }
        }
        return false;
    }

private:
    history operations_;
    std::set<std::pair<std::uint64_t, std::vector<int>>> seen_;
};

// One face for queues and channels.
template <class T>
auto put_into(queue<T>& to, T value) {
    return to.put(value);
}
template <class T>
auto put_into(lifo_queue<T>& to, T value) {
    return to.put(value);
}
template <class T>
auto put_into(priority_queue<T>& to, T value) {
    return to.put(value);
}
template <class T>
auto put_into(channel<T>& to, T value) {
    return to.send(value);
}

template <class Queue>
bool try_put_into(Queue& to, int value) {
    return to.try_put(value);
}
bool try_put_into(channel<int>& to, int value) { return to.try_send(value); }

template <class Queue>
task<std::optional<int>> get_within(Queue& from, std::chrono::microseconds patience) {
    const auto got = co_await as_result(with_timeout(patience, from.get()));
    if (!got) co_return std::nullopt;
    co_return *got;
}
task<std::optional<int>> get_within(channel<int>& from, std::chrono::microseconds patience) {
    const auto got = co_await as_result(with_timeout(patience, from.receive()));
    if (!got) co_return std::nullopt;
    co_return *got;
}

template <class Queue>
std::optional<int> try_get_from(Queue& from) {
    return from.try_get();
}
std::optional<int> try_get_from(channel<int>& from) { return from.try_receive(); }

/// A few random operations; one that was cancelled is left out.
template <class Queue>
task<> act(Queue& on, std::atomic<std::uint64_t>& clock, history& into, unsigned seed, int first) {
    std::minstd_rand random{seed};
    for (int i = 0; i < 4; ++i) {
        const auto patience = std::chrono::microseconds(random() % 30);
        operation one{operation::put, first + static_cast<int>(random() % 3) * 100 + i, 0, 0};
        const unsigned what = random() % 4;
        bool has_happened = true;
        one.begin = clock++;
        if (what == 0) {
            const auto how = co_await as_result(with_timeout(patience, put_into(on, one.value)));
            has_happened = how.has_value();
        } else if (what == 1) {
            if (!try_put_into(on, one.value)) one.kind = operation::put_refused;
        } else {
            std::optional<int> got;
            if (what == 2) {
                got = co_await get_within(on, patience);
                has_happened = got.has_value();
            } else {
                got = try_get_from(on);
            }
            one.kind = got ? operation::get : operation::get_refused;
            one.value = got.value_or(0);
        }
        one.end = clock++;
        if (has_happened) into.push_back(one);
    }
}

template <class Queue>
void check_histories(order comes_out, std::size_t limit) {
    on_each_reactor_kind([=](auto run) {
        const unsigned seed = std::random_device{}();
        CAPTURE(seed);
        run_many(run, 4, [=]() -> task<> {
            for (unsigned round = 0; round < 60; ++round) {
                CAPTURE(round);
                Queue shared{limit};
                std::atomic<std::uint64_t> clock{0};
                std::vector<history> histories(4);
                task_group group;
                for (unsigned i = 0; i < 4; ++i) {
                    group.spawn_on(place(i), act<Queue>, std::ref(shared), std::ref(clock),
                                   std::ref(histories[i]), seed + 4 * round + i,
                                   static_cast<int>(10 * i));
                }
                co_await group.join();
                history all;
                for (const history& one : histories) all.insert(all.end(), one.begin(), one.end());
                for (bool more = true; more;) {
                    const auto last = try_get_from(shared);
                    more = last.has_value();
                    all.push_back({more ? operation::get : operation::get_refused, last.value_or(0),
                                   clock++, clock++});
                }
                std::string text;
                for (const operation& one : all) {
                    text += "\n" + std::to_string(one.kind) + " " + std::to_string(one.value) +
                            " " + std::to_string(one.begin) + "-" + std::to_string(one.end);
                }
                CAPTURE(text);
                CHECK(search{all}.finds_order(model{comes_out, limit}));
            }
        });
    });
}

}  // namespace

TEST_CASE("what cannot have happened one after the other is found out") {
    const model one{order::fifo, 1};
    CHECK(search{{{operation::put, 1, 0, 3}, {operation::get, 1, 1, 2}}}.finds_order(one));
    CHECK_FALSE(search{{{operation::put, 1, 2, 3}, {operation::get, 1, 0, 1}}}.finds_order(one));
    CHECK_FALSE(
        search{{{operation::put, 1, 0, 1}, {operation::get_refused, 0, 2, 3}}}.finds_order(one));
    CHECK_FALSE(
        search{{{operation::put, 1, 0, 1}, {operation::get, 1, 2, 5}, {operation::get, 1, 3, 4}}}
            .finds_order(one));
}

TEST_CASE("a queue's operations are as if done one after the other") {
    check_histories<queue<int>>(order::fifo, 1);
    check_histories<queue<int>>(order::fifo, 3);
}

TEST_CASE("a lifo_queue's operations are as if done one after the other") {
    check_histories<lifo_queue<int>>(order::lifo, 2);
}

TEST_CASE("a priority_queue's operations are as if done one after the other") {
    check_histories<priority_queue<int>>(order::priority, 2);
}

TEST_CASE("a channel's operations are as if done one after the other") {
    check_histories<channel<int>>(order::fifo, 1);
    check_histories<channel<int>>(order::fifo, 2);
}

}  // namespace rondo::test
