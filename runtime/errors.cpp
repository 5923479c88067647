#include <rondo/runtime/errors.hpp>

namespace rondo {

timeout_error::timeout_error()
    : std::system_error(std::make_error_code(std::errc::timed_out), "the time is up") {}

namespace detail {

void throw_error(std::error_code code, const std::string& what) {
    if (code == std::errc::operation_canceled) throw operation_cancelled{};
    throw std::system_error(code, what);
}

}  // namespace detail
}  // namespace rondo
