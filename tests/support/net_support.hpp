#pragma once
// What the tests of sockets share: connected pairs, plain sockets as peers, outcomes as values.
//
//     auto [client, server] = co_await connected_pair();
//     auto [peer, stream] = co_await accept_peer();        // the same with a plain peer
//     plain_socket peer{listener.local_endpoint()};        // connected, not accepted yet
//     peer.send("hello");
//     auto got = co_await outcome_of(server.read_some(space), form::throwing);

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "process_state.hpp"

namespace rondo::test {

inline endpoint any_port(ip_address address = ip_address::loopback_v4()) { return {address, 0}; }

inline std::span<std::byte> bytes_of(std::string& text) {
    return std::as_writable_bytes(std::span(text));
}
inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

inline constexpr std::size_t megabyte = 1024 * 1024;

/// Text in which no two parts of the same length are alike, for all that the tests send.
inline std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    unsigned value = 1;
    for (char& one : text) {
        value = value * 1'103'515'245 + 12'345;
        one = static_cast<char>(value >> 16);
    }
    return text;
}

inline void set_option(int fd, int name, int value) {
    REQUIRE(::setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0);
}

inline void make_non_blocking(int fd) {
    REQUIRE(::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

/// Makes the next close tell the peer with a reset instead of an end.
inline void reset_on_close(int fd) {
    const linger hard{1, 0};
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
}

/// The other end of a connection, in plain system calls that take effect at once.
class plain_socket {
public:
    explicit plain_socket(const endpoint& peer) {
        sockaddr_storage address;
        const socklen_t size = peer.to_sockaddr(address);
        fd_ = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(fd_ >= 0);
        REQUIRE(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    }
    plain_socket(plain_socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    plain_socket& operator=(plain_socket&&) = delete;
    ~plain_socket() { close(); }

    int fd() const { return fd_; }

    void send(std::string_view text) {
        REQUIRE(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(text.size()));
    }

    void send_urgent(char one) { REQUIRE(::send(fd_, &one, 1, MSG_NOSIGNAL | MSG_OOB) == 1); }

    /// What has come so far; never waits.
    std::string received() {
        std::string text;
        char chunk[4096];
        for (ssize_t got; (got = ::recv(fd_, chunk, sizeof chunk, MSG_DONTWAIT)) > 0;) {
            text.append(chunk, static_cast<std::size_t>(got));
        }
        return text;
    }

    /// Whether all was received and the peer has ended the stream, in order or by a reset.
    bool at_end() {
        char one;
        const ssize_t got = ::recv(fd_, &one, 1, MSG_PEEK | MSG_DONTWAIT);
        return got == 0 || (got < 0 && errno == ECONNRESET);
    }

    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    void reset() {
        reset_on_close(fd_);
        close();
    }

private:
    int fd_ = -1;
};

struct stream_pair {
    tcp_stream client;
    tcp_stream server;
};

inline task<stream_pair> connected_pair(ip_address address = ip_address::loopback_v4()) {
    auto listener = tcp_listener::bind(any_port(address));
    auto client = co_await tcp_stream::connect(listener.local_endpoint());
    auto server = co_await listener.accept();
    stream_pair both{std::move(client), std::move(server)};
    co_return both;
}

struct accepted_peer {
    plain_socket peer;
    tcp_stream stream;  // the other end of it
};

inline task<accepted_peer> accept_peer() {
    auto listener = tcp_listener::bind(any_port());
    plain_socket peer{listener.local_endpoint()};
    auto stream = co_await listener.accept();
    accepted_peer both{std::move(peer), std::move(stream)};
    co_return both;
}

/// Reads exactly so many bytes, or to the end.
inline task<std::string> read_text(tcp_stream& from, std::size_t most = std::size_t(-1)) {
    std::string text;
    std::string chunk(64 * 1024, '\0');
    while (text.size() < most) {
        const auto room = bytes_of(chunk).first(std::min(chunk.size(), most - text.size()));
        const std::size_t got = co_await from.read_some(room);
        if (got == 0) break;
        text.append(chunk, 0, got);
    }
    co_return text;
}

/// The two ways to learn of an error.
enum class form { as_result, throwing };
inline constexpr form both_forms[] = {form::as_result, form::throwing};

/// Awaits the operation in the form asked for; tests read the same from both.
template <class Operation>
auto outcome_of(Operation operation, form how) -> task<result<detail::await_result_t<Operation>>> {
    using value = detail::await_result_t<Operation>;
    if (how == form::as_result) co_return co_await as_result(std::move(operation));
    std::error_code error;
    try {
        if constexpr (std::is_void_v<value>) {
            co_await std::move(operation);
            co_return result<void>{};
        } else {
            co_return co_await std::move(operation);
        }
    } catch (const operation_cancelled&) {
        error = std::make_error_code(std::errc::operation_canceled);
    } catch (const std::system_error& thrown) {
        error = thrown.code();
    }
    co_return error;
}

/// What the operation throws, as text: empty for nothing, "cancelled" for a cancellation.
template <class Operation>
task<std::string> complaint_of(Operation operation) {
    std::string text;
    try {
        co_await std::move(operation);
    } catch (const operation_cancelled&) {
        text = "cancelled";
    } catch (const std::exception& error) {
        text = error.what();
    }
    co_return text;
}

inline task<> yield_times(int times) {
    for (int i = 0; i < times; ++i) co_await yield();
}

/// After so many yields a cancellation comes before, during or after a completion that is due.
/// The scheduler visits the kernel after turn_tasks turns of tasks, so the moment lies around
/// there.
inline constexpr auto moments = [] {
    constexpr int visit = scheduler::turn_tasks;
    std::array<int, 23> all{0, 1, 2, 3, 5, visit / 2, 2 * visit + visit / 2};
    for (int i = 0; i < 16; ++i) all[7 + i] = visit - 8 + i;
    return all;
}();

}  // namespace rondo::test
