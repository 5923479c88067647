#include <rondo/net/serve.hpp>

#include <rondo/runtime/sleep.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>

namespace rondo::detail {

namespace {

void print(const std::exception_ptr& error, const endpoint& peer) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& known) {
        std::fprintf(stderr, "rondo: connection of %s: %s\n", peer.to_string().c_str(),
                     known.what());
    } catch (...) {
        std::fprintf(stderr, "rondo: connection of %s: unknown exception\n",
                     peer.to_string().c_str());
    }
}

}  // namespace

void report(const serve_options& options, const std::exception_ptr& error,
            const endpoint& peer) noexcept {
    if (!options.on_error) return print(error, peer);
    try {
        options.on_error(error, peer);
    } catch (...) {
        print(error, peer);
        print(std::current_exception(), peer);
    }
}

bool is_shortage(const std::error_code& error) noexcept {
    return error == std::errc::too_many_files_open ||
           error == std::errc::too_many_files_open_in_system ||
           error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

void connection_count::room_awaiter::cancel() noexcept {
    was_cancelled_ = true;
    count_.acceptor_ = nullptr;
    current_core->wake(*task);
}

void connection_count::room_awaiter::describe(std::FILE* out) const {
    std::fprintf(out, "one of %zu connections to close", count_.open_);
}

std::vector<tcp_listener> listener_group::siblings(tcp_listener& first, std::size_t count) {
    // The first one was bound alone, so an address that was in use has been refused. Its socket is
    // opened to others only now.
    const int on = 1;
    if (::setsockopt(first.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
        throw std::system_error(errno, std::system_category(),
                                "share " + first.local_endpoint().to_string());
    }
    listen_options options = first.options_;
    options.reuse_port = true;
    std::vector<tcp_listener> all;
    while (all.size() < count) all.push_back(tcp_listener::bind(first.local_endpoint(), options));
    return all;
}

std::size_t share_of(std::size_t limit, std::size_t reactors) noexcept {
    return (limit + reactors - 1) / reactors;
}

task<tcp_stream> accept_next(tcp_listener& listener, serve_state& state) {
    using namespace std::chrono_literals;
    for (;;) {
        co_await state.connections.room();
        auto accepted = co_await as_result(listener.accept());
        if (accepted) co_return std::move(*accepted);
        if (accepted.error() == std::errc::operation_canceled) throw operation_cancelled{};
        if (!is_shortage(accepted.error())) {
            throw std::system_error(accepted.error(),
                                    "accept on " + listener.local_endpoint().to_string());
        }
        // The connection stays in the backlog; asking again at once would only burn the processor.
        co_await sleep_for(50ms);
    }
}

}  // namespace rondo::detail
