// Sends back what it receives, as fast as it can: errors are values here, so that a client that
// resets its connection costs no exception, and a connection that waits has no buffer.
//
//     echo_server --port 5566      then, elsewhere:      nc localhost 5566
//
// With --buffer a connection has one of its own, as in servers on other foundations. With --discard
// it sends nothing back: a sink for one-way streams (RFC 863 beside RFC 862).

#include "server_options.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace {

struct echo_options {
    std::size_t buffer = 0;
    bool discard = false;
};

rondo::task<> echo(rondo::tcp_stream client, bool discard) {
    for (;;) {
        const auto bytes = co_await rondo::as_result(client.receive());
        if (!bytes || bytes->empty()) co_return;  // gone, finished, or the server is being stopped
        if (discard) continue;
        const auto sent = co_await rondo::as_result(client.write_all(*bytes));
        if (!sent) co_return;
    }
}

rondo::task<> echo_through_own_buffer(rondo::tcp_stream client, echo_options options) {
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(options.buffer);
    const std::span buffer{memory.get(), options.buffer};
    for (;;) {
        const auto size = co_await rondo::as_result(client.read_some(buffer));
        if (!size || *size == 0) co_return;
        if (options.discard) continue;
        const auto sent = co_await rondo::as_result(client.write_all(buffer.first(*size)));
        if (!sent) co_return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    command_line line{"echo_server", "Sends back what it receives."};
    server_options options;
    options.add_to(line);
    echo_options how;
    line.add_number("--buffer", how.buffer, 0, 1 << 26,
                    "bytes in a buffer of each connection's own; 0: none, the reactor's are lent");
    line.add_flag("--discard", how.discard, "send nothing back");
    // run_server copies this before it parses, so it has to look at `how` when a client comes.
    return run_server(line, argc, argv, options, [&how](rondo::tcp_stream client) {
        return how.buffer == 0 ? echo(std::move(client), how.discard)
                               : echo_through_own_buffer(std::move(client), how);
    });
}
