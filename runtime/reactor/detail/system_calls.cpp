#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace rondo::detail {

constinit const system_calls real_calls{
    .close = ::close,
    .read = ::read,
    .poll = ::poll,
    .fcntl = [](int fd, int command, int value) { return ::fcntl(fd, command, value); },
    .eventfd = ::eventfd,
    .socket = ::socket,
    .bind = ::bind,
    .listen = ::listen,
    .accept4 = ::accept4,
    .connect = ::connect,
    .shutdown = ::shutdown,
    .recv = ::recv,
    .send = ::send,
    .sendmsg = ::sendmsg,
    .getsockname = ::getsockname,
    .getpeername = ::getpeername,
    .getsockopt = ::getsockopt,
    .setsockopt = ::setsockopt,
};

}  // namespace rondo::detail
