#include <rondo/runtime/core/detail/timer_wheel.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

using rondo::detail::timer_node;
using rondo::detail::timer_wheel;

namespace {

constexpr std::int64_t microsecond = 1'000;
constexpr std::int64_t millisecond = 1'000 * microsecond;
constexpr std::int64_t second = 1'000 * millisecond;
constexpr std::int64_t year = 365 * 24 * 3'600 * second;
constexpr std::int64_t tick = 1 << 16;  // of the wheel
constexpr std::int64_t start = 1'000 * second + 12'345;

// Expires all that is due at `now` and returns the timers in the order they fired.
std::vector<const timer_node*> fired(timer_wheel& wheel, std::int64_t now) {
    std::vector<const timer_node*> order;
    while (timer_node* node = wheel.expire(now)) {
        REQUIRE(node->deadline <= now);
        REQUIRE_FALSE(node->armed());
        order.push_back(node);
    }
    REQUIRE(wheel.next_deadline() > now);
    return order;
}

using order = std::vector<const timer_node*>;

// Follows next_deadline() as a scheduler does, until a timer fires; returns the time of that.
std::int64_t sleep_until_first(timer_wheel& wheel, int& wake_ups) {
    while (true) {
        const std::int64_t now = wheel.next_deadline();
        ++wake_ups;
        if (wheel.expire(now)) return now;
        REQUIRE(wheel.next_deadline() > now);
    }
}

}  // namespace

TEST_CASE("an empty timer wheel has no deadline and expires nothing") {
    timer_wheel wheel{start};
    CHECK(wheel.empty());
    CHECK(wheel.next_deadline() == timer_wheel::never);
    CHECK(wheel.expire(start + year) == nullptr);
    CHECK(wheel.expire(std::numeric_limits<std::int64_t>::max()) == nullptr);
    timer_node node;
    wheel.cancel(node);
    CHECK(wheel.empty());
}

TEST_CASE("a timer fires at its deadline and not a nanosecond before, however far it is") {
    for (const std::int64_t delay :
         {std::int64_t{1}, microsecond, tick - 1, tick, tick + 1, 64 * tick, millisecond, second,
          3'600 * second, year, 100 * year, 280 * year}) {
        CAPTURE(delay);
        timer_wheel wheel{start};
        timer_node node;
        wheel.arm(node, start + delay);
        CHECK(node.armed());
        CHECK(wheel.next_deadline() == start + delay);
        CHECK(wheel.expire(start) == nullptr);
        CHECK(wheel.expire(start + delay / 2) == nullptr);
        CHECK(wheel.expire(start + delay - 1) == nullptr);
        CHECK(wheel.next_deadline() == start + delay);
        CHECK(wheel.expire(start + delay) == &node);
        CHECK_FALSE(node.armed());
        CHECK(wheel.empty());
        CHECK(wheel.next_deadline() == timer_wheel::never);
    }
}

TEST_CASE("a timer at the end of time is armed, waits and can be cancelled") {
    timer_wheel wheel{start};
    timer_node node;
    wheel.arm(node, std::numeric_limits<std::int64_t>::max());
    CHECK(wheel.expire(start + 200 * year) == nullptr);
    CHECK_FALSE(wheel.empty());
    wheel.cancel(node);
    CHECK(wheel.empty());
    wheel.arm(node, std::numeric_limits<std::int64_t>::max());
    CHECK(wheel.expire(std::numeric_limits<std::int64_t>::max()) == &node);
}

TEST_CASE("a timer whose deadline has passed is due at the next expire") {
    timer_wheel wheel{start};
    timer_node long_ago;
    timer_node just_now;
    timer_node before_the_clock_began;
    wheel.arm(just_now, start - 1);
    wheel.arm(long_ago, 5);
    wheel.arm(before_the_clock_began, std::numeric_limits<std::int64_t>::min());
    CHECK(wheel.next_deadline() == before_the_clock_began.deadline);
    CHECK(fired(wheel, start) == order{&before_the_clock_began, &long_ago, &just_now});
}

TEST_CASE("timers of one tick fire by deadline, and of one deadline in the order armed") {
    timer_wheel wheel{start};
    const std::int64_t base = (start / tick + 3) * tick;
    timer_node nodes[6];
    const std::int64_t offsets[6] = {500, 20, 500, 10, 20, 500};
    for (int i = 0; i < 6; ++i) wheel.arm(nodes[i], base + offsets[i]);
    CHECK(wheel.next_deadline() == base + 10);
    CHECK(fired(wheel, base + 9).empty());
    CHECK(fired(wheel, base + 20) == order{&nodes[3], &nodes[1], &nodes[4]});
    CHECK(fired(wheel, base + tick) == order{&nodes[0], &nodes[2], &nodes[5]});
}

TEST_CASE("timers with one deadline fire in the order armed, also when armed far apart in time") {
    timer_wheel wheel{start};
    const std::int64_t deadline = start + 3'600 * second;
    timer_node nodes[7];
    const std::int64_t before[7] = {
        3'600 * second, 3'000 * second, 60 * second, second, 5 * millisecond, 70 * microsecond, 1};
    for (int i = 0; i < 7; ++i) {
        CHECK(wheel.expire(deadline - before[i]) == nullptr);
        wheel.arm(nodes[i], deadline);
    }
    order expected;
    for (const timer_node& node : nodes) expected.push_back(&node);
    CHECK(fired(wheel, deadline) == expected);
}

TEST_CASE("timers armed while others are due fire in the order of their deadlines") {
    timer_wheel wheel{start};
    timer_node first, second_due, third, late, same_as_third, far;
    wheel.arm(first, start + 100);
    wheel.arm(second_due, start + 200);
    wheel.arm(third, start + 10 * millisecond);
    const std::int64_t now = start + second;
    CHECK(wheel.expire(now) == &first);
    wheel.arm(late, start + 50);
    wheel.arm(same_as_third, start + 10 * millisecond);
    wheel.arm(far, start + 2 * second);
    CHECK(wheel.expire(now) == &late);
    CHECK(wheel.expire(now) == &second_due);
    wheel.arm(first, start + 20 * millisecond);
    CHECK(fired(wheel, now) == order{&third, &same_as_third, &first});
    CHECK(fired(wheel, start + 2 * second) == order{&far});
}

TEST_CASE("a cancelled timer does not fire, whatever stage it has reached") {
    timer_wheel wheel{start};
    timer_node due, due_too, near, middle, far;
    wheel.arm(due, start + 10);
    wheel.arm(due_too, start + 20);
    wheel.arm(near, start + 2 * tick);
    wheel.arm(middle, start + second);
    wheel.arm(far, start + year);

    wheel.cancel(middle);  // in its slot
    wheel.cancel(middle);
    CHECK_FALSE(middle.armed());
    CHECK(wheel.expire(start + 15) == &due);
    wheel.cancel(due);      // fired already
    wheel.cancel(due_too);  // sorted
    CHECK(wheel.next_deadline() == start + 2 * tick);
    wheel.arm(due, start + 5);
    wheel.cancel(due);  // due, not sorted yet
    CHECK(fired(wheel, start + 2 * tick - 1).empty());
    wheel.cancel(near);  // in the current tick
    CHECK(wheel.next_deadline() == start + year);
    CHECK(fired(wheel, start + year - second).empty());
    wheel.cancel(far);  // moved down from the level where it was armed
    CHECK(wheel.empty());
    CHECK(wheel.next_deadline() == timer_wheel::never);
    CHECK(fired(wheel, start + 2 * year).empty());
}

TEST_CASE("a cancelled timer can be armed again") {
    timer_wheel wheel{start};
    timer_node node;
    for (int i = 0; i < 1'000; ++i) {
        wheel.arm(node, start + i * millisecond);
        CHECK(wheel.next_deadline() == start + i * millisecond);
        wheel.cancel(node);
        CHECK(wheel.next_deadline() == timer_wheel::never);
    }
    wheel.arm(node, start + 1);
    CHECK(fired(wheel, start + year) == order{&node});
}

TEST_CASE("time that stands still or goes back fires nothing early") {
    timer_wheel wheel{start};
    timer_node soon, later;
    wheel.arm(soon, start + second);
    CHECK(fired(wheel, start).empty());
    CHECK(fired(wheel, start).empty());
    CHECK(fired(wheel, start + second) == order{&soon});
    CHECK(fired(wheel, start).empty());
    wheel.arm(later, start + 500 * millisecond);  // before the latest time the wheel has seen
    CHECK(wheel.next_deadline() == start + 500 * millisecond);
    CHECK(fired(wheel, start + 499 * millisecond).empty());
    CHECK(fired(wheel, start + 500 * millisecond) == order{&later});
}

TEST_CASE("following next_deadline meets every deadline exactly, with few detours in a crowd") {
    timer_wheel wheel{start};
    constexpr int crowd = 1'000;
    std::vector<timer_node> nodes(crowd);
    std::multimap<std::int64_t, timer_node*> expected;
    std::mt19937_64 random{7};
    for (timer_node& node : nodes) {
        wheel.arm(node, start + 60 * second + static_cast<std::int64_t>(random() % millisecond));
        expected.emplace(node.deadline, &node);
    }
    int wake_ups = 0;
    for (const auto& [deadline, node] : expected) {
        REQUIRE(sleep_until_first(wheel, wake_ups) == deadline);
    }
    CHECK(wheel.empty());
    CHECK(wake_ups <= crowd + crowd / 10);
}

TEST_CASE("an emptied crowd of timers does not hold up time") {
    timer_wheel wheel{start};
    std::vector<timer_node> crowd(100);
    timer_node first, last;
    for (timer_node& node : crowd) wheel.arm(node, start + 60 * second);
    wheel.arm(last, start + 3'600 * second);
    wheel.arm(first, start + second);
    CHECK(wheel.next_deadline() == start + second);
    wheel.cancel(first);
    CHECK(wheel.next_deadline() < start + 60 * second);  // too many to look at each
    for (timer_node& node : crowd) wheel.cancel(node);
    CHECK(fired(wheel, start + 60 * second).empty());
    CHECK(wheel.next_deadline() == start + 3'600 * second);
}

TEST_CASE("hundreds of thousands of timers due at once take no longer than in turn") {
    constexpr std::size_t many = 300'000;  // quadratic work on them would take minutes
    timer_wheel wheel{start};
    std::vector<timer_node> nodes(many);

    SUBCASE("with one deadline") {
        for (timer_node& node : nodes) wheel.arm(node, start + second);
    }
    SUBCASE("in reverse within one tick") {
        const std::int64_t base = start - start % tick + 10 * tick;
        for (std::size_t i = 0; i < many; ++i) {
            wheel.arm(nodes[i], base + tick - 1 - static_cast<std::int64_t>(i * tick / many));
        }
    }
    SUBCASE("in the past, the latest first") {
        for (std::size_t i = 0; i < many; ++i) {
            wheel.arm(nodes[i], start - static_cast<std::int64_t>(i));
        }
    }
    std::size_t count = 0;
    std::int64_t last = 0;
    while (timer_node* node = wheel.expire(start + 2 * second)) {
        REQUIRE(node->deadline >= last);
        last = node->deadline;
        ++count;
    }
    CHECK(count == many);
}

TEST_CASE("a timer wheel does what a sorted multimap does") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        const auto below = [&](std::int64_t limit) {
            return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
        };
        // Widths from one nanosecond to sixty years: each level of the wheel has its turn.
        const auto any_width = [&] { return below(std::int64_t{1} << below(61)); };

        std::int64_t now = seed % 2 ? start : 0;
        timer_wheel wheel{now};
        std::vector<timer_node> nodes(200);
        std::multimap<std::int64_t, timer_node*> model;  // of equal keys, the first inserted first
        const auto forget = [&](timer_node& node) {
            auto [it, end] = model.equal_range(node.deadline);
            while (it != end && it->second != &node) ++it;
            REQUIRE(it != end);
            model.erase(it);
        };
        const auto arm_some = [&](timer_node& node) {
            if (node.armed()) {
                wheel.cancel(node);
                forget(node);
            }
            std::int64_t deadline = now + any_width();
            switch (below(8)) {
                case 0: deadline = now - any_width(); break;
                case 1: deadline = now + below(3); break;
                case 2: deadline = std::numeric_limits<std::int64_t>::max() - below(2); break;
                case 3:
                    if (!model.empty()) deadline = model.begin()->first;
                    break;
                default: break;
            }
            wheel.arm(node, deadline);
            model.emplace(deadline, &node);
        };

        for (int step = 0; step < 2'000; ++step) {
            timer_node& node = nodes[static_cast<std::size_t>(below(200))];
            switch (below(4)) {
                case 0:
                case 1: arm_some(node); break;
                case 2:
                    if (node.armed()) forget(node);
                    wheel.cancel(node);
                    break;
                default: {
                    if (below(20) == 0 && now < 100 * year) now += any_width();
                    if (below(3) != 0) now += below(std::int64_t{1} << below(36));
                    while (timer_node* due = wheel.expire(now)) {
                        REQUIRE_FALSE(model.empty());
                        REQUIRE(model.begin()->second == due);
                        REQUIRE(model.begin()->first <= now);
                        model.erase(model.begin());
                        if (below(4) == 0) arm_some(nodes[static_cast<std::size_t>(below(200))]);
                    }
                    REQUIRE((model.empty() || model.begin()->first > now));
                    REQUIRE(wheel.next_deadline() > now);
                }
            }
            REQUIRE(wheel.size() == model.size());
            REQUIRE(wheel.empty() == model.empty());
            const std::int64_t earliest = model.empty() ? timer_wheel::never : model.begin()->first;
            REQUIRE(wheel.next_deadline() <= earliest);
            if (model.size() <= 16) REQUIRE(wheel.next_deadline() == earliest);
        }
    }
}
