#pragma once
// What the library means by a byte stream, so that readers and writers work over any of them.

#include <rondo/runtime/core/detail/awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <system_error>

namespace rondo {

/// Bytes can be read from it: `co_await s.read_some(space)` gives how many came, at least one, or 0
/// at the end.
template <class Stream>
concept readable_stream = requires(Stream& stream, std::span<std::byte> space) {
    { stream.read_some(space) } -> detail::awaitable;
    requires std::same_as<detail::await_result_t<decltype(stream.read_some(space))>, std::size_t>;
};

/// Bytes can be written to it: `co_await s.write_all(bytes)`.
template <class Stream>
concept writable_stream = requires(Stream& stream, std::span<const std::byte> bytes) {
    { stream.write_all(bytes) } -> detail::awaitable;
};

/// What can go wrong with the contents of a stream, as opposed to its transport.
enum class stream_errc {
    unexpected_end = 1,  // the stream ended in the middle of what was asked for
    too_long,            // the delimiter did not come within the limit
};

const std::error_category& stream_category() noexcept;

inline std::error_code make_error_code(stream_errc error) noexcept {
    return {static_cast<int>(error), stream_category()};
}

}  // namespace rondo

template <>
struct std::is_error_code_enum<rondo::stream_errc> : std::true_type {};
