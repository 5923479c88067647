#pragma once
// What the tests of serve share: handlers, clients, and what was said of errors.
//
//     reported heard;
//     auto [here, server] = start_serving(group, echo, {.on_error = heard.hook()});
//     plain_socket client{here};
//     const bool right = co_await answers(client, "hello");

#include <rondo/net/serve.hpp>
#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/task_group.hpp>

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net_support.hpp"
#include "pipe_ends.hpp"

namespace rondo::test {

inline task<> echo(tcp_stream peer) {
    std::string space(4'096, '\0');
    for (;;) {
        const std::size_t got = co_await peer.read_some(bytes_of(space));
        if (got == 0) co_return;
        co_await peer.write_all(std::string_view(space).substr(0, got));
    }
}

inline task<> out_of_ideas(tcp_stream) {
    throw std::runtime_error("out of ideas");
    co_return;
}

/// Says something through the connection and expects it back.
inline task<bool> answers(plain_socket& client, std::string text) {
    client.send(text);
    std::string back;
    while (back.size() < text.size()) {
        co_await poll_fd(client.fd(), POLLIN);
        const std::string part = client.received();
        if (part.empty()) co_return false;
        back += part;
    }
    co_return back == text;
}

/// What the hook heard.
struct reported {
    std::vector<std::pair<std::string, endpoint>> errors;

    auto hook() {
        return [this](std::exception_ptr error, const endpoint& peer) {
            try {
                std::rethrow_exception(error);
            } catch (const std::exception& known) {
                errors.emplace_back(known.what(), peer);
            } catch (...) {
                errors.emplace_back("something else", peer);
            }
        };
    }
};

inline endpoint local_endpoint_of(const plain_socket& socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return endpoint::from_sockaddr(address);
}

struct started {
    endpoint where;
    task_handle<void> server;
};

/// serve() as a task of the group, on a listener of its own.
template <class Handler>
started start_serving(task_group& group, Handler handler, serve_options options = {}) {
    auto listener = tcp_listener::bind(any_port());
    const endpoint where = listener.local_endpoint();
    auto work = serve(std::move(listener), handler, std::move(options));
    return {where, group.spawn(std::move(work))};
}

/// From now on standard error can be read back; for child processes.
class error_output {
public:
    error_output() {
        make_non_blocking(pipe_.read_end);
        REQUIRE(::dup2(pipe_.write_end, STDERR_FILENO) >= 0);
    }

    /// What has come so far, with PEER in place of the client's endpoint.
    std::string text(const plain_socket& client) const {
        char lines[1'000];
        const ssize_t size = ::read(pipe_.read_end, lines, sizeof lines);
        std::string text(lines, size > 0 ? static_cast<std::size_t>(size) : 0);
        const std::string peer = local_endpoint_of(client).to_string();
        for (std::size_t at; (at = text.find(peer)) != std::string::npos;) {
            text.replace(at, peer.size(), "PEER");
        }
        return text;
    }

private:
    pipe_ends pipe_;
};

}  // namespace rondo::test
