// Echo server on libuv, tuned: one buffer a connection that serves both directions, and a write is
// tried at once; only what the socket does not take becomes a queued request.
//
//     echo_libuv --port 5566       ends at SIGTERM

#include "raw_server.hpp"

#include <uv.h>

#include <memory>

namespace {

void check(const char* what, int result) {
    if (result < 0) {
        std::fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
        std::exit(1);
    }
}

struct connection {
    uv_tcp_t socket{};
    uv_write_t rest{};
    const bench::server_options* options = nullptr;
    std::unique_ptr<char[]> buffer;

    uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&socket); }
};

void drop(connection& peer) {
    uv_close(reinterpret_cast<uv_handle_t*>(&peer.socket),
             [](uv_handle_t* handle) { delete static_cast<connection*>(handle->data); });
}

void give_buffer(uv_handle_t* handle, std::size_t, uv_buf_t* into) {
    const auto& peer = *static_cast<connection*>(handle->data);
    *into = uv_buf_init(peer.buffer.get(), static_cast<unsigned>(peer.options->buffer));
}

void received(uv_stream_t* stream, ssize_t length, const uv_buf_t*);

void rest_written(uv_write_t* request, int status) {
    auto& peer = *static_cast<connection*>(request->handle->data);
    if (status < 0 || uv_read_start(peer.stream(), give_buffer, received) < 0) {
        drop(peer);
    }
}

void received(uv_stream_t* stream, ssize_t length, const uv_buf_t*) {
    auto& peer = *static_cast<connection*>(stream->data);
    if (length < 0) {
        return drop(peer);
    }
    if (length == 0 || peer.options->discard) {
        return;
    }
    uv_buf_t data = uv_buf_init(peer.buffer.get(), static_cast<unsigned>(length));
    const int sent = uv_try_write(stream, &data, 1);
    if (sent == length) {
        return;
    }
    if (sent < 0 && sent != UV_EAGAIN) {
        return drop(peer);
    }
    // The buffer is the connection's only one: nothing is read until the rest has left it.
    const auto taken = static_cast<unsigned>(sent > 0 ? sent : 0);
    data = uv_buf_init(peer.buffer.get() + taken, static_cast<unsigned>(length) - taken);
    uv_read_stop(stream);
    if (uv_write(&peer.rest, stream, &data, 1, rest_written) < 0) {
        drop(peer);
    }
}

void accept_one(uv_stream_t* listener, int status) {
    check("accept", status);
    const auto* options = static_cast<const bench::server_options*>(listener->data);
    auto* peer = new connection;
    peer->options = options;
    peer->buffer = std::make_unique_for_overwrite<char[]>(options->buffer);
    peer->socket.data = peer;
    check("uv_tcp_init", uv_tcp_init(listener->loop, &peer->socket));
    check("uv_accept", uv_accept(listener, peer->stream()));
    uv_tcp_nodelay(&peer->socket, 1);
    check("uv_read_start", uv_read_start(peer->stream(), give_buffer, received));
}

}  // namespace

int main(int argc, char** argv) {
    auto options = bench::parse_server_options(argc, argv, "Echo server on libuv");
    uv_loop_t* const loop = uv_default_loop();
    uv_tcp_t listener{};
    listener.data = &options;
    const int fd = bench::listen_on(options, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check("uv_tcp_init", uv_tcp_init(loop, &listener));
    check("uv_tcp_open", uv_tcp_open(&listener, fd));
    check("uv_listen", uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, accept_one));
    bench::announce(fd, "libuv");
    return uv_run(loop, UV_RUN_DEFAULT);
}
