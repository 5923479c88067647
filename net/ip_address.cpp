#include <rondo/net/detail/quoted.hpp>
#include <rondo/net/ip_address.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>
#include <net/if.h>

namespace rondo {

namespace {

// The C library wants its strings to end in NUL: copies `text`, unless it is too long for
// `Size` - 1 characters or has a NUL within.
template <std::size_t Size>
bool copy_c_string(std::string_view text, char (&out)[Size]) noexcept {
    if (text.size() >= Size || text.find('\0') != text.npos) return false;
    *std::copy(text.begin(), text.end(), out) = '\0';
    return true;
}

// Reads the part behind the % of a scoped address (RFC 4007): an interface index or name.
// 0 means that there is no such interface.
std::uint32_t read_scope(std::string_view text) noexcept {
    std::uint32_t index = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, index);
    if (error == std::errc{} && stop == end) return text.front() == '0' ? 0 : index;
    char name[IF_NAMESIZE];
    return copy_c_string(text, name) ? if_nametoindex(name) : 0;
}

}  // namespace

ip_address ip_address::parse(std::string_view text) {
    if (const auto address = try_parse(text)) return *address;
    throw std::invalid_argument(detail::quoted(text) + " is not an IP address");
}

std::optional<ip_address> ip_address::try_parse(std::string_view text) noexcept {
    const std::size_t percent = text.find('%');
    char plain[INET6_ADDRSTRLEN];
    if (!copy_c_string(text.substr(0, percent), plain)) return std::nullopt;

    if (percent == text.npos) {
        v4_bytes v4;
        if (inet_pton(AF_INET, plain, v4.data()) == 1) return ip_address(v4);
    }
    v6_bytes v6;
    if (inet_pton(AF_INET6, plain, v6.data()) != 1) return std::nullopt;
    const ip_address unscoped(v6);
    if (percent == text.npos) return unscoped;
    if (!unscoped.is_link_local_v6()) return std::nullopt;
    const std::uint32_t scope_id = read_scope(text.substr(percent + 1));
    if (scope_id == 0) return std::nullopt;
    return ip_address(v6, scope_id);
}

std::string ip_address::to_string() const {
    char text[INET6_ADDRSTRLEN];
    inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
    return scope_id_ == 0 ? text : text + ("%" + std::to_string(scope_id_));
}

}  // namespace rondo

std::size_t std::hash<rondo::ip_address>::operator()(
    const rondo::ip_address& address) const noexcept {
    std::uint64_t halves[2]{};
    const auto bytes = address.bytes();
    std::memcpy(halves, bytes.data(), bytes.size());
    std::uint64_t hash = address.scope_id() + (address.is_v6() ? 1 : 0);
    for (const std::uint64_t half : halves) {
        hash = (hash ^ half) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio spreads the low bits up,
        hash ^= hash >> 32;                         // and the shift brings them back down
    }
    return static_cast<std::size_t>(hash);
}
