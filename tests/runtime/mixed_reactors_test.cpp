// Runtimes some of whose reactors cannot have io_uring.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/runtime.hpp>

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <liburing.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "support/process_state.hpp"
#include "support/support.hpp"

namespace {

std::atomic<int> rings_left{-1};  // below zero: any number

}  // namespace

// As the header declares it: newer ones say noexcept.
extern "C" int io_uring_queue_init_params(
    unsigned entries, io_uring* ring,
    io_uring_params* params) noexcept(noexcept(io_uring_queue_init_params(entries, ring, params))) {
    for (int left = rings_left; left >= 0;) {
        if (left == 0) return -ENOMEM;
        if (rings_left.compare_exchange_weak(left, left - 1)) break;
    }
    static const auto real = reinterpret_cast<decltype(&io_uring_queue_init_params)>(
        ::dlsym(RTLD_NEXT, "io_uring_queue_init_params"));
    return real(entries, ring, params);
}

namespace rondo::test {

TEST_CASE("a runtime tells what its reactors are") {
    on_each_reactor_kind([](auto run) {
        const std::string name{to_string(run.kind())};
        for (const unsigned count : {1u, 3u}) {
            const runtime all{{.reactors = count, .reactor = run.kind()}};
            CHECK(all.reactors_of(run.kind()) == count);
            CHECK(all.reactors_of(reactor_kind::automatic) == 0);
            CHECK(all.describe() == name + (count == 1 ? ", 1 reactor" : ", 3 reactors"));
        }
    });
}

TEST_CASE("a runtime of which some reactors fell back to epoll says how many") {
    const environment none_chosen{"RONDO_REACTOR", nullptr};
    const char* only = std::getenv("RONDO_TEST_REACTORS");
    if (only != nullptr && std::string(only) != "io_uring") return;
    for (const int rings : {0, 1, 3, 4}) {
        rings_left = rings;
        const auto work = []() -> task<std::string> { co_return this_runtime().describe(); };
        const std::string text = run(work, {.reactors = 4});
        if (rings == 0) CHECK(text == "epoll, 4 reactors");
        if (rings == 1) CHECK(text == "io_uring, 4 reactors, 3 of them on epoll");
        if (rings == 3) CHECK(text == "io_uring, 4 reactors, 1 of them on epoll");
        if (rings == 4) CHECK(text == "io_uring, 4 reactors");
    }
    rings_left = -1;
}

}  // namespace rondo::test
