#pragma once
// Where a socket is bound or connected: an address and a port, a plain value.
//
//     rondo::endpoint here{rondo::ip_address::loopback_v4(), 5566};
//     auto there = rondo::endpoint::parse("[2001:db8::7]:80");   // throws, and says what is wrong
//     std::puts(there.to_string().c_str());

#include <rondo/net/ip_address.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <netinet/in.h>

namespace rondo {

/// An address and a port. In order, by address and then by port.
class endpoint {
public:
    /// Any IPv4 address of this host, and a port that the kernel picks.
    constexpr endpoint() noexcept = default;

    constexpr endpoint(ip_address address, std::uint16_t port) noexcept
        : address_(address), port_(port) {}

    [[nodiscard]] constexpr ip_address address() const noexcept { return address_; }
    [[nodiscard]] constexpr std::uint16_t port() const noexcept { return port_; }

    /// "127.0.0.1:5566", "[::1]:5566".
    [[nodiscard]] std::string to_string() const;

    /// Reads what to_string() writes: an IPv6 address stands in brackets, the port is 0 to 65535.
    /// Throws std::invalid_argument, which says what is wrong with the text.
    [[nodiscard]] static endpoint parse(std::string_view text);

    /// Like parse(), but returns an empty optional where that throws.
    [[nodiscard]] static std::optional<endpoint> try_parse(std::string_view text) noexcept;

    /// Writes the form that the kernel reads, and returns how many bytes of `out` it takes.
    [[nodiscard]] socklen_t to_sockaddr(sockaddr_storage& out) const noexcept;

    /// Reads what the kernel wrote. Throws std::invalid_argument when that is the address of
    /// something else than IPv4 or IPv6.
    [[nodiscard]] static endpoint from_sockaddr(const sockaddr_storage& from);

    friend constexpr auto operator<=>(const endpoint&, const endpoint&) noexcept = default;

private:
    ip_address address_;
    std::uint16_t port_ = 0;
};

}  // namespace rondo

template <>
struct std::hash<rondo::endpoint> {
    [[nodiscard]] std::size_t operator()(const rondo::endpoint& endpoint) const noexcept;
};
