#pragma once
// The load generator's fast engine: one completion a request, one system call a turn. Needs Linux
// 6.1; the constructor throws std::system_error where io_uring is denied or too old.

#include "load_client.hpp"

#include <liburing.h>

#include <sys/socket.h>

namespace bench {

/// A ring as the load generators use it; throws std::system_error where it cannot be had.
inline void open_load_ring(io_uring& ring) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = 16384;
    if (const int result = io_uring_queue_init_params(4096, &ring, &params); result < 0) {
        fail_with("io_uring_setup", -result);
    }
    io_uring_register_ring_fd(&ring);  // without it a turn is a little slower, no more
}

/// Calls completed(completion) for each, until `end` or a little longer.
template <class Completed>
void collect_until(io_uring& ring, load_clock::time_point end, Completed completed) {
    constexpr __kernel_timespec patience{1, 0};
    while (load_clock::now() < end) {
        io_uring_cqe* completion = nullptr;
        auto timeout = patience;
        const int result =
            io_uring_submit_and_wait_timeout(&ring, &completion, 1, &timeout, nullptr);
        if (result < 0 && result != -EINTR && result != -EBUSY && result != -ETIME) {
            fail_with("io_uring_enter", -result);
        }
        unsigned head = 0;
        unsigned seen = 0;
        io_uring_for_each_cqe(&ring, head, completion) {
            ++seen;
            completed(*completion);
        }
        io_uring_cq_advance(&ring, seen);
    }
}

class load_on_io_uring final : public load_engine {
public:
    explicit load_on_io_uring(std::size_t bytes) : link_(bytes <= largest_linked) {
        open_load_ring(ring_);
    }
    load_on_io_uring(const load_on_io_uring&) = delete;
    load_on_io_uring& operator=(const load_on_io_uring&) = delete;
    ~load_on_io_uring() override { io_uring_queue_exit(&ring_); }

    const char* name() const noexcept override { return "io_uring"; }

    void start(load_client& client) override { request(client, load_clock::now()); }

    void run_until(load_clock::time_point end, latency_histogram& latencies) override {
        const auto since_boot = std::chrono::nanoseconds{end.time_since_epoch()}.count();
        __kernel_timespec deadline{since_boot / 1'000'000'000, since_boot % 1'000'000'000};
        make_room(1);
        io_uring_sqe* timeout = io_uring_get_sqe(&ring_);
        io_uring_prep_timeout(timeout, &deadline, 0, IORING_TIMEOUT_ABS);
        io_uring_sqe_set_data(timeout, &deadline);
        for (bool expired = false; !expired;) {
            const int result = io_uring_submit_and_wait(&ring_, 1);
            if (result < 0 && result != -EINTR && result != -EBUSY) {
                fail_with("io_uring_enter", -result);
            }
            unsigned head = 0;
            unsigned seen = 0;
            io_uring_cqe* completion = nullptr;
            io_uring_for_each_cqe(&ring_, head, completion) {
                ++seen;
                if (completion->user_data == reinterpret_cast<std::uint64_t>(&deadline)) {
                    expired = true;
                } else {
                    completed(*completion, latencies);
                }
            }
            io_uring_cq_advance(&ring_, seen);
        }
    }

private:
    // Linked behind its send, a recv is tried only after all the sends of the turn, when the first
    // answers are there already: a tenth faster. A request that may not fit into the socket buffers
    // must be received while it is being sent, or server and client wait for each other.
    static constexpr std::size_t largest_linked = 64 * 1024;
    static constexpr std::uint64_t send_bit = 1;

    void completed(const io_uring_cqe& completion, latency_histogram& latencies) {
        // A send completes only when it failed.
        const bool is_send = (completion.user_data & send_bit) != 0;
        auto& client = *reinterpret_cast<load_client*>(completion.user_data & ~send_bit);
        if (completion.res < 0) {
            client.fail(is_send ? "send" : "recv", -completion.res);
        }
        if (is_send) {
            client.fail("send", ECONNRESET);
        }
        if (client.received(static_cast<std::size_t>(completion.res))) {
            const auto done = load_clock::now();
            latencies.add(done - client.started());
            request(client, done);
        } else {
            make_room(1);
            receive(client);
        }
    }

    // A chain must not be torn apart by a submission, so the room for all of it is made first.
    void make_room(unsigned entries) {
        if (io_uring_sq_space_left(&ring_) < entries) {
            io_uring_submit(&ring_);
        }
    }

    void request(load_client& client, load_clock::time_point now) {
        client.begin(now);
        make_room(2);
        const auto data = client.unsent();
        io_uring_sqe* send = io_uring_get_sqe(&ring_);
        io_uring_prep_send(send, client.fd(), data.data(), data.size(), MSG_WAITALL | MSG_NOSIGNAL);
        io_uring_sqe_set_flags(send, IOSQE_CQE_SKIP_SUCCESS | (link_ ? IOSQE_IO_LINK : 0U));
        io_uring_sqe_set_data64(send, reinterpret_cast<std::uint64_t>(&client) | send_bit);
        client.sent(data.size());
        receive(client);
    }

    void receive(load_client& client) {
        const auto space = client.space();
        io_uring_sqe* recv = io_uring_get_sqe(&ring_);
        io_uring_prep_recv(recv, client.fd(), space.data(), space.size(), 0);
        io_uring_sqe_set_data(recv, &client);
    }

    io_uring ring_{};
    bool link_;
};

}  // namespace bench
