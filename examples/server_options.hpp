#pragma once
// What the server examples have in common: their options, the ready line, a clean end.
//
//     int main(int argc, char** argv) {
//         CLI::App cli{"Sends back what it receives.", "echo_server"};
//         server_options options;
//         options.add_to(cli);
//         return run_server(cli, argc, argv, options, echo);    // echo(tcp_stream) is a task
//     }

#include <rondo/rondo.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

struct server_options {
    std::string host = "localhost";
    std::uint16_t port = 5566;
    unsigned reactors = 1;
    rondo::reactor_kind reactor = rondo::reactor_kind::automatic;
    unsigned spin = 0;

    /// Makes the command line fill these in; both must live until it is parsed.
    void add_to(CLI::App& cli) {
        cli.add_option("--host", host, "name or address to listen on")->capture_default_str();
        cli.add_option("--port", port, "0 picks a free one")
            ->check(CLI::Range(0, 65535))
            ->capture_default_str();
        cli.add_option("--reactors", reactors,
                       "how many, each with a thread; 0: one per usable core")
            ->check(CLI::Range(0u, rondo::runtime_options::most_threads))
            ->capture_default_str();
        cli.add_option_function<std::string>(
               "--reactor",
               [this](const std::string& name) {
                   try {
                       reactor = rondo::parse_reactor_kind(name);
                   } catch (const std::invalid_argument& error) {
                       throw CLI::ValidationError("--reactor", error.what());
                   }
               },
               "automatic, io_uring or epoll")
            ->type_name("KIND")
            ->default_str("automatic");
        cli.add_option("--spin", spin, "microseconds to look for work before sleeping")
            ->check(CLI::Range(0u, 1'000'000u))
            ->capture_default_str();
    }
};

/// Listens where the options say, tells so in one line, and serves, on all reactors where `mode` does
/// not say otherwise. Of a host's addresses it takes
/// the first of IPv4: it is the one that people type.
template <class Handler>
rondo::task<> announce_and_serve(const server_options& options, Handler handler,
                                 rondo::accept_mode mode) {
    const auto addresses = co_await rondo::resolve(options.host, options.port);
    const auto v4 = std::find_if(addresses.begin(), addresses.end(),
                                 [](const auto& each) { return each.address().is_v4(); });
    auto listener = rondo::tcp_listener::bind(v4 != addresses.end() ? *v4 : addresses.front());

    const std::size_t reactors = rondo::this_runtime().size();
    std::cout << "listening on " << listener.local_endpoint().to_string() << " ("
              << to_string(rondo::this_scheduler().reactor()) << ", " << reactors
              << (reactors == 1 ? " reactor)" : " reactors)") << std::endl;
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
int run_server(CLI::App& cli, int argc, char** argv, const server_options& options, Handler handler,
               rondo::accept_mode mode = rondo::accept_mode::balanced) {
    const auto complain = [&](std::string_view what, int status) {
        std::string line{what};
        std::replace(line.begin(), line.end(), '\n', ' ');  // an argument may contain some
        std::cerr << cli.get_name() << ": " << line << std::endl;
        return status;
    };
    try {
        cli.parse(argc, argv);
        rondo::run(serve_until_signal(options, std::move(handler), mode),
                   {.reactors = options.reactors,
                    .reactor = options.reactor,
                    .spin = std::chrono::microseconds(options.spin)});
        return 0;
    } catch (const CLI::Success& help) {
        return cli.exit(help);
    } catch (const CLI::ParseError& error) {
        return complain(error.what(), 2);
    } catch (const std::exception& error) {
        return complain(error.what(), 1);
    }
}
