// Load generator for one-way streams: sends as much as a server that discards it takes in. Needs
// Linux 6.1 with io_uring.
//
//     stream_load --port 5566 --connections 4 --bytes 262144 --seconds 2
//     per_second=5123 p50_us=182.0 p99_us=240.0 ... counted=megabytes
//
// --bytes are sent at once, always from the same memory, so that the sender's caches stay out of
// the picture; latencies are how long a send takes. Counted is what the kernel took over from the
// sender: the server may be behind by the socket buffers, a few megabytes a connection.
//
// Exit status 1, with one line that says why, when the server refuses or closes; 2 for a mistake in
// the arguments.

#include "load_on_io_uring.hpp"
#include "load_support.hpp"

#include <liburing.h>

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace {

class stream_load {
public:
    explicit stream_load(const bench::load_options& options)
        : options_(options), data_(options.bytes, 'x') {
        bench::open_load_ring(ring_);
        const bench::server_address server{options.host, options.port};
        for (unsigned i = 0; i < options.connections; ++i) {
            streams_.push_back({bench::connect_to(server), {}});
        }
    }
    stream_load(const stream_load&) = delete;
    stream_load& operator=(const stream_load&) = delete;
    ~stream_load() { io_uring_queue_exit(&ring_); }

    void run() {
        for (auto& each : streams_) {
            send(each);
        }
        const auto measured_from = bench::load_clock::now() + bench::to_duration(options_.warmup);
        run_until(measured_from);
        latencies_ = {};
        sent_ = 0;
        bench::cpu_meter cpu{options_.server_pid};
        run_until(measured_from + bench::to_duration(options_.seconds));
        const auto used = cpu.lap();
        if (sent_ == 0) {
            throw std::runtime_error{"the server took nothing in"};
        }
        bench::print_results(static_cast<double>(sent_) / 1e6, "megabytes", used, latencies_);
        std::printf(" connections=%u bytes=%zu\n", options_.connections, options_.bytes);
    }

private:
    struct one_stream {
        int fd;
        bench::load_clock::time_point started;
    };

    void run_until(bench::load_clock::time_point end) {
        bench::collect_until(ring_, end,
                             [this](const io_uring_cqe& completion) { completed(completion); });
    }

    void completed(const io_uring_cqe& completion) {
        if (completion.res <= 0) {
            bench::fail_with("send", completion.res < 0 ? -completion.res : ECONNRESET);
        }
        auto& stream = *reinterpret_cast<one_stream*>(completion.user_data);
        sent_ += static_cast<std::uint64_t>(completion.res);
        latencies_.add(bench::load_clock::now() - stream.started);
        send(stream);
    }

    void send(one_stream& stream) {
        stream.started = bench::load_clock::now();
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        if (sqe == nullptr) {
            io_uring_submit(&ring_);
            sqe = io_uring_get_sqe(&ring_);
        }
        io_uring_prep_send(sqe, stream.fd, data_.data(), data_.size(), MSG_WAITALL | MSG_NOSIGNAL);
        io_uring_sqe_set_data(sqe, &stream);
    }

    const bench::load_options& options_;
    std::vector<char> data_;
    std::vector<one_stream> streams_;
    io_uring ring_{};
    std::uint64_t sent_ = 0;
    bench::latency_histogram latencies_;
};

}  // namespace

int main(int argc, char** argv) {
    bench::load_options options;
    options.connections = 4;
    options.bytes = std::size_t{256} * 1024;
    command_line line{"stream_load", "One-way streams into a server that discards them"};
    options.add_to(line);
    bench::parse_or_exit(line, argc, argv);
    try {
        stream_load{options}.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stream_load: %s\n", error.what());
        return 1;
    }
}
