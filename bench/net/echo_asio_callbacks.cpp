// Echo server on standalone Asio with callbacks, the way that costs it least: one object a
// connection which keeps itself alive, one thread, the default reactor (epoll).
//
//     echo_asio_callbacks --port 5566      ends at SIGTERM

#include "raw_server.hpp"

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/signal_set.hpp>
#include <asio/write.hpp>

#include <csignal>
#include <exception>
#include <memory>
#include <utility>

namespace {

using asio::ip::tcp;

class connection : public std::enable_shared_from_this<connection> {
public:
    connection(tcp::socket peer, const bench::server_options& options)
        : peer_(std::move(peer)),
          options_(options),
          buffer_(std::make_unique_for_overwrite<char[]>(options.buffer)) {}

    void read() {
        peer_.async_read_some(
            asio::buffer(buffer_.get(), options_.buffer),
            [self = shared_from_this()](const asio::error_code& error, std::size_t length) {
                if (error) {
                    return;  // the peer has left; its socket closes with this object
                }
                if (self->options_.discard) {
                    self->read();
                } else {
                    self->write(length);
                }
            });
    }

private:
    void write(std::size_t length) {
        asio::async_write(peer_, asio::buffer(buffer_.get(), length),
                          [self = shared_from_this()](const asio::error_code& error, std::size_t) {
                              if (!error) {
                                  self->read();
                              }
                          });
    }

    tcp::socket peer_;
    const bench::server_options& options_;
    std::unique_ptr<char[]> buffer_;
};

void accept_next(tcp::acceptor& listener, const bench::server_options& options) {
    listener.async_accept([&](const asio::error_code& error, tcp::socket peer) {
        if (error) {
            bench::fail("accept", error.value());
        }
        asio::error_code ignored;
        peer.set_option(tcp::no_delay(true), ignored);
        std::make_shared<connection>(std::move(peer), options)->read();
        accept_next(listener, options);
    });
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = bench::parse_server_options(argc, argv, "Echo server on Asio callbacks");
    try {
        asio::io_context context{1};
        const auto found =
            tcp::resolver{context}.resolve(options.host, std::to_string(options.port));
        tcp::acceptor listener{context, found.begin()->endpoint()};
        asio::signal_set signals{context, SIGTERM, SIGINT};
        signals.async_wait([&](const asio::error_code&, int) { context.stop(); });
        accept_next(listener, options);
        bench::announce(listener.native_handle(), "asio");
        context.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo_asio_callbacks: %s\n", error.what());
        return 1;
    }
}
