#pragma once
// The address of a host: IPv4 or IPv6, a plain value.
//
//     auto address = rondo::ip_address::parse("2001:db8::7");   // throws on nonsense
//     if (address.is_v6() && !address.is_loopback()) std::puts(address.to_string().c_str());
//     if (auto typed = rondo::ip_address::try_parse(line)) allowed.insert(*typed);

#include <rondo/runtime/core/detail/compiler.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rondo {

/// An IPv4 or IPv6 address. In order, all IPv4 addresses come before all of IPv6, each numerically.
/// An IPv6 address that carries an IPv4 one (::ffff:192.0.2.1) is an IPv6 address like any other.
class ip_address {
public:
    using v4_bytes = std::array<std::uint8_t, 4>;
    using v6_bytes = std::array<std::uint8_t, 16>;

    /// any_v4().
    constexpr ip_address() noexcept = default;

    /// From the bytes in network order.
    constexpr explicit ip_address(const v4_bytes& bytes) noexcept
        : bytes_{bytes[0], bytes[1], bytes[2], bytes[3]} {}

    /// From the bytes in network order. `scope_id` is the interface index of a link-local address.
    constexpr explicit ip_address(const v6_bytes& bytes, std::uint32_t scope_id = 0) noexcept
        : family_(family::v6), bytes_(bytes), scope_id_(scope_id) {}

    /// Reads "192.0.2.1", "2001:db8::7" or "fe80::1%eth0" (or "fe80::1%2"; link-local only).
    /// The whole text must be an address: no spaces, no brackets, no leading zeros in IPv4.
    /// Throws std::invalid_argument: `"300.1.2.3" is not an IP address`.
    [[nodiscard]] static ip_address parse(std::string_view text);

    /// Like parse(), but returns an empty optional where that throws.
    [[nodiscard]] static std::optional<ip_address> try_parse(std::string_view text) noexcept;

    [[nodiscard]] static constexpr ip_address loopback_v4() noexcept {
        return ip_address(v4_bytes{127, 0, 0, 1});
    }
    [[nodiscard]] static constexpr ip_address any_v4() noexcept { return {}; }
    [[nodiscard]] static constexpr ip_address loopback_v6() noexcept {
        return ip_address(v6_bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    }
    [[nodiscard]] static constexpr ip_address any_v6() noexcept { return ip_address(v6_bytes{}); }

    [[nodiscard]] constexpr bool is_v4() const noexcept { return family_ == family::v4; }
    [[nodiscard]] constexpr bool is_v6() const noexcept { return family_ == family::v6; }

    /// 127.0.0.0/8 or ::1.
    [[nodiscard]] constexpr bool is_loopback() const noexcept {
        return is_v4() ? bytes_[0] == 127 : *this == loopback_v6();
    }

    /// 0.0.0.0 or ::, which stand for every address of this host.
    [[nodiscard]] constexpr bool is_any() const noexcept {
        return *this == any_v4() || *this == any_v6();
    }

    /// fe80::/10, or a multicast address that is confined to one link or one interface.
    [[nodiscard]] constexpr bool is_link_local_v6() const noexcept {
        if (!is_v6()) return false;
        const int second = bytes_[1];
        if (bytes_[0] == 0xfe) return (second & 0xc0) == 0x80;
        return bytes_[0] == 0xff && ((second & 0x0f) == 1 || (second & 0x0f) == 2);
    }

    /// The bytes in network order: 4 or 16. They belong to this object.
    [[nodiscard]] constexpr std::span<const std::uint8_t> bytes() const& noexcept {
        return std::span(bytes_).first(is_v4() ? 4 : 16);
    }
    void bytes() const&& = delete;  // the span would outlive the address

    /// The interface index of a link-local IPv6 address, else 0.
    [[nodiscard]] constexpr std::uint32_t scope_id() const noexcept { return scope_id_; }

    /// "192.0.2.1"; IPv6 as RFC 5952 wants it: "2001:db8::7"; with its scope: "fe80::1%2".
    [[nodiscard]] std::string to_string() const;

    friend constexpr auto operator<=>(const ip_address&, const ip_address&) noexcept = default;

private:
    enum class family : std::uint8_t { v4, v6 };

    // Compared in this order. An IPv4 address is the first four bytes, the others are zero.
    family family_ = family::v4;
    v6_bytes bytes_{};
    std::uint32_t scope_id_ = 0;
};

}  // namespace rondo

template <>
struct std::hash<rondo::ip_address> {
    [[nodiscard]] std::size_t operator()(const rondo::ip_address& address) const noexcept;
};
