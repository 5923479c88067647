#pragma once
// Which of the kernel's interfaces a scheduler waits on.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <string_view>

namespace rondo {

/// `automatic` takes the one that is faster for sockets and can be had: io_uring, or epoll where
/// io_uring is denied (containers and hardened kernels do). The environment variable
/// RONDO_REACTOR=io_uring|epoll decides for all schedulers that are `automatic`. Asking by name for
/// one that cannot be had is an error.
enum class reactor_kind { automatic, io_uring, epoll };

/// "automatic", "io_uring" or "epoll".
std::string_view to_string(reactor_kind kind) noexcept;

/// The kind of that name; throws std::invalid_argument naming the choices for any other text.
reactor_kind parse_reactor_kind(std::string_view name);

}  // namespace rondo
