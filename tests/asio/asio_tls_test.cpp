// TLS over a connection of rondo: asio::ssl::stream on an asio_stream, spoken to by openssl(1).

#include <rondo/asio/stream.hpp>
#include <rondo/asio/use_task.hpp>
#include <rondo/net/serve.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/offload.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>
#include <asio/buffer.hpp>
#include <asio/read_until.hpp>
#include <asio/ssl.hpp>
#include <asio/write.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "support/asio_support.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

using namespace std::chrono_literals;

/// A folder with a key and a certificate signed by it, for 127.0.0.1, made by openssl.
class certificate {
public:
    certificate() {
        std::string name = (std::filesystem::temp_directory_path() / "rondo-tls-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        folder_ = name;
        const std::string make =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
            " -subj /CN=rondo -addext subjectAltName=IP:127.0.0.1 -keyout " +
            key() + " -out " + chain() + " 2>/dev/null";
        REQUIRE(std::system(make.c_str()) == 0);
    }
    certificate(const certificate&) = delete;
    certificate& operator=(const certificate&) = delete;
    ~certificate() { std::filesystem::remove_all(folder_); }

    std::string key() const { return folder_ / "key.pem"; }
    std::string chain() const { return folder_ / "chain.pem"; }
    std::filesystem::path folder() const { return folder_; }

    asio::ssl::context server() const {
        asio::ssl::context context{asio::ssl::context::tls_server};
        context.use_certificate_chain_file(chain());
        context.use_private_key_file(key(), asio::ssl::context::pem);
        return context;
    }
    asio::ssl::context client() const {
        asio::ssl::context context{asio::ssl::context::tls_client};
        context.load_verify_file(chain());
        context.set_verify_mode(asio::ssl::verify_peer);
        return context;
    }

private:
    std::filesystem::path folder_;
};

using tls_stream = asio::ssl::stream<asio_stream>;

/// Sends every line back, until one says bye.
task<> echo_lines(tcp_stream client, asio::ssl::context& context) {
    co_await with_task_group([&](task_group& group) -> task<> {
        tls_stream tls{asio_stream{std::move(client), group}, context};
        co_await tls.async_handshake(asio::ssl::stream_base::server, use_task);
        std::string text;
        for (bool more = true; more;) {
            const std::size_t size =
                co_await asio::async_read_until(tls, asio::dynamic_buffer(text), '\n', use_task);
            co_await asio::async_write(tls, asio::buffer(text.data(), size), use_task);
            more = text.substr(0, size) != "bye\n";
            text.erase(0, size);
        }
        const auto ended = co_await as_result(tls.async_shutdown(use_task));
        static_cast<void>(ended);  // a peer that just hangs up is fine
    });
}

/// What `openssl s_client` receives for what it sends, and with which exit status it ends.
struct conversation {
    int status = -1;
    std::string received;
};

conversation speak_to(const endpoint& server, const certificate& trusted, const std::string& text) {
    const std::string in = trusted.folder() / "in";
    const std::string out = trusted.folder() / "out";
    std::ofstream{in} << text;
    const std::string command = "timeout 60 openssl s_client -quiet -verify_return_error -CAfile " +
                                trusted.chain() + " -connect " + server.to_string() + " <" + in +
                                " >" + out + " 2>/dev/null";
    conversation how;
    how.status = std::system(command.c_str());
    std::ostringstream received;
    received << std::ifstream{out}.rdbuf();
    how.received = received.str();
    return how;
}

}  // namespace

TEST_CASE("openssl s_client speaks TLS to an echo server of rondo") {
    const certificate trusted;
    asio::ssl::context context = trusted.server();
    std::string much;
    for (int i = 0; i < 20'000; ++i) much += "line " + std::to_string(i) + "\n";
    much += "bye\n";
    on_each_reactor_kind([&](auto run) {
        run([&]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            for (const std::string& text : {std::string{"hello\nbye\n"}, much}) {
                const endpoint address = listener.local_endpoint();
                task_group group;
                auto client =
                    group.spawn(offload([&] { return speak_to(address, trusted, text); }));
                auto connection = co_await listener.accept();
                co_await echo_lines(std::move(connection), context);
                const conversation how = co_await client;
                CHECK(how.status == 0);
                CHECK(how.received == text);
                co_await group.join();
            }
        });
    });
}

TEST_CASE("clients that openssl runs are served at the same time, on several reactors") {
    const certificate trusted;
    asio::ssl::context context = trusted.server();
    on_each_reactor_kind([&](auto run) {
        rondo::run(
            [&]() -> task<> {
                auto listener = tcp_listener::bind(any_port());
                const endpoint address = listener.local_endpoint();
                task_group server;
                server.spawn(serve(std::move(listener), [&](tcp_stream client) -> task<> {
                    co_await echo_lines(std::move(client), context);
                }));
                // One folder each, for what they send and receive.
                const std::string text = "one\ntwo\nbye\n";
                const std::string both = co_await offload([&] {
                    std::string command;
                    for (int i = 0; i < 4; ++i) {
                        command +=
                            "(printf 'one\\ntwo\\nbye\\n' | timeout 60 openssl s_client "
                            "-quiet -connect " +
                            address.to_string() + " 2>/dev/null >" +
                            (trusted.folder() / std::to_string(i)).string() + ") & ";
                    }
                    command += "wait";
                    std::string received;
                    if (std::system(command.c_str()) == 0) {
                        for (int i = 0; i < 4; ++i) {
                            std::ostringstream one;
                            one << std::ifstream{trusted.folder() / std::to_string(i)}.rdbuf();
                            received += one.str();
                        }
                    }
                    return received;
                });
                CHECK(both == text + text + text + text);
                server.cancel();
                co_await server.join();
            },
            {.reactors = 2, .reactor = run.kind()});
    });
}

TEST_CASE("both ends of a TLS connection run on rondo") {
    const certificate trusted;
    asio::ssl::context server_context = trusted.server();
    asio::ssl::context client_context = trusted.client();
    on_each_reactor_kind([&](auto run) {
        run([&]() -> task<> {
            auto both = co_await connected_pair();
            co_await with_task_group([&](task_group& group) -> task<> {
                group.spawn(echo_lines(std::move(both.server), server_context));
                tls_stream tls{asio_stream{std::move(both.client), group}, client_context};
                co_await tls.async_handshake(asio::ssl::stream_base::client, use_task);
                const std::string sent = pattern(1000) + "\nbye\n";
                co_await asio::async_write(tls, asio::buffer(sent), use_task);
                std::string received;
                co_await asio::async_read_until(tls, asio::dynamic_buffer(received), "\nbye\n",
                                                use_task);
                CHECK(received == sent);
                co_await tls.async_shutdown(use_task);
            });
        });
    });
}

TEST_CASE("a handshake and a read of TLS are cancelled") {
    const certificate trusted;
    asio::ssl::context server_context = trusted.server();
    asio::ssl::context client_context = trusted.client();
    on_each_reactor_kind([&](auto run) {
        run([&]() -> task<> {
            {
                auto [silent, connection] = co_await accept_peer();
                co_await with_task_group([&](task_group& group) -> task<> {
                    tls_stream tls{asio_stream{std::move(connection), group}, server_context};
                    const auto shaken = co_await as_result(with_timeout(
                        1ms, tls.async_handshake(asio::ssl::stream_base::server, use_task)));
                    CHECK(shaken.error() == std::errc::timed_out);
                });
            }
            auto both = co_await connected_pair();
            co_await with_task_group([&](task_group& group) -> task<> {
                auto echo = group.spawn(echo_lines(std::move(both.server), server_context));
                tls_stream tls{asio_stream{std::move(both.client), group}, client_context};
                co_await tls.async_handshake(asio::ssl::stream_base::client, use_task);
                char space[8];
                const auto read = co_await as_result(
                    with_timeout(1ms, tls.async_read_some(asio::buffer(space), use_task)));
                CHECK(read.error() == std::errc::timed_out);
                echo.cancel();
            });
        });
    });
}

TEST_CASE("a client that does not trust the certificate is an error of the handshake") {
    const certificate trusted;
    const certificate other;
    asio::ssl::context server_context = trusted.server();
    asio::ssl::context client_context = other.client();
    on_each_reactor_kind([&](auto run) {
        run([&]() -> task<> {
            auto both = co_await connected_pair();
            co_await with_task_group([&](task_group& group) -> task<> {
                auto echo =
                    group.spawn(ending_of(echo_lines(std::move(both.server), server_context)));
                {
                    tls_stream tls{asio_stream{std::move(both.client), group}, client_context};
                    const auto shaken = co_await as_result(
                        tls.async_handshake(asio::ssl::stream_base::client, use_task));
                    CHECK(shaken.error().category() == asio::error::get_ssl_category());
                }
                CHECK(co_await echo != "value");
            });
        });
    });
}

}  // namespace rondo::test
