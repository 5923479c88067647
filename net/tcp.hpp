#pragma once
// TCP connections and the sockets that wait for them.
//
//     auto listener = rondo::tcp_listener::bind({rondo::ip_address::any_v4(), 5566});
//     rondo::tcp_stream peer = co_await listener.accept();
//     std::size_t n = co_await peer.read_some(buffer);     // 0: the peer has finished
//     co_await peer.write_all(std::span(buffer).first(n));

#include <rondo/io/buffer.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/net/detail/socket_operations.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/net/tcp_options.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/reactor/detail/owned_descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace rondo {

namespace detail {

class listener_group;

}  // namespace detail

/// One TCP connection. Moves, not copies; closes when destroyed.
/// An operation belongs to the connection that the stream had when it was made, not to the stream
/// object. It may be started much later, and awaited while the stream moves. Once the stream was
/// closed, destroyed or assigned another connection, the operation ends with
/// std::errc::bad_file_descriptor; it never touches what has come after.
/// One task may read while another writes; two may not read, nor write, at the same time: debug
/// builds end with a sentence that says so. Writing to a peer that is gone is an error (EPIPE,
/// ECONNRESET), never a signal. Once an operation was told that the connection has failed, all that
/// follow are: what had come before can still be read, then reads fail with the same error.
/// Nagle's algorithm is off to begin with.
/// Errors are std::system_error: `read from 127.0.0.1:5566: Connection reset by peer`.
/// Thread safety: one scheduler at a time. A stream may move to another one, with its task or in a
/// message, while nothing is awaited on it.
class tcp_stream : public tcp_options {
public:
    /// Completes with a connection to `peer`.
    /// Cancellation: gives up, and closes the socket.
    static detail::connect_operation connect(const endpoint& peer) noexcept {
        return detail::connect_operation{peer};
    }

    /// Resolves the host, then tries its addresses in turn; throws the last one's error when none
    /// answers.
    /// Cancellation: as above; a look-up in progress is waited for first.
    static detail::result_task<tcp_stream> connect(std::string host, std::uint16_t port);

    /// Takes over a connected socket. `remote` is its peer.
    tcp_stream(detail::socket_handle socket, const endpoint& remote) noexcept
        : socket_(std::move(socket), remote) {}

    /// Completes when at least one byte has come, with the number read into `space`; 0 means that
    /// the peer has finished. `space` must live until then, and not be empty.
    /// Cancellation: either nothing was read, or the bytes are reported: none is lost. (when_any
    /// drops what a loser brings; a time limit is with_timeout.)
    detail::recv_operation read_some(std::span<std::byte> space) noexcept {
        return {socket_, space};
    }

    /// Completes when at least one byte has come, with a buffer of the reactor's that holds up to
    /// 16 KiB of what has; an empty one means that the peer has finished. While it waits the
    /// connection has no buffer, so this is the way to read for servers with many connections that
    /// are mostly idle.
    /// Cancellation: either nothing was read, or the bytes are reported: none is lost. (when_any
    /// drops what a loser brings; a time limit is with_timeout.)
    detail::receive_operation receive() noexcept { return detail::receive_operation{socket_}; }

    /// Completes when `space` is full. An earlier end is stream_errc::unexpected_end.
    /// Cancellation: some bytes may have been read; the stream cannot be read on sensibly.
    detail::recv_exactly_operation read_exactly(std::span<std::byte> space) noexcept {
        return {socket_, space};
    }

    /// Completes when the kernel has taken at least one byte, with how many it took.
    /// Cancellation: either nothing was taken, or the number is reported.
    detail::send_some_operation write_some(std::span<const std::byte> bytes) noexcept {
        return {socket_, bytes};
    }

    /// Completes when the kernel has taken all of it. The bytes must live until then.
    /// Cancellation: some of it may have been sent; the stream cannot be written on sensibly.
    detail::send_all_operation write_all(std::span<const std::byte> bytes) noexcept {
        return {socket_, bytes};
    }
    detail::send_all_operation write_all(std::string_view text) noexcept {
        return write_all(std::as_bytes(std::span(text)));
    }

    /// The same for several buffers, sent one after the other with as few calls as can be.
    template <class... Buffers>
        requires(sizeof...(Buffers) >= 2 &&
                 sizeof...(Buffers) <= detail::send_gather_operation::window)
    detail::send_gather_operation write_all(const Buffers&... buffers) noexcept {
        detail::send_gather_operation operation{socket_, {}};
        (operation.add(bytes_of(buffers)), ...);
        return operation;
    }

    /// The list of buffers must live until completion, too.
    detail::send_gather_operation write_all(
        std::span<const std::span<const std::byte>> buffers) noexcept {
        return {socket_, buffers};
    }

    /// Completes when the peer will send nothing more, or the connection is broken, while bytes
    /// that came before may still wait to be read. For work that is of no use to a client who has
    /// left:
    ///     auto outcome = co_await when_any(compute(), peer.wait_hangup());
    /// It may be awaited while another task reads or writes.
    /// Cancellation: ends at once.
    detail::hangup_operation wait_hangup() noexcept { return detail::hangup_operation{socket_}; }

    /// Tells the peer that nothing more will come: it reads an end, after what the writes begun so
    /// far could hand to the kernel. Those that still wait for room end with
    /// std::errc::broken_pipe, as later ones do. Reading goes on. Immediate; once it has succeeded,
    /// again is no error. Throws std::system_error when the connection is gone.
    void shutdown_write();

    /// Closes the connection. Operations still awaited on it end with
    /// std::errc::bad_file_descriptor. Later ones do so at once.
    void close() noexcept { socket_.close(); }

    /// Lets write_all of one buffer of 32 KiB or more hand its memory to the network card instead
    /// of copying it, where the reactor is io_uring on Linux 6.3 or later and the card can do it; a
    /// stream for which it turns out to copy all the same, or for which no more memory may be
    /// locked (RLIMIT_MEMLOCK counts what is on its way), goes back to plain sends. Such a write
    /// completes when the peer has acknowledged the bytes, not when they are on their way: for bulk
    /// data in large pieces, not for short answers. (Or when the connection has failed after the
    /// kernel took them, which the next operation tells: success is no receipt.) For the same
    /// reason cancelling one, or closing the stream meanwhile, breaks the connection off with a
    /// reset: nothing else makes the kernel give the memory back at once. Off to begin with.
    void set_zero_copy(bool on) noexcept {
        if (detail::descriptor_record* const open = socket_.record()) open->zero_copy = on;
    }

    /// Whether zero copy is on and has not turned out to be of no use. False of a closed stream.
    bool zero_copy() const noexcept {
        const detail::descriptor_record* const open = socket_.record();
        return open != nullptr && open->zero_copy;
    }

    endpoint local_endpoint() const;
    endpoint remote_endpoint() const noexcept { return socket_.name(); }

    /// The descriptor, which stays the stream's: for poll_fd, and for system calls that neither
    /// close it nor use up its data. What was duplicated from it, passed on or forked lives on when
    /// the stream is closed, and the connection with it: shutdown(2) ends that for all.
    int native_handle() const noexcept { return socket_.get(); }

private:
    static std::span<const std::byte> bytes_of(std::string_view text) noexcept {
        return std::as_bytes(std::span(text));
    }
    static std::span<const std::byte> bytes_of(std::span<const std::byte> bytes) noexcept {
        return bytes;
    }

    detail::socket_handle socket_;
};

struct listen_options {
    /// How many connections may wait to be accepted; the kernel's own limit (net.core.somaxconn)
    /// holds as well.
    int backlog = 4096;
    /// Takes an address whose last owner's connections still linger (SO_REUSEADDR).
    bool reuse_address = true;
    /// Lets several listeners share the address; the kernel spreads the connections among them
    /// (SO_REUSEPORT).
    bool reuse_port = false;
    /// An IPv6 address takes no IPv4 connections (IPV6_V6ONLY). Otherwise the system decides
    /// (net.ipv6.bindv6only), which takes them as a rule.
    bool v6_only = false;
    /// For every connection that is accepted: see tcp_options, which can still change it.
    std::optional<keep_alive_options> keep_alive = {};
    /// The same for its buffers, in bytes; 0: as the kernel sees fit.
    std::size_t receive_buffer = 0;
    std::size_t send_buffer = 0;
};

/// A socket that waits for connections. Moves, not copies; closes when destroyed. An accept belongs
/// to the socket that the listener had when it was made, as with tcp_stream.
/// Thread safety: one scheduler at a time.
class tcp_listener {
public:
    /// Listens on `local`; port 0 lets the kernel choose one. Throws std::system_error:
    /// `listen on 127.0.0.1:5566: Address already in use`.
    static tcp_listener bind(const endpoint& local, const listen_options& options = {});

    /// Completes with the next connection. Out of descriptors is an error (EMFILE, ENFILE) that
    /// leaves the listener as it was: try again later.
    /// Cancellation: a connection that arrives too late to be stopped is given all the same.
    detail::accept_operation accept() noexcept { return detail::accept_operation{socket_}; }

    /// The address in use, with the port that the kernel chose.
    endpoint local_endpoint() const noexcept { return socket_.name(); }

    /// Stops listening at once: the port is free when it returns. Accepts still awaited end with
    /// std::errc::bad_file_descriptor.
    void close() noexcept;

    tcp_listener(tcp_listener&&) noexcept = default;
    tcp_listener& operator=(tcp_listener&& other) noexcept {
        if (this != &other) {
            close();
            socket_ = std::move(other.socket_);
            options_ = other.options_;
        }
        return *this;
    }
    ~tcp_listener() { close(); }

    /// The descriptor, which stays the listener's.
    int native_handle() const noexcept { return socket_.get(); }

private:
    friend class detail::listener_group;
    tcp_listener(detail::socket_handle socket, const listen_options& options) noexcept
        : socket_(std::move(socket)), options_(options) {}

    detail::socket_handle socket_;
    listen_options options_;
};

}  // namespace rondo
