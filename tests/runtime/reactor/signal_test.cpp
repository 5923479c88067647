#include <rondo/runtime/reactor/signal.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/child_process.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

std::atomic<int> handled{0};

/// Installs a handler that counts, and puts back what was there.
class counting_handler {
public:
    explicit counting_handler(int number) : number_(number) {
        handled = 0;
        struct sigaction mine{};
        mine.sa_handler = [](int) { ++handled; };
        REQUIRE(::sigaction(number, &mine, &before_) == 0);
    }
    counting_handler(const counting_handler&) = delete;
    counting_handler& operator=(const counting_handler&) = delete;
    ~counting_handler() { ::sigaction(number_, &before_, nullptr); }

private:
    int number_;
    struct sigaction before_{};
};

void send_to_process(int number) { REQUIRE(::kill(::getpid(), number) == 0); }

/// Leaves the signal to the other threads. ThreadSanitizer puts a handler off for as long as its
/// thread sleeps in a system call that it does not know, as the reactors do; main never does.
void leave_to_main(int number) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &one, nullptr) == 0);
}

task<result<int>> waited(signal_set wanted) {
    return outcome_of(wait_signal(wanted), form::throwing);
}

/// What handles the signal in this process: "default", "ignored" or "a handler".
std::string disposition(int number) {
    struct sigaction now{};
    REQUIRE(::sigaction(number, nullptr, &now) == 0);
    if (now.sa_handler == SIG_DFL) return "default";
    return now.sa_handler == SIG_IGN ? "ignored" : "a handler";
}

/// How the child ended: "exit status 0" or "killed by signal 15".
std::string end_of(pid_t child) {
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? "killed by signal " + std::to_string(WTERMSIG(status))
                               : "exit status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

TEST_CASE("wait_signal completes with the signal that came, and the others are left alone") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const int number : {SIGUSR1, SIGTERM, SIGINT, SIGRTMIN, SIGRTMAX}) {
                CAPTURE(number);
                task_group group;
                auto waiter =
                    group.spawn(waited({SIGUSR1, SIGTERM, SIGINT, int(SIGRTMIN), int(SIGRTMAX)}));
                co_await settle();
                CHECK_FALSE(waiter.done());
                send_to_process(number);
                const auto got = co_await waiter;
                CHECK(got.value_or(0) == number);
                co_await group.join();
            }
        });
    });
}

TEST_CASE("what a signal did before the wait it does again after it") {
    on_each_reactor_kind([](auto run) {
        const counting_handler counting{SIGUSR1};
        run([]() -> task<> {
            send_to_process(SIGUSR1);
            CHECK(handled == 1);
            task_group group;
            auto one = group.spawn(waited(SIGUSR1));
            auto two = group.spawn(waited(SIGUSR1));
            co_await settle();
            one.cancel();
            const auto nothing = co_await one;
            CHECK(nothing.error() == std::errc::operation_canceled);
            send_to_process(SIGUSR1);
            const auto got = co_await two;
            CHECK(got.value_or(0) == SIGUSR1);
            CHECK(handled == 1);
            send_to_process(SIGUSR1);
            CHECK(handled == 2);
            co_await group.join();
        });
    });
}

TEST_CASE("every task that waits for a signal hears of it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::size_t before = open_descriptors();
            task_group group;
            std::vector<task_handle<result<int>>> waiters;
            for (int i = 0; i < 10; ++i) waiters.push_back(group.spawn(waited({SIGUSR1, SIGUSR2})));
            auto other = group.spawn(waited(SIGUSR2));
            co_await settle();
            send_to_process(SIGUSR1);
            for (auto& one : waiters) {
                const auto got = co_await one;
                CHECK(got.value_or(0) == SIGUSR1);
            }
            co_await settle();
            CHECK_FALSE(other.done());
            send_to_process(SIGUSR2);
            const auto got = co_await other;
            CHECK(got.value_or(0) == SIGUSR2);
            co_await group.join();
            CHECK(open_descriptors() == before);
        });
    });
}

TEST_CASE("a second SIGTERM ends a program that waited for the first and takes too long") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([=]() -> std::string {
                  run([]() -> task<> {
                      task_group group;
                      auto waiter = group.spawn(waited({SIGINT, SIGTERM}));
                      co_await settle();
                      send_to_process(SIGTERM);
                      const auto got = co_await waiter;
                      if (got.value_or(0) == SIGTERM) send_to_process(SIGTERM);
                      co_await group.join();
                  });
                  return "still alive";
              }) == "killed by signal 15");
    });
}

TEST_CASE("a signal ignored before the wait is ignored after it, and heard within") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([=]() -> std::string {
                  std::signal(SIGTERM, SIG_IGN);
                  run([]() -> task<> {
                      send_to_process(SIGTERM);
                      task_group group;
                      auto waiter = group.spawn(waited(SIGTERM));
                      co_await settle();
                      send_to_process(SIGTERM);
                      const auto got = co_await waiter;
                      if (got.value_or(0) != SIGTERM) throw std::runtime_error("not heard");
                      send_to_process(SIGTERM);
                      co_await group.join();
                  });
                  return "still alive";
              }) == "still alive");
    });
}

TEST_CASE("wait_signal is cancelled before and during, and leaves no descriptor and no handler") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            const counting_handler counting{SIGUSR1};
            run([=]() -> task<> {
                const std::size_t before = open_descriptors();
                for (const int moment : moments) {
                    CAPTURE(moment);
                    task_group group;
                    auto waiter = group.spawn(outcome_of(wait_signal(SIGUSR1), how));
                    co_await yield_times(moment);
                    waiter.cancel();
                    const auto got = co_await waiter;
                    CHECK(got.error() == std::errc::operation_canceled);
                    co_await group.join();
                }
                co_await settle();
                CHECK(open_descriptors() == before);
            });
            send_to_process(SIGUSR1);
            CHECK(handled == 1);
        }
    });
}

TEST_CASE("wait_signal cancelled around the signal's arrival gives it or is cancelled") {
    on_each_reactor_kind([](auto run) {
        const counting_handler counting{SIGUSR1};
        run([]() -> task<> {
            int given = 0;
            for (const int moment : moments) {
                CAPTURE(moment);
                task_group group;
                auto waiter = group.spawn(outcome_of(wait_signal(SIGUSR1), form::throwing));
                if (moment > 0) co_await yield();
                send_to_process(SIGUSR1);
                co_await yield_times(moment - 1);
                waiter.cancel();
                const auto got = co_await waiter;
                if (got) {
                    ++given;
                    CHECK(*got == SIGUSR1);
                } else {
                    CHECK(got.error() == std::errc::operation_canceled);
                }
                co_await group.join();
            }
            CHECK(given > 0);
        });
    });
}

TEST_CASE("what is no signal, or cannot be caught, is refused by its number") {
    for (const int number : {0, -1, 32, 33, 65, 1'000'000, SIGKILL, SIGSTOP}) {
        CHECK_THROWS_WITH_AS(
            signal_set{number},
            ("wait_signal: " + std::to_string(number) + " is no signal that can be caught").c_str(),
            std::invalid_argument);
    }
    CHECK_THROWS_AS((signal_set{SIGINT, SIGKILL}), std::invalid_argument);
    const signal_set both{SIGINT, SIGTERM};
    CHECK(both.contains(SIGINT));
    CHECK(both.contains(SIGTERM));
    CHECK_FALSE(both.contains(SIGHUP));
}

TEST_CASE("a race between a signal and work that never ends is won by the signal") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            task_group group;
            auto race = group.spawn(when_any(listener.accept(), wait_signal({SIGINT, SIGTERM})));
            co_await settle();
            send_to_process(SIGINT);
            const auto winner = co_await race;
            REQUIRE(winner.index() == 1);
            CHECK(std::get<1>(winner) == SIGINT);
            co_await group.join();
        });
    });
}

TEST_CASE("tasks on several threads wait for the same signal, and each hears of it") {
    on_each_reactor_kind([](auto run) {
        constexpr int count = 4;
        std::counting_semaphore<count> ready{0};
        std::vector<int> heard(count, 0);
        std::vector<std::thread> threads;
        for (int& mine : heard) {
            threads.emplace_back([&, run] {
                leave_to_main(SIGUSR2);
                run([&]() -> task<> {
                    task_group group;
                    auto waiter = group.spawn(waited({SIGUSR1, SIGUSR2}));
                    co_await settle();
                    ready.release();
                    const auto got = co_await waiter;
                    mine = got.value_or(0);
                    co_await group.join();
                });
            });
        }
        for (int i = 0; i < count; ++i) ready.acquire();
        send_to_process(SIGUSR2);
        for (std::thread& one : threads) one.join();
        CHECK(heard == std::vector<int>(count, SIGUSR2));
    });
}

TEST_CASE("threads that begin and end waits while signals arrive lose none of their own") {
    on_each_reactor_kind([](auto run) {
        const counting_handler counting{SIGUSR1};
        std::vector<std::thread> threads;
        std::atomic<int> heard{0};
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&, run] {
                leave_to_main(SIGUSR1);
                for (int round = 0; round < 50; ++round) {
                    run([&]() -> task<> {
                        task_group group;
                        auto waiter = group.spawn(waited(SIGUSR1));
                        co_await settle();
                        send_to_process(SIGUSR1);
                        const auto got = co_await waiter;
                        heard += got.value_or(0) == SIGUSR1 ? 1 : 0;
                        co_await group.join();
                    });
                }
            });
        }
        for (std::thread& one : threads) one.join();
        CHECK(heard == 150);
    });
}

TEST_CASE("sixty-four tasks may wait for signals; one more is an error") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            for (int i = 0; i < 64; ++i) group.spawn(waited(SIGUSR1));
            co_await settle();
            const auto one_more = co_await as_result(
                []() -> task<int> { co_return co_await wait_signal(SIGUSR1); }());
            CHECK(one_more.error() == std::errc::resource_unavailable_try_again);
            group.cancel();
            co_await group.join();
            const auto late = co_await as_result(
                with_timeout(std::chrono::milliseconds(1), wait_signal(SIGUSR1)));
            CHECK(late.error() == std::errc::timed_out);
        });
    });
}

TEST_CASE(
    "a forked child begins with what held before the wait, and the parent hears nothing of it") {
    on_each_reactor_kind([](auto run) {
        for (const std::string before : {"default", "ignored"}) {
            CAPTURE(before);
            CHECK(in_child([=]() -> std::string {
                      std::signal(SIGTERM, before == "ignored" ? SIG_IGN : SIG_DFL);
                      run([&]() -> task<> {
                          task_group group;
                          auto waiter = group.spawn(waited(SIGTERM));
                          co_await settle();
                          if (disposition(SIGTERM) != "a handler") throw std::runtime_error("?");
                          const pid_t child = ::fork();
                          if (child == 0) {
                              if (disposition(SIGTERM) != before) ::_exit(1);
                              ::raise(SIGTERM);
                              ::_exit(2);
                          }
                          const std::string end = end_of(child);
                          const bool ignores = before == "ignored";
                          if (end != (ignores ? "exit status 2" : "killed by signal 15")) {
                              throw std::runtime_error("the child: " + end);
                          }
                          co_await settle();
                          if (waiter.done()) throw std::runtime_error("the parent has heard");
                          send_to_process(SIGTERM);
                          const auto got = co_await waiter;
                          if (got.value_or(0) != SIGTERM) throw std::runtime_error("not heard");
                          co_await group.join();
                      });
                      return "as it should be";
                  }) == "as it should be");
        }
    });
}

TEST_CASE("a child made without fork has the signals for itself, too") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            auto waiter = group.spawn(waited({SIGUSR1, SIGUSR2}));
            co_await settle();
            const long child = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
            if (child == 0) {
                ::kill(::getpid(), SIGUSR1);
                ::_exit(0);
            }
            CHECK(end_of(static_cast<pid_t>(child)) == "killed by signal 10");
            co_await settle();
            CHECK_FALSE(waiter.done());
            send_to_process(SIGUSR2);
            const auto got = co_await waiter;
            CHECK(got.value_or(0) == SIGUSR2);
            co_await group.join();
        });
    });
}

TEST_CASE("a forked child waits for signals of its own, and its second SIGTERM ends it") {
    on_each_reactor_kind([](auto run) {
        signal_subscription parents{SIGTERM};
        CHECK(in_child([&]() -> std::string {
                  run([&]() -> task<> {
                      const auto stale = co_await as_result(parents.next());
                      if (stale.error() != std::errc::operation_not_permitted) {
                          throw std::runtime_error("the parent's: " + stale.error().message());
                      }
                      task_group group;
                      auto waiter = group.spawn(waited(SIGTERM));
                      co_await settle();
                      {
                          const signal_subscription gone = std::move(parents);
                      }
                      send_to_process(SIGTERM);
                      const auto got = co_await waiter;
                      if (got.value_or(0) != SIGTERM) throw std::runtime_error("not heard");
                      send_to_process(SIGTERM);
                      co_await group.join();
                  });
                  return "still alive";
              }) == "killed by signal 15");
        run([&]() -> task<> {
            send_to_process(SIGTERM);
            const int got = co_await parents.next();
            CHECK(got == SIGTERM);
        });
    });
}

TEST_CASE("where the system does not let a signal be caught, that is an error that names it") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([=]() -> std::string {
                  std::string text;
                  run([&]() -> task<> {
                      const std::size_t before = open_descriptors();
                      deny(SYS_rt_sigaction, EPERM);
                      text = co_await complaint_of(wait_signal({SIGUSR1, SIGTERM}));
                      if (open_descriptors() != before) text += " (a descriptor is left open)";
                  });
                  return text;
              }) == "wait_signal: catch signal 10: Operation not permitted");
    });
}

TEST_CASE("a handler that the program installs during a wait stays after it") {
    on_each_reactor_kind([](auto run) {
        const counting_handler before{SIGUSR1};
        run([]() -> task<> {
            task_group group;
            auto waiter = group.spawn(waited(SIGUSR1));
            co_await settle();
            const counting_handler meanwhile{SIGUSR1};
            waiter.cancel();
            co_await group.join();
            send_to_process(SIGUSR1);
            CHECK(handled == 1);
        });
    });
}

TEST_CASE(
    "a subscription hears what comes between two awaits, each number once, the lowest first") {
    on_each_reactor_kind([](auto run) {
        const counting_handler counting{SIGUSR1};
        run([]() -> task<> {
            const std::size_t before = open_descriptors();
            {
                signal_subscription both{{SIGUSR1, SIGUSR2}};
                for (int round = 0; round < 3; ++round) {
                    send_to_process(SIGUSR2);
                    send_to_process(SIGUSR1);
                    send_to_process(SIGUSR1);
                    const int first = co_await both.next();
                    CHECK(first == SIGUSR1);
                    const int second = co_await both.next();
                    CHECK(second == SIGUSR2);
                    task_group group;
                    auto third = group.spawn(outcome_of(both.next(), form::as_result));
                    co_await settle();
                    CHECK_FALSE(third.done());
                    send_to_process(SIGUSR1);
                    const auto got = co_await third;
                    CHECK(got.value_or(0) == SIGUSR1);
                    co_await group.join();
                }
                send_to_process(SIGUSR1);
                CHECK(handled == 0);
            }
            CHECK(open_descriptors() == before);
            send_to_process(SIGUSR1);
            CHECK(handled == 1);
        });
    });
}

TEST_CASE("a subscription whose await is cancelled keeps what comes for the next one") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            signal_subscription one{SIGUSR1};
            for (const form how : both_forms) {
                for (const int moment : moments) {
                    CAPTURE(moment);
                    task_group group;
                    auto waiter = group.spawn(outcome_of(one.next(), how));
                    if (moment > 0) co_await yield();
                    send_to_process(SIGUSR1);
                    co_await yield_times(moment - 1);
                    waiter.cancel();
                    const auto got = co_await waiter;
                    const int signal = got ? *got : co_await one.next();
                    CHECK(signal == SIGUSR1);
                    if (!got) CHECK(got.error() == std::errc::operation_canceled);
                    const auto none =
                        co_await as_result(with_timeout(std::chrono::milliseconds(0), one.next()));
                    CHECK_FALSE(none.has_value());
                    co_await group.join();
                }
            }
        });
    });
}

TEST_CASE(
    "a subscription may move while it is awaited, and be shared with tasks that wait_signal") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            signal_subscription first{SIGUSR1};
            task_group group;
            auto waiter = group.spawn(outcome_of(first.next(), form::throwing));
            auto other = group.spawn(waited(SIGUSR1));
            co_await settle();
            signal_subscription second = std::move(first);
            send_to_process(SIGUSR1);
            const auto got = co_await waiter;
            CHECK(got.value_or(0) == SIGUSR1);
            const auto also = co_await other;
            CHECK(also.value_or(0) == SIGUSR1);
            send_to_process(SIGUSR1);
            const int again = co_await second.next();
            CHECK(again == SIGUSR1);
            co_await group.join();
        });
    });
}

TEST_CASE("two tasks that await one subscription at once abort with a sentence") {
    on_each_reactor_kind([](auto run) {
        const ended_child child = child_with_pipe([&](int out) {
            const rlimit no_core{0, 0};
            ::setrlimit(RLIMIT_CORE, &no_core);
            ::dup2(out, STDERR_FILENO);
            run([]() -> task<> {
                signal_subscription one{SIGUSR1};
                co_await when_all(one.next(), one.next());
            });
        });
        CHECK(WIFSIGNALED(child.status));
        CHECK(child.text.starts_with(
            "rondo: a signal_subscription is awaited by two tasks at once ("));
        CHECK(child.text.find("signal_test.cpp") != std::string::npos);
    });
}

}  // namespace rondo::test
