#include <rondo/net/tcp_options.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>

namespace rondo {

namespace {

// What the kernel cannot count is out of its range as well, and refused by it.
int as_int(std::int64_t value) noexcept {
    return static_cast<int>(std::clamp<std::int64_t>(value, INT_MIN, INT_MAX));
}

[[noreturn]] void fail(const tcp_options& of, const char* what, const char* option) {
    const int error = errno;
    const std::string tried = std::string(what) + " " + option + " of the connection to";
    detail::fail_on(static_cast<const tcp_stream&>(of).remote_endpoint().to_string(), tried.c_str(),
                    {error, std::system_category()});
}

// The kernel cuts off what does not fit, or gives it a meaning of its own.
void check_range(const tcp_options& of, int value, int least, int most, const char* option) {
    if (value >= least && value <= most) return;
    errno = EINVAL;
    fail(of, "set", option);
}

int socket_of(const tcp_options& of) noexcept {
    return static_cast<const tcp_stream&>(of).native_handle();
}

// Whether the socket itself is one of IPv6, whatever the peer's address is.
bool is_v6(int fd) noexcept {
    int domain = 0;
    socklen_t size = sizeof domain;
    return detail::kernel().getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
           domain == AF_INET6;
}

}  // namespace

namespace detail {

bool set_socket_option(int fd, int level, int name, int value) noexcept {
    return detail::kernel().setsockopt(fd, level, name, &value, sizeof value) == 0;
}

int buffer_size(std::size_t bytes) noexcept {
    return static_cast<int>(std::min<std::size_t>(bytes, INT_MAX));
}

bool set_keep_alive(int fd, const keep_alive_options& how) noexcept {
    const auto set = [fd](int name, std::int64_t value) {
        return value == 0 || set_socket_option(fd, IPPROTO_TCP, name, as_int(value));
    };
    return set(TCP_KEEPIDLE, how.idle.count()) && set(TCP_KEEPINTVL, how.interval.count()) &&
           set(TCP_KEEPCNT, how.probes) &&
           set_socket_option(fd, SOL_SOCKET, SO_KEEPALIVE, how.on ? 1 : 0);
}

}  // namespace detail

void tcp_options::set(int level, int name, int value, const char* what) {
    if (!detail::set_socket_option(socket_of(*this), level, name, value)) {
        fail(*this, "set", what);
    }
}

int tcp_options::get(int level, int name, const char* what) const {
    int value = 0;
    socklen_t size = sizeof value;
    if (detail::kernel().getsockopt(socket_of(*this), level, name, &value, &size) != 0) {
        fail(*this, "get", what);
    }
    return value;
}

void tcp_options::set_nodelay(bool on) { set(IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0, "TCP_NODELAY"); }
bool tcp_options::nodelay() const { return get(IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY") != 0; }

void tcp_options::set_cork(bool on) { set(IPPROTO_TCP, TCP_CORK, on ? 1 : 0, "TCP_CORK"); }
bool tcp_options::cork() const { return get(IPPROTO_TCP, TCP_CORK, "TCP_CORK") != 0; }

void tcp_options::set_quick_ack(bool on) {
    set(IPPROTO_TCP, TCP_QUICKACK, on ? 1 : 0, "TCP_QUICKACK");
}
bool tcp_options::quick_ack() const { return get(IPPROTO_TCP, TCP_QUICKACK, "TCP_QUICKACK") != 0; }

void tcp_options::set_keep_alive(const keep_alive_options& how) {
    if (!detail::set_keep_alive(socket_of(*this), how)) {
        fail(*this, "set", "SO_KEEPALIVE");
    }
}
keep_alive_options tcp_options::keep_alive() const {
    return {.on = get(SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE") != 0,
            .idle = std::chrono::seconds(get(IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE")),
            .interval = std::chrono::seconds(get(IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL")),
            .probes = get(IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT")};
}

void tcp_options::set_user_timeout(std::chrono::milliseconds limit) {
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, as_int(limit.count()), "TCP_USER_TIMEOUT");
}
std::chrono::milliseconds tcp_options::user_timeout() const {
    return std::chrono::milliseconds(get(IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"));
}

void tcp_options::set_linger(std::optional<std::chrono::seconds> limit) {
    // The kernel takes what is less than nothing for a very long time.
    const std::int64_t seconds = limit ? std::max<std::int64_t>(limit->count(), 0) : 0;
    const ::linger value{limit ? 1 : 0, as_int(seconds)};
    if (detail::kernel().setsockopt(socket_of(*this), SOL_SOCKET, SO_LINGER, &value,
                                    sizeof value) != 0) {
        fail(*this, "set", "SO_LINGER");
    }
}
std::optional<std::chrono::seconds> tcp_options::linger() const {
    ::linger value{};
    socklen_t size = sizeof value;
    if (detail::kernel().getsockopt(socket_of(*this), SOL_SOCKET, SO_LINGER, &value, &size) != 0) {
        fail(*this, "get", "SO_LINGER");
    }
    if (value.l_onoff == 0) return std::nullopt;
    return std::chrono::seconds(value.l_linger);
}

void tcp_options::set_receive_buffer(std::size_t bytes) {
    set(SOL_SOCKET, SO_RCVBUF, detail::buffer_size(bytes), "SO_RCVBUF");
}
std::size_t tcp_options::receive_buffer() const {
    return static_cast<std::size_t>(get(SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"));
}
void tcp_options::set_send_buffer(std::size_t bytes) {
    set(SOL_SOCKET, SO_SNDBUF, detail::buffer_size(bytes), "SO_SNDBUF");
}
std::size_t tcp_options::send_buffer() const {
    return static_cast<std::size_t>(get(SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"));
}

void tcp_options::set_unsent_limit(std::size_t bytes) {
    set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, detail::buffer_size(bytes), "TCP_NOTSENT_LOWAT");
}
std::size_t tcp_options::unsent_limit() const {
    return static_cast<std::size_t>(get(IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"));
}

void tcp_options::set_ttl(int hops) {
    check_range(*this, hops, 1, 255, "IP_TTL");
    // A socket of IPv6 may carry IPv4 packets, which have the one of IPv4.
    set(IPPROTO_IP, IP_TTL, hops, "IP_TTL");
    if (is_v6(socket_of(*this))) {
        set(IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops, "IPV6_UNICAST_HOPS");
    }
}
int tcp_options::ttl() const {
    if (is_v6(socket_of(*this))) {
        return get(IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS");
    }
    return get(IPPROTO_IP, IP_TTL, "IP_TTL");
}

void tcp_options::set_traffic_class(int value) {
    check_range(*this, value, 0, 255, "IP_TOS");
    set(IPPROTO_IP, IP_TOS, value, "IP_TOS");
    if (is_v6(socket_of(*this))) {
        set(IPPROTO_IPV6, IPV6_TCLASS, value, "IPV6_TCLASS");
    }
}
int tcp_options::traffic_class() const {
    if (is_v6(socket_of(*this))) {
        return get(IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS");
    }
    return get(IPPROTO_IP, IP_TOS, "IP_TOS");
}

void tcp_options::set_congestion_control(std::string_view name) {
    if (detail::kernel().setsockopt(socket_of(*this), IPPROTO_TCP, TCP_CONGESTION, name.data(),
                                    static_cast<socklen_t>(name.size())) != 0) {
        fail(*this, "set", "TCP_CONGESTION");
    }
}
std::string tcp_options::congestion_control() const {
    std::array<char, 64> name{};
    socklen_t size = name.size();
    if (detail::kernel().getsockopt(socket_of(*this), IPPROTO_TCP, TCP_CONGESTION, name.data(),
                                    &size) != 0) {
        fail(*this, "get", "TCP_CONGESTION");
    }
    return {name.data(), ::strnlen(name.data(), size)};
}

}  // namespace rondo
