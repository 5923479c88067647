// A server on rondo that works with parts of Asio: it speaks TLS (asio::ssl::stream over rondo's
// connection), looks names up (Asio's resolver), and lets go of idle clients (Asio's timer). Every
// step has a limit. Each line that it gets is a host name; the answer is a line with the addresses.
//
//     openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
//     asio_interop --certificate cert.pem --key key.pem
//
// and elsewhere: openssl s_client -quiet -connect localhost:5566

#include "server_options.hpp"

#include <rondo/asio.hpp>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/ssl.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

namespace {

using rondo::use_task;
using tls_stream = asio::ssl::stream<rondo::asio_stream>;

/// What all connections share. A runtime needs one io_context, whatever the number of reactors.
struct shared_parts {
    rondo::asio_context background;
    asio::ssl::context tls{asio::ssl::context::tls_server};
    unsigned idle_seconds = 60;
    unsigned step_seconds = 10;

    /// What a client may take for a handshake or to read an answer. No step of a connection is
    /// without a limit: a client that does nothing would otherwise be kept for ever.
    std::chrono::seconds step_limit() const { return std::chrono::seconds(step_seconds); }
};

rondo::task<std::string> addresses_of(std::string host, shared_parts& shared) {
    asio::ip::tcp::resolver resolver{shared.background.get_executor()};
    const auto found = co_await rondo::as_result(resolver.async_resolve(host, "", use_task));
    if (!found) co_return "error: " + found.error().message() + "\n";
    std::string text;
    for (const auto& each : *found) {
        if (!text.empty()) text += ' ';
        text += each.endpoint().address().to_string();
    }
    co_return text + "\n";
}

rondo::task<> talk(tls_stream& client, shared_parts& shared) {
    co_await rondo::with_timeout(shared.step_limit(),
                                 client.async_handshake(asio::ssl::stream_base::server, use_task));
    asio::steady_timer idle{shared.background.get_executor()};
    std::string input;
    for (;;) {
        idle.expires_after(std::chrono::seconds(shared.idle_seconds));
        const auto first = co_await rondo::when_any(
            asio::async_read_until(client, asio::dynamic_buffer(input, 1024), '\n', use_task),
            idle.async_wait(use_task));
        if (first.index() == 1) co_return;  // the timer: the read was cancelled
        const std::size_t size = std::get<0>(first);
        const std::string host = input.substr(0, size - 1);
        input.erase(0, size);
        const std::string answer =
            co_await rondo::with_timeout(shared.step_limit(), addresses_of(host, shared));
        co_await rondo::with_timeout(shared.step_limit(),
                                     asio::async_write(client, asio::buffer(answer), use_task));
    }
}

rondo::task<> serve_client(rondo::tcp_stream connection, shared_parts& shared) {
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        tls_stream client{rondo::asio_stream{std::move(connection), group}, shared.tls};
        try {
            co_await talk(client, shared);
        } catch (const std::system_error&) {
            // It has left, does not speak TLS, or takes longer than is allowed.
        }
    });
}

}  // namespace

int main(int argc, char** argv) {
    command_line line{"asio_interop", "Answers host names with addresses, over TLS."};
    server_options options;
    options.add_to(line);
    shared_parts shared;
    line.add_action(
        "--certificate",
        [&](const std::string& file) { shared.tls.use_certificate_chain_file(file); },
        "PEM file of the server's certificate chain");
    line.require("--certificate");
    line.add_action(
        "--key",
        [&](const std::string& file) {
            shared.tls.use_private_key_file(file, asio::ssl::context::pem);
        },
        "PEM file of its private key");
    line.require("--key");
    line.add_number("--idle", shared.idle_seconds, 0, 1'000'000,
                    "seconds after which a silent client is let go");
    line.add_number("--step", shared.step_seconds, 1, 1'000'000,
                    "seconds that a handshake, a look-up or the sending of an answer may take");
    return run_server(line, argc, argv, options, [&shared](rondo::tcp_stream connection) {
        return serve_client(std::move(connection), shared);
    });
}
