// The clients of David Beazley's PyCon 2015 talk, all on one thread: one connection asks for fib(1)
// in a closed loop, others ask for a long fib over and over. How much do the others slow it down?
//
//     fib_demo_load --port 5566 --long-clients 2 --seconds 2 --warmup 0.5
//     requests_per_second=21340 p50_us=41.2 p99_us=90.1 max_us=610.3 long_per_second=3.5 ...
//
//     fib_demo_load --port 5566 --at-once 5 --long-n 35       so many long requests, all at once
//     milliseconds=131.2
//
// A request is one chunk without a newline; an answer is read up to its newline and compared with
// the right one. Ends in bounded time whatever the server does: the request that is unanswered at
// the end is one more sample, with the time that it has waited so far. Exit status 1, with one line
// that says why, when the server refuses, closes or answers wrongly; 2 for a mistake in the
// arguments.

#include "command_line.hpp"
#include "latency_histogram.hpp"
#include "load_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using clock = bench::load_clock;

// How long all of `--at-once` may take.
constexpr std::chrono::seconds at_once_limit{60};

struct load_options {
    std::uint16_t port = 0;
    unsigned long_clients = 0;
    unsigned long_n = 40;
    unsigned at_once = 0;  ///< 0: the closed loop
    double seconds = 2;
    double warmup = 0.5;
};

/// Parses the arguments, or leaves the process: status 0 after --help, 2 after a mistake.
load_options parse(int argc, char** argv) {
    load_options options;
    command_line line{"fib_demo_load",
                      "One short and some long clients of a fib server on this machine"};
    line.add_number("--port", options.port, 1, 65535, "server port");
    line.require("--port");
    line.add_number("--long-clients", options.long_clients, 0, 1000,
                    "connections that ask for a long fib");
    line.add_number("--long-n", options.long_n, 1, 60, "what they ask for");
    line.add_number("--at-once", options.at_once, 1, 1000,
                    "long requests, one a connection, timed instead");
    line.add_number("--seconds", options.seconds, 0.01, 3600, "measured time");
    line.add_number("--warmup", options.warmup, 0, 3600, "seconds of load before it");
    if (const auto status = line.parse(argc, argv)) std::exit(*status);
    return options;
}

std::uint64_t fibonacci(unsigned n) {
    std::uint64_t value = 0;
    std::uint64_t next = 1;
    for (unsigned i = 0; i < n; ++i) {
        const std::uint64_t sum = value + next;
        value = next;
        next = sum;
    }
    return value;
}

/// One connection, and the one request that it repeats.
class fib_client {
public:
    fib_client(std::uint16_t port, unsigned n)
        : request_(std::to_string(n)), answer_(std::to_string(fibonacci(n)) + '\n') {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        const int on = 1;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            const int error = errno;
            close(fd_);
            bench::fail_with("connect to port " + std::to_string(port), error);
        }
    }
    fib_client(const fib_client&) = delete;
    fib_client& operator=(const fib_client&) = delete;
    ~fib_client() { close(fd_); }

    int fd() const noexcept { return fd_; }
    clock::time_point asked() const noexcept { return asked_; }

    void ask(clock::time_point now) {
        received_ = 0;
        asked_ = now;
        const ssize_t sent = send(fd_, request_.data(), request_.size(), MSG_NOSIGNAL);
        if (sent < 0) {
            bench::fail_with("send " + request_, errno);
        }
    }

    /// Takes what has come; true when that completes the answer.
    bool take() {
        std::array<char, 64> chunk;
        const ssize_t got = recv(fd_, chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) {
            return false;
        }
        if (got < 0) {
            bench::fail_with("receive the answer to " + request_, errno);
        }
        const auto size = static_cast<std::size_t>(got);
        if (size == 0) {
            throw std::runtime_error{"the server closed during the request " + request_};
        }
        if (answer_.compare(received_, size, chunk.data(), size) != 0) {
            throw std::runtime_error{"the server answered the request " + request_ + " wrongly"};
        }
        received_ += size;
        return received_ == answer_.size();
    }

private:
    int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    std::string request_;
    std::string answer_;
    std::size_t received_ = 0;
    clock::time_point asked_;
};

class fib_load {
public:
    fib_load() {
        if (poll_ < 0) {
            bench::fail_with("epoll_create1", errno);
        }
    }
    fib_load(const fib_load&) = delete;
    fib_load& operator=(const fib_load&) = delete;
    ~fib_load() { close(poll_); }

    fib_client& connect(std::uint16_t port, unsigned n) {
        auto& client = *clients_.emplace_back(std::make_unique<fib_client>(port, n));
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = &client;
        if (epoll_ctl(poll_, EPOLL_CTL_ADD, client.fd(), &event) != 0) {
            bench::fail_with("epoll_ctl", errno);
        }
        return client;
    }

    void ask_all() {
        for (auto& each : clients_) {
            each->ask(clock::now());
        }
    }

    /// Calls answered(client, now) for each answer; ends when that gives false, or at `end`.
    template <class Answered>
    void run_until(clock::time_point end, Answered answered) {
        for (auto now = clock::now(); now < end; now = clock::now()) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
            std::array<epoll_event, 64> events;
            const int ready = epoll_wait(poll_, events.data(), static_cast<int>(events.size()),
                                         static_cast<int>(left.count()));
            if (ready < 0 && errno != EINTR) {
                bench::fail_with("epoll_wait", errno);
            }
            for (int i = 0; i < ready; ++i) {
                void* const who = events[static_cast<std::size_t>(i)].data.ptr;
                auto& client = *static_cast<fib_client*>(who);
                if (client.take() && !answered(client, clock::now())) {
                    return;
                }
            }
        }
    }

private:
    int poll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<std::unique_ptr<fib_client>> clients_;
};

clock::duration length(double seconds) {
    return std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
}

void run_closed_loop(const load_options& options) {
    fib_load load;
    for (unsigned i = 0; i < options.long_clients; ++i) {
        load.connect(options.port, options.long_n);
    }
    const fib_client& brief = load.connect(options.port, 1);

    bench::latency_histogram latencies;
    std::uint64_t long_answers = 0;
    const auto count_and_go_on = [&](fib_client& client, clock::time_point now) {
        if (&client == &brief) {
            latencies.add(now - client.asked());
        } else {
            ++long_answers;
        }
        client.ask(now);
        return true;
    };

    const auto measured_from = clock::now() + length(options.warmup);
    load.ask_all();
    load.run_until(measured_from, count_and_go_on);
    latencies = {};
    long_answers = 0;
    const auto from = clock::now();
    load.run_until(measured_from + length(options.seconds), count_and_go_on);
    const auto to = clock::now();

    const double wall = std::chrono::duration<double>(to - from).count();
    const double answers = static_cast<double>(latencies.count());
    latencies.add(to - brief.asked());
    const auto microseconds = [](std::chrono::nanoseconds time) {
        return static_cast<double>(time.count()) / 1e3;
    };
    std::printf(
        "requests_per_second=%.1f p50_us=%.1f p99_us=%.1f max_us=%.1f long_per_second=%.2f "
        "long_clients=%u seconds=%.2f\n",
        answers / wall, microseconds(latencies.quantile(0.50)),
        microseconds(latencies.quantile(0.99)), microseconds(latencies.maximum()),
        static_cast<double>(long_answers) / wall, options.long_clients, wall);
}

void run_at_once(const load_options& options) {
    fib_load load;
    for (unsigned i = 0; i < options.at_once; ++i) {
        load.connect(options.port, options.long_n);
    }
    const auto from = clock::now();
    auto last = from;
    unsigned missing = options.at_once;
    load.ask_all();
    load.run_until(from + at_once_limit, [&](fib_client&, clock::time_point now) {
        last = now;
        return --missing > 0;
    });
    if (missing > 0) {
        throw std::runtime_error{std::to_string(missing) + " requests were not answered"};
    }
    std::printf("milliseconds=%.1f\n",
                std::chrono::duration<double, std::milli>(last - from).count());
}

}  // namespace

int main(int argc, char** argv) {
    const load_options options = parse(argc, argv);
    try {
        if (options.at_once > 0) {
            run_at_once(options);
        } else {
            run_closed_loop(options);
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fib_demo_load: %s\n", error.what());
        return 1;
    }
}
