// The smallest complete server, as the README shows it: what comes in goes out again.
//
//     echo_minimal      then, elsewhere:      nc localhost 5566

#include <rondo/rondo.hpp>

#include <array>
#include <csignal>

rondo::task<> echo(rondo::tcp_stream client) {
    std::array<std::byte, 4096> buffer;
    while (const std::size_t size = co_await client.read_some(buffer)) {
        co_await client.write_all(std::span(buffer).first(size));
    }
}

rondo::task<> serve_until_signal() {
    const rondo::endpoint here{rondo::ip_address::loopback_v4(), 5566};
    co_await rondo::when_any(rondo::serve(rondo::tcp_listener::bind(here), echo),
                             rondo::wait_signal({SIGINT, SIGTERM}));
}

int main() { rondo::run(serve_until_signal); }
