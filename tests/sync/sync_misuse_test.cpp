// Mistakes in the use of locks and the like: one sentence that names the place, then abort.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/barrier.hpp>
#include <rondo/sync/condition_variable.hpp>
#include <rondo/sync/latch.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/sync/recursive_mutex.hpp>
#include <rondo/sync/semaphore.hpp>
#include <rondo/sync/shared_mutex.hpp>

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>
#include <utility>

#include "support/child_process.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

// What `work` says on standard error in a child process that it aborts; another end, as a number.
template <class Work>
std::string last_words_of(Work work) {
    ended_child child = child_with_pipe([&](int out) {
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::dup2(out, STDERR_FILENO);
        work();
    });
    const bool aborted = WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT;
    return aborted ? std::move(child.text) : "status " + std::to_string(child.status);
}

bool says(const std::string& words, const std::string& sentence) {
    return words.starts_with("rondo: " + sentence + " (") &&
           words.find("sync_misuse_test.cpp:") != std::string::npos;
}

}  // namespace

TEST_CASE("counting a latch down below zero aborts and names the place") {
    const std::string words = last_words_of([] {
        latch door{1};
        door.count_down(2);
    });
    CHECK(says(words, "a latch is counted down below zero"));
}

TEST_CASE("leaving a barrier that has no parties left aborts and names the place") {
    const std::string words = last_words_of([] {
        barrier round{1};
        round.arrive_and_drop();
        round.arrive_and_drop();
    });
    CHECK(says(words, "a barrier is used that has no parties"));
}

TEST_CASE("coming to a barrier that has no parties left aborts and names the place") {
    on_each_reactor_kind([](auto run) {
        const std::string words = last_words_of([&] {
            run([]() -> task<> {
                barrier round{1};
                round.arrive_and_drop();
                co_await round.arrive_and_wait();
            });
        });
        CHECK(says(words, "a barrier is used that has no parties"));
    });
}

// Checks that cost something at each use are left out of release builds.
#ifndef NDEBUG

namespace {

template <class Mutex>
task<> unlocked_by_another_task() {
    Mutex lock;
    task_group group;
    auto guard = co_await lock.lock();
    auto unlock = [&guard]() -> task<> {
        guard.unlock();
        co_return;
    };
    group.spawn(unlock);
    co_await group.join();
}

}  // namespace

TEST_CASE("unlocking what another task has locked aborts and names where it was locked") {
    on_each_reactor_kind([](auto run) {
        const auto by_another = [](const char* what) {
            return std::string(what) +
                   " is unlocked by another task than the one that has locked it, here";
        };
        CHECK(says(last_words_of([&] { run(unlocked_by_another_task<mutex>()); }),
                   by_another("a mutex")));
        CHECK(says(last_words_of([&] { run(unlocked_by_another_task<recursive_mutex>()); }),
                   by_another("a recursive_mutex")));
        CHECK(says(last_words_of([&] { run(unlocked_by_another_task<shared_mutex>()); }),
                   by_another("a shared_mutex")));
    });
}

TEST_CASE("giving a permit back that a bounded semaphore has already aborts") {
    const std::string words = last_words_of([] {
        bounded_semaphore one{1};
        auto permit = one.try_acquire();
        one.release();
        permit.reset();
    });
    CHECK(words.starts_with("rondo: permits of a semaphore are given back that it has already"));
}

TEST_CASE("waiting for a condition without holding the mutex aborts and names the place") {
    on_each_reactor_kind([](auto run) {
        const std::string words = last_words_of([&] {
            run([]() -> task<> {
                mutex lock;
                condition_variable changed;
                auto guard = co_await lock.lock();
                guard.unlock();
                co_await changed.wait(guard);
            });
        });
        CHECK(says(words, "a condition_variable is waited for without holding the mutex"));
    });
}

#endif

}  // namespace rondo::test
