// The scheduler of David Beazley's PyCon 2015 talk: plain generators and select(2), nothing else.
// A task yields what it has to wait for; the scheduler runs what is ready and asks select about
// the rest. To be read beside fib_server.cpp, the same server on rondo. What this one lacks is
// what rondo is for: fib runs in the handler and everybody waits for it, select looks at every
// descriptor each time, and descriptors end at 1023.
//
//     select_scheduler --port 5566      then, elsewhere:      nc localhost 5566

#include "command_line.hpp"
#include "fib.hpp"
#include "stepwise.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

namespace {

/// What a task yields: it goes on when `fd` can be received from, or sent to.
struct wait_for {
    enum { recv, send } why;
    int fd;
};

class scheduler {
public:
    void spawn(rondo::generator<wait_for> body) { tasks_.emplace_back(std::move(body)); }

    void run() {
        while (!tasks_.empty() || !r_wait_.empty() || !s_wait_.empty()) {
            while (tasks_.empty()) poll();
            auto task = std::move(tasks_.front());
            tasks_.pop_front();
            if (const auto wait = task.next()) {
                auto& waiting = wait->why == wait_for::recv ? r_wait_ : s_wait_;
                waiting.emplace(wait->fd, std::move(task));
            }
        }
    }

private:
    using waiting_tasks = std::map<int, stepwise<wait_for>>;

    void poll() {
        fd_set readable = descriptors_of(r_wait_);
        fd_set writable = descriptors_of(s_wait_);
        if (select(FD_SETSIZE, &readable, &writable, nullptr, nullptr) < 0) {
            if (errno == EINTR) return;
            throw std::system_error(errno, std::generic_category(), "select");
        }
        wake(r_wait_, readable);
        wake(s_wait_, writable);
    }

    static fd_set descriptors_of(const waiting_tasks& waiting) {
        fd_set set;
        FD_ZERO(&set);
        for (const auto& entry : waiting) FD_SET(entry.first, &set);
        return set;
    }

    void wake(waiting_tasks& waiting, const fd_set& ready) {
        for (auto entry = waiting.begin(); entry != waiting.end();) {
            const auto current = entry++;
            if (!FD_ISSET(current->first, &ready)) continue;
            tasks_.push_back(std::move(current->second));
            waiting.erase(current);
        }
    }

    std::deque<stepwise<wait_for>> tasks_;
    waiting_tasks r_wait_;
    waiting_tasks s_wait_;
};

/// Each recv is one request, newline or not, as in the talk. A request that is no number from
/// 1 to 60 ends the connection.
rondo::generator<wait_for> fib_handler(int client) {
    std::array<char, 1024> chunk;
    for (;;) {
        co_yield wait_for{wait_for::recv, client};
        const ssize_t size = recv(client, chunk.data(), chunk.size(), 0);
        if (size <= 0) break;
        const std::string_view text{chunk.data(), static_cast<std::size_t>(size)};
        const fib_request request = parse_request(text, 60);
        if (!std::holds_alternative<unsigned>(request)) break;
        const std::string answer = std::to_string(fib(std::get<unsigned>(request))) + '\n';
        co_yield wait_for{wait_for::send, client};
        if (send(client, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
    close(client);
}

rondo::generator<wait_for> fib_server(scheduler& tasks, int listener) {
    // Given up for a moment when descriptors run out, so that a connection can be accepted and
    // closed: left in the backlog, it would make select return at once for ever.
    int spare = dup(listener);
    for (;;) {
        co_yield wait_for{wait_for::recv, listener};
        const int client = accept(listener, nullptr, nullptr);
        if (client >= FD_SETSIZE) {
            close(client);
        } else if (client >= 0) {
            tasks.spawn(fib_handler(client));
        } else if (errno == EMFILE || errno == ENFILE) {
            close(spare);
            close(accept(listener, nullptr, nullptr));
            spare = dup(listener);
        }
    }
}

/// A listening socket on the IPv4 address of `host`, and where it listens, as "127.0.0.1:5566".
std::pair<int, std::string> listen_on(const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_family = AF_INET;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0)
        throw std::runtime_error("resolve " + host + ": " + gai_strerror(error));
    sockaddr_in address = *reinterpret_cast<const sockaddr_in*>(found->ai_addr);
    freeaddrinfo(found);
    address.sin_port = htons(port);
    const std::string ip = inet_ntoa(address.sin_addr);

    // Not blocking: a client may be gone between select and accept.
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener, raw, size) != 0 || listen(listener, SOMAXCONN) != 0)
        throw std::system_error(errno, std::generic_category(),
                                "listen on " + ip + ":" + std::to_string(port));
    getsockname(listener, raw, &size);
    return {listener, ip + ":" + std::to_string(ntohs(address.sin_port))};
}

}  // namespace

int main(int argc, char** argv) {
    std::string host = "localhost";
    std::uint16_t port = 5566;
    command_line line{"select_scheduler",
                      "The fib server on a scheduler of generators and select(2)."};
    line.add_text("--host", host, "address to listen on");
    line.add_number("--port", port, 0, 65535, "0 picks a free one");
    try {
        if (const auto status = line.parse(argc, argv)) return *status;
        const auto [listener, where] = listen_on(host, port);
        std::cout << "listening on " << where << " (select)" << std::endl;
        scheduler tasks;
        tasks.spawn(fib_server(tasks, listener));
        tasks.run();
    } catch (const std::exception& error) {
        return line.complain(error.what(), 1);
    }
}
