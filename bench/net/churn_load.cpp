// Load generator for short-lived connections: connect, one request, its answer, close; on each of
// several lanes again and again. Needs Linux 6.1 with io_uring.
//
//     churn_load --port 5566 --connections 64 --bytes 64 --seconds 2
//     per_second=41234 p50_us=1182.0 p99_us=1540.0 ... counted=connections
//
// It closes with a reset (SO_LINGER of 0 seconds): a connection that it closed in the usual way
// would stay in TIME_WAIT for a minute, all ports of the machine would be used up within seconds,
// and what one server left behind would slow the next one down. So the servers see ECONNRESET where
// they would see the end of the stream.
//
// Every answer is compared with its request. Ends in bounded time; exit status 1, with one line
// that says why, when the server refuses, answers wrongly or not at all; 2 for a mistake in the
// arguments.

#include "load_on_io_uring.hpp"
#include "load_support.hpp"

#include <liburing.h>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

class churn {
public:
    explicit churn(const bench::load_options& options)
        : options_(options), server_(options.host, options.port), lanes_(options.connections) {
        bench::open_load_ring(ring_);
        for (auto& lane : lanes_) {
            lane.request.resize(options.bytes);
            lane.answer.resize(options.bytes);
        }
    }
    churn(const churn&) = delete;
    churn& operator=(const churn&) = delete;
    ~churn() { io_uring_queue_exit(&ring_); }

    void run() {
        for (auto& lane : lanes_) {
            connect_and_ask(lane);
        }
        const auto measured_from = bench::load_clock::now() + bench::to_duration(options_.warmup);
        run_until(measured_from);
        latencies_ = {};
        bench::cpu_meter cpu{options_.server_pid};
        run_until(measured_from + bench::to_duration(options_.seconds));
        const auto used = cpu.lap();
        if (latencies_.count() == 0) {
            throw std::runtime_error{"not one connection got its answer"};
        }
        bench::print_results(static_cast<double>(latencies_.count()), "connections", used,
                             latencies_);
        std::printf(" lanes=%u bytes=%zu\n", options_.connections, options_.bytes);
    }

private:
    struct lane {
        int fd = -1;
        std::size_t received = 0;
        bench::load_clock::time_point started;
        std::vector<unsigned char> request;
        std::vector<unsigned char> answer;
    };

    static constexpr std::uint64_t send_bit = 1;

    void run_until(bench::load_clock::time_point end) {
        bench::collect_until(ring_, end,
                             [this](const io_uring_cqe& completion) { completed(completion); });
    }

    // A connect over loopback is done when the call returns, so there is nothing to wait for.
    void connect_and_ask(lane& lane) {
        lane.started = bench::load_clock::now();
        lane.fd = socket(server_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (lane.fd < 0) {
            bench::fail_with("socket", errno);
        }
        const linger reset{1, 0};
        setsockopt(lane.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (connect(lane.fd, server_.address(), server_.length()) != 0) {
            bench::fail_with("connect to " + server_.name(), errno);
        }
        ++number_;
        std::memcpy(lane.request.data(), &number_, std::min(sizeof number_, lane.request.size()));
        lane.received = 0;
        if (io_uring_sq_space_left(&ring_) < 2) {
            io_uring_submit(&ring_);
        }
        io_uring_sqe* send = io_uring_get_sqe(&ring_);
        io_uring_prep_send(send, lane.fd, lane.request.data(), lane.request.size(),
                           MSG_WAITALL | MSG_NOSIGNAL);
        io_uring_sqe_set_flags(send, IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK);
        io_uring_sqe_set_data64(send, reinterpret_cast<std::uint64_t>(&lane) | send_bit);
        receive(lane);
    }

    void receive(lane& lane) {
        if (io_uring_sq_space_left(&ring_) < 1) {
            io_uring_submit(&ring_);
        }
        io_uring_sqe* recv = io_uring_get_sqe(&ring_);
        io_uring_prep_recv(recv, lane.fd, lane.answer.data() + lane.received,
                           lane.answer.size() - lane.received, 0);
        io_uring_sqe_set_data(recv, &lane);
    }

    void completed(const io_uring_cqe& completion) {
        const bool is_send = (completion.user_data & send_bit) != 0;
        auto& done = *reinterpret_cast<lane*>(completion.user_data & ~send_bit);
        if (completion.res <= 0 || is_send) {
            bench::fail_with(is_send ? "send" : "recv",
                             completion.res < 0 ? -completion.res : ECONNRESET);
        }
        done.received += static_cast<std::size_t>(completion.res);
        if (done.received < done.answer.size()) {
            receive(done);
            return;
        }
        if (done.answer != done.request) {
            throw std::runtime_error{"the server answered wrong bytes"};
        }
        latencies_.add(bench::load_clock::now() - done.started);
        close(done.fd);
        connect_and_ask(done);
    }

    const bench::load_options& options_;
    bench::server_address server_;
    std::vector<lane> lanes_;
    std::uint64_t number_ = 0;
    io_uring ring_{};
    bench::latency_histogram latencies_;
};

}  // namespace

int main(int argc, char** argv) {
    bench::load_options options;
    command_line line{"churn_load", "Connections that live for one request"};
    options.add_to(line);
    bench::parse_or_exit(line, argc, argv);
    try {
        churn{options}.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "churn_load: %s\n", error.what());
        return 1;
    }
}
