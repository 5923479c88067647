// Echo server on raw io_uring: the yardstick for rondo's io_uring reactor. Needs Linux 6.1.
//
//     echo_io_uring --port 5566    ends at SIGTERM
//
// The shape that measured fastest: each connection has a buffer of its own; an echo is a send
// linked to the next recv, so the ring runs the recv only once the buffer is free again; a send
// that succeeds posts no completion. One completion a request, one system call a turn.

#include "raw_server.hpp"

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

constexpr unsigned submission_entries = 4096;
constexpr unsigned completion_entries = 4 * submission_entries;

struct connection {
    int fd;
    std::unique_ptr<char[]> buffer;
};

// Four kinds of user data: the accept, a close (seen only if it fails), the address of a connection
// for its recv, and that address with the lowest bit set for its send.
constexpr std::uint64_t accept_tag = 0;
constexpr std::uint64_t send_bit = 1;
constexpr std::uint64_t close_tag = 2;

class echo_loop {
public:
    echo_loop(int listener, const bench::server_options& options)
        : listener_(listener), buffer_size_(options.buffer), discard_(options.discard) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
        params.cq_entries = completion_entries;
        if (const int result = io_uring_queue_init_params(submission_entries, &ring_, &params)) {
            bench::fail("io_uring_setup", -result);
        }
        if (const int result = io_uring_register_ring_fd(&ring_); result < 0) {
            bench::fail("io_uring_register_ring_fd", -result);
        }
    }

    [[noreturn]] void run() {
        arm_accept();
        for (;;) {
            const int result = io_uring_submit_and_wait(&ring_, 1);
            if (result < 0 && result != -EINTR && result != -EBUSY) {
                bench::fail("io_uring_enter", -result);
            }
            unsigned head = 0;
            unsigned seen = 0;
            io_uring_cqe* completion = nullptr;
            io_uring_for_each_cqe(&ring_, head, completion) {
                ++seen;
                completed(*completion);
            }
            io_uring_cq_advance(&ring_, seen);
        }
    }

private:
    void completed(const io_uring_cqe& completion) {
        if (completion.user_data == accept_tag) {
            accepted(completion);
        } else if (completion.user_data == close_tag) {
            bench::fail("close", -completion.res);
        } else if ((completion.user_data & send_bit) != 0) {
            // A send completes only when it failed, and then the recv linked to it ends unseen:
            // the kernel posts nothing for what follows a failed request that skips success.
            drop(reinterpret_cast<connection*>(completion.user_data - send_bit));
        } else if (auto* peer = reinterpret_cast<connection*>(completion.user_data);
                   completion.res > 0) {
            if (discard_) {
                make_room(1);
                receive(peer);
            } else {
                echo(peer, static_cast<unsigned>(completion.res));
            }
        } else {
            drop(peer);
        }
    }

    // A chain must not be torn apart by a submission, so the room for all of it is made first.
    void make_room(unsigned entries) {
        if (io_uring_sq_space_left(&ring_) < entries) {
            io_uring_submit(&ring_);
        }
    }

    void arm_accept() {
        make_room(1);
        io_uring_sqe* accept = io_uring_get_sqe(&ring_);
        io_uring_prep_multishot_accept(accept, listener_, nullptr, nullptr, SOCK_CLOEXEC);
        io_uring_sqe_set_data64(accept, accept_tag);
    }

    void accepted(const io_uring_cqe& completion) {
        if (completion.res < 0 && completion.res != -ECONNABORTED && completion.res != -EINTR) {
            bench::fail("accept", -completion.res);
        }
        if (completion.res >= 0) {
            auto* peer = take_connection();
            peer->fd = completion.res;
            make_room(1);
            receive(peer);
        }
        if ((completion.flags & IORING_CQE_F_MORE) == 0) {
            arm_accept();
        }
    }

    void receive(connection* peer) {
        io_uring_sqe* recv = io_uring_get_sqe(&ring_);
        io_uring_prep_recv(recv, peer->fd, peer->buffer.get(), buffer_size_, 0);
        io_uring_sqe_set_data(recv, peer);
    }

    void echo(connection* peer, unsigned length) {
        make_room(2);
        io_uring_sqe* send = io_uring_get_sqe(&ring_);
        // MSG_WAITALL: the ring sends the rest itself; a send that ends short breaks the link.
        io_uring_prep_send(send, peer->fd, peer->buffer.get(), length, MSG_WAITALL | MSG_NOSIGNAL);
        io_uring_sqe_set_flags(send, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
        io_uring_sqe_set_data64(send, reinterpret_cast<std::uint64_t>(peer) + send_bit);
        receive(peer);
    }

    connection* take_connection() {
        if (free_.empty()) {
            all_.push_back(std::make_unique<connection>(
                connection{-1, std::make_unique<char[]>(buffer_size_)}));
            free_.reserve(all_.size());
            free_.push_back(all_.back().get());
        }
        auto* peer = free_.back();
        free_.pop_back();
        return peer;
    }

    void drop(connection* peer) {
        make_room(1);
        io_uring_sqe* close = io_uring_get_sqe(&ring_);
        io_uring_prep_close(close, peer->fd);
        io_uring_sqe_set_flags(close, IOSQE_CQE_SKIP_SUCCESS);
        io_uring_sqe_set_data64(close, close_tag);
        free_.push_back(peer);
    }

    io_uring ring_{};
    int listener_;
    std::size_t buffer_size_;
    bool discard_;
    std::vector<std::unique_ptr<connection>> all_;
    std::vector<connection*> free_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = bench::parse_server_options(argc, argv, "Echo server on raw io_uring");
    const int listener = bench::listen_on(options);
    echo_loop loop{listener, options};
    bench::announce(listener, "io_uring");
    loop.run();
}
