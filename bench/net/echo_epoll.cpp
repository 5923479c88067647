// Echo server on raw epoll: the yardstick for rondo's epoll reactor.
//
//     echo_epoll --port 5566       ends at SIGTERM
//
// Edge-triggered and registered once. An event costs one recv and one send: a short read has
// emptied the socket, so the loop does not ask again, and what recv delivered is sent at once from
// the same hot buffer. Only when the peer does not read does a connection get memory of its own
// and wait for EPOLLOUT.

#include "raw_server.hpp"

#include <sys/epoll.h>

#include <csignal>
#include <span>
#include <unordered_map>
#include <vector>

namespace {

constexpr int events_a_turn = 512;

// EPOLLRDHUP makes it safe to stop after a short read: an end that had arrived before the event is
// in the event, one that arrives later is an edge of its own.
constexpr std::uint32_t reading = EPOLLIN | EPOLLRDHUP | EPOLLET;
constexpr std::uint32_t writing = EPOLLOUT | EPOLLET;
constexpr std::uint32_t ending = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

class echo_loop {
public:
    echo_loop(int listener, const bench::server_options& options)
        : listener_(listener), buffer_(options.buffer), discard_(options.discard) {
        if (poll_ < 0) {
            bench::fail("epoll_create1");
        }
        control(EPOLL_CTL_ADD, listener_, EPOLLIN | EPOLLET);
    }

    [[noreturn]] void run() {
        std::vector<epoll_event> events(events_a_turn);
        for (;;) {
            const int ready = epoll_wait(poll_, events.data(), events_a_turn, -1);
            if (ready < 0 && errno != EINTR) {
                bench::fail("epoll_wait");
            }
            for (int i = 0; i < ready; ++i) {
                const int fd = events[i].data.fd;
                if (fd == listener_) {
                    accept_all();
                } else if ((events[i].events & EPOLLOUT) != 0) {
                    flush(fd);
                } else {
                    echo(fd, (events[i].events & ending) != 0);
                }
            }
        }
    }

private:
    bool control(int action, int fd, std::uint32_t events) const {
        epoll_event event{};
        event.events = events;
        event.data.fd = fd;
        return epoll_ctl(poll_, action, fd, &event) == 0;
    }

    void accept_all() const {
        for (;;) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
                continue;
            }
            if (fd < 0 && errno == EAGAIN) {
                return;
            }
            if (fd < 0 || !control(EPOLL_CTL_ADD, fd, reading)) {
                bench::fail("accept");
            }
        }
    }

    void echo(int fd, bool to_the_end) {
        for (;;) {
            const ssize_t received = recv(fd, buffer_.data(), buffer_.size(), 0);
            if (received <= 0) {
                if (received == 0 || errno != EAGAIN) {
                    drop(fd);
                }
                return;
            }
            const auto length = static_cast<std::size_t>(received);
            if (!discard_ && !send_or_keep(fd, {buffer_.data(), length})) {
                return;
            }
            if (length < buffer_.size() && !to_the_end) {
                return;
            }
        }
    }

    // False: the connection is gone, or waits for EPOLLOUT with the rest in unsent_.
    bool send_or_keep(int fd, std::span<const char> data) {
        while (!data.empty()) {
            const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                std::vector<char> rest(data.begin(), data.end());
                unsent_[fd].swap(rest);
                control(EPOLL_CTL_MOD, fd, writing);
                return false;
            }
            if (sent < 0) {
                drop(fd);
                return false;
            }
            data = data.subspan(static_cast<std::size_t>(sent));
        }
        return true;
    }

    void flush(int fd) {
        const auto node = unsent_.extract(fd);
        if (!node.empty() && send_or_keep(fd, node.mapped())) {
            control(EPOLL_CTL_MOD, fd, reading);  // reports again what arrived in the meantime
        }
    }

    void drop(int fd) {
        unsent_.erase(fd);
        close(fd);
    }

    int poll_ = epoll_create1(EPOLL_CLOEXEC);
    int listener_;
    std::vector<char> buffer_;
    bool discard_;
    std::unordered_map<int, std::vector<char>> unsent_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = bench::parse_server_options(argc, argv, "Echo server on raw epoll");
    const int listener = bench::listen_on(options, SOCK_CLOEXEC | SOCK_NONBLOCK);
    echo_loop loop{listener, options};
    bench::announce(listener, "epoll");
    loop.run();
}
