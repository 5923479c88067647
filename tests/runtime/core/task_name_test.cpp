#include <rondo/runtime/core/task_name.hpp>

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/dump.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "support/many_reactors.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

const std::string long_name = "a name that is too long to be kept inside of a std::string itself";

std::string dumped() {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* out = ::open_memstream(&text, &size);
    dump_tasks(out);
    std::fclose(out);
    std::string copy{text, size};
    std::free(text);
    return copy;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

task<> wait_for(event& what) { co_await what.wait(); }

task<std::string> own_name() { co_return std::string(this_task_name()); }

task<std::string> own_name_later(event& what) {
    co_await what.wait();
    co_return std::string(this_task_name());
}

}  // namespace

TEST_CASE("a dump shows the name of a task that was spawned with one, from the beginning on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group group;
            group.spawn(task_name{"short"}, wait_for(done));
            group.spawn(task_name{long_name}, wait_for, std::ref(done));
            group.spawn(wait_for(done));
            CHECK(contains(dumped(), " \"short\", ready\n"));
            co_await settle();
            const std::string text = dumped();
            CHECK(contains(text, " \"short\", waits for an event\n"));
            CHECK(contains(text, " \"" + long_name + "\", waits for an event\n"));
            CHECK(contains(text, "task 4, waits for an event\n"));
            done.set();
            co_await group.join();
        });
    });
}

TEST_CASE("a task knows its name, and none where it was given none") {
    on_each_reactor_kind([](auto run) {
        CHECK(this_task_name().empty());
        run([]() -> task<> {
            CHECK(this_task_name().empty());
            task_group group;
            auto named = group.spawn(task_name{"from a task"}, own_name());
            auto called = group.spawn(task_name{long_name}, own_name);
            auto nameless = group.spawn(own_name());
            CHECK(co_await named == "from a task");
            CHECK(co_await called == long_name);
            const std::string none = co_await nameless;
            CHECK(none.empty());
            co_await group.join();
        });
    });
}

TEST_CASE("awaitables, and callables with arguments, are spawned with a name as without") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group group;
            auto awaits = group.spawn(task_name{"an awaitable"}, done.wait());
            auto adds = group.spawn(
                task_name{"a callable"}, [](int a, int b) -> task<int> { co_return a + b; }, 40, 2);
            CHECK(co_await adds == 42);
            CHECK(contains(dumped(), " \"an awaitable\", "));
            done.set();
            co_await awaits;
            CHECK_FALSE(contains(dumped(), "\""));
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a named task ends like any other: cancelled, failed, its handle dropped before or after") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            event done;
            task_group group;
            {
                auto dropped = group.spawn(task_name{long_name}, wait_for(done));
            }
            auto cancelled = group.spawn(task_name{long_name}, wait_for(done));
            auto kept = group.spawn(task_name{long_name}, own_name_later(done));
            co_await settle();
            cancelled.cancel();
            CHECK_THROWS_AS(co_await cancelled, operation_cancelled);
            done.set();
            co_await group.join();
            CHECK(kept.done());
            CHECK(co_await kept == long_name);
            auto failing = group.spawn(task_name{long_name}, []() -> task<> {
                throw std::runtime_error("as expected");
                co_return;
            });
            CHECK_THROWS_AS(co_await group.join(), std::runtime_error);
            CHECK(failing.done());
        });
    });
}

TEST_CASE("a name goes along to another reactor and back, and dumps show it at both places") {
    on_each_reactor_kind([](auto run) {
        rondo::run(
            []() -> task<> {
                scheduler& home = this_scheduler();
                task_group group;
                std::string there;
                auto hops = group.spawn(
                    task_name{long_name},
                    [](scheduler& back, std::string& seen) -> task<std::string> {
                        co_await resume_on(place(1));
                        seen = std::string(this_task_name()) + "\n" + dumped();
                        co_await resume_on(back);
                        co_return std::string(this_task_name());
                    },
                    std::ref(home), std::ref(there));
                auto sent = group.spawn_on(place(1), task_name{"sent"}, own_name());
                auto called = group.spawn_on(place(1), task_name{"called"}, own_name);
                CHECK(co_await hops == long_name);
                CHECK(there.starts_with(long_name + "\n"));
                CHECK(contains(there, " \"" + long_name + "\" of reactor 0, running\n"));
                CHECK(co_await sent == "sent");
                CHECK(co_await called == "called");
                event done;
                auto away = group.spawn_on(place(1), task_name{"away"}, done.wait());
                co_await settle();
                CHECK(contains(dumped(), " \"away\", waits for its return from reactor 1\n"));
                done.set();
                co_await away;
                co_await group.join();
            },
            {.reactors = 2, .reactor = run.kind()});
    });
}

TEST_CASE("a deadlock's circle names the tasks") {
    on_each_reactor_kind([](auto run) {
        std::string text;
        try {
            run([]() -> task<> {
                mutex a;
                mutex b;
                event both;
                const auto lock_both = [&both](mutex& first, mutex& second) -> task<> {
                    auto one = co_await first.lock();
                    co_await both.wait();
                    auto two = co_await second.lock();
                };
                task_group group;
                group.spawn(task_name{"left"}, lock_both, std::ref(a), std::ref(b));
                group.spawn(task_name{"right"}, lock_both, std::ref(b), std::ref(a));
                co_await settle();
                both.set();
                co_await group.join();
            });
        } catch (const deadlock_error& error) {
            text = error.what();
        }
        CHECK(contains(text, " \"left\" holds mutex M"));
        CHECK(contains(text, " \"right\" holds mutex M"));
    });
}

}  // namespace rondo::test
