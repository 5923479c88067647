#include <rondo/runtime/runtime.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/run.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/threads/detail/usable_cores.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>
#include <rondo/runtime/timeout.hpp>

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/live_memory.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/process_state.hpp"
#include "support/sample_tasks.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

task<int> give(int number) {
    co_await yield();
    co_return number;
}

task<> rest_with(counted) { co_await sleep_for(1h); }

std::error_code error_of_submit(runtime& rt) {
    try {
        (void)rt.submit(give(1));
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

/// The cores that the calling thread may run on.
std::vector<int> cores_here() { return detail::allowed_cores(); }

/// Puts the calling thread's affinity mask back, lest one failure becomes many.
class same_cores {
public:
    same_cores() { REQUIRE(::sched_getaffinity(0, sizeof mask_, &mask_) == 0); }
    same_cores(const same_cores&) = delete;
    same_cores& operator=(const same_cores&) = delete;
    ~same_cores() { ::sched_setaffinity(0, sizeof mask_, &mask_); }

private:
    cpu_set_t mask_{};
};

/// For a while so many descriptors are left to open, and no more.
class few_descriptors {
public:
    explicit few_descriptors(std::size_t left) {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        const rlimit few{256, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        for (int fd; (fd = ::dup(STDIN_FILENO)) >= 0;) fillers_.push_back(fd);
        for (; left != 0; --left) {
            ::close(fillers_.back());
            fillers_.pop_back();
        }
    }
    few_descriptors(const few_descriptors&) = delete;
    few_descriptors& operator=(const few_descriptors&) = delete;
    ~few_descriptors() {
        for (const int fd : fillers_) ::close(fd);
        ::setrlimit(RLIMIT_NOFILE, &before_);
    }

private:
    rlimit before_{};
    std::vector<int> fillers_;
};

}  // namespace

TEST_CASE("a runtime has as many schedulers as it was asked for, each of which knows its place") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned count : {1U, 2U, 5U}) {
            runtime rt{{.reactors = count, .reactor = run.kind()}};
            REQUIRE(rt.size() == count);
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(rt.scheduler(i).index() == i);
                CHECK(rt.scheduler(i).reactor() == run.kind());
                auto index =
                    rt.scheduler(i).submit([]() -> task<std::size_t> { co_return here(); });
                CHECK(index.get() == i);
                auto same = rt.scheduler(i).submit(
                    [&]() -> task<bool> { co_return &this_runtime() == &rt; });
                CHECK(same.get());
            }
        }
    });
}

TEST_CASE("no number of reactors means one for each usable core") {
    on_each_reactor_kind([](auto run) {
        const runtime all{{.reactors = 0, .reactor = run.kind()}};
        CHECK(all.size() == detail::usable_cores());
        // On a thread of its own, for the mask goes with it.
        std::thread([&] {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(static_cast<std::size_t>(cores_here().back()), &one);
            REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
            const runtime single{{.reactors = 0, .reactor = run.kind()}};
            CHECK(single.size() == 1);
        }).join();
    });
}

TEST_CASE("more reactors or pool threads than anybody has cores for are refused by a sentence") {
    const auto before = threads();
    CHECK_THROWS_WITH_AS(runtime({.reactors = 1025}),
                         "runtime_options::reactors: 1025 is more than 1024",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(runtime({.reactors = 10'000}),
                         "runtime_options::reactors: 10000 is more than 1024",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(runtime({.pool_threads = 1025}),
                         "runtime_options::pool_threads: 1025 is more than 1024",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(rondo::run(give(1), {.reactors = 1025}),
                         "runtime_options::reactors: 1025 is more than 1024",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(rondo::run(give(1), {.pool_threads = 10'000}),
                         "runtime_options::pool_threads: 10000 is more than 1024",
                         std::invalid_argument);
    CHECK(threads() == before);
    CHECK(rondo::run(give(1)) == 1);
}

TEST_CASE("run takes the calling thread for the first reactor, and starts the others") {
    on_each_reactor_kind([](auto run) {
        const auto caller = std::this_thread::get_id();
        run_many(run, 3, [=]() -> task<> {
            std::array<std::thread::id, 3> ids;
            co_await on_each_reactor([&ids](std::size_t index) -> task<> {
                ids.at(index) = std::this_thread::get_id();
                CHECK(here() == index);
                co_return;
            });
            CHECK(ids[0] == caller);
            CHECK(ids[1] != caller);
            CHECK(ids[2] != caller);
            CHECK(ids[1] != ids[2]);
            CHECK(here() == 0);
        });
    });
}

TEST_CASE("a runtime's run gives the result of a task of the first scheduler, or its exception") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        CHECK(rt.run(give(3)) == 3);
        int number = 0;
        int& same = rt.run([](int& one) -> task<int&> { co_return one; }(number));
        CHECK(&same == &number);
        const auto box =
            rt.run([box = std::make_unique<int>(4)]() mutable -> task<std::unique_ptr<int>> {
                co_await yield();
                co_return std::move(box);
            });
        CHECK(*box == 4);
        CHECK(rt.run([]() -> task<std::size_t> { co_return here(); }) == 0);
        CHECK_THROWS_WITH_AS(rt.run(fail_with("out of it")), "out of it", std::runtime_error);
        CHECK_THROWS_AS(rt.run([]() -> task<> {
            co_await yield();
            throw operation_cancelled{};
        }),
                        operation_cancelled);
        rt.run([]() -> task<> { co_return; });
    });
}

TEST_CASE("several threads run at once on one runtime") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        constexpr int count = 6;
        std::atomic<int> inside{0};
        std::array<int, count> results{};
        std::vector<std::thread> all;
        for (int i = 0; i < count; ++i) {
            all.emplace_back([&, i] {
                results.at(static_cast<std::size_t>(i)) = rt.run([&, i]() -> task<int> {
                    ++inside;
                    co_await until([&] { return inside == count; });
                    co_return co_await give(i);
                });
            });
        }
        for (auto& each : all) each.join();
        CHECK(results == std::array<int, count>{0, 1, 2, 3, 4, 5});
    });
}

TEST_CASE("a runtime's run inside a task, or in a posted call, is refused") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        runtime other{{.reactor = run.kind()}};
        const auto refused = [&] {
            CHECK_THROWS_AS((void)rt.run(give(1)), std::logic_error);
            CHECK_THROWS_AS((void)other.run([]() -> task<> { co_return; }), std::logic_error);
            CHECK_THROWS_AS((void)rondo::run(give(1)), std::logic_error);
        };
        rt.run([&]() -> task<> {
            refused();
            co_return;
        });
        std::latch called{1};
        CHECK(rt.scheduler(1).post([&] {
            refused();
            called.count_down();
        }));
        called.wait();
        CHECK(rt.run(give(2)) == 2);
        // A runtime of its own is what a task may have; it only must not wait for it.
        const auto sum = rt.run([&]() -> task<int> {
            auto far = other.submit(give(5));
            co_await until([&] { return far.wait_for(0s) == std::future_status::ready; });
            co_return far.get();
        });
        CHECK(sum == 5);
    });
}

TEST_CASE("calls run on the scheduler they are posted to, each thread's in its order") {
    on_each_reactor_kind([](auto run) {
        constexpr std::size_t posters = 4;
        constexpr int rounds = 500;
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        struct line {
            std::array<std::vector<int>, posters> calls;
        };
        std::array<line, 2> lines;
        std::latch all_run{2 * posters * rounds};
        std::vector<std::thread> all;
        for (std::size_t poster = 0; poster < posters; ++poster) {
            all.emplace_back([&, poster] {
                for (int i = 0; i < rounds; ++i) {
                    for (std::size_t to = 0; to < 2; ++to) {
                        const bool taken = rt.scheduler(to).post([&, poster, to, i] {
                            CHECK(here() == to);
                            lines.at(to).calls.at(poster).push_back(i);
                            all_run.count_down();
                        });
                        REQUIRE(taken);
                    }
                }
            });
        }
        for (auto& each : all) each.join();
        all_run.wait();
        for (const line& at : lines) {
            for (const auto& calls : at.calls) {
                REQUIRE(calls.size() == rounds);
                for (int i = 0; i < rounds; ++i) REQUIRE(calls[static_cast<std::size_t>(i)] == i);
            }
        }
    });
}

TEST_CASE("a call posted by a task to its own scheduler runs after it has given way, in no task") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            bool called = false;
            auto box = std::make_unique<int>(7);
            CHECK(this_scheduler().post([&called, box = std::move(box)] { called = *box == 7; }));
            CHECK_FALSE(called);
            co_await until([&] { return called; });
        });
    });
}

TEST_CASE("an exception that leaves a posted call stops the runtime and is thrown by run") {
    on_each_reactor_kind([](auto run) {
        for (const std::size_t where : {0U, 1U}) {
            CHECK_THROWS_WITH_AS(
                run_many(run, 2,
                         [=]() -> task<> {
                             place(where).post([] { throw std::runtime_error("posted"); });
                             co_await sleep_for(1h);
                         }),
                "posted", std::runtime_error);
            runtime rt{{.reactors = 2, .reactor = run.kind()}};
            auto resting = rt.submit([]() -> task<> { co_await sleep_for(1h); });
            CHECK(rt.scheduler(where).post([] { throw std::runtime_error("posted"); }));
            CHECK_THROWS_AS(resting.get(), operation_cancelled);
            CHECK(error_of_submit(rt) == runtime_errc::scheduler_stopped);
        }
    });
}

TEST_CASE("run in progress throws the first exception that left a posted call") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        CHECK_THROWS_WITH_AS(rt.run([&]() -> task<> {
            rt.post([] { throw std::runtime_error("first"); });
            rt.post([] { throw std::runtime_error("second"); });
            co_await sleep_for(1h);
        }),
                             "first", std::runtime_error);
    });
}

TEST_CASE("an exception of a call that was posted before run's task ended is not lost") {
    on_each_reactor_kind([](auto run) {
        CHECK_THROWS_WITH_AS(run([]() -> task<> {
                                 this_scheduler().post([] { throw std::runtime_error("late"); });
                                 co_return;
                             }),
                             "late", std::runtime_error);
    });
}

TEST_CASE("a scheduler that has stopped takes no call, and destroys it") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        rt.stop();
        for (std::size_t i = 0; i < rt.size(); ++i) {
            while (rt.scheduler(i).post([kept = counted{alive}] {})) std::this_thread::yield();
            CHECK_FALSE(rt.scheduler(i).post([kept = counted{alive}] {}));
        }
        CHECK(alive == 0);
    });
}

TEST_CASE("submit gives the future a value, a move-only thing, a reference, nothing, an error") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        for (std::size_t i = 0; i < rt.size(); ++i) {
            scheduler& at = rt.scheduler(i);
            CHECK(at.submit(give(1)).get() == 1);
            auto box = at.submit(
                []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(2); });
            CHECK(*box.get() == 2);
            int number = 0;
            auto reference = at.submit([](int& one) -> task<int&> { co_return one; }(number));
            CHECK(&reference.get() == &number);
            at.submit([]() -> task<> { co_await yield(); }).get();
            auto failing = at.submit(fail_with("no good"));
            failing.wait();
            // The task has let go of the exception, too: ThreadSanitizer does not see how libstdc++
            // counts its users.
            at.submit(give(0)).get();
            CHECK_THROWS_WITH_AS(failing.get(), "no good", std::runtime_error);
        }
        CHECK(rt.submit(give(9)).get() == 9);
    });
}

TEST_CASE(
    "submit calls its callable on the scheduler and nothing is left of it when the future is "
    "ready") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        for (int round = 0; round < 100; ++round) {
            auto where = rt.scheduler(1).submit([kept = counted{alive}]() -> task<std::size_t> {
                const counted inside = kept;
                co_await yield();
                co_return here();
            });
            CHECK(where.get() == 1);
            CHECK(alive == 0);
        }
    });
}

TEST_CASE("many threads submit many tasks, and each has its answer") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        std::vector<std::thread> all;
        for (int poster = 0; poster < 4; ++poster) {
            all.emplace_back([&] {
                std::vector<std::future<int>> answers;
                for (int i = 0; i < 200; ++i) {
                    answers.push_back(
                        rt.scheduler(static_cast<std::size_t>(i) % 2).submit(give(i)));
                }
                for (int i = 0; i < 200; ++i) {
                    REQUIRE(answers[static_cast<std::size_t>(i)].get() == i);
                }
            });
        }
        for (auto& each : all) each.join();
    });
}

TEST_CASE("a task submits to its own scheduler and to another one without waiting") {
    on_each_reactor_kind([](auto run) {
        run_many(run, 2, []() -> task<> {
            for (std::size_t i = 0; i < 2; ++i) {
                auto answer = place(i).submit(give(3));
                co_await until([&] { return answer.wait_for(0s) == std::future_status::ready; });
                CHECK(answer.get() == 3);
            }
        });
    });
}

TEST_CASE("stopping cancels what was submitted, and refuses more with an error that says so") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        std::vector<std::future<void>> all;
        for (std::size_t i = 0; i < 20; ++i) {
            all.push_back(rt.scheduler(i % 2).submit(rest(started, cancelled)));
        }
        while (started != 20) std::this_thread::yield();
        rt.stop();
        for (auto& each : all) CHECK_THROWS_AS(each.get(), operation_cancelled);
        CHECK(cancelled == 20);
        CHECK(error_of_submit(rt) == runtime_errc::scheduler_stopped);
        CHECK_THROWS_WITH_AS((void)rt.submit(give(1)), "submit: the scheduler has stopped",
                             std::system_error);
        CHECK_THROWS_AS((void)rt.run(give(1)), std::system_error);
    });
}

TEST_CASE("a runtime leaves no thread, no descriptor and no memory behind") {
    on_each_reactor_kind([](auto run) {
        const auto use = [&] {
            runtime rt{{.reactors = 3, .reactor = run.kind(), .pool_threads = 2}};
            CHECK(rt.run([]() -> task<int> {
                co_await on_each_reactor([](std::size_t) -> task<> { co_await yield(); });
                co_return co_await offload([] { return 5; });
            }) == 5);
            auto resting = rt.scheduler(1).submit([]() -> task<> { co_await sleep_for(1h); });
            rt.post([] {});
        };
        use();
        const auto descriptors_before = open_descriptors();
        const auto threads_before = threads();
        const auto bytes_before = live_bytes();
        for (int i = 0; i < 20; ++i) use();
        CHECK(open_descriptors() == descriptors_before);
        CHECK(threads() == threads_before);
        CHECK(live_bytes() <= bytes_before + 16 * 1024);
    });
}

TEST_CASE("a runtime is destroyed with tasks at every stage of their lives") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> alive{0};
        const auto with_runtime = [&](auto use) {
            {
                runtime rt{{.reactors = 2, .reactor = run.kind(), .pool_threads = 1}};
                use(rt);
            }
            CHECK(alive == 0);
        };
        with_runtime([](runtime&) {});
        with_runtime([&](runtime& rt) { (void)rt.submit(rest_with(counted{alive})); });
        with_runtime([&](runtime& rt) {  // submitted, surely not started: the scheduler is busy
            const auto busy = std::make_shared<std::latch>(1);
            const auto submitted = std::make_shared<std::latch>(1);
            rt.post([=] {
                busy->count_down();
                submitted->wait();
            });
            busy->wait();
            for (int i = 0; i < 10; ++i) (void)rt.submit(rest_with(counted{alive}));
            rt.stop();
            submitted->count_down();
        });
        with_runtime([&](runtime& rt) {  // asleep
            std::atomic<int> started{0};
            std::atomic<int> cancelled{0};
            auto asleep = rt.submit(
                [&, kept = counted{alive}]() -> task<> { co_await rest(started, cancelled); });
            while (started == 0) std::this_thread::yield();
            rt.stop();
            CHECK_THROWS_AS(asleep.get(), operation_cancelled);
        });
        with_runtime([&](runtime& rt) {  // busy without end
            (void)rt.submit([kept = counted{alive}]() -> task<> {
                for (;;) co_await yield();
            });
        });
        with_runtime([&](runtime& rt) {  // in the kernel
            (void)rt.scheduler(1).submit([kept = counted{alive}]() -> task<> {
                auto listener = tcp_listener::bind(any_port());
                (void)co_await listener.accept();
            });
        });
        with_runtime([&](runtime& rt) {  // in the pool
            (void)rt.submit([kept = counted{alive}]() -> task<> {
                for (;;) co_await offload([] {});
            });
        });
        with_runtime([&](runtime& rt) {  // between two reactors
            for (int i = 0; i < 4; ++i) {
                (void)rt.submit([kept = counted{alive}]() -> task<> {
                    for (std::size_t to = 0;; ++to) co_await resume_on(place(to % 2));
                });
            }
        });
        with_runtime([&](runtime& rt) {  // with children elsewhere
            (void)rt.submit([&alive]() -> task<> {
                task_group group;
                for (std::size_t i = 0; i < 10; ++i) {
                    group.spawn_on(place(i % 2), rest_with, counted{alive});
                }
                co_await group.join();
            });
        });
    });
}

TEST_CASE("a task, a posted call and plain threads stop a runtime, as often as they like") {
    on_each_reactor_kind([](auto run) {
        const auto stopped = [&](auto stop) {
            runtime rt{{.reactors = 2, .reactor = run.kind()}};
            auto resting = rt.scheduler(1).submit([]() -> task<> { co_await sleep_for(1h); });
            stop(rt);
            CHECK_THROWS_AS(resting.get(), operation_cancelled);
            rt.stop();
        };
        stopped([](runtime& rt) { rt.stop(); });
        stopped([](runtime& rt) {
            CHECK_THROWS_AS(rt.run([]() -> task<> {
                this_runtime().stop();
                co_await yield();
            }),
                            operation_cancelled);
        });
        stopped([](runtime& rt) {
            // What has its result when the runtime is stopped gives it.
            CHECK(rt.run([]() -> task<int> {
                this_runtime().stop();
                co_return 4;
            }) == 4);
        });
        stopped([](runtime& rt) { rt.scheduler(1).post([&rt] { rt.stop(); }); });
        stopped([](runtime& rt) {
            std::latch together{4};
            std::vector<std::thread> all;
            for (int i = 0; i < 4; ++i) {
                all.emplace_back([&] {
                    together.arrive_and_wait();
                    rt.stop();
                    rt.stop();
                });
            }
            for (auto& each : all) each.join();
        });
    });
}

TEST_CASE("a thread waiting in run hears that somebody else has stopped the runtime") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        std::thread waiting(
            [&] { CHECK_THROWS_AS(rt.run(rest(started, cancelled)), operation_cancelled); });
        while (started == 0) std::this_thread::yield();
        rt.stop();
        waiting.join();
        CHECK(cancelled == 1);
    });
}

TEST_CASE("run ends by operation_cancelled when its own task, or another thread, stops it") {
    on_each_reactor_kind([](auto run) {
        for (const unsigned count : {1U, 2U}) {
            CHECK_THROWS_AS(run_many(run, count,
                                     []() -> task<> {
                                         this_runtime().stop();
                                         co_await sleep_for(1h);
                                     }),
                            operation_cancelled);
            std::thread stopper;
            CHECK_THROWS_AS(run_many(run, count,
                                     [&]() -> task<> {
                                         stopper =
                                             std::thread([&rt = this_runtime()] { rt.stop(); });
                                         co_await sleep_for(1h);
                                     }),
                            operation_cancelled);
            stopper.join();
        }
    });
}

TEST_CASE("whatever still runs when run's task has ended is cancelled and waited for") {
    on_each_reactor_kind([](auto run) {
        std::atomic<int> started{0};
        std::atomic<int> cancelled{0};
        std::vector<std::future<void>> all;
        run_many(run, 3, [&]() -> task<> {
            for (std::size_t i = 0; i < 9; ++i) {
                all.push_back(place(i % 3).submit(rest(started, cancelled)));
            }
            co_await until([&] { return started == 9; });
        });
        CHECK(cancelled == 9);
        for (auto& each : all) CHECK_THROWS_AS(each.get(), operation_cancelled);
    });
}

TEST_CASE("a shield holds against a stop, and the other reactors wait for what it protects") {
    on_each_reactor_kind([](auto run) {
        const auto clean_up = []() -> task<> {
            co_await resume_on(place(1));
            auto listener = tcp_listener::bind(any_port());
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            auto server = co_await listener.accept();
            co_await client.write_all("bye");
            co_await resume_on(place(0));
            const std::string text = co_await read_text(server, 3);
            CHECK(text == "bye");
        };
        runtime rt{{.reactors = 2, .reactor = run.kind()}};
        auto polite = rt.submit([&]() -> task<> {
            this_runtime().stop();
            co_await shield(clean_up());
        });
        polite.get();
    });
}

TEST_CASE("the other reactors of run wait for the clean-up of its own task, too") {
    on_each_reactor_kind([](auto run) {
        std::atomic<bool> done{false};
        const auto clean_up = [&]() -> task<> {
            for (int i = 0; i < 100; ++i) {  // long enough for whoever would leave too early
                co_await resume_on(place(1));
                co_await resume_on(place(0));
                co_await sleep_for(100us);
            }
            auto listener = tcp_listener::bind(any_port());
            auto client = co_await tcp_stream::connect(listener.local_endpoint());
            auto server = co_await listener.accept();
            co_await client.write_all("bye");
            const std::string text = co_await read_text(server, 3);
            done = text == "bye";
        };
        run_many(run, 2, [&]() -> task<> {
            this_runtime().stop();
            co_await shield(clean_up());
        });
        CHECK(done);
    });
}

TEST_CASE("pinned reactors have a core each, and the calling thread gets its own mask back") {
    on_each_reactor_kind([](auto run) {
        const std::vector<int> before = cores_here();
        const auto look = [&before]() -> task<> {
            co_await on_each_reactor([&before](std::size_t index) -> task<> {
                CHECK(cores_here() == std::vector<int>{before[index % before.size()]});
                co_return;
            });
        };
        for (const unsigned count : {1U, 2U, 3U}) {
            const runtime_options pinned{
                .reactors = count, .reactor = run.kind(), .pin_threads = true};
            rondo::run(look, pinned);
            CHECK(cores_here() == before);
            CHECK_THROWS_AS(rondo::run(fail_with("pinned"), pinned), std::runtime_error);
            CHECK(cores_here() == before);
            runtime rt{pinned};
            CHECK(cores_here() == before);
            rt.run(look);
        }
        // Others stay where they are.
        rondo::run([&before]() -> task<> {
            CHECK(cores_here() == before);
            co_return;
        });
    });
}

TEST_CASE("the pool's threads are not pinned to the core of the reactor that started them") {
    on_each_reactor_kind([](auto run) {
        const std::vector<int> before = cores_here();
        const auto look = [&before]() -> task<> {
            co_await offload([&before] { CHECK(cores_here() == before); });
        };
        const runtime_options pinned{.reactors = 1, .reactor = run.kind(), .pin_threads = true};
        rondo::run(look, pinned);
        runtime rt{pinned};
        rt.run(look);
    });
}

TEST_CASE("a run that fails for want of descriptors leaves nothing, not even a pinned thread") {
    on_each_reactor_kind([](auto run) {
        const std::vector<int> cores_before = cores_here();
        const auto descriptors_before = open_descriptors();
        const auto threads_before = threads();
        int refused = 0;
        int served = 0;
        for (std::size_t left = 0; left < 9; ++left) {
            for (const bool own_threads : {false, true}) {
                const same_cores mask;
                const runtime_options two{
                    .reactors = 2, .reactor = run.kind(), .pin_threads = true};
                try {
                    const few_descriptors few{left};
                    if (own_threads) {
                        runtime rt{two};
                        served += rt.run(give(1));
                    } else {
                        served += rondo::run(give(1), two);
                    }
                } catch (const std::system_error& error) {
                    CHECK(error.code() == std::errc::too_many_files_open);
                    ++refused;
                }
                CHECK(open_descriptors() == descriptors_before);
                CHECK(threads() == threads_before);
                CHECK(cores_here() == cores_before);
            }
        }
        CHECK(refused >= 4);
        CHECK(served >= 4);
        CHECK(run_many(run, 2, give(8)) == 8);
    });
}

TEST_CASE("the pool of a runtime is made once, of the size that was asked for") {
    on_each_reactor_kind([](auto run) {
        const auto before = threads();
        runtime rt{{.reactors = 2, .reactor = run.kind(), .pool_threads = 3}};
        CHECK(threads() == before + 2);
        std::array<thread_pool*, 4> seen{};
        std::vector<std::thread> all;
        for (std::size_t i = 0; i < seen.size(); ++i) {
            all.emplace_back([&, i] { seen.at(i) = &rt.pool(); });
        }
        for (auto& each : all) each.join();
        for (const thread_pool* each : seen) CHECK(each == seen[0]);
        std::latch together{4};
        std::vector<future<void>> jobs;
        for (int i = 0; i < 3; ++i)
            jobs.push_back(rt.pool().submit([&] { together.arrive_and_wait(); }));
        CHECK(threads() == before + 5);
        together.arrive_and_wait();
        for (auto& each : jobs) each.get();
    });
}

}  // namespace rondo::test
