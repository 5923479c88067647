// Load generator for echo servers: closed loop, one request in flight on each connection.
//
//     echo_load --port 5566 --connections 64 --bytes 64 --seconds 2 --warmup 0.5
//     requests_per_second=341234 p50_us=182.0 p99_us=240.0 max_us=910.3 cpu_percent=81.2 ...
//
// cpu_percent is its own use of a core: near 100 the generator may be what limits the result. With
// --server-pid the line also says what the server's process used, which holds in any case.
//
// Every answer is compared with its request, and every request differs from the one before. Ends
// in bounded time whatever the server does. Exit status 1, with one line that says why, when the
// server refuses, closes, answers wrongly or not at all; 2 for a mistake in the arguments.

#include "load_client.hpp"
#include "load_on_epoll.hpp"
#include "load_on_io_uring.hpp"

#include <CLI/CLI.hpp>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using clock = bench::load_clock;

constexpr std::chrono::milliseconds connect_limit{5000};
constexpr double busy_percent = 90;

struct load_options {
    std::string host = "127.0.0.1";
    std::string port;
    unsigned connections = 64;
    std::size_t bytes = 64;
    double seconds = 2;
    double warmup = 0.5;
    std::string engine = "automatic";  ///< io_uring where it can be had, else epoll
    pid_t server_pid = 0;              ///< 0: not told
};

/// Parses the arguments, or leaves the process: status 0 after --help, 2 after a mistake.
load_options parse(int argc, char** argv) {
    load_options options;
    CLI::App app{"Closed-loop load for an echo server"};
    app.add_option("--host", options.host, "server address")->capture_default_str();
    app.add_option("--port", options.port, "server port")->required()->check(CLI::Range(1, 65535));
    app.add_option("--connections", options.connections, "open at the same time")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    app.add_option("--bytes", options.bytes, "length of a request")
        ->check(CLI::Range(1, 1 << 26))
        ->capture_default_str();
    app.add_option("--seconds", options.seconds, "measured time")
        ->check(CLI::Range(0.01, 3600.0))
        ->capture_default_str();
    app.add_option("--warmup", options.warmup, "seconds of load before it")
        ->check(CLI::Range(0.0, 3600.0))
        ->capture_default_str();
    app.add_option("--engine", options.engine, "what moves the bytes")
        ->check(CLI::IsMember({"automatic", "io_uring", "epoll"}))
        ->capture_default_str();
    app.add_option("--server-pid", options.server_pid, "process whose CPU time is reported too")
        ->check(CLI::PositiveNumber);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error) == 0 ? 0 : 2);
    }
    return options;
}

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error{what}; }

/// A connected non-blocking socket; throws when the server does not take it within connect_limit.
int connect_to(const addrinfo& address, const std::string& where) {
    const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        bench::fail_with("socket", errno);
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, address.ai_addr, address.ai_addrlen) == 0) {
        return fd;
    }
    if (errno != EINPROGRESS) {
        bench::fail_with("connect to " + where, errno);
    }
    pollfd writable{fd, POLLOUT, 0};
    if (poll(&writable, 1, static_cast<int>(connect_limit.count())) <= 0) {
        bench::fail_with("connect to " + where, ETIMEDOUT);
    }
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        bench::fail_with("connect to " + where, error);
    }
    return fd;
}

/// CPU time, user and system, of all threads of a process; 0 is this one.
double cpu_seconds(pid_t process) {
    clockid_t cpu_clock{};
    timespec time{};
    const int error = clock_getcpuclockid(process, &cpu_clock);
    if (error != 0) {
        bench::fail_with("CPU time of process " + std::to_string(process), error);
    }
    if (clock_gettime(cpu_clock, &time) != 0) {
        bench::fail_with("CPU time of process " + std::to_string(process), errno);
    }
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

double seconds_between(clock::time_point from, clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

std::unique_ptr<bench::load_engine> make_engine(const load_options& options) {
    if (options.engine != "epoll") {
        try {
            return std::make_unique<bench::load_on_io_uring>(options.bytes);
        } catch (const std::system_error&) {
            if (options.engine == "io_uring") {
                throw;
            }
        }
    }
    return std::make_unique<bench::load_on_epoll>();
}

class load {
public:
    explicit load(const load_options& options) : options_(options), engine_(make_engine(options)) {
        connect_all();
    }

    void run() {
        const auto begin = clock::now();
        const auto length = [](double seconds) {
            return std::chrono::duration_cast<clock::duration>(
                std::chrono::duration<double>(seconds));
        };
        for (auto& each : clients_) {
            engine_->start(*each);
        }
        const auto measured_from = begin + length(options_.warmup);
        engine_->run_until(measured_from, latencies_);
        latencies_ = {};
        const double own_cpu = cpu_seconds(0);
        const double server_cpu = options_.server_pid > 0 ? cpu_seconds(options_.server_pid) : 0;
        const auto from = clock::now();
        engine_->run_until(measured_from + length(options_.seconds), latencies_);
        const double wall = seconds_between(from, clock::now());
        report(wall, cpu_seconds(0) - own_cpu);
        if (options_.server_pid > 0) {
            const double used = cpu_seconds(options_.server_pid) - server_cpu;
            std::printf(
                " server_cpu_percent=%.1f server_us_per_request=%.3f", 100 * used / wall,
                1e6 * used / static_cast<double>(std::max<std::uint64_t>(latencies_.count(), 1)));
        }
        std::printf("\n");
    }

private:
    void connect_all() {
        const std::string where = options_.host + ":" + options_.port;
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        addrinfo* found = nullptr;
        const int error = getaddrinfo(options_.host.c_str(), options_.port.c_str(), &hints, &found);
        if (error != 0) {
            fail("resolve " + where + ": " + gai_strerror(error));
        }
        const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address{found, &freeaddrinfo};
        for (unsigned i = 0; i < options_.connections; ++i) {
            const int fd = connect_to(*address, where);
            clients_.push_back(std::make_unique<bench::load_client>(fd, i, options_.bytes));
        }
    }

    void report(double wall, double own_cpu) const {
        const double cpu_percent = 100 * own_cpu / wall;
        const auto silent = std::count_if(clients_.begin(), clients_.end(),
                                          [](const auto& each) { return !each->answered_once(); });
        if (silent > 0) {
            fail(std::to_string(silent) + " of " + std::to_string(clients_.size()) +
                 " connections got no answer");
        }
        const auto microseconds = [](std::chrono::nanoseconds time) {
            return static_cast<double>(time.count()) / 1e3;
        };
        std::printf(
            "requests_per_second=%.0f p50_us=%.1f p99_us=%.1f max_us=%.1f cpu_percent=%.1f "
            "engine=%s connections=%u bytes=%zu seconds=%.2f",
            static_cast<double>(latencies_.count()) / wall, microseconds(latencies_.quantile(0.50)),
            microseconds(latencies_.quantile(0.99)), microseconds(latencies_.maximum()),
            cpu_percent, engine_->name(), options_.connections, options_.bytes, wall);
        if (cpu_percent > busy_percent) {
            std::fprintf(stderr,
                         "echo_load: warning: used %.0f %% of its own core: the server may not be "
                         "what limits this result\n",
                         cpu_percent);
        }
    }

    const load_options& options_;
    std::vector<std::unique_ptr<bench::load_client>> clients_;
    std::unique_ptr<bench::load_engine> engine_;
    bench::latency_histogram latencies_;
};

}  // namespace

int main(int argc, char** argv) {
    const load_options options = parse(argc, argv);
    try {
        load{options}.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo_load: %s\n", error.what());
        return 1;
    }
}
