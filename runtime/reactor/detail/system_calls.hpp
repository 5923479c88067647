#pragma once
// The system calls that are made outside of a reactor: by operations that try, and by what is no
// operation, such as setting an option of a socket.
//
//     if (kernel().listen(fd, backlog) != 0) fail(errno);
//
// They go through a table of functions, which belongs to the reactor of the thread's scheduler: a
// reactor that plays a kernel has a table of its own.

#include <rondo/runtime/core/detail/core.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>

namespace rondo::detail {

/// Functions of the kernel's, with their own meaning of results and errno.
struct system_calls {
    int (*close)(int fd);
    ssize_t (*read)(int fd, void* space, std::size_t size);
    int (*poll)(pollfd* descriptors, nfds_t count, int milliseconds);
    int (*fcntl)(int fd, int command, int value);
    int (*eventfd)(unsigned value, int flags);

    int (*socket)(int domain, int type, int protocol);
    int (*bind)(int fd, const sockaddr* address, socklen_t size);
    int (*listen)(int fd, int backlog);
    int (*accept4)(int fd, sockaddr* address, socklen_t* size, int flags);
    int (*connect)(int fd, const sockaddr* address, socklen_t size);
    int (*shutdown)(int fd, int how);
    ssize_t (*recv)(int fd, void* space, std::size_t size, int flags);
    ssize_t (*send)(int fd, const void* bytes, std::size_t size, int flags);
    ssize_t (*sendmsg)(int fd, const msghdr* message, int flags);
    int (*getsockname)(int fd, sockaddr* address, socklen_t* size);
    int (*getpeername)(int fd, sockaddr* address, socklen_t* size);
    int (*getsockopt)(int fd, int level, int name, void* value, socklen_t* size);
    int (*setsockopt)(int fd, int level, int name, const void* value, socklen_t size);
};

/// Those of the kernel itself.
extern constinit const system_calls real_calls;

/// Those of the calling thread's reactor; the kernel's own on a thread without one.
inline const system_calls& kernel() noexcept {
    return current_core != nullptr ? *current_core->kernel : real_calls;
}

}  // namespace rondo::detail
