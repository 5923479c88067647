#pragma once
// What the load generators share: their arguments, connecting, processor time, and the line of
// results that they end with:
//
//     per_second=341234 p50_us=182.0 p99_us=240.0 max_us=910.3 cpu_percent=81.2
//     server_cpu_percent=97.0 server_us_each=2.841 counted=requests ...
//
// cpu_percent is the generator's own use of a core: near 100 it may be what limits the result. The
// server's figures, which need --server-pid, hold in any case.

#include "command_line.hpp"
#include "latency_histogram.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bench {

using load_clock = std::chrono::steady_clock;

/// Ends the run: what failed, and the reason the kernel gave.
[[noreturn]] inline void fail_with(const std::string& what, int error) {
    throw std::system_error{error, std::generic_category(), what};
}

/// The arguments that every load generator takes.
struct load_options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    unsigned connections = 64;
    std::size_t bytes = 64;
    double seconds = 2;
    double warmup = 0.5;
    pid_t server_pid = 0;  ///< 0: not told

    /// Makes the command line fill these in.
    void add_to(command_line& line) {
        line.add_text("--host", host, "server address");
        line.add_number("--port", port, 1, 65535, "server port");
        line.require("--port");
        line.add_number("--connections", connections, 1, 100'000, "open at the same time");
        line.add_number("--bytes", bytes, 1, 1 << 26, "length of what is sent at once");
        line.add_number("--seconds", seconds, 0.01, 3600, "measured time");
        line.add_number("--warmup", warmup, 0, 3600, "seconds of load before it");
        line.add_number("--server-pid", server_pid, 1, std::numeric_limits<pid_t>::max(),
                        "process whose CPU time is reported too");
    }
};

/// Parses, or leaves the process: status 0 after --help, 2 after a mistake.
inline void parse_or_exit(command_line& line, int argc, char** argv) {
    if (const auto status = line.parse(argc, argv)) std::exit(*status);
}

inline load_clock::duration to_duration(double seconds) {
    return std::chrono::duration_cast<load_clock::duration>(std::chrono::duration<double>(seconds));
}

/// The first address of a host, and the port.
class server_address {
public:
    server_address(const std::string& host, std::uint16_t number)
        : name_(host + ":" + std::to_string(number)) {
        const std::string port = std::to_string(number);
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        addrinfo* found = nullptr;
        if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found)) {
            throw std::runtime_error{"resolve " + name_ + ": " + gai_strerror(error)};
        }
        found_.reset(found);
    }

    const std::string& name() const noexcept { return name_; }
    int family() const noexcept { return found_->ai_family; }
    const sockaddr* address() const noexcept { return found_->ai_addr; }
    socklen_t length() const noexcept { return found_->ai_addrlen; }

private:
    struct free_addresses {
        void operator()(addrinfo* list) const noexcept { freeaddrinfo(list); }
    };

    std::string name_;
    std::unique_ptr<addrinfo, free_addresses> found_;
};

/// A connected non-blocking socket without Nagle's delay; throws when the server does not take it
/// within five seconds.
inline int connect_to(const server_address& server) {
    constexpr int limit_ms = 5000;
    const std::string what = "connect to " + server.name();
    const int fd = socket(server.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail_with("socket", errno);
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, server.address(), server.length()) == 0) {
        return fd;
    }
    if (errno != EINPROGRESS) {
        fail_with(what, errno);
    }
    pollfd writable{fd, POLLOUT, 0};
    if (poll(&writable, 1, limit_ms) <= 0) {
        fail_with(what, ETIMEDOUT);
    }
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        fail_with(what, error);
    }
    return fd;
}

/// Processor time, user and system, of all threads of this process and of a server, in laps.
class cpu_meter {
public:
    /// Server 0: none, and its time is 0.
    explicit cpu_meter(pid_t server) : server_(server) { lap(); }

    struct used {
        double wall = 0;  ///< seconds since the lap before
        double own = 0;
        double server = 0;
    };

    used lap() {
        const auto now = load_clock::now();
        const double own = seconds_of(0);
        const double server = server_ > 0 ? seconds_of(server_) : 0;
        const used result{std::chrono::duration<double>(now - when_).count(), own - own_,
                          server - server_seconds_};
        when_ = now;
        own_ = own;
        server_seconds_ = server;
        return result;
    }

private:
    static double seconds_of(pid_t process) {
        const auto fail = [&](int error) {
            fail_with("processor time of process " + std::to_string(process), error);
        };
        clockid_t cpu_clock{};
        timespec time{};
        if (const int error = clock_getcpuclockid(process, &cpu_clock)) {
            fail(error);
        }
        if (clock_gettime(cpu_clock, &time) != 0) {
            fail(errno);
        }
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
    }

    pid_t server_;
    load_clock::time_point when_;
    double own_ = 0;
    double server_seconds_ = 0;
};

/// Begins the line of results: how many things were done, how long each took, and what they cost.
/// The caller adds what it likes and ends the line.
inline void print_results(double operations, const char* counted, const cpu_meter::used& used,
                          const latency_histogram& latencies) {
    constexpr double busy_percent = 90;
    const double percent = 100 * used.own / used.wall;
    const auto microseconds = [](std::chrono::nanoseconds time) {
        return static_cast<double>(time.count()) / 1e3;
    };
    std::printf(
        "per_second=%.0f p50_us=%.1f p99_us=%.1f max_us=%.1f cpu_percent=%.1f "
        "server_cpu_percent=%.1f server_us_each=%.3f counted=%s",
        operations / used.wall, microseconds(latencies.quantile(0.50)),
        microseconds(latencies.quantile(0.99)), microseconds(latencies.maximum()), percent,
        100 * used.server / used.wall, 1e6 * used.server / operations, counted);
    if (percent > busy_percent) {
        std::fprintf(stderr,
                     "warning: the load generator used %.0f %% of its own core: the server may not "
                     "be what limits this result\n",
                     percent);
    }
}

}  // namespace bench
