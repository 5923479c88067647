#include <rondo/runtime/reactor/poll_fd.hpp>

#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>

#include <cerrno>
#include <string>

namespace rondo::detail {

int poll_operation::begin() const noexcept {
    return kernel().fcntl(fd, F_GETFD, 0) < 0 ? -errno : 0;
}

void poll_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_poll_add(&sqe, fd, static_cast<unsigned short>(events_));
}

int poll_operation::attempt() noexcept {
    pollfd one{fd, events_, 0};
    int ready;
    do {
        ready = kernel().poll(&one, 1, 0);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) return -errno;
    if (ready == 0) return -EAGAIN;
    return (one.revents & POLLNVAL) != 0 ? -EBADF : one.revents;
}

bool poll_operation::finish(int value) noexcept {
    // What cannot be waited for, a regular file for example, io_uring calls an invalid argument,
    // and epoll_ctl(2) an operation that is not permitted.
    result = value == -EINVAL ? -EPERM : value;
    return true;
}

void poll_operation::describe(std::FILE* out) const { std::fprintf(out, "poll of fd %d", fd); }

std::string poll_operation::tried() const { return "poll fd " + std::to_string(fd); }

}  // namespace rondo::detail
