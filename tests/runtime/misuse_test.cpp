// Mistakes of the caller that the library cannot go on from: one sentence that names the place,
// then abort.

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/async_generator.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include "support/child_process.hpp"
#include "support/net_support.hpp"
#include "support/sample_tasks.hpp"
#include "support/support.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

struct death {
    int signal = 0;
    std::string last_words;  // what came on standard error

    bool says(const std::string& sentence) const {
        return last_words.starts_with("rondo: " + sentence + " (");
    }
    bool names(unsigned line) const {
        return last_words.find("misuse_test.cpp:" + std::to_string(line) + ",") !=
               std::string::npos;
    }
};

// Runs `work` in a child process and tells how that died.
template <class Work>
death death_of(Work work) {
    ended_child child = child_with_pipe([&](int out) {
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::dup2(out, STDERR_FILENO);
        work();
    });
    return {WIFSIGNALED(child.status) ? WTERMSIG(child.status) : 0, std::move(child.text)};
}

unsigned this_line(std::source_location here = std::source_location::current()) {
    return static_cast<unsigned>(here.line());
}

}  // namespace

TEST_CASE("a program that makes no mistake lives") {
    on_each_reactor_kind([](auto run) {
        const death none = death_of([&] { run(nothing()); });
        CHECK(none.signal == 0);
        CHECK(none.last_words.empty());
    });
}

// Checks that cost something at each await are left out of release builds.
#ifndef NDEBUG

TEST_CASE("awaiting a task twice aborts and names the second await") {
    on_each_reactor_kind([](auto run) {
        unsigned line = 0;
        const auto body = []() -> task<> {
            auto work = nothing();
            co_await work;
            co_await work;
        };
        line = this_line() - 2;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task is awaited twice"));
        CHECK(how.names(line));
    });
}

TEST_CASE("awaiting a task that was moved from aborts and names the await") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            auto work = nothing();
            const auto owner = std::move(work);
            co_await work;
        };
        const unsigned line = this_line() - 2;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task is awaited that was moved from"));
        CHECK(how.names(line));
    });
}

TEST_CASE(
    "reading a stream, or writing to it, while another task does aborts and names the second") {
    on_each_reactor_kind([](auto run) {
        const auto reads = [](tcp_stream& stream, std::string& space) -> task<> {
            co_await stream.read_some(bytes_of(space));
        };
        const unsigned read_line = this_line() - 2;
        const auto writes = [](tcp_stream& stream, std::string& much) -> task<> {
            co_await stream.write_all(much);
        };
        const unsigned write_line = this_line() - 2;
        const death read = death_of([&] {
            run([&]() -> task<> {
                auto [client, server] = co_await connected_pair();
                std::string space(10, '\0');
                task_group group;
                // A receive and a wait for the end: the second of these is no read.
                group.spawn(outcome_of(server.receive(), form::as_result));
                group.spawn(outcome_of(server.wait_hangup(), form::as_result));
                co_await settle();
                group.spawn(reads(server, space));
                co_await group.join();
            });
        });
        CHECK(read.signal == SIGABRT);
        CHECK(read.says("a stream is read while another task reads from it"));
        CHECK(read.names(read_line));
        const death written = death_of([&] {
            run([&]() -> task<> {
                auto [client, server] = co_await connected_pair();
                std::string much(8 * megabyte, 'x');
                task_group group;
                group.spawn(writes(client, much));
                co_await settle();
                group.spawn(writes(client, much));
                co_await group.join();
            });
        });
        CHECK(written.signal == SIGABRT);
        CHECK(written.says("a stream is written while another task writes to it"));
        CHECK(written.names(write_line));
    });
}

TEST_CASE("destroying a task while it runs aborts and names where it stopped last") {
    on_each_reactor_kind([](auto run) {
        std::optional<task<>> work;
        const auto destroys_itself = [](std::optional<task<>>& self) -> task<> {
            co_await yield();
            self.reset();
        };
        const unsigned line = this_line() - 3;
        const death how = death_of([&] {
            run([&]() -> task<> {
                work.emplace(destroys_itself(work));
                co_await *work;
            });
        });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task is destroyed while it is running"));
        CHECK(how.names(line));
    });
}

#endif

TEST_CASE("destroying a group with a task unjoined aborts and names where the group was made") {
    on_each_reactor_kind([](auto run) {
        for (const bool ended : {false, true}) {
            CAPTURE(ended);
            unsigned line = 0;
            const auto body = [&ended]() -> task<> {
                task_group group;
                group.spawn(nothing());
                if (ended) co_await settle();
            };
            line = this_line() - 4;
            const death how = death_of([&] { run(body); });
            CHECK(how.signal == SIGABRT);
            CHECK(how.says("a task_group is destroyed without a join; it was made here"));
            CHECK(how.names(line));
        }
    });
}

TEST_CASE("an exception that passes an unjoined group aborts and names where it was made") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            task_group group;
            group.spawn([]() -> task<> { co_await sleep_for(1h); });
            co_await yield();
            throw 1;
        };
        const unsigned line = this_line() - 5;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task_group is destroyed without a join; it was made here"));
        CHECK(how.names(line));
    });
}

TEST_CASE("making a group outside of a task aborts and names the place") {
    const death how = death_of([] { const task_group group; });
    const unsigned line = this_line() - 1;
    CHECK(how.signal == SIGABRT);
    CHECK(how.says("a task_group is made outside of a task"));
    CHECK(how.names(line));
}

TEST_CASE("joining a group from two tasks at once aborts and names where the group was made") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            event never;
            task_group joined;
            joined.spawn(wait_for, std::ref(never));
            task_group joiners;
            const auto join = [&joined]() -> task<> { co_await joined.join(); };
            joiners.spawn(join);
            joiners.spawn(join);
            co_await joiners.join();
        };
        const unsigned line = this_line() - 8;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task_group is joined by two tasks at once; it was made here"));
        CHECK(how.names(line));
    });
}

TEST_CASE("awaiting a handle from two tasks at once aborts and names the second await") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            event never;
            task_group group;
            const auto handle = group.spawn(wait_for, std::ref(never));
            const auto wait = [&handle]() -> task<> { co_await handle; };
            group.spawn(wait);
            group.spawn(wait);
            co_await group.join();
        };
        const unsigned line = this_line() - 5;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task_handle is awaited by two tasks at once"));
        CHECK(how.names(line));
    });
}

TEST_CASE("spawning a task that was moved from aborts and names the spawn") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            task_group group;
            auto work = nothing();
            const auto owner = std::move(work);
            group.spawn(std::move(work));
            co_await group.join();
        };
        const unsigned line = this_line() - 3;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task is spawned that was moved from"));
        CHECK(how.names(line));
    });
}

TEST_CASE("a task that ends before a group that it made aborts and names the group") {
    on_each_reactor_kind([](auto run) {
        std::unique_ptr<task_group> outlives;
        const auto body = [](std::unique_ptr<task_group>& group) -> task<> {
            group.reset(new task_group);
            co_await yield();
        };
        const unsigned line = this_line() - 3;
        const death how = death_of([&] { run(body(outlives)); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task ended before a task_group that it made; it was made here"));
        CHECK(how.names(line));
    });
}

TEST_CASE("a task that ends in a scope which an async_generator holds aborts and names the scope") {
    on_each_reactor_kind([](auto run) {
        unsigned line = 0;
        const death how = death_of([&] {
            run([&]() -> task<> {
                auto items = []() -> async_generator<int> {
                    cancel_scope scope;
                    const scope_entry entry{scope};
                    co_yield 1;
                }();
                task_group group;
                group.spawn([&]() -> task<> { (void)co_await items.next(); });
                co_await group.join();
            });
        });
        line = this_line() - 8;
        CHECK(how.signal == SIGABRT);
        CHECK(
            how.says("a task ended before a scope that it had entered was left; "
                     "it was entered here"));
        CHECK(how.names(line));
    });
}

TEST_CASE("leaving a scope before the one inside it aborts and names the inner one") {
    on_each_reactor_kind([](auto run) {
        unsigned line = 0;
        const death how = death_of([&] {
            run([&]() -> task<> {
                cancel_scope outer;
                cancel_scope inner;
                std::optional<scope_entry> first;
                first.emplace(outer);
                const scope_entry second{inner};
                first.reset();
                co_return;
            });
        });
        line = this_line() - 5;
        CHECK(how.signal == SIGABRT);
        CHECK(
            how.says("a scope is left before one that was entered inside it; "
                     "that was entered here"));
        CHECK(how.names(line));
    });
}

TEST_CASE("a group that outlives the scope it was made in aborts") {
    on_each_reactor_kind([](auto run) {
        const auto body = []() -> task<> {
            std::unique_ptr<task_group> outlives;
            (void)co_await with_cancel_scope([&](cancel_scope&) -> task<> {
                outlives.reset(new task_group);
                co_return;
            });
        };
        const unsigned line = this_line() - 4;
        const death how = death_of([&] { run(body); });
        CHECK(how.signal == SIGABRT);
        CHECK(how.says("a task_group outlives the scope that it was made in; it was made here"));
        CHECK(how.names(line));
    });
}

#ifndef NDEBUG
TEST_CASE("spawning into a group, or joining it, on another scheduler aborts") {
    on_each_reactor_kind([](auto run) {
        const runtime_options two{.reactors = 2, .reactor = run.kind()};
        const death by_spawn = death_of([&] {
            rondo::run(
                []() -> task<> {
                    task_group group;
                    auto stray = [&group]() -> task<> {
                        co_await resume_on(this_runtime().scheduler(1));
                        group.spawn([]() -> task<> { co_return; });
                    };
                    group.spawn(stray);
                    co_await sleep_for(1h);
                    co_await group.join();
                },
                two);
        });
        CHECK(by_spawn.signal == SIGABRT);
        CHECK(by_spawn.says("a task is spawned into a group of another scheduler"));
        const death by_join = death_of([&] {
            rondo::run(
                []() -> task<> {
                    task_group group;
                    auto stray = [&group]() -> task<> {
                        co_await resume_on(this_runtime().scheduler(1));
                        co_await group.join();
                    };
                    group.spawn(stray);
                    co_await sleep_for(1h);
                    co_await group.join();
                },
                two);
        });
        CHECK(by_join.signal == SIGABRT);
        CHECK(by_join.says("a task_group is joined on another scheduler; it was made here"));
    });
}
#endif

TEST_CASE("destroying a runtime in a call posted to it, or in a task of it, aborts") {
    on_each_reactor_kind([](auto run) {
        for (const bool in_task : {false, true}) {
            const death died = death_of([&] {
                auto all = std::make_unique<runtime>(runtime_options{.reactor = run.kind()});
                runtime& same = *all;
                const auto destroy = [&all] { all.reset(); };
                if (in_task) {
                    same.run([&]() -> task<> { co_return destroy(); });
                } else {
                    same.post(destroy);
                    for (;;) ::pause();
                }
            });
            CHECK(died.signal == SIGABRT);
            CHECK(died.says("a runtime is destroyed by one of its own tasks or calls"));
        }
    });
}

TEST_CASE("this_scheduler outside of run aborts") {
    const death how = death_of([] { (void)this_scheduler(); });
    CHECK(how.signal == SIGABRT);
    CHECK(how.says("this_scheduler() is called outside of run()"));
}

}  // namespace rondo::test
