// Load generator for echo servers: closed loop, one request in flight on each connection, or with
// --pipeline N always N of them, sent in one go; latencies are then those of all N together.
//
//     echo_load --port 5566 --connections 64 --bytes 64 --seconds 2 --warmup 0.5
//     per_second=341234 p50_us=182.0 p99_us=240.0 max_us=910.3 cpu_percent=81.2 ...
//
// Every answer is compared with its request, and every request differs from the one before. Ends
// in bounded time whatever the server does. Exit status 1, with one line that says why, when the
// server refuses, closes, answers wrongly or not at all; 2 for a mistake in the arguments.

#include "load_client.hpp"
#include "load_on_epoll.hpp"
#include "load_on_io_uring.hpp"
#include "load_support.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

struct echo_options : bench::load_options {
    unsigned pipeline = 1;
    std::string engine = "automatic";  ///< io_uring where it can be had, else epoll
};

echo_options parse(int argc, char** argv) {
    echo_options options;
    command_line line{"echo_load", "Closed-loop load for an echo server"};
    options.add_to(line);
    line.add_number("--pipeline", options.pipeline, 1, 10'000,
                    "requests sent at once on a connection; the next go out when all are answered");
    line.add_choice("--engine", options.engine, {"automatic", "io_uring", "epoll"},
                    "what moves the bytes");
    bench::parse_or_exit(line, argc, argv);
    return options;
}

std::unique_ptr<bench::load_engine> make_engine(const echo_options& options) {
    if (options.engine != "epoll") {
        try {
            return std::make_unique<bench::load_on_io_uring>(options.bytes * options.pipeline);
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
    explicit load(const echo_options& options) : options_(options), engine_(make_engine(options)) {
        connect_all();
    }

    void run() {
        const auto begin = bench::load_clock::now();
        for (auto& each : clients_) {
            engine_->start(*each);
        }
        const auto measured_from = begin + bench::to_duration(options_.warmup);
        engine_->run_until(measured_from, latencies_);
        latencies_ = {};
        bench::cpu_meter cpu{options_.server_pid};
        engine_->run_until(measured_from + bench::to_duration(options_.seconds), latencies_);
        report(cpu.lap());
    }

private:
    void connect_all() {
        const bench::server_address server{options_.host, options_.port};
        for (unsigned i = 0; i < options_.connections; ++i) {
            clients_.push_back(std::make_unique<bench::load_client>(
                bench::connect_to(server), i, options_.bytes, options_.pipeline));
        }
    }

    void report(const bench::cpu_meter::used& used) const {
        const auto silent = std::count_if(clients_.begin(), clients_.end(),
                                          [](const auto& each) { return !each->answered_once(); });
        if (silent > 0) {
            throw std::runtime_error{std::to_string(silent) + " of " +
                                     std::to_string(clients_.size()) +
                                     " connections got no answer"};
        }
        const auto requests = static_cast<double>(latencies_.count() * options_.pipeline);
        bench::print_results(requests, "requests", used, latencies_);
        std::printf(" engine=%s connections=%u bytes=%zu pipeline=%u\n", engine_->name(),
                    options_.connections, options_.bytes, options_.pipeline);
    }

    const echo_options& options_;
    std::vector<std::unique_ptr<bench::load_client>> clients_;
    std::unique_ptr<bench::load_engine> engine_;
    bench::latency_histogram latencies_;
};

}  // namespace

int main(int argc, char** argv) {
    const echo_options options = parse(argc, argv);
    try {
        load{options}.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo_load: %s\n", error.what());
        return 1;
    }
}
