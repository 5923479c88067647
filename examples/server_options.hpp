#pragma once
// What the server examples have in common: their options, the ready line, a clean end.
//
//     int main(int argc, char** argv) {
//         command_line line{"echo_server", "Sends back what it receives."};
//         server_options options;
//         options.add_to(line);
//         return run_server(line, argc, argv, options, echo);    // echo(tcp_stream) is a task
//     }

#include "command_line.hpp"

#include <rondo/rondo.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <utility>

struct server_options {
    std::string host = "localhost";
    std::uint16_t port = 5566;
    unsigned reactors = 1;
    rondo::reactor_kind reactor = rondo::reactor_kind::automatic;
    unsigned spin = 0;

    /// Makes the command line fill these in; both must live until it is parsed.
    void add_to(command_line& line) {
        line.add_text("--host", host, "name or address to listen on");
        line.add_number("--port", port, 0, 65535, "0 picks a free one");
        line.add_number("--reactors", reactors, 0, rondo::runtime_options::most_threads,
                        "how many, each with a thread; 0: one per usable core");
        line.add_action(
            "--reactor",
            [this](const std::string& name) { reactor = rondo::parse_reactor_kind(name); },
            "automatic (the default), io_uring or epoll");
        line.add_number("--spin", spin, 0, 1'000'000,
                        "microseconds to look for work before sleeping");
    }
};

/// Listens where the options say, tells so in one line, and serves, on all reactors where `mode`
/// does not say otherwise. Of a host's addresses it takes the first of IPv4: it is the one that
/// people type.
template <class Handler>
rondo::task<> announce_and_serve(const server_options& options, Handler handler,
                                 rondo::accept_mode mode) {
    const auto addresses = co_await rondo::resolve(options.host, options.port);
    const auto v4 = std::find_if(addresses.begin(), addresses.end(),
                                 [](const auto& each) { return each.address().is_v4(); });
    auto listener = rondo::tcp_listener::bind(v4 != addresses.end() ? *v4 : addresses.front());

    std::cout << "listening on " << listener.local_endpoint().to_string() << " ("
              << rondo::this_runtime().describe() << ")" << std::endl;
    co_await rondo::serve(std::move(listener), std::move(handler), {.mode = mode});
}

/// Serves until SIGINT or SIGTERM; then clients are refused and handlers are cancelled, and it ends
/// when the last of them has. The signals come first: who has read the ready line may send one.
template <class Handler>
rondo::task<> serve_until_signal(const server_options& options, Handler handler,
                                 rondo::accept_mode mode) {
    co_await rondo::when_any(rondo::wait_signal({SIGINT, SIGTERM}),
                             announce_and_serve(options, std::move(handler), mode));
}

/// What main() returns: 0 after a signal or --help, 2 after a mistake in the arguments, 1 when it
/// could not start. Mistakes and errors are one line each on standard error.
template <class Handler>
int run_server(command_line& line, int argc, char** argv, const server_options& options,
               Handler handler, rondo::accept_mode mode = rondo::accept_mode::balanced) {
    try {
        if (const auto status = line.parse(argc, argv)) return *status;
        rondo::run(serve_until_signal(options, std::move(handler), mode),
                   {.reactors = options.reactors,
                    .reactor = options.reactor,
                    .spin = std::chrono::microseconds(options.spin)});
        return 0;
    } catch (const std::exception& error) {
        return line.complain(error.what(), 1);
    }
}
