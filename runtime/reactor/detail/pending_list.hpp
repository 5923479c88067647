#pragma once
// The pending operations of one descriptor, in the order they came: seldom more than one each way.

#include <rondo/runtime/reactor/detail/operation.hpp>

namespace rondo::detail {

inline void append_pending(operation*& head, operation& op) noexcept {
    operation** link = &head;
    while (*link != nullptr) link = &(*link)->next_on_fd;
    op.next_on_fd = nullptr;
    *link = &op;
}

inline void remove_pending(operation*& head, operation& op) noexcept {
    operation** link = &head;
    while (*link != &op) link = &(*link)->next_on_fd;
    *link = op.next_on_fd;
}

}  // namespace rondo::detail
