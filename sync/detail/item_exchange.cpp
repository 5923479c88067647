#include <rondo/sync/detail/item_exchange.hpp>

namespace rondo::detail {

void throw_outcome(item_outcome outcome) {
    switch (outcome) {
        case item_outcome::closed: throw closed_error{};
        case item_outcome::no_memory: throw std::bad_alloc{};
        default: throw operation_cancelled{};
    }
}

std::error_code error_of(item_outcome outcome) noexcept {
    switch (outcome) {
        case item_outcome::done: return {};
        case item_outcome::closed: return sync_errc::closed;
        case item_outcome::no_memory: return std::make_error_code(std::errc::not_enough_memory);
        default: return std::make_error_code(std::errc::operation_canceled);
    }
}

}  // namespace rondo::detail
