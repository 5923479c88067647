// Echo server on standalone Asio, written as its users write it: one coroutine a connection, one
// thread, the default reactor (epoll).
//
//     echo_asio --port 5566        ends at SIGTERM

#include "raw_server.hpp"

// Asio 1.22, which Debian 12 has, does not know that clang has had standard coroutines since 17.
#if defined(__clang__) && !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1
#endif

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/signal_set.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <csignal>
#include <exception>
#include <utility>
#include <vector>

namespace {

using asio::ip::tcp;

asio::awaitable<void> echo(tcp::socket peer, const bench::server_options& options) {
    try {
        std::vector<char> buffer(options.buffer);
        for (;;) {
            const std::size_t length =
                co_await peer.async_read_some(asio::buffer(buffer), asio::use_awaitable);
            if (!options.discard) {
                co_await asio::async_write(peer, asio::buffer(buffer.data(), length),
                                           asio::use_awaitable);
            }
        }
    } catch (const asio::system_error&) {
        // The peer has left; its socket closes with this frame.
    }
}

asio::awaitable<void> accept_all(tcp::acceptor& listener, const bench::server_options& options) {
    for (;;) {
        tcp::socket peer = co_await listener.async_accept(asio::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        asio::co_spawn(listener.get_executor(), echo(std::move(peer), options), asio::detached);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = bench::parse_server_options(argc, argv, "Echo server on Asio coroutines");
    try {
        asio::io_context context{1};
        const auto found =
            tcp::resolver{context}.resolve(options.host, std::to_string(options.port));
        tcp::acceptor listener{context, found.begin()->endpoint()};
        asio::signal_set signals{context, SIGTERM, SIGINT};
        signals.async_wait([&](const asio::error_code&, int) { context.stop(); });
        asio::co_spawn(context, accept_all(listener, options), [](const std::exception_ptr& error) {
            if (error) {
                std::rethrow_exception(error);
            }
        });
        bench::announce(listener.native_handle(), "asio");
        context.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo_asio: %s\n", error.what());
        return 1;
    }
}
