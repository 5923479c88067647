// The fib server on standalone Asio, written as its users write it: one coroutine a connection on
// one thread, and a thread_pool of Asio's for what takes long. Each received chunk is a request.
//
//     fib_asio --port 5566        ends at SIGTERM

#include "../../examples/fib.hpp"
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
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <csignal>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace {

using asio::ip::tcp;

constexpr unsigned max_n = 60;

// What fib_server has by default.
constexpr unsigned offload_above = 22;

asio::awaitable<unsigned long long> compute(unsigned n) { co_return fib(n); }

asio::awaitable<void> answer_chunks(tcp::socket peer, asio::thread_pool& pool) {
    try {
        std::array<char, 1024> chunk;
        std::string answer;
        for (;;) {
            const std::size_t size =
                co_await peer.async_read_some(asio::buffer(chunk), asio::use_awaitable);
            const auto request = parse_request(std::string_view{chunk.data(), size}, max_n);
            if (const auto* error = std::get_if<std::string>(&request)) {
                answer = *error;
            } else if (const auto n = std::get<unsigned>(request); n <= offload_above) {
                answer = std::to_string(fib(n));
            } else {
                const auto value = co_await asio::co_spawn(pool, compute(n), asio::use_awaitable);
                answer = std::to_string(value);
            }
            answer += '\n';
            co_await asio::async_write(peer, asio::buffer(answer), asio::use_awaitable);
        }
    } catch (const asio::system_error&) {
        // The peer has left; its socket closes with this frame.
    }
}

asio::awaitable<void> accept_all(tcp::acceptor& listener, asio::thread_pool& pool) {
    for (;;) {
        tcp::socket peer = co_await listener.async_accept(asio::use_awaitable);
        peer.set_option(tcp::no_delay(true));
        asio::co_spawn(listener.get_executor(), answer_chunks(std::move(peer), pool),
                       asio::detached);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = bench::parse_server_options(argc, argv, "Fib server on Asio coroutines");
    try {
        asio::thread_pool pool;
        asio::io_context context{1};
        const auto found =
            tcp::resolver{context}.resolve(options.host, std::to_string(options.port));
        tcp::acceptor listener{context, found.begin()->endpoint()};
        asio::signal_set signals{context, SIGTERM, SIGINT};
        signals.async_wait([&](const asio::error_code&, int) { context.stop(); });
        asio::co_spawn(context, accept_all(listener, pool), [](const std::exception_ptr& error) {
            if (error) {
                std::rethrow_exception(error);
            }
        });
        bench::announce(listener.native_handle(), "asio");
        context.run();
        pool.stop();
        pool.join();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fib_asio: %s\n", error.what());
        return 1;
    }
}
