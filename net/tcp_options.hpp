#pragma once
// How the kernel treats a TCP connection: tcp(7), socket(7) and ip(7), by name.
//
//     peer.set_keep_alive({.idle = 60s, .interval = 10s, .probes = 3});
//     peer.set_user_timeout(30s);
//     peer.set_send_buffer(1024 * 1024);
//     std::size_t room = peer.send_buffer();
//
// What has no name here can be set through native_handle().

#include <rondo/runtime/core/detail/compiler.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace rondo {

/// Whether and how the kernel asks a silent peer for a sign of life. What is 0 is left to the
/// system (net.ipv4.tcp_keepalive_time and its like: 2 hours, 75 s, 9 probes).
struct keep_alive_options {
    bool on = true;
    std::chrono::seconds idle{0};      ///< how long nothing has come before the first probe
    std::chrono::seconds interval{0};  ///< between two probes
    int probes = 0;                    ///< so many unanswered ones break the connection: ETIMEDOUT
};

/// The options of a tcp_stream, which is derived from this. Each call is immediate. All throw
/// std::system_error where the kernel refuses, say a value out of its range, or a closed stream:
/// `set IP_TTL of the connection to 127.0.0.1:5566: Invalid argument`.
class tcp_options {
public:
    /// Whether small writes are sent at once (true, the default) or gathered by Nagle's algorithm.
    void set_nodelay(bool on);
    bool nodelay() const;

    /// Whether only full packets are sent; what is left goes when this is turned off, or after 200
    /// ms (TCP_CORK). For an answer in several writes; write_all of several buffers needs no cork.
    void set_cork(bool on);
    bool cork() const;

    /// Whether what comes is acknowledged at once (TCP_QUICKACK). The kernel goes back to its own
    /// ways when it sees fit.
    void set_quick_ack(bool on);
    bool quick_ack() const;

    /// Keep-alive probes, off to begin with: they find out that a peer is gone who would never say
    /// so. (What has been sent and is not acknowledged is watched over by the user timeout.)
    void set_keep_alive(const keep_alive_options& how);
    void set_keep_alive(std::same_as<bool> auto on) {
        set_keep_alive(keep_alive_options{.on = on});
    }
    keep_alive_options keep_alive() const;

    /// How long what was sent may stay unacknowledged until the connection breaks with ETIMEDOUT
    /// (TCP_USER_TIMEOUT); zero, the default: the system's way, which takes about 15 minutes.
    void set_user_timeout(std::chrono::milliseconds limit);
    std::chrono::milliseconds user_timeout() const;

    /// What closing does with what was written and has not been sent (SO_LINGER). Empty, the
    /// default: the kernel goes on sending it. Zero: it is thrown away, and the peer gets a reset.
    /// Longer: close() blocks until it is acknowledged or the time is up, and with it the reactor
    /// and all of its tasks; to know that the peer has all, shutdown_write() and read to the end.
    void set_linger(std::optional<std::chrono::seconds> limit);
    std::optional<std::chrono::seconds> linger() const;

    /// The room for what has come and was not read, and for what was written and not acknowledged,
    /// in bytes (SO_RCVBUF, SO_SNDBUF). To begin with the kernel adapts both; one that is set
    /// stays. At most net.core.rmem_max and wmem_max. The kernel reserves, and reports, twice what
    /// is asked for, for its own book-keeping. A receive buffer beyond 64 KiB is best set before
    /// the connection is made: listen_options::receive_buffer.
    void set_receive_buffer(std::size_t bytes);
    std::size_t receive_buffer() const;
    void set_send_buffer(std::size_t bytes);
    std::size_t send_buffer() const;

    /// How much of the send buffer may hold what has not been sent at all (TCP_NOTSENT_LOWAT): with
    /// a small limit a write completes when the network has room, not long before. 0: no limit of
    /// its own.
    void set_unsent_limit(std::size_t bytes);
    std::size_t unsent_limit() const;

    /// How many routers a packet may pass, 1 to 255 (IP_TTL, IPV6_UNICAST_HOPS).
    void set_ttl(int hops);
    int ttl() const;

    /// The class of service that packets are marked with, 0 to 255 (IP_TOS, IPV6_TCLASS). The two
    /// lowest bits are the kernel's.
    void set_traffic_class(int value);
    int traffic_class() const;

    /// The algorithm of congestion control, such as "cubic" or "bbr"; the kernel must know it
    /// (ENOENT) and allow it (EPERM).
    void set_congestion_control(std::string_view name);
    std::string congestion_control() const;

protected:
    tcp_options() noexcept = default;
    tcp_options(const tcp_options&) noexcept = default;
    tcp_options& operator=(const tcp_options&) noexcept = default;
    ~tcp_options() = default;

private:
    void set(int level, int name, int value, const char* what);
    int get(int level, int name, const char* what) const;
};

namespace detail {

/// Sets an option of any socket; false and errno where the kernel refuses.
bool set_socket_option(int fd, int level, int name, int value) noexcept;
bool set_keep_alive(int fd, const keep_alive_options& how) noexcept;

/// As the kernel counts buffers: what does not fit into an int is asked for as the most there is.
int buffer_size(std::size_t bytes) noexcept;

}  // namespace detail
}  // namespace rondo
