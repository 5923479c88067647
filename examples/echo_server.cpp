// Sends back what it receives, as fast as it can: errors are values here, so that a client that
// resets its connection costs no exception, and a connection that waits has no buffer.
//
//     echo_server --port 5566      then, elsewhere:      nc localhost 5566

#include "server_options.hpp"

namespace {

rondo::task<> echo(rondo::tcp_stream client) {
    for (;;) {
        const auto bytes = co_await rondo::as_result(client.receive());
        if (!bytes || bytes->empty()) co_return;  // gone, finished, or the server is being stopped
        const auto sent = co_await rondo::as_result(client.write_all(*bytes));
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
