// What it costs a task to await Asio, beside what the same costs a coroutine of Asio.
//
//     asio_await   a timer that is due, Asio alone                 1.23 us
//                  a timer that is due, from a task                9.87 us
//
// One line a measurement: name, median of several repetitions, unit. From a task an operation is
// started and ends on Asio's thread: two ways from one thread to another. Beside it, the same two
// ways between two threads of Asio. Times are of a release build or they mean nothing.

#include <rondo/asio.hpp>
#include <rondo/rondo.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr int rounds = 5;
constexpr int operations = 5'000;

using measurements = std::array<double, rounds>;

double us_since(clock_type::time_point start) {
    return std::chrono::duration<double, std::micro>(clock_type::now() - start).count() /
           operations;
}

void report(const char* what, measurements values) {
    std::ranges::sort(values);
    std::printf("%-58s  %8.2f us\n", what, values[rounds / 2]);
}

// --- Asio alone
// -----------------------------------------------------------------------------------

asio::awaitable<void> await_timers(measurements& into) {
    asio::steady_timer timer{co_await asio::this_coro::executor};
    for (double& value : into) {
        const auto start = clock_type::now();
        for (int i = 0; i < operations; ++i) {
            timer.expires_after(0ns);
            co_await timer.async_wait(asio::use_awaitable);
        }
        value = us_since(start);
    }
}

asio::awaitable<void> do_nothing() { co_return; }

// There and back: the other thread runs a coroutine, this one awaits its end.
asio::awaitable<void> await_other_thread(asio::any_io_executor other, measurements& into) {
    for (double& value : into) {
        const auto start = clock_type::now();
        for (int i = 0; i < operations; ++i) {
            co_await asio::co_spawn(other, do_nothing(), asio::use_awaitable);
        }
        value = us_since(start);
    }
}

void measure_asio() {
    rondo::asio_context here;
    rondo::asio_context there;
    measurements values{};
    asio::co_spawn(here.get_executor(), await_timers(values), asio::use_future).get();
    report("a timer that is due, Asio alone", values);
    asio::co_spawn(here.get_executor(), await_other_thread(there.get_executor(), values),
                   asio::use_future)
        .get();
    report("to another thread and back, Asio alone", values);
}

// --- from tasks
// -----------------------------------------------------------------------------------

template <class Executor>
rondo::task<> await_timers_on(Executor executor, const char* what) {
    asio::steady_timer timer{executor};
    measurements values{};
    for (double& value : values) {
        const auto start = clock_type::now();
        for (int i = 0; i < operations; ++i) {
            timer.expires_after(0ns);
            co_await timer.async_wait(rondo::use_task);
        }
        value = us_since(start);
    }
    report(what, values);
}

template <class Executor>
rondo::task<> await_posts(Executor executor, const char* what) {
    measurements values{};
    for (double& value : values) {
        const auto start = clock_type::now();
        for (int i = 0; i < operations; ++i) co_await asio::post(executor, rondo::use_task);
        value = us_since(start);
    }
    report(what, values);
}

rondo::task<> measure_tasks() {
    rondo::asio_context background;
    const rondo::asio_executor here{rondo::this_scheduler()};
    co_await await_timers_on(background.get_executor(), "a timer that is due, from a task");
    co_await await_timers_on(here, "the same, timer made with the scheduler's executor");
    co_await await_posts(background.get_executor(), "to Asio's thread and back, from a task");
    co_await await_posts(here, "a handler posted to its own scheduler, from a task");
}

}  // namespace

int main() {
    measure_asio();
    rondo::run(measure_tasks);
}
