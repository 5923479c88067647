#pragma once
// What the fib servers share: the work they do, and the reading of a request.
//
//     const auto request = parse_request(line, 60);
//     if (const auto* n = std::get_if<unsigned>(&request))
//         answer = std::to_string(fib(*n));
//     else
//         answer = std::get<std::string>(request);   // error: "abc" is not a decimal number: ...

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>

/// The largest n whose fib(n) fits an unsigned long long.
inline constexpr unsigned largest_fib_n = 93;

/// The Fibonacci number with fib(1) = fib(2) = 1, by the naive recursion: it stands for real work.
// Kept out of line: once the compiler has inlined some levels it sees equal calls and merges them,
// and the work that the servers are measured by is gone.
[[gnu::noinline]] inline unsigned long long fib(unsigned n) {
    return n <= 2 ? 1 : fib(n - 1) + fib(n - 2);
}

/// A request as read: n, or the line that tells the client what is wrong with it.
using fib_request = std::variant<unsigned, std::string>;

namespace fib_detail {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

inline bool all_digits(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

// At most this much of a bad request is repeated in the answer.
inline constexpr std::size_t quoted_bytes = 40;

/// The text as printable ASCII, cut off after quoted_bytes.
inline std::string printable(std::string_view text) {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string out;
    for (const char c : text.substr(0, quoted_bytes)) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte >= 0x20 && byte < 0x7f) {
            out += c;
        } else {
            out += "\\x";
            out += hex[byte >> 4];
            out += hex[byte & 15];
        }
    }
    if (text.size() > quoted_bytes) out += "...";
    return out;
}

}  // namespace fib_detail

/// Reads one request: a decimal number from 1 to `max_n`. White space around it is allowed,
/// because telnet and `nc -C` end a line with CR LF. Anything else gives one line, without its
/// newline, that begins `error: ` and is printable ASCII whatever the client sent.
inline fib_request parse_request(std::string_view line, unsigned max_n) {
    constexpr std::string_view blank = " \t\r\n";
    const auto wanted = [max_n] { return ": n must be 1 to " + std::to_string(max_n); };

    const auto first = line.find_first_not_of(blank);
    if (first == std::string_view::npos) return "error: empty request" + wanted();
    const std::string_view text = line.substr(first, line.find_last_not_of(blank) - first + 1);

    const bool negative = text.front() == '-' && fib_detail::all_digits(text.substr(1));
    if (!negative && !fib_detail::all_digits(text))
        return "error: \"" + fib_detail::printable(text) + "\" is not a decimal number" + wanted();

    unsigned n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc{} || end != text.data() + text.size() || n < 1 || n > max_n)
        return "error: " + fib_detail::printable(text) + " is out of range" + wanted();
    return n;
}
