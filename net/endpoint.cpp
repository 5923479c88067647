#include <rondo/net/detail/quoted.hpp>
#include <rondo/net/endpoint.hpp>

#include <charconv>
#include <cstring>
#include <stdexcept>

namespace rondo {

namespace {

enum class flaw {
    none,
    no_port,
    no_brackets,
    open_bracket,
    text_behind_bracket,
    not_ipv6_in_brackets,
    bad_address,
    bad_port,
};

// What came of reading a text: the endpoint, or the flaw and the part of the text that has it.
struct reading {
    flaw found = flaw::none;
    std::string_view part;
    endpoint where;
};

bool read_port(std::string_view text, std::uint16_t& port) noexcept {
    if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, port);
    return error == std::errc{} && stop == end;
}

reading read_endpoint(std::string_view text) noexcept {
    std::string_view host;
    std::string_view rest;  // the colon and what follows
    const bool bracketed = text.starts_with('[');
    if (bracketed) {
        const std::size_t close = text.find(']');
        if (close == text.npos) return {flaw::open_bracket, text, {}};
        host = text.substr(1, close - 1);
        rest = text.substr(close + 1);
        if (!rest.empty() && rest.front() != ':') return {flaw::text_behind_bracket, rest, {}};
    } else {
        const std::size_t colon = text.find(':');
        if (colon != text.npos && text.find(':', colon + 1) != text.npos) {
            return {flaw::no_brackets, text, {}};
        }
        host = text.substr(0, colon);
        if (colon != text.npos) rest = text.substr(colon);
    }

    const auto address = ip_address::try_parse(host);
    if (!address) return {flaw::bad_address, host, {}};
    if (bracketed && address->is_v4()) return {flaw::not_ipv6_in_brackets, host, {}};
    if (rest.size() <= 1) return {flaw::no_port, text, {}};
    std::uint16_t port = 0;
    if (!read_port(rest.substr(1), port)) return {flaw::bad_port, rest.substr(1), {}};
    return {flaw::none, {}, endpoint(*address, port)};
}

std::string sentence_about(const reading& failed) {
    const std::string part = detail::quoted(failed.part);
    switch (failed.found) {
        case flaw::none: break;
        case flaw::no_port: return "the port is missing, as in 127.0.0.1:5566";
        case flaw::no_brackets: return "an IPv6 address stands in brackets, as in [::1]:5566";
        case flaw::open_bracket: return "the closing bracket is missing, as in [::1]:5566";
        case flaw::text_behind_bracket: return "a colon must follow the bracket, not " + part;
        case flaw::not_ipv6_in_brackets: return part + " in brackets is not an IPv6 address";
        case flaw::bad_address: return part + " is not an IP address";
        case flaw::bad_port: return part + " is not a port from 0 to 65535";
    }
    return {};
}

}  // namespace

endpoint endpoint::parse(std::string_view text) {
    const reading read = read_endpoint(text);
    if (read.found == flaw::none) return read.where;
    throw std::invalid_argument(detail::quoted(text) +
                                " is not an endpoint: " + sentence_about(read));
}

std::optional<endpoint> endpoint::try_parse(std::string_view text) noexcept {
    const reading read = read_endpoint(text);
    if (read.found != flaw::none) return std::nullopt;
    return read.where;
}

std::string endpoint::to_string() const {
    const std::string host = address_.to_string();
    return (address_.is_v6() ? "[" + host + "]:" : host + ":") + std::to_string(port_);
}

// The kernel's structures are filled in beside `out` and copied: they may not alias it.
socklen_t endpoint::to_sockaddr(sockaddr_storage& out) const noexcept {
    const auto bytes = address_.bytes();
    if (address_.is_v4()) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port_);
        std::memcpy(&v4.sin_addr, bytes.data(), bytes.size());
        std::memcpy(&out, &v4, sizeof v4);
        return sizeof v4;
    }
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port_);
    v6.sin6_scope_id = address_.scope_id();
    std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
    std::memcpy(&out, &v6, sizeof v6);
    return sizeof v6;
}

endpoint endpoint::from_sockaddr(const sockaddr_storage& from) {
    if (from.ss_family == AF_INET) {
        sockaddr_in v4;
        std::memcpy(&v4, &from, sizeof v4);
        ip_address::v4_bytes bytes;
        std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
        return {ip_address(bytes), ntohs(v4.sin_port)};
    }
    if (from.ss_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, &from, sizeof v6);
        ip_address::v6_bytes bytes;
        std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
        return {ip_address(bytes, v6.sin6_scope_id), ntohs(v6.sin6_port)};
    }
    throw std::invalid_argument("a socket address of family " + std::to_string(from.ss_family) +
                                " is neither IPv4 nor IPv6");
}

}  // namespace rondo

std::size_t std::hash<rondo::endpoint>::operator()(const rondo::endpoint& endpoint) const noexcept {
    const std::size_t hash = std::hash<rondo::ip_address>{}(endpoint.address());
    return (hash ^ endpoint.port()) * 0x9e3779b97f4a7c15;
}
