#include <rondo/net/tcp.hpp>

#include <rondo/net/detail/quoted.hpp>
#include <rondo/net/resolve.hpp>
#include <rondo/runtime/reactor/detail/open_descriptor.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>
#include <rondo/runtime/runtime.hpp>

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <vector>

namespace rondo {

namespace detail {

namespace {

endpoint local_endpoint_of(int fd) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (kernel().getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
        throw std::system_error(errno, std::system_category(), "getsockname");
    }
    return endpoint::from_sockaddr(storage);
}

task<result<tcp_stream>> connect_to_any(std::string host, std::uint16_t port) {
    auto addresses = co_await as_result(resolve(std::move(host), port));
    if (!addresses) co_return addresses.error();
    std::error_code last = std::make_error_code(std::errc::host_unreachable);
    for (const endpoint& peer : *addresses) {
        auto stream = co_await as_result(tcp_stream::connect(peer));
        if (stream) co_return std::move(*stream);
        last = stream.error();
        if (last == std::errc::operation_canceled) break;
    }
    co_return last;
}

}  // namespace
}  // namespace detail

detail::result_task<tcp_stream> tcp_stream::connect(std::string host, std::uint16_t port) {
    const bool is_text = host.find('\0') == host.npos;
    std::string what =
        "connect to " + (is_text ? host : detail::quoted(host)) + ":" + std::to_string(port);
    return {detail::connect_to_any(std::move(host), port), std::move(what)};
}

void tcp_stream::shutdown_write() {
    detail::descriptor_record* const open = socket_.record();
    if (open != nullptr && open->write_ended) return;
    const int fd = socket_.get();
    if (fd >= 0 && detail::current_core != nullptr) detail::current_core->io->hand_over(fd);
    if (detail::kernel().shutdown(fd, SHUT_WR) != 0) {
        detail::fail_on(remote_endpoint().to_string(), "shut down the connection to",
                        {errno, std::system_category()});
    }
    if (open != nullptr) open->write_ended = true;
}

endpoint tcp_stream::local_endpoint() const { return detail::local_endpoint_of(socket_.get()); }

tcp_listener tcp_listener::bind(const endpoint& local, const listen_options& options) {
    const auto check = [&](bool ok) {
        if (!ok) {
            throw std::system_error(errno, std::system_category(),
                                    "listen on " + local.to_string());
        }
    };
    sockaddr_storage address{};
    const socklen_t size = local.to_sockaddr(address);
    detail::socket_handle socket{detail::open_descriptor([&] {
        return detail::kernel().socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    })};
    const int fd = socket.get();
    check(fd >= 0);
    const auto set = [&](int level, int name, int value) {
        check(detail::set_socket_option(fd, level, name, value));
    };
    if (options.reuse_address) set(SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port) set(SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.v6_only && local.address().is_v6()) set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Accepted sockets inherit these, which saves a call for each.
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    if (options.keep_alive) check(detail::set_keep_alive(fd, *options.keep_alive));
    if (options.receive_buffer != 0)
        set(SOL_SOCKET, SO_RCVBUF, detail::buffer_size(options.receive_buffer));
    if (options.send_buffer != 0)
        set(SOL_SOCKET, SO_SNDBUF, detail::buffer_size(options.send_buffer));
    check(detail::kernel().bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    check(detail::kernel().listen(fd, options.backlog) == 0);
    return tcp_listener{detail::socket_handle{std::move(socket), detail::local_endpoint_of(fd)},
                        options};
}

void tcp_listener::close() noexcept {
    const int fd = socket_.release();
    if (fd < 0) return;
    if (detail::current_core != nullptr) detail::current_core->io->release(fd);
    detail::kernel().close(fd);
}

}  // namespace rondo
