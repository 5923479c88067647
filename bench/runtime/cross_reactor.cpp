// What it costs to reach another reactor's thread, beside what the kernel's own ways cost.
//
//     cross_reactor        round trip, raw eventfd, pinned              21.30 us
//                          round trip, resume_on, io_uring, pinned      20.11 us
//                          posted from 1 thread, idle, io_uring          9.53 million/s
//
// One line a measurement: name, median over the rounds, unit. Every round runs each measurement
// once, so that a slow minute of the machine hits all of them. In a round trip both sides sleep
// before each message: all of them pay for two wake-ups. "pinned": each thread on a core of its
// own; else the kernel places them, and may well put both on the same core. Times are of a release
// build or they mean nothing.

#include "support/measuring.hpp"

#include <rondo/rondo.hpp>
#include <rondo/runtime/threads/detail/usable_cores.hpp>

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <latch>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using rondo::reactor_kind;
using rondo::task;
using bench_clock = std::chrono::steady_clock;

constexpr int rounds = 5;
constexpr unsigned warmup_trips = 1'000;
constexpr unsigned trips = 5'000;
constexpr unsigned messages = 300'000;

[[noreturn]] void fail(const char* what, int error = errno) {
    throw std::system_error{error, std::generic_category(), what};
}

double seconds_since(bench_clock::time_point begin) {
    return std::chrono::duration<double>(bench_clock::now() - begin).count();
}

double microseconds_per_trip(bench_clock::time_point begin) {
    return 1e6 * seconds_since(begin) / trips;
}

/// Keeps the calling thread on a core: thread 0 on the first it may use, 1 on the next.
void pin(std::size_t thread) {
    const std::vector<int> cores = rondo::detail::allowed_cores();
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<std::size_t>(cores[thread % cores.size()]), &only);
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof only, &only)) {
        fail("pin a thread", error);
    }
}

/// Runs f(0) and f(1) on two threads, and gives what f(0) gives.
template <class F>
double on_two_threads(bool pinned, F f) {
    auto run = [&](std::size_t thread) {
        if (pinned) {
            pin(thread);
        }
        return f(thread);
    };
    auto other = std::async(std::launch::async, run, 1);
    auto result = std::async(std::launch::async, run, 0);
    other.get();
    return result.get();
}

// --- the kernel's own ways -----------------------------------------------------------------------

class event_counter {
public:
    event_counter() {
        if (fd_ < 0) {
            fail("eventfd");
        }
    }
    event_counter(const event_counter&) = delete;
    event_counter& operator=(const event_counter&) = delete;
    ~event_counter() { close(fd_); }

    void signal() const {
        const std::uint64_t one = 1;
        if (write(fd_, &one, sizeof one) != sizeof one) {
            fail("write to an eventfd");
        }
    }
    void wait() const {
        std::uint64_t count = 0;
        if (read(fd_, &count, sizeof count) != sizeof count) {
            fail("read from an eventfd");
        }
    }

private:
    int fd_ = eventfd(0, EFD_CLOEXEC);
};

double eventfd_trip(bool pinned) {
    const event_counter to[2];
    return on_two_threads(pinned, [&](std::size_t thread) {
        auto begin = bench_clock::now();
        for (unsigned i = 0; i < warmup_trips + trips; ++i) {
            if (i == warmup_trips) {
                begin = bench_clock::now();
            }
            if (thread == 0) {
                to[1].signal();
                to[0].wait();
            } else {
                to[1].wait();
                to[0].signal();
            }
        }
        return microseconds_per_trip(begin);
    });
}

/// A ring that only the thread that made it may use, as the library's are.
class message_ring {
public:
    message_ring() {
        io_uring_params parameters{};
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        const int error = io_uring_queue_init_params(8, &ring_, &parameters);
        if (error < 0) {
            fail("io_uring_setup", -error);
        }
    }
    message_ring(const message_ring&) = delete;
    message_ring& operator=(const message_ring&) = delete;
    ~message_ring() { io_uring_queue_exit(&ring_); }

    int fd() const { return ring_.ring_fd; }

    void prepare_message_to(int ring_fd) {
        io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
        io_uring_prep_msg_ring(entry, ring_fd, 0, 1, 0);
        io_uring_sqe_set_data64(entry, 0);
        entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    }

    /// Submits what is prepared, and waits for a message, in one system call.
    void wait() {
        const int error = io_uring_submit_and_wait(&ring_, 1);
        if (error < 0) {
            fail("io_uring_enter", -error);
        }
        io_uring_cqe* completion = nullptr;
        if (io_uring_peek_cqe(&ring_, &completion) != 0 || completion->res < 0 ||
            completion->user_data != 1) {
            fail("IORING_OP_MSG_RING", completion != nullptr ? -completion->res : EIO);
        }
        io_uring_cqe_seen(&ring_, completion);
    }

    void submit() {
        const int error = io_uring_submit(&ring_);
        if (error < 0) {
            fail("io_uring_enter", -error);
        }
    }

private:
    io_uring ring_{};
};

double message_ring_trip(bool pinned) {
    std::latch ready{2};
    std::latch ended{2};
    std::atomic<int> fds[2];
    return on_two_threads(pinned, [&](std::size_t thread) {
        message_ring ring;
        fds[thread] = ring.fd();
        ready.arrive_and_wait();
        const int other = fds[1 - thread];
        auto begin = bench_clock::now();
        for (unsigned i = 0; i < warmup_trips + trips; ++i) {
            if (i == warmup_trips) {
                begin = bench_clock::now();
            }
            if (thread == 0) {
                ring.prepare_message_to(other);
            }
            ring.wait();
            if (thread == 1) {
                ring.prepare_message_to(other);  // leaves with the next wait
            }
        }
        const double result = microseconds_per_trip(begin);
        ring.submit();
        ended.arrive_and_wait();  // nobody's ring goes while a message to it may be under way
        return result;
    });
}

// --- rondo ---------------------------------------------------------------------------------------

constexpr std::chrono::microseconds no_spin{0};
constexpr std::chrono::microseconds long_spin{200};

rondo::runtime_options two_reactors(reactor_kind kind, bool pinned,
                                    std::chrono::microseconds spin) {
    return {.reactors = 2, .reactor = kind, .pin_threads = pinned, .spin = spin};
}

task<> hop(rondo::scheduler& other, unsigned times) {
    rondo::scheduler& home = rondo::this_scheduler();
    for (unsigned i = 0; i < times; ++i) {
        co_await rondo::resume_on(other);
        co_await rondo::resume_on(home);
    }
}

task<double> time_hops(rondo::scheduler& other) {
    co_await hop(other, warmup_trips);
    const auto begin = bench_clock::now();
    co_await hop(other, trips);
    co_return microseconds_per_trip(begin);
}

double resume_on_trip(reactor_kind kind, bool pinned, std::chrono::microseconds spin = no_spin) {
    rondo::runtime both{two_reactors(kind, pinned, spin)};
    return both.run(time_hops(both.scheduler(1)));
}

/// Calls that post each other, to and fro. Outlives the runtime that runs them.
class posted_trips {
public:
    double run(rondo::runtime& both) {
        here_ = &both.scheduler(0);
        other_ = &both.scheduler(1);
        here_->post([this] { go(); });
        return result_.get_future().get();
    }

private:
    void go() {
        other_->post([this] { here_->post([this] { come_back(); }); });
    }
    void come_back() {
        if (--left_ == trips) {
            begin_ = bench_clock::now();
        }
        if (left_ > 0) {
            go();
        } else {
            result_.set_value(microseconds_per_trip(begin_));
        }
    }

    rondo::scheduler* here_ = nullptr;
    rondo::scheduler* other_ = nullptr;
    unsigned left_ = warmup_trips + trips;
    bench_clock::time_point begin_;
    std::promise<double> result_;
};

double post_trip(reactor_kind kind, bool pinned, std::chrono::microseconds spin = no_spin) {
    posted_trips back_and_forth;
    rondo::runtime both{two_reactors(kind, pinned, spin)};
    return back_and_forth.run(both);
}

/// Something to do, always, until it is cancelled.
task<> keep_busy() {
    for (;;) co_await rondo::yield();
}

/// Millions of posted calls a second, from the first post until the last call has run.
double posted_millions(reactor_kind kind, unsigned threads, bool busy) {
    const unsigned wanted = messages / threads * threads;
    unsigned received = 0;  // touched by the scheduler only
    std::promise<void> ended;
    rondo::runtime target{{.reactor = kind}};
    if (busy) {
        (void)target.submit(keep_busy());
    }
    std::latch start{threads + 1};
    std::vector<std::jthread> posters;
    posters.reserve(threads);
    for (unsigned i = 0; i < threads; ++i) {
        posters.emplace_back([&] {
            start.arrive_and_wait();
            for (unsigned k = 0; k < wanted / threads; ++k) {
                target.post([&received, &ended, wanted] {
                    if (++received == wanted) {
                        ended.set_value();
                    }
                });
            }
        });
    }
    start.arrive_and_wait();
    const auto begin = bench_clock::now();
    ended.get_future().get();
    return wanted / seconds_since(begin) / 1e6;
}

// --- all of it -----------------------------------------------------------------------------------

struct measurement {
    std::string name;
    const char* unit;
    std::function<double()> run;
    std::vector<double> results = {};
    std::string failure = {};
};

std::vector<measurement> all_measurements() {
    std::vector<measurement> all;
    for (const bool pinned : {true, false}) {
        const std::string where = pinned ? ", pinned" : ", unpinned";
        all.push_back(
            {"round trip, raw eventfd" + where, "us", [=] { return eventfd_trip(pinned); }});
        all.push_back(
            {"round trip, raw MSG_RING" + where, "us", [=] { return message_ring_trip(pinned); }});
        for (const auto kind : {reactor_kind::io_uring, reactor_kind::epoll}) {
            const std::string on = ", " + std::string{to_string(kind)} + where;
            all.push_back(
                {"round trip, resume_on" + on, "us", [=] { return resume_on_trip(kind, pinned); }});
            all.push_back({"round trip, post" + on, "us", [=] { return post_trip(kind, pinned); }});
            if (!pinned) continue;
            all.push_back({"round trip, resume_on" + on + ", spinning", "us",
                           [=] { return resume_on_trip(kind, pinned, long_spin); }});
            all.push_back({"round trip, post" + on + ", spinning", "us",
                           [=] { return post_trip(kind, pinned, long_spin); }});
        }
    }
    for (const bool busy : {false, true}) {
        for (const auto kind : {reactor_kind::io_uring, reactor_kind::epoll}) {
            for (const unsigned threads : {1u, 2u}) {
                const std::string from = std::to_string(threads) + " thread" +
                                         (threads > 1 ? "s" : "") +
                                         (busy ? ", busy, " : ", idle, ");
                all.push_back({"posted from " + from + std::string{to_string(kind)}, "million/s",
                               [=] { return posted_millions(kind, threads, busy); }});
            }
        }
    }
    return all;
}

}  // namespace

int main() {
    auto all = all_measurements();
    for (int round = 0; round < rounds; ++round) {
        for (measurement& each : all) {
            if (!each.failure.empty()) continue;
            try {
                each.results.push_back(each.run());
            } catch (const std::exception& error) {
                each.failure = error.what();
            }
        }
    }
    bool failed = false;
    for (const measurement& each : all) {
        if (each.failure.empty()) {
            std::printf("%-50s  %10.2f %s\n", each.name.c_str(), bench::median(each.results),
                        each.unit);
        } else {
            failed = true;
            std::fprintf(stderr, "cross_reactor: %s: %s\n", each.name.c_str(),
                         each.failure.c_str());
        }
    }
    return failed ? 1 : 0;
}
