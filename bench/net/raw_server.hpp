#pragma once
// What the echo servers written straight on the kernel share: arguments, a listening socket, the
// ready line. Their loops share nothing, so that each can be read, and tuned, alone.
//
//     const auto options = bench::parse_server_options(argc, argv, "Echo server on raw epoll");
//     const int listener = bench::listen_on(options);
//     bench::announce(listener, "epoll");      // listening on 127.0.0.1:40123 (epoll)

#include "command_line.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace bench {

/// The arguments that every echo server of the suite takes.
struct server_options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::size_t buffer = 4096;  ///< bytes read at once, the same in every server
    bool discard = false;       ///< read and forget, for one-way streams, instead of echoing
};

/// Parses the arguments, or leaves the process: status 0 after --help, 2 after a mistake.
inline server_options parse_server_options(int argc, char** argv, const char* about) {
    server_options options;
    command_line line{argv[0], about};
    line.add_text("--host", options.host, "address to listen on");
    line.add_number("--port", options.port, 0, 65535, "port, 0 for a free one");
    line.add_number("--buffer", options.buffer, 1, 1 << 20, "bytes read at once");
    line.add_flag("--discard", options.discard, "send nothing back");
    if (const auto status = line.parse(argc, argv)) std::exit(*status);
    return options;
}

/// Ends the process with one line on standard error: what was tried, and why it failed.
[[noreturn]] inline void fail(const std::string& what, int error = errno) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(error));
    std::exit(1);
}

/// A listening TCP socket on options.host and options.port; leaves the process if there is none.
/// TCP_NODELAY is set here, once: Linux hands it down to every accepted connection.
inline int listen_on(const server_options& options, int socket_flags = SOCK_CLOEXEC) {
    const std::string port = std::to_string(options.port);
    const std::string where = "listen on " + options.host + ":" + port;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(options.host.c_str(), port.c_str(), &hints, &found)) {
        std::fprintf(stderr, "%s: %s\n", where.c_str(), gai_strerror(error));
        std::exit(1);
    }
    const int listener = socket(found->ai_family, SOCK_STREAM | socket_flags, 0);
    if (listener < 0) {
        fail(where);
    }
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, found->ai_addr, found->ai_addrlen) != 0 || listen(listener, 4096) != 0) {
        fail(where);
    }
    freeaddrinfo(found);
    return listener;
}

/// Prints the ready line for the address that the listener really has.
inline void announce(int listener, const char* kind) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        fail("getsockname");
    }
    getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    const bool v6 = address.ss_family == AF_INET6;
    std::printf("listening on %s%s%s:%s (%s)\n", v6 ? "[" : "", host, v6 ? "]" : "", port, kind);
    std::fflush(stdout);
}

}  // namespace bench
