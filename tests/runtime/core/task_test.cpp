#include <rondo/runtime/core/task.hpp>

#include <rondo/runtime/sleep.hpp>

#include "support/live_memory.hpp"
#include "support/stack_depth.hpp"
#include "support/support.hpp"

#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

static_assert(std::is_nothrow_move_constructible_v<task<std::string>>);
static_assert(!std::is_copy_constructible_v<task<int>>);
static_assert(!std::is_copy_assignable_v<task<>>);

task<> raise_flag(bool& flag) {
    flag = true;
    co_return;
}

task<int> add(int a, int b) { co_return a + b; }

task<int&> same(int& number) { co_return number; }

task<std::unique_ptr<int>> boxed(int number) { co_return std::make_unique<int>(number); }

task<int> fail(const char* why) {
    co_await yield();
    throw std::runtime_error(why);
}

// Notes when it is destroyed.
class witness {
public:
    explicit witness(std::vector<std::string>& log, std::string name)
        : log_(&log), name_(std::move(name)) {}
    witness(witness&& other) noexcept
        : log_(std::exchange(other.log_, nullptr)), name_(std::move(other.name_)) {}
    ~witness() {
        if (log_ != nullptr) log_->push_back(name_);
    }

private:
    std::vector<std::string>* log_;
    std::string name_;
};

// Counts how it is handed on.
struct parcel {
    int copies = 0;
    int moves = 0;
    parcel() = default;
    parcel(const parcel& other) noexcept : copies(other.copies + 1), moves(other.moves) {}
    parcel(parcel&& other) noexcept : copies(other.copies), moves(other.moves + 1) {}
};

// Gives the address of the frame that awaits it.
struct own_frame {
    void* address = nullptr;
    bool await_ready() const noexcept { return false; }
    template <detail::rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> frame) noexcept {
        address = frame.address();
        return false;
    }
    void* await_resume() const noexcept { return address; }
};

}  // namespace

TEST_CASE("a task does not start until it is awaited") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool started = false;
            auto work = raise_flag(started);
            co_await yield();
            CHECK_FALSE(started);
            co_await work;
            CHECK(started);
        });
    });
}

TEST_CASE("a task that is never awaited only destroys its parameters") {
    std::vector<std::string> log;
    bool started = false;
    {
        auto work = [](witness, bool& flag) -> task<> {
            flag = true;
            co_return;
        }(witness{log, "parameter"}, started);
        CHECK(log.empty());
    }
    CHECK_FALSE(started);
    CHECK(log == std::vector<std::string>{"parameter"});
}

TEST_CASE("a task gives values, references, move-only things and nothing") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const int sum = co_await add(2, 3);
            CHECK(sum == 5);

            int number = 7;
            int& reference = co_await same(number);
            CHECK(&reference == &number);

            const std::unique_ptr<int> box = co_await boxed(9);
            REQUIRE(box);
            CHECK(*box == 9);

            bool done = false;
            co_await raise_flag(done);
            CHECK(done);
        });
    });
}

TEST_CASE("a task returns what braces make") {
    struct point {
        int x;
        int y;
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const auto origin = []() -> task<point> { co_return {1, 2}; };
            const point at = co_await origin();
            CHECK(at.x == 1);
            CHECK(at.y == 2);
            const auto named = []() -> task<std::pair<int, std::string>> {
                co_return {7, std::string(40, 'x')};
            };
            const auto pair = co_await named();
            CHECK(pair.first == 7);
            CHECK(pair.second == std::string(40, 'x'));
            const auto nothing_yet = []() -> task<std::optional<std::string>> { co_return {}; };
            const auto none = co_await nothing_yet();
            CHECK_FALSE(none.has_value());
            const auto shared =
                [](std::shared_ptr<int> one) -> task<std::vector<std::shared_ptr<int>>> {
                co_return {one, one};
            };
            const auto number = std::make_shared<int>(1);
            {
                const auto two = co_await shared(number);
                CHECK(number.use_count() == 3);
            }
            CHECK(number.use_count() == 1);
        });
    });
}

TEST_CASE("a task's value is moved to the one who awaits it, never copied") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto send = []() -> task<parcel> {
                parcel one;
                co_return one;
            };
            const parcel got = co_await send();
            CHECK(got.copies == 0);
            CHECK(got.moves == 2);  // into the frame, and out of it
        });
    });
}

TEST_CASE("a task's exception is thrown where it is awaited, after its locals are gone") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::vector<std::string> log;
            auto inner = [](std::vector<std::string>& out) -> task<> {
                const witness local{out, "inner"};
                const int never = co_await fail("broken");
                out.push_back(std::to_string(never));
            };
            auto outer = [](std::vector<std::string>& out, auto work) -> task<> {
                const witness local{out, "outer"};
                co_await work(out);
                out.push_back("went on");
            };
            CHECK_THROWS_WITH_AS(co_await outer(log, inner), "broken", std::runtime_error);
            CHECK(log == std::vector<std::string>{"inner", "outer"});
        });
    });
}

TEST_CASE("a task may catch an exception and await again") {
    on_each_reactor_kind([](auto run) {
        const std::string text = run([]() -> task<std::string> {
            std::string why;
            for (const char* reason : {"one ", "two "}) {
                try {
                    (void)co_await fail(reason);
                } catch (const std::runtime_error& error) {
                    why += error.what();
                }
                co_await yield();
            }
            co_return why;
        });
        CHECK(text == "one two ");
    });
}

TEST_CASE("what a destructor throws after co_return takes the place of the value") {
    struct thrower {
        ~thrower() noexcept(false) { throw std::runtime_error("too late"); }
    };
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto work = []() -> task<std::string> {
                const thrower last;
                co_return std::string(100, 'x');
            };
            CHECK_THROWS_WITH_AS(co_await work(), "too late", std::runtime_error);
        });
    });
}

TEST_CASE("a moved task leaves nothing behind and runs once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto first = add(1, 1);
            auto second = std::move(first);
            CHECK_FALSE(static_cast<bool>(first));
            CHECK(static_cast<bool>(second));
            first = add(20, 20);
            second = std::move(first);  // destroys the one that never ran
            const int sum = co_await second;
            CHECK(sum == 40);
        });
    });
}

TEST_CASE("a million awaits of a task that returns at once do not grow the stack") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            stack_depth stack;
            long sum = 0;
            for (int i = 0; i < 1'000'000; ++i) {
                sum += co_await add(i, 1);
                stack.look();
            }
            CHECK(sum == 500'000'500'000);
            CHECK(stack.grown() < stack_depth::harmless);
        });
    });
}

TEST_CASE("thousands of awaits of a task that fails at once do not grow the stack") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto throw_at_once = []() -> task<> {
                throw 1;
                co_return;
            };
            stack_depth stack;
            int caught = 0;
            for (int i = 0; i < 20'000; ++i) {
                try {
                    co_await throw_at_once();
                } catch (int one) {
                    caught += one;
                }
                stack.look();
            }
            CHECK(caught == 20'000);
            CHECK(stack.grown() < stack_depth::harmless);
        });
    });
}

TEST_CASE("tasks nested a hundred thousand deep do not grow the stack, down or up") {
    struct levels {
        static task<int> down(int depth, bool with_yield, stack_depth& stack) {
            if (with_yield) co_await yield();
            stack.look();
            if (depth == 0) co_return 0;
            const int below = co_await down(depth - 1, with_yield, stack);
            stack.look();
            co_return below + 1;
        }
    };
    on_each_reactor_kind([](auto run) {
        for (const bool with_yield : {false, true}) {
            CAPTURE(with_yield);
            stack_depth stack;
            CHECK(run(levels::down(100'000, with_yield, stack)) == 100'000);
            CHECK(stack.grown() < stack_depth::harmless);
        }
    });
}

TEST_CASE("a finished task's frame is used for the next one of its size") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto where = []() -> task<void*> { co_return co_await own_frame{}; };
            void* const first = co_await where();
            for (int i = 0; i < 100; ++i) {
                void* const next = co_await where();
                REQUIRE(next == first);
            }
        });
    });
}

TEST_CASE("a task made outside of run is run and freed inside") {
    on_each_reactor_kind([](auto run) {
        auto work = add(3, 4);
        CHECK(run(std::move(work)) == 7);
    });
}

TEST_CASE("tasks may be freed on another thread, with a scheduler of its own or without") {
    on_each_reactor_kind([](auto run) {
        constexpr int count = 1'000;
        auto make = []() -> task<std::vector<task<int>>> {
            std::vector<task<int>> tasks;
            for (int i = 0; i < count; ++i) tasks.push_back(add(i, i));
            co_return tasks;
        };
        auto free_on_plain_thread = [&] {
            auto tasks = run(make);
            std::thread([&] { tasks.clear(); }).join();
        };
        auto run_on_other_scheduler = [&] {
            auto tasks = run(make);
            long sum = 0;
            std::thread([&] {
                sum = run([&]() -> task<long> {
                    long total = 0;
                    for (auto& one : tasks) total += co_await one;
                    tasks.clear();
                    co_return total;
                });
            }).join();
            CHECK(sum == 999'000);
        };
        free_on_plain_thread();
        run_on_other_scheduler();
        const std::size_t before = live_bytes();
        for (int i = 0; i < 10; ++i) {
            free_on_plain_thread();
            run_on_other_scheduler();
        }
        CHECK(live_bytes() <= before + 64 * 1024);
    });
}

}  // namespace rondo::test
