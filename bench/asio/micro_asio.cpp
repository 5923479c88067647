// What bench/runtime/micro.cpp measures for tasks, for standalone Asio's coroutines: the same
// operations under the same names, where Asio has them. A channel of one item stands for the mutex
// that Asio does not have.
//
//     micro_asio               all but the memory of sleeping coroutines
//     micro_asio sleepers      that: memory once used would be used again, and not seen

// Asio 1.22, which Debian 12 has, does not know that clang has had standard coroutines since 17.
#if defined(__clang__) && !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1
#endif

#include "support/measuring.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/experimental/channel.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using asio::awaitable;
using asio::use_awaitable;
using clock = std::chrono::steady_clock;
using numbers = asio::experimental::channel<void(asio::error_code, std::size_t)>;

constexpr int repetitions = 9;

using body = awaitable<void> (*)(asio::io_context&, std::size_t);

double ns_per_operation(asio::io_context& context, body run, std::size_t operations) {
    const auto from = clock::now();
    asio::co_spawn(context, run(context, operations), [](const std::exception_ptr& error) {
        if (error) {
            std::rethrow_exception(error);
        }
    });
    context.restart();
    context.run();
    const std::chrono::duration<double, std::nano> passed = clock::now() - from;
    return passed.count() / static_cast<double>(operations);
}

void measure(const char* name, body run, std::size_t operations) {
    asio::io_context context{1};
    std::vector<double> samples;
    ns_per_operation(context, run, operations / 10);
    for (int i = 0; i < repetitions; ++i) {
        samples.push_back(ns_per_operation(context, run, operations));
    }
    bench::print(name, bench::median(samples), "ns");
}

awaitable<std::size_t> give(std::size_t value) { co_return value; }
awaitable<void> nothing() { co_return; }

awaitable<void> await_at_once(asio::io_context&, std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations; ++i) {
        sum += co_await give(i);
    }
    bench::keep(sum);
}

awaitable<void> spawn_and_join(asio::io_context& context, std::size_t operations) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < operations; ++i) {
        sum += co_await asio::co_spawn(context, give(i), use_awaitable);
    }
    bench::keep(sum);
}

awaitable<void> spawn_and_join_batches(asio::io_context& context, std::size_t operations) {
    constexpr std::size_t batch = 1000;
    numbers all_done{context, 1};
    for (std::size_t done = 0; done < operations; done += batch) {
        std::size_t left = batch;
        for (std::size_t i = 0; i < batch; ++i) {
            asio::co_spawn(context, nothing(), [&](const std::exception_ptr&) {
                if (--left == 0) {
                    all_done.try_send(asio::error_code{}, std::size_t{0});
                }
            });
        }
        co_await all_done.async_receive(use_awaitable);
    }
}

awaitable<void> yield_often(asio::io_context& context, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await asio::post(context, use_awaitable);
    }
}

awaitable<void> yield_in_turn(asio::io_context& context, std::size_t operations) {
    asio::co_spawn(context, yield_often(context, operations / 2), asio::detached);
    co_await yield_often(context, operations / 2);
}

awaitable<void> lock_free_mutex(asio::io_context& context, std::size_t operations) {
    numbers one{context, 1};
    for (std::size_t i = 0; i < operations; ++i) {
        co_await one.async_send(asio::error_code{}, i, use_awaitable);
        one.try_receive([](const asio::error_code&, std::size_t) {});
    }
}

awaitable<void> put_and_get(asio::io_context& context, std::size_t operations) {
    numbers items{context, 1024};
    for (std::size_t i = 0; i < operations; ++i) {
        co_await items.async_send(asio::error_code{}, i, use_awaitable);
        bench::keep(co_await items.async_receive(use_awaitable));
    }
}

awaitable<void> send_back(numbers& there, numbers& back, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        const std::size_t number = co_await there.async_receive(use_awaitable);
        co_await back.async_send(asio::error_code{}, number, use_awaitable);
    }
}

awaitable<void> ping_pong(asio::io_context& context, std::size_t operations) {
    numbers there{context};
    numbers back{context};
    asio::co_spawn(context, send_back(there, back, operations), asio::detached);
    for (std::size_t i = 0; i < operations; ++i) {
        co_await there.async_send(asio::error_code{}, i, use_awaitable);
        bench::keep(co_await back.async_receive(use_awaitable));
    }
}

awaitable<void> hop_there_and_back(asio::io_context& here, std::size_t operations) {
    asio::io_context there{1};
    auto work = asio::make_work_guard(there);
    std::thread other{[&] { there.run(); }};
    for (std::size_t i = 0; i < operations; ++i) {
        co_await asio::post(asio::bind_executor(there, use_awaitable));
        co_await asio::post(asio::bind_executor(here, use_awaitable));
    }
    work.reset();
    other.join();
}

/// The handler of a cancelled timer has to run, so that is part of it.
double ns_per_timer(asio::io_context& context, std::size_t operations) {
    asio::steady_timer timer{context};
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        timer.expires_after(std::chrono::seconds{30});
        timer.async_wait([](const asio::error_code&) {});
        timer.cancel();
        context.poll_one();
    }
    const std::chrono::duration<double, std::nano> passed = clock::now() - from;
    return passed.count() / static_cast<double>(operations);
}

void measure_timer(const char* name, std::size_t armed) {
    asio::io_context context{1};
    const auto work = asio::make_work_guard(context);
    std::deque<asio::steady_timer> others;
    for (std::size_t i = 0; i < armed; ++i) {
        // Spread over a minute in an order that is not theirs, as in a server.
        const auto when = std::chrono::microseconds{60'000'000 + i * 7919 % 1'000'000 * 60};
        others.emplace_back(context, when).async_wait([](const asio::error_code&) {});
    }
    std::vector<double> samples;
    for (int i = 0; i < repetitions; ++i) {
        samples.push_back(ns_per_timer(context, 200'000));
    }
    bench::print(name, bench::median(samples), "ns");
}

awaitable<void> sleep_an_hour(asio::io_context& context) {
    asio::steady_timer timer{context, std::chrono::hours{1}};
    co_await timer.async_wait(use_awaitable);
}

void measure_sleepers() {
    constexpr std::size_t count = 1'000'000;
    asio::io_context context{1};
    const double before = bench::resident_bytes();
    for (std::size_t i = 0; i < count; ++i) {
        asio::co_spawn(context, sleep_an_hour(context), asio::detached);
    }
    context.poll();
    bench::print("resident memory per sleeping task", (bench::resident_bytes() - before) / count,
                 "bytes");
    std::fflush(stdout);
    _exit(0);  // to take a million coroutines down is not what is measured
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::string_view{argv[1]} == "sleepers") {
        measure_sleepers();
    }
    measure("spawn and join one task", spawn_and_join, 200'000);
    measure("spawn and join, in batches of 1000, a task", spawn_and_join_batches, 200'000);
    measure("await a task that returns at once", await_at_once, 2'000'000);
    measure("yield between two tasks", yield_in_turn, 1'000'000);
    measure("lock and unlock a free mutex", lock_free_mutex, 500'000);
    measure("put into a queue and get", put_and_get, 500'000);
    measure("channel round trip, one thread", ping_pong, 200'000);
    measure_timer("arm and cancel a timer", 0);
    measure_timer("arm and cancel a timer among a million", 1'000'000);
    measure("go to another thread and back", hop_there_and_back, 20'000);
}
