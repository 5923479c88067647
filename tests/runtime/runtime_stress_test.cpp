// Several reactors on fewer cores, as hard as they can: what is counted must add up, in order, and
// everything must end. A failure names the seed; RONDO_TEST_SEED=N repeats it.

#include <rondo/runtime/core/detail/sanitizers.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/threads/future.hpp>
#include <rondo/runtime/timeout.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/many_reactors.hpp"
#include "support/process_state.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

constexpr unsigned reactors = 8;

// Under a sanitizer a twentieth of the work does: it is that much slower.
#if defined(RONDO_ADDRESS_SANITIZER) || defined(RONDO_THREAD_SANITIZER)
constexpr int effort = 1;
#else
constexpr int effort = 20;
#endif

constexpr int messages_in_all = 50'000 * effort;  // a million where nothing slows it down

unsigned seed_of_this_run() {
    const char* given = std::getenv("RONDO_TEST_SEED");
    return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                            : std::random_device{}();
}

class chance {
public:
    explicit chance(unsigned seed) : engine_(seed) {}
    std::size_t below(std::size_t limit) { return engine_() % limit; }
    bool one_in(std::size_t n) { return below(n) == 0; }
    unsigned seed() { return static_cast<unsigned>(engine_()); }

private:
    std::minstd_rand engine_;
};

/// Every scheduler posts to every other one, in bursts; each checks what comes.
class message_storm {
public:
    explicit message_storm(runtime& on) : rt_(on) {}

    /// The number of messages that came out of order, once all have come.
    int run() {
        for (std::size_t from = 0; from < reactors; ++from) {
            rt_.scheduler(from).post([this, from] { burst(from); });
        }
        done_.wait();
        return disorder_;
    }

private:
    static constexpr int for_each_pair =
        messages_in_all / static_cast<int>(reactors * (reactors - 1));

    void burst(std::size_t from) {
        int& sent = lines_[from].sent;
        for (int i = 0; i < 32 && sent < for_each_pair; ++i, ++sent) {
            for (std::size_t to = 0; to < reactors; ++to) {
                if (to == from) continue;
                const bool taken = rt_.scheduler(to).post(
                    [this, from, to, number = sent] { receive(from, to, number); });
                if (!taken) ++disorder_;
            }
        }
        if (sent < for_each_pair) {
            rt_.scheduler(from).post([this, from] { burst(from); });
        } else {
            done_.count_down();  // it may be gone now
        }
    }

    void receive(std::size_t from, std::size_t to, int number) {
        line& at = lines_[to];
        if (here() != to || at.expected.at(from)++ != number) ++disorder_;
        if (++at.received == for_each_pair * static_cast<int>(reactors - 1)) done_.count_down();
    }

    // Of one scheduler, touched on its thread only.
    struct alignas(64) line {
        std::array<int, reactors> expected{};
        int received = 0;
        int sent = 0;
    };

    runtime& rt_;
    std::array<line, reactors> lines_;
    std::atomic<int> disorder_{0};
    std::latch done_{2 * reactors};  // each has sent all, and received all
};

struct tally {
    std::atomic<int> begun{0};
    std::atomic<int> alive{0};
    std::atomic<int> completed{0};
    std::atomic<int> cancelled{0};
    std::atomic<int> misplaced{0};
};

/// Wanders about, sleeps, gives way, computes, until it has had enough or is cancelled.
task<int> wander(tally& count, unsigned seed, int steps) {
    chance random{seed};
    const counted living{count.alive};
    ++count.begun;
    try {
        for (int i = 0; i < steps; ++i) {
            switch (random.below(6)) {
                case 0: co_await yield(); break;
                case 1: co_await sleep_for(std::chrono::microseconds(random.below(100))); break;
                case 2: {
                    const std::size_t home = here();
                    const int back = co_await offload([i] { return i; });
                    if (back != i || here() != home) ++count.misplaced;
                    break;
                }
                case 3: {
                    const std::size_t to = random.below(reactors);
                    co_await shield(resume_on(place(to)));
                    if (here() != to) ++count.misplaced;
                    break;
                }
                default: {
                    const std::size_t to = random.below(reactors);
                    co_await resume_on(place(to));
                    if (here() != to) ++count.misplaced;
                    break;
                }
            }
        }
    } catch (const operation_cancelled&) {
        ++count.cancelled;
        throw;
    }
    ++count.completed;
    co_return steps;
}

task<> wander_for(tally& count, unsigned seed, int steps, std::chrono::microseconds limit) {
    try {
        co_await with_timeout(limit, wander(count, seed, steps));
    } catch (const timeout_error&) {
    }
}

/// Spawns wanderers everywhere and cancels some: by their handles, all at once, from one of them.
task<> spawn_and_cancel(tally& count, unsigned seed, int rounds) {
    chance random{seed};
    const std::size_t home = here();
    for (int round = 0; round < rounds; ++round) {
        task_group group;
        std::vector<task_handle<int>> handles;
        const std::size_t children = 1 + random.below(12);
        for (std::size_t i = 0; i < children; ++i) {
            const int steps = static_cast<int>(random.below(20));
            scheduler& where = place(random.below(reactors));
            if (random.one_in(4)) {
                const auto limit = std::chrono::microseconds(random.below(300));
                group.spawn_on(where, wander_for, std::ref(count), random.seed(), steps, limit);
            } else {
                handles.push_back(
                    group.spawn_on(where, wander, std::ref(count), random.seed(), steps));
            }
            if (random.one_in(3)) co_await yield();
            if (!handles.empty() && random.one_in(3))
                handles[random.below(handles.size())].cancel();
        }
        if (random.one_in(4)) {
            group.spawn_on(
                place(random.below(reactors)),
                [](task_group& all) -> task<> {
                    all.cancel();
                    co_return;
                },
                std::ref(group));
        }
        if (random.one_in(4)) group.cancel();
        co_await group.join();
        if (here() != home) ++count.misplaced;
    }
}

task<> keep_promise_of(promise<int> given, int value, unsigned seed) {
    chance random{seed};
    if (random.one_in(2)) co_await resume_on(place(random.below(reactors)));
    if (random.one_in(2)) co_await yield();
    given.set_value(value);
}

/// What goes on while a runtime is stopped.
task<> busy_with_everything(std::atomic<int>& progress, unsigned seed) {
    chance random{seed};
    for (;;) {
        ++progress;
        task_group group;
        for (int i = 0; i < 3; ++i) {
            group.spawn_on(place(random.below(this_runtime().size())), [&progress]() -> task<> {
                ++progress;
                co_await yield();
            });
        }
        co_await group.join();
        co_await resume_on(place(random.below(this_runtime().size())));
        if (random.one_in(4)) co_await offload([&progress] { ++progress; });
        if (random.one_in(4)) co_await sleep_for(1us);
    }
}

}  // namespace

TEST_CASE("eight schedulers exchange a million messages, none lost and each sender's in order") {
    on_each_reactor_kind([](auto run) {
        runtime rt{{.reactors = reactors, .reactor = run.kind()}};
        message_storm storm{rt};
        CHECK(storm.run() == 0);
        rt.stop();
    });
}

TEST_CASE("tasks spawned on and cancelled across eight reactors at random all end, at home") {
    const unsigned seed = seed_of_this_run();
    CAPTURE(seed);
    on_each_reactor_kind([seed](auto run) {
        tally count;
        rondo::run(
            [&]() -> task<> {
                co_await on_each_reactor([&count, seed](std::size_t index) -> task<> {
                    const auto own_seed = seed + static_cast<unsigned>(index) * 7'919;
                    co_await spawn_and_cancel(count, own_seed, 10 * effort);
                });
            },
            {.reactors = reactors, .reactor = run.kind(), .pool_threads = 2});
        CHECK(count.alive == 0);
        CHECK(count.misplaced == 0);
        CHECK(count.begun == count.completed + count.cancelled);
        CHECK(count.completed > 0);
        CHECK(count.cancelled > 0);
    });
}

TEST_CASE("a storm of hops ends by cancellation at any moment") {
    const unsigned seed = seed_of_this_run();
    CAPTURE(seed);
    on_each_reactor_kind([seed](auto run) {
        run_many(run, reactors, [seed]() -> task<> {
            chance random{seed};
            for (int round = 0; round < 5 * effort; ++round) {
                std::atomic<int> hops{0};
                std::atomic<int> alive{0};
                task_group group;
                std::vector<task_handle<void>> handles;
                for (int i = 0; i < 30; ++i) {
                    const auto hop_for_ever = [](std::atomic<int>& number, counted,
                                                 unsigned own_seed) -> task<> {
                        chance own{own_seed};
                        for (;;) {
                            co_await resume_on(place(own.below(reactors)));
                            ++number;
                        }
                    };
                    handles.push_back(
                        group.spawn(hop_for_ever, std::ref(hops), counted{alive}, random.seed()));
                }
                const int enough = static_cast<int>(random.below(500));
                co_await until([&] { return hops >= enough; });
                for (auto& each : handles) {
                    if (random.one_in(2)) each.cancel();
                    if (random.one_in(8)) co_await yield();
                }
                group.cancel();
                co_await group.join();
                handles.clear();
                REQUIRE(alive == 0);
                REQUIRE(here() == 0);
            }
        });
    });
}

TEST_CASE("futures are kept on one reactor and awaited on another, eight by eight") {
    const unsigned seed = seed_of_this_run();
    CAPTURE(seed);
    on_each_reactor_kind([seed](auto run) {
        std::atomic<int> wrong{0};
        std::atomic<int> awaited{0};
        run_many(run, reactors, [&]() -> task<> {
            co_await on_each_reactor([&](std::size_t index) -> task<> {
                chance random{seed + static_cast<unsigned>(index)};
                for (int round = 0; round < 10 * effort; ++round) {
                    task_group group;
                    std::vector<future<int>> answers;
                    for (int i = 0; i < 16; ++i) {
                        promise<int> given;
                        answers.push_back(given.get_future());
                        group.spawn_on(place(random.below(reactors)), keep_promise_of,
                                       std::move(given), i, random.seed());
                    }
                    for (int i = 0; i < 16; ++i) {
                        future<int>& answer = answers[static_cast<std::size_t>(i)];
                        const int value = co_await answer;
                        if (value != i || here() != index) ++wrong;
                        ++awaited;
                    }
                    co_await group.join();
                }
            });
        });
        CHECK(wrong == 0);
        CHECK(awaited == 16 * 10 * effort * static_cast<int>(reactors));
    });
}

TEST_CASE("a runtime is stopped at any moment, from inside and from outside") {
    const unsigned seed = seed_of_this_run();
    CAPTURE(seed);
    on_each_reactor_kind([seed](auto run) {
        const auto threads_before = threads();
        const auto descriptors_before = open_descriptors();
        for (int moment = 0; moment < 15 + 2 * effort; ++moment) {
            for (const bool from_inside : {true, false}) {
                std::atomic<int> progress{0};
                std::atomic<int> posted{0};
                std::vector<std::future<void>> all;
                {
                    runtime rt{{.reactors = 3, .reactor = run.kind(), .pool_threads = 1}};
                    for (std::size_t i = 0; i < 6; ++i) {
                        all.push_back(rt.scheduler(i % 3).submit(busy_with_everything(
                            progress,
                            seed + static_cast<unsigned>(moment) * 31 + static_cast<unsigned>(i))));
                    }
                    const int enough = moment * moment / 4;
                    if (from_inside) {
                        const std::size_t where = static_cast<std::size_t>(moment) % 3;
                        (void)rt.scheduler(where).submit([&progress, enough]() -> task<> {
                            co_await until([&progress, enough] { return progress >= enough; });
                            this_runtime().stop();
                        });
                    } else {
                        while (progress < enough) {
                            rt.scheduler(static_cast<std::size_t>(posted) % 3).post([&posted] {
                                ++posted;
                            });
                            std::this_thread::yield();
                        }
                        rt.stop();
                    }
                    for (auto& each : all) {
                        REQUIRE_THROWS_AS(each.get(), operation_cancelled);
                    }
                }
            }
        }
        CHECK(threads() == threads_before);
        CHECK(open_descriptors() == descriptors_before);
    });
}

TEST_CASE("threads post and submit while another one stops the runtime: each hears how it went") {
    on_each_reactor_kind([](auto run) {
        for (int round = 0; round < 5 * effort; ++round) {
            auto ran = std::make_shared<std::atomic<int>>(0);
            std::atomic<int> taken{0};
            std::atomic<int> answered{0};
            std::atomic<int> accepted{0};
            {
                runtime rt{{.reactors = 2, .reactor = run.kind()}};
                std::vector<std::thread> posters;
                for (std::size_t i = 0; i < 2; ++i) {
                    posters.emplace_back([&, i] {
                        while (rt.scheduler(i).post([ran] { ++*ran; })) {
                            ++taken;
                            std::this_thread::yield();
                        }
                    });
                }
                posters.emplace_back([&] {
                    try {
                        for (std::size_t i = 0;; ++i) {
                            auto answer = rt.scheduler(i % 2).submit([]() -> task<> { co_return; });
                            ++accepted;
                            answer.get();
                            ++answered;
                        }
                    } catch (const std::system_error&) {
                    } catch (const operation_cancelled&) {
                        ++answered;
                    }
                });
                while (taken < round) std::this_thread::yield();
                rt.stop();
                for (auto& each : posters) each.join();
            }
            REQUIRE(*ran == taken);
            REQUIRE(accepted == answered);
        }
    });
}

}  // namespace rondo::test
