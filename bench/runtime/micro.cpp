// What the pieces of rondo cost, one by one, on one scheduler.
//
//     micro        spawn and join one task                            17.21 ns
//                  bytes of memory per sleeping task                 168.00 bytes
//                  allocations per echo request, io_uring              0.00 allocations
//
// One line a measurement: name, median of several repetitions, unit. Times are of a release build
// or they mean nothing.
//
//     micro yield 100000      runs one operation so often, and prints nothing: for counting
//                             instructions, by the difference of two lengths

#include "support/measuring.hpp"

#include <rondo/rondo.hpp>
#include <rondo/runtime/core/detail/timer_wheel.hpp>

#include <malloc.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Every operator new of the process, the library's included.
std::atomic<std::uint64_t> allocations{0};

void* allocate(std::size_t size, std::size_t alignment) {
    allocations.fetch_add(1, std::memory_order_relaxed);  // a count, it orders nothing
    const std::size_t rounded = (std::max<std::size_t>(size, 1) + alignment - 1) & ~(alignment - 1);
    // Only what malloc does not align anyway: the rounding would count as somebody's memory.
    void* const memory = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
                             ? std::malloc(size)
                             : std::aligned_alloc(alignment, rounded);
    if (memory == nullptr) {
        throw std::bad_alloc{};
    }
    return memory;
}

}  // namespace

// The array and nothrow forms of the standard library call these.
void* operator new(std::size_t size) { return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using rondo::task;
using clock = std::chrono::steady_clock;

constexpr int repetitions = 9;

double ns_per(std::size_t operations, clock::time_point from) {
    const std::chrono::duration<double, std::nano> passed = clock::now() - from;
    return passed.count() / static_cast<double>(operations);
}

/// Runs body(operations), a task that says how many ns one took: once to warm up, then for the
/// median.
void measure(const char* name, task<double> (*body)(std::size_t), std::size_t operations,
             unsigned reactors = 1) {
    std::vector<double> samples;
    samples.reserve(repetitions);
    rondo::run(body(operations / 10), {.reactors = reactors});
    for (int i = 0; i < repetitions; ++i) {
        samples.push_back(rondo::run(body(operations), {.reactors = reactors}));
    }
    bench::print(name, bench::median(samples), "ns");
}

// --- tasks ---------------------------------------------------------------------------------------

task<std::size_t> give(std::size_t value) { co_return value; }

task<> nothing() { co_return; }

task<double> await_at_once(std::size_t operations) {
    std::size_t sum = 0;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        sum += co_await give(i);
    }
    const double ns = ns_per(operations, from);
    bench::keep(sum);
    co_return ns;
}

task<double> spawn_and_join(std::size_t operations) {
    std::size_t sum = 0;
    rondo::task_group group;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        auto handle = group.spawn(give(i));
        sum += co_await handle;
    }
    const double ns = ns_per(operations, from);
    bench::keep(sum);
    co_await group.join();
    co_return ns;
}

task<double> spawn_and_join_batches(std::size_t operations) {
    constexpr std::size_t batch = 1000;
    rondo::task_group group;
    const auto from = clock::now();
    for (std::size_t done = 0; done < operations; done += batch) {
        for (std::size_t i = 0; i < batch; ++i) {
            group.spawn(nothing());
        }
        co_await group.join();
    }
    co_return ns_per(operations, from);
}

task<> yield_often(std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await rondo::yield();
    }
}

task<double> yield_in_turn(std::size_t operations) {
    rondo::task_group group;
    const auto from = clock::now();
    group.spawn(yield_often(operations / 2));
    group.spawn(yield_often(operations / 2));
    co_await group.join();
    co_return ns_per(operations, from);
}

// --- what tasks wait for each other with ---------------------------------------------------------

task<double> lock_free_mutex(std::size_t operations) {
    rondo::mutex one;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        const auto held = co_await one.lock();
    }
    co_return ns_per(operations, from);
}

task<> lock_often(rondo::mutex& one, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        const auto held = co_await one.lock();
        co_await rondo::yield();
    }
}

task<double> hand_mutex_over(std::size_t operations) {
    rondo::mutex one;
    rondo::task_group group;
    const auto from = clock::now();
    group.spawn(lock_often(one, operations / 2));
    group.spawn(lock_often(one, operations / 2));
    co_await group.join();
    co_return ns_per(operations, from);
}

task<double> acquire_free_semaphore(std::size_t operations) {
    rondo::semaphore two{2};
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        const auto permit = co_await two.acquire();
    }
    co_return ns_per(operations, from);
}

task<double> set_wait_clear_event(std::size_t operations) {
    rondo::event flag;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        flag.set();
        co_await flag.wait();
        flag.clear();
    }
    co_return ns_per(operations, from);
}

using numbers = rondo::channel<std::size_t>;

task<> send_back(numbers& there, numbers& back) {
    while (const auto number = co_await there.receive()) co_await back.send(*number);
}

task<> ask(numbers& there, numbers& back, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await there.send(i);
        bench::keep(co_await back.receive());
    }
    there.close();
}

/// With somebody who answers on the last of the reactors.
task<double> ping_pong(std::size_t operations) {
    numbers there;
    numbers back;
    rondo::task_group group;
    rondo::runtime& all = rondo::this_runtime();
    const auto from = clock::now();
    group.spawn_on(all.scheduler(all.size() - 1), send_back(there, back));
    group.spawn(ask(there, back, operations));
    co_await group.join();
    co_return ns_per(operations, from);
}

/// There and back is one operation.
task<> hop(std::size_t times, rondo::scheduler& there, rondo::scheduler& here) {
    for (std::size_t i = 0; i < times; ++i) {
        co_await rondo::resume_on(there);
        co_await rondo::resume_on(here);
    }
}

task<double> hop_there_and_back(std::size_t operations) {
    rondo::runtime& all = rondo::this_runtime();
    const auto from = clock::now();
    co_await hop(operations, all.scheduler(all.size() - 1), rondo::this_scheduler());
    co_return ns_per(operations, from);
}

void use_all_cores() {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    (void)::sched_setaffinity(0, sizeof all, &all);
}

task<double> put_and_get(std::size_t operations) {
    rondo::queue<std::size_t> items;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        co_await items.put(i);
        bench::keep(co_await items.get());
    }
    co_return ns_per(operations, from);
}

// --- timers --------------------------------------------------------------------------------------

task<double> await_with_timeout(std::size_t operations) {
    std::size_t sum = 0;
    const auto from = clock::now();
    for (std::size_t i = 0; i < operations; ++i) {
        sum += co_await rondo::with_timeout(std::chrono::seconds{30}, give(i));
    }
    const double ns = ns_per(operations, from);
    bench::keep(sum);
    co_return ns;
}

/// Arms and cancels a timer while `armed` others wait, all at times spread over a minute; how many
/// ns that took, once for each of `samples`.
std::vector<double> arm_and_cancel(std::size_t operations, std::size_t armed, int samples) {
    constexpr std::int64_t minute = 60'000'000'000;
    std::uint64_t random = 1;
    const auto some_time = [&random](std::int64_t now) {
        random = random * 6364136223846793005U + 1442695040888963407U;  // Knuth, MMIX
        return now + static_cast<std::int64_t>((random >> 20) % minute);
    };
    const std::int64_t now = clock::now().time_since_epoch().count();
    rondo::detail::timer_wheel wheel{now};
    std::deque<rondo::detail::timer_node> others(armed);
    for (auto& other : others) {
        wheel.arm(other, some_time(now));
    }
    std::vector<double> took;
    for (int i = 0; i < samples; ++i) {
        const auto from = clock::now();
        for (std::size_t k = 0; k < operations; ++k) {
            rondo::detail::timer_node timer;
            wheel.arm(timer, some_time(now));
            wheel.cancel(timer);
        }
        took.push_back(ns_per(operations, from));
    }
    for (auto& other : others) {
        wheel.cancel(other);
    }
    return took;
}

void measure_timer(const char* name, std::size_t armed) {
    bench::print(name, bench::median(arm_and_cancel(1'000'000, armed, repetitions)), "ns");
}

// --- memory --------------------------------------------------------------------------------------

struct memory_use {
    double resident;
    double allocated;
};

memory_use memory_now() {
    const auto heap = mallinfo2();
    return {bench::resident_bytes(), static_cast<double>(heap.uordblks + heap.hblkhd)};
}

task<> sleep_an_hour() { co_await rondo::sleep_for(std::chrono::hours{1}); }

task<memory_use> sleepers(std::size_t count) {
    rondo::task_group group;
    const memory_use before = memory_now();
    for (std::size_t i = 0; i < count; ++i) {
        group.spawn(sleep_an_hour());
    }
    co_await rondo::yield();  // comes back when each of them has run, and sleeps
    const memory_use after = memory_now();
    group.cancel();
    co_await group.join();
    const auto each = static_cast<double>(count);
    co_return memory_use{(after.resident - before.resident) / each,
                         (after.allocated - before.allocated) / each};
}

/// Each repetition in a process of its own: memory once used would be used again, and not seen.
void measure_sleepers() {
    constexpr std::size_t count = 1'000'000;
    std::vector<double> resident;
    std::vector<double> allocated;
    for (int i = 0; i < 3; ++i) {
        std::array<int, 2> ends{};
        if (pipe(ends.data()) != 0) {
            std::perror("micro: pipe");
            std::exit(1);
        }
        const pid_t child = fork();
        if (child == 0) {
            const memory_use use = rondo::run(sleepers(count));
            _exit(write(ends[1], &use, sizeof use) == sizeof use ? 0 : 1);
        }
        close(ends[1]);
        memory_use use{};
        const bool told = child > 0 && read(ends[0], &use, sizeof use) == sizeof use;
        close(ends[0]);
        waitpid(child, nullptr, 0);
        if (!told) {
            std::fprintf(stderr, "micro: %zu sleeping tasks: the process died\n", count);
            std::exit(1);
        }
        resident.push_back(use.resident);
        allocated.push_back(use.allocated);
    }
    bench::print("resident memory per sleeping task", bench::median(resident), "bytes");
    bench::print("of it from malloc", bench::median(allocated), "bytes");
}

task<> echo_back(rondo::tcp_listener& listener) {
    auto peer = co_await listener.accept();
    std::array<std::byte, 4096> buffer;
    for (;;) {
        const std::size_t length = co_await peer.read_some(buffer);
        if (length == 0) {
            co_return;
        }
        co_await peer.write_all(std::span<const std::byte>{buffer.data(), length});
    }
}

task<double> allocations_per_echo(std::size_t requests) {
    const rondo::endpoint any_port{rondo::ip_address::loopback_v4(), 0};
    auto listener = rondo::tcp_listener::bind(any_port);
    rondo::task_group group;
    group.spawn(echo_back, std::ref(listener));
    auto stream = co_await rondo::tcp_stream::connect(listener.local_endpoint());
    std::array<std::byte, 64> message{};
    const std::span<const std::byte> request{message};
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < 2 * requests; ++i) {
        if (i == requests) {
            before = allocations.load();  // the first half has filled every cache
        }
        co_await stream.write_all(request);
        co_await stream.read_exactly(message);
    }
    const std::uint64_t after = allocations.load();
    stream.close();
    co_await group.join();
    co_return static_cast<double>(after - before) / static_cast<double>(requests);
}

void measure_allocations(const char* name, rondo::reactor_kind kind) {
    try {
        rondo::runtime_options options;
        options.reactor = kind;
        bench::print(name, rondo::run(allocations_per_echo(20'000), options), "allocations");
    } catch (const std::system_error& error) {
        std::fprintf(stderr, "micro: skipped: %s: %s\n", name, error.what());
    }
}

// --- one operation alone -------------------------------------------------------------------------

struct named_operation {
    std::string_view name;
    task<double> (*body)(std::size_t);
};

constexpr std::array named_operations{
    named_operation{"spawn", spawn_and_join},
    named_operation{"spawn-batch", spawn_and_join_batches},
    named_operation{"await", await_at_once},
    named_operation{"yield", yield_in_turn},
    named_operation{"timeout", await_with_timeout},
    named_operation{"mutex", lock_free_mutex},
    named_operation{"semaphore", acquire_free_semaphore},
    named_operation{"event", set_wait_clear_event},
    named_operation{"queue", put_and_get},
    named_operation{"channel", ping_pong},
};

int run_alone(std::string_view name, std::size_t times) {
    if (name == "timer") {
        arm_and_cancel(times, 0, 1);
        return 0;
    }
    for (const named_operation& each : named_operations) {
        if (each.name == name) {
            rondo::run(each.body(times));
            return 0;
        }
    }
    std::fprintf(stderr, "micro: no operation named '%s'\n", std::string{name}.c_str());
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3) {
        return run_alone(argv[1], std::strtoull(argv[2], nullptr, 10));
    }
    measure_sleepers();  // first: its children must not inherit memory that others have used
    measure("spawn and join one task", spawn_and_join, 1'000'000);
    measure("spawn and join, in batches of 1000, a task", spawn_and_join_batches, 1'000'000);
    measure("await a task that returns at once", await_at_once, 5'000'000);
    measure("yield between two tasks", yield_in_turn, 5'000'000);
    measure("await such a task with a timeout", await_with_timeout, 1'000'000);
    // A process with one thread so far: plain loads and stores will do.
    measure("lock and unlock a free mutex", lock_free_mutex, 5'000'000);
    measure("hand a mutex over to a waiting task, and yield", hand_mutex_over, 1'000'000);
    measure("acquire and release a free semaphore", acquire_free_semaphore, 5'000'000);
    measure("set, wait for and clear an event", set_wait_clear_event, 5'000'000);
    measure("put into a queue and get", put_and_get, 1'000'000);
    measure("channel round trip, one thread", ping_pong, 1'000'000);
    measure_timer("arm and cancel a timer", 0);
    measure_timer("arm and cancel a timer among a million", 1'000'000);
    measure_allocations("allocations per echo request, io_uring", rondo::reactor_kind::io_uring);
    measure_allocations("allocations per echo request, epoll", rondo::reactor_kind::epoll);
    // From here on there is a second thread, or has been one: atomic operations.
    measure("lock and unlock a free mutex, 2 threads", lock_free_mutex, 5'000'000, 2);
    measure("acquire and release a free semaphore, 2 threads", acquire_free_semaphore, 5'000'000,
            2);
    use_all_cores();  // whoever started this may have pinned it
    measure("channel round trip, two threads", ping_pong, 20'000, 2);
    measure("go to another thread and back", hop_there_and_back, 20'000, 2);
}
