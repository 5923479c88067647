#pragma once
// Text from outside, made fit for an error message: in quotes, on one line, of bounded length.
//
//     throw std::invalid_argument(detail::quoted(text) + " is not an IP address");

#include <rondo/runtime/core/detail/compiler.hpp>

#include <string>
#include <string_view>

namespace rondo::detail {

/// `text` in double quotes. Quotes, backslashes and all that is not printable ASCII appear as
/// \" \\ \xNN; what is longer than 80 bytes is cut and ends in "...".
[[nodiscard]] inline std::string quoted(std::string_view text) {
    constexpr std::size_t limit = 80;
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text.substr(0, limit)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte > 0x7e) {
            out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
    }
    return out += text.size() > limit ? "...\"" : "\"";
}

}  // namespace rondo::detail
