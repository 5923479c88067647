// Sends back what it receives, as fast as it can: errors are values here, so that a client that
// resets its connection costs no exception, and one buffer serves both directions.
//
//     echo_server --port 5566      then, elsewhere:      nc localhost 5566

#include "server_options.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace {

rondo::task<> echo(rondo::tcp_stream client) {
    std::array<std::byte, 16 * 1024> buffer;
    for (;;) {
        const auto size = co_await rondo::as_result(client.read_some(buffer));
        if (!size || *size == 0) co_return;  // finished, gone, or the server is being stopped
        const auto sent =
            co_await rondo::as_result(client.write_all(std::span(buffer).first(*size)));
        if (!sent) co_return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App cli{"Sends back what it receives.", "echo_server"};
    server_options options;
    options.add_to(cli);
    return run_server(cli, argc, argv, options, echo);
}
