#pragma once
// Waits until a descriptor of any kind is ready: a pipe, a device, another library's socket.
//
//     co_await poll_fd(fd, POLLIN);
//     ::read(fd, ...);

#include <rondo/runtime/reactor/detail/operation.hpp>

#include <string>

namespace rondo {

namespace detail {

class [[nodiscard("without co_await nothing happens")]] poll_operation final
    : public io_operation<poll_operation, short> {
public:
    poll_operation(int descriptor, short events) noexcept
        : io_operation(readiness::any), events_(events) {
        fd = descriptor;
        fd_is_foreign = true;
    }

    int begin() const noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    short value() const noexcept { return static_cast<short>(result); }
    std::string tried() const;

private:
    short events_;
};

}  // namespace detail

/// Completes with those of `events` (POLLIN, POLLOUT; poll(2)) that the descriptor is
/// ready for, and with POLLERR or POLLHUP where they apply. The descriptor stays the caller's and
/// must stay open from this call on until the operation has ended: a number is all that the
/// operation knows of it. Throws std::system_error for a descriptor that is not open, and EPERM for
/// one that never waits, such as a regular file, where it is ready for none of `events`.
/// Cancellation: ends at once; the descriptor is left as it was.
inline detail::poll_operation poll_fd(int fd, short events) noexcept { return {fd, events}; }

}  // namespace rondo
