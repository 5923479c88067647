#pragma once
// What the types that tasks wait with each other on report.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <system_error>
#include <type_traits>

namespace rondo {

enum class sync_errc {
    closed = 1,  // the queue or channel was closed
};

const std::error_category& sync_category() noexcept;

inline std::error_code make_error_code(sync_errc error) noexcept {
    return {static_cast<int>(error), sync_category()};
}

/// Thrown where nothing can be put into a queue or channel any more, or be got from a queue,
/// because it was closed. Its code is sync_errc::closed.
class closed_error : public std::system_error {
public:
    closed_error();
};

}  // namespace rondo

template <>
struct std::is_error_code_enum<rondo::sync_errc> : std::true_type {};
