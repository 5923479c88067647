#pragma once
// Making a descriptor where there may be no room for one only because a close is still under way.
//
//     const int fd = open_descriptor([] { return kernel().eventfd(0, EFD_CLOEXEC); });

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <cerrno>

namespace rondo::detail {

/// What open() gives: a descriptor, or -1 with errno set.
template <class Open>
int open_descriptor(Open open) {
    int fd = open();
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && current_core != nullptr) {
        current_core->io->flush();
        fd = open();
    }
    return fd;
}

}  // namespace rondo::detail
