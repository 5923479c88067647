#include <rondo/runtime/threads/thread_pool.hpp>

#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/run.hpp>

#include <doctest/doctest.h>

#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <cstddef>
#include <fstream>
#include <functional>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/blocked_pool.hpp"
#include "support/child_process.hpp"
#include "support/process_state.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

constexpr std::size_t huge_stack = std::size_t{1} << 30;

/// From here on every new thread asks for a GiB, and the process gets so many of them, no more.
bool leave_memory_for(unsigned threads) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, huge_stack);
    if (::pthread_setattr_default_np(&attributes) != 0) return false;
    std::size_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> pages;
    const rlim_t most = pages * 4096 + threads * huge_stack + huge_stack / 2;
    const rlimit limit{most, most};
    return ::setrlimit(RLIMIT_AS, &limit) == 0;
}

void wait_until_threads_are(std::size_t count) {
    while (threads() != count) std::this_thread::yield();
}

}  // namespace

TEST_CASE("a pool of which some threads cannot be started works with the others") {
    CHECK(in_child([] {
              if (!leave_memory_for(2)) return std::string("no limit");
              thread_pool pool{4};
              std::string text = std::to_string(pool.size()) + " threads:";
              int sum = 0;
              std::vector<future<int>> all;
              for (int i = 0; i < 100; ++i) all.push_back(pool.submit([i] { return i; }));
              for (const auto& one : all) sum += one.get();
              std::latch together{2};
              const future<> one = pool.submit([&] { together.arrive_and_wait(); });
              pool.submit([&] { together.arrive_and_wait(); }).get();
              one.get();
              while (!pool.idle()) std::this_thread::yield();
              pool.shutdown();
              return text + " " + std::to_string(sum);
          }) == "2 threads: 4950");
}

TEST_CASE("what offload asks of threads that cannot be had is done by one") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([&] {
                  if (!leave_memory_for(1)) return std::string("no limit");
                  const int sum = rondo::run(
                      []() -> task<int> {
                          int all = 0;
                          for (int i = 0; i < 10; ++i) {
                              const auto same = [i] { return i; };
                              all += co_await offload(same);
                          }
                          co_return all;
                      },
                      {.reactor = run.kind(), .pool_threads = 2});
                  return std::to_string(sum);
              }) == "45");
    });
}

TEST_CASE("a pool without a single thread says what could not be started") {
    CHECK(in_child([] {
              if (!leave_memory_for(0)) return std::string("no limit");
              const thread_pool pool{2};
              return std::string("started");
          }) == "start a thread of a thread_pool: Resource temporarily unavailable");
}

TEST_CASE("a runtime whose thread cannot be started says which one") {
    on_each_reactor_kind([](auto run) {
        CHECK(in_child([&] {
                  if (!leave_memory_for(1)) return std::string("no limit");
                  const runtime rt{{.reactors = 3, .reactor = run.kind()}};
                  return std::string("started");
              }) == "start the thread of reactor 1 of 3: Resource temporarily unavailable");
    });
}

TEST_CASE("a job may be the last owner of its pool: the others run, and the threads end") {
    const std::size_t before = threads();
    std::atomic<int> ran{0};
    std::latch gate{1};
    auto pool = std::make_shared<thread_pool>(2);
    std::vector<future<>> all;
    all.push_back(pool->submit([pool, &gate] { gate.wait(); }));
    for (int i = 0; i < 100; ++i) all.push_back(pool->submit([&] { ++ran; }));
    pool.reset();
    gate.count_down();
    for (const future<>& one : all) one.get();
    CHECK(ran == 100);
    wait_until_threads_are(before);
}

TEST_CASE("a cancelled job may be the last owner of its pool") {
    const std::size_t before = threads();
    for (const bool by_shutdown : {false, true}) {
        std::latch busy{1};
        std::latch gate{1};
        auto pool = std::make_shared<thread_pool>(1);
        const future<> running = pool->submit([&] {
            busy.count_down();
            gate.wait();
        });
        busy.wait();
        const future<> last = pool->submit([pool] {});
        thread_pool& same = *std::exchange(pool, nullptr);
        gate.count_down();
        if (by_shutdown) {
            same.shutdown(false, true);
        } else {
            (void)last.cancel();
        }
        running.get();
        last.wait();
    }
    wait_until_threads_are(before);
}

TEST_CASE("the element of a map may be the last owner of the pool") {
    const std::size_t before = threads();
    for (const std::size_t max_pending : {0u, 1u}) {
        auto pool = std::make_shared<thread_pool>(
            thread_pool_options{.threads = 2, .max_pending = max_pending});
        std::vector<std::shared_ptr<thread_pool>> owners(20, pool);
        auto results =
            pool->map([](const std::shared_ptr<thread_pool>&) { return 1; }, std::move(owners));
        pool.reset();
        int sum = 0;
        for (const int one : results) sum += one;
        CHECK(sum == 20);
    }
    wait_until_threads_are(before);
}

}  // namespace rondo::test
