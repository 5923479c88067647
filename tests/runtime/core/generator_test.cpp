#include <rondo/runtime/core/generator.hpp>

#include <doctest/doctest.h>

#include <concepts>
#include <list>
#include <memory>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using rondo::elements_of;
using rondo::generator;

static_assert(std::ranges::input_range<generator<int>>);
static_assert(std::ranges::view<generator<int>>);
static_assert(std::ranges::input_range<generator<std::unique_ptr<int>>>);
static_assert(!std::copyable<generator<int>> && std::movable<generator<int>>);
static_assert(std::same_as<std::ranges::range_reference_t<generator<int>>, int&&>);
static_assert(std::same_as<std::ranges::range_reference_t<generator<int&>>, int&>);
static_assert(std::same_as<std::ranges::range_value_t<generator<const std::string&>>, std::string>);

// True where a generator would accept `co_await` of a T.
template <class T>
concept awaitable_in_generator = requires(generator<int>::promise_type promise, T awaitable) {
    promise.await_transform(awaitable);
};
static_assert(!awaitable_in_generator<std::suspend_never>);

namespace {

generator<int> count(int from, int to) {
    for (int i = from; i < to; ++i) co_yield i;
}

generator<int> count_for_ever() {
    for (int i = 0;; ++i) co_yield i;
}

template <class Range>
auto collect(Range&& range) {
    std::vector<std::ranges::range_value_t<Range>> items;
    for (auto&& item : range) items.push_back(std::forward<decltype(item)>(item));
    return items;
}

// Counts its copies and its moves, in the counters it was made with.
struct counted {
    struct counters {
        int copies = 0;
        int moves = 0;
        int living = 0;
    };

    explicit counted(counters& counts) : counts(&counts) { ++counts.living; }
    counted(const counted& other) : counts(other.counts) { ++counts->copies, ++counts->living; }
    counted(counted&& other) noexcept : counts(other.counts) { ++counts->moves, ++counts->living; }
    ~counted() { --counts->living; }

    counters* counts;
};

struct tree {
    std::unique_ptr<tree> left;
    std::unique_ptr<tree> right;
    int value;
};

std::unique_ptr<tree> grow(int from, int to) {
    if (from == to) return nullptr;
    const int middle = std::midpoint(from, to);
    return std::make_unique<tree>(grow(from, middle), grow(middle + 1, to), middle);
}

generator<const int&> in_order(const tree& node) {
    if (node.left) co_yield elements_of(in_order(*node.left));
    co_yield node.value;
    if (node.right) co_yield elements_of(in_order(*node.right));
}

generator<int&> references_to(std::vector<int>& numbers) { co_yield elements_of(numbers); }

generator<int> countdown(int depth) {
    co_yield depth;
    if (depth > 0) co_yield elements_of(countdown(depth - 1));
}

}  // namespace

TEST_CASE("a generator yields its items in order and ends") {
    CHECK(collect(count(3, 7)) == std::vector{3, 4, 5, 6});
    CHECK(collect(count(3, 3)).empty());
}

TEST_CASE("a generator does not start before begin and runs only as far as it is read") {
    std::vector<std::string> steps;
    auto body = [](std::vector<std::string>& log) -> generator<int> {
        log.push_back("first");
        co_yield 1;
        log.push_back("second");
        co_yield 2;
        log.push_back("end");
    };
    auto numbers = body(steps);
    CHECK(steps.empty());
    auto it = numbers.begin();
    CHECK(steps == std::vector<std::string>{"first"});
    CHECK(*it == 1);
    CHECK(*it == 1);
    ++it;
    CHECK(steps.size() == 2);
    CHECK(*it == 2);
    CHECK(it != numbers.end());
    it++;
    CHECK(it == numbers.end());
    CHECK(steps.back() == "end");
}

TEST_CASE("a generator that is not read to its end destroys what it holds") {
    counted::counters counts;
    auto body = [](counted::counters& c) -> generator<int> {
        counted held{c};
        for (int i = 0;; ++i) co_yield i;
    };
    {
        auto never_started = body(counts);
        auto abandoned = body(counts);
        CHECK(*abandoned.begin() == 0);
        CHECK(counts.living == 1);
    }
    CHECK(counts.living == 0);
}

TEST_CASE("a generator works with range adaptors") {
    auto squares = count_for_ever() | std::views::transform([](int n) { return n * n; }) |
                   std::views::filter([](int n) { return n % 2 == 1; }) | std::views::take(4);
    std::vector<int> seen;
    for (int n : squares) seen.push_back(n);
    CHECK(seen == std::vector{1, 9, 25, 49});

    auto five = count_for_ever();
    seen.clear();
    for (int n : std::move(five) | std::views::take(3)) seen.push_back(n);
    CHECK(seen == std::vector{0, 1, 2});
}

TEST_CASE("a moved generator goes on where it was") {
    auto first = count(0, 4);
    auto it = first.begin();
    ++it;
    auto second = std::move(first);
    CHECK(*it == 1);
    ++it;
    CHECK(*it == 2);
    second = count(7, 9);
    CHECK(collect(second) == std::vector{7, 8});
}

TEST_CASE("a generator of references yields the objects themselves") {
    std::vector<int> numbers{1, 2, 3};
    auto each = [](std::vector<int>& all) -> generator<int&> {
        for (int& n : all) co_yield n;
    };
    for (int& n : each(numbers)) n *= 10;
    CHECK(numbers == std::vector{10, 20, 30});
}

TEST_CASE("a generator of const references copies nothing, also when it yields temporaries") {
    counted::counters counts;
    auto body = [](counted::counters& c) -> generator<const counted&> {
        const counted held{c};
        co_yield held;
        co_yield counted{c};
    };
    int seen = 0;
    for (const counted& item : body(counts)) {
        CHECK(item.counts == &counts);
        ++seen;
    }
    CHECK(seen == 2);
    CHECK(counts.copies == 0);
    CHECK(counts.moves == 0);
    CHECK(counts.living == 0);
}

TEST_CASE("a generator of values hands out rvalues as they are and copies lvalues once") {
    counted::counters counts;
    auto body = [](counted::counters& c) -> generator<counted> {
        co_yield counted{c};
        counted given{c};
        co_yield std::move(given);
        CHECK(c.copies == 0);
        counted held{c};
        co_yield held;
        CHECK(c.copies == 1);
    };
    for (auto&& item : body(counts)) CHECK(item.counts == &counts);
    CHECK(counts.copies == 1);
    CHECK(counts.moves == 0);
    CHECK(counts.living == 0);
}

TEST_CASE("the reader may move a yielded value away without touching the generator's own") {
    auto body = []() -> generator<std::string> {
        std::string word = "a word that is too long to be stored in place";
        co_yield word;
        co_yield word;
        co_yield "from a literal";
    };
    const auto words = collect(body());
    REQUIRE(words.size() == 3);
    CHECK(words[0] == words[1]);
    CHECK(words[1] == "a word that is too long to be stored in place");
    CHECK(words[2] == "from a literal");
}

TEST_CASE("a generator yields move-only values") {
    auto body = []() -> generator<std::unique_ptr<int>> {
        co_yield std::make_unique<int>(1);
        auto second = std::make_unique<int>(2);
        co_yield std::move(second);
        CHECK(second == nullptr);
    };
    const auto pointers = collect(body());
    REQUIRE(pointers.size() == 2);
    CHECK(*pointers[0] == 1);
    CHECK(*pointers[1] == 2);
}

TEST_CASE("an exception comes out of begin or of ++ and ends the generator") {
    auto body = [](int items) -> generator<int> {
        for (int i = 0; i < items; ++i) co_yield i;
        throw std::runtime_error("broken");
    };
    auto at_once = body(0);
    CHECK_THROWS_WITH_AS((void)at_once.begin(), "broken", std::runtime_error);

    auto later = body(1);
    auto it = later.begin();
    CHECK_THROWS_WITH_AS(++it, "broken", std::runtime_error);
    CHECK(it == later.end());
}

TEST_CASE("elements_of yields every item of a nested generator in its place") {
    auto body = []() -> generator<int> {
        co_yield -1;
        co_yield elements_of(count(0, 3));
        co_yield elements_of(count(0, 0));
        auto kept = count(5, 7);
        co_yield elements_of(kept);
        co_yield 9;
    };
    CHECK(collect(body()) == std::vector{-1, 0, 1, 2, 5, 6, 9});
}

TEST_CASE("elements_of yields every item of any range that converts") {
    auto body = []() -> generator<std::string> {
        const std::vector<std::string> words{"one", "two"};
        co_yield elements_of(words);
        co_yield elements_of(std::list<const char*>(1, "three"));
        co_yield elements_of(std::views::iota(4, 6) |
                             std::views::transform([](int n) { return std::to_string(n); }));
        CHECK(words.front() == "one");
    };
    CHECK(collect(body()) == std::vector<std::string>{"one", "two", "three", "4", "5"});

    std::vector<int> numbers{1, 2};
    for (int& n : references_to(numbers)) ++n;
    CHECK(numbers == std::vector{2, 3});

    auto widened = [](std::vector<int>& all) -> generator<long> {
        co_yield elements_of(references_to(all));
    };
    CHECK(collect(widened(numbers)) == std::vector{2L, 3L});
}

TEST_CASE("a tree is walked by a generator that recurs") {
    const auto root = grow(0, 1000);
    int expected = 0;
    for (const int& value : in_order(*root)) {
        REQUIRE(value == expected);
        ++expected;
    }
    CHECK(expected == 1000);
}

TEST_CASE("generators nest deeply, can be left there, and do not grow the stack") {
    int sum = 0;
    for (int n : countdown(5000)) sum += n;
    CHECK(sum == 5000 * 5001 / 2);

    auto left_early = countdown(5000);
    auto it = left_early.begin();
    for (int i = 0; i < 3000; ++i) ++it;
    CHECK(*it == 2000);
}

TEST_CASE("a million nested generators without items do not grow the stack") {
    auto body = []() -> generator<int> {
        for (int i = 0; i < 1'000'000; ++i) co_yield elements_of(count(0, 0));
        co_yield 42;
    };
    CHECK(collect(body()) == std::vector{42});
}

TEST_CASE("an exception of a nested generator comes out of the outer co_yield") {
    auto failing = []() -> generator<int> {
        co_yield 1;
        throw std::runtime_error("inner");
    };
    auto between = [](generator<int> inner) -> generator<int> {
        co_yield elements_of(std::move(inner));
    };
    auto catching = [](generator<int> inner) -> generator<int> {
        std::string caught;
        try {
            co_yield elements_of(std::move(inner));
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
        co_yield caught == "inner" ? 2 : 0;
    };
    CHECK(collect(catching(between(failing()))) == std::vector{1, 2});

    auto uncaught = between(failing());
    auto it = uncaught.begin();
    CHECK(*it == 1);
    CHECK_THROWS_WITH_AS(++it, "inner", std::runtime_error);
    CHECK(it == uncaught.end());
}

TEST_CASE("an exception of a nested range comes out of the outer co_yield") {
    auto body = []() -> generator<int> {
        bool caught = false;
        try {
            co_yield elements_of(std::views::iota(0) | std::views::transform([](int n) {
                                     if (n == 2) throw std::runtime_error("no more");
                                     return n;
                                 }));
        } catch (const std::runtime_error&) {
            caught = true;
        }
        co_yield caught ? 100 : -1;
    };
    CHECK(collect(body()) == std::vector{0, 1, 100});
}
