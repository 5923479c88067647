#pragma once
// The load generator's engine for machines that deny io_uring: one recv and one send a request. It
// costs about as much as a good epoll server does, so it can be what limits a fast one.

#include "load_client.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

namespace bench {

class load_on_epoll final : public load_engine {
public:
    load_on_epoll() {
        if (poll_ < 0) {
            fail_with("epoll_create1", errno);
        }
    }
    load_on_epoll(const load_on_epoll&) = delete;
    load_on_epoll& operator=(const load_on_epoll&) = delete;
    ~load_on_epoll() override { close(poll_); }

    const char* name() const noexcept override { return "epoll"; }

    void start(load_client& client) override {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        event.data.ptr = &client;
        if (epoll_ctl(poll_, EPOLL_CTL_ADD, client.fd(), &event) != 0) {
            fail_with("epoll_ctl", errno);
        }
        client.begin(load_clock::now());
        send_rest(client);
    }

    // A turn serves at most events_.size() answers, so looking at the clock once a turn is enough.
    void run_until(load_clock::time_point end, latency_histogram& latencies) override {
        for (auto now = load_clock::now(); now < end; now = load_clock::now()) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
            const int ready = epoll_wait(poll_, events_.data(), static_cast<int>(events_.size()),
                                         static_cast<int>(left.count()));
            if (ready < 0 && errno != EINTR) {
                fail_with("epoll_wait", errno);
            }
            for (int i = 0; i < ready; ++i) {
                void* const who = events_[static_cast<std::size_t>(i)].data.ptr;
                auto& client = *static_cast<load_client*>(who);
                if (advance(client)) {
                    const auto done = load_clock::now();
                    latencies.add(done - client.started());
                    client.begin(done);
                    send_rest(client);
                }
            }
        }
    }

private:
    static bool advance(load_client& client) {
        send_rest(client);
        const auto space = client.space();
        const ssize_t got = recv(client.fd(), space.data(), space.size(), 0);
        if (got < 0 && errno == EAGAIN) {
            return false;
        }
        if (got < 0) {
            client.fail("recv", errno);
        }
        return client.received(static_cast<std::size_t>(got));
    }

    static void send_rest(load_client& client) {
        for (auto data = client.unsent(); !data.empty(); data = client.unsent()) {
            const ssize_t sent = send(client.fd(), data.data(), data.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                return;
            }
            if (sent < 0) {
                client.fail("send", errno);
            }
            client.sent(static_cast<std::size_t>(sent));
        }
    }

    int poll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<epoll_event> events_ = std::vector<epoll_event>(512);
};

}  // namespace bench
