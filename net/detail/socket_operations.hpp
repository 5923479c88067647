#pragma once
// The operations behind tcp_stream and tcp_listener; see runtime/reactor/detail/operation.hpp for
// their shape.

#include <rondo/io/buffer.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/runtime/reactor/detail/operation.hpp>
#include <rondo/runtime/reactor/detail/owned_descriptor.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace rondo {

class tcp_stream;

/// How far the other end of a connection has gone.
enum class hangup {
    no_more_data,  // it has shut its sending side down, or closed: TCP does not tell which
    broken,        // the connection has failed: it was reset, or the peer answers no more
};

namespace detail {

// The kernel counts what one call moves in an int.
inline constexpr std::size_t most_at_once = std::size_t{1} << 30;

// A result of read_exactly that no errno stands for: the peer ended the stream.
inline constexpr int ended_early = -4096;

/// A socket, and how errors and dumps call it: by the peer's address, or by a listener's own.
class socket_handle : public owned_descriptor {
public:
    explicit socket_handle(int fd = -1, const endpoint& name = {}) noexcept
        : owned_descriptor(fd), name_(name) {}
    socket_handle(socket_handle socket, const endpoint& name) noexcept
        : owned_descriptor(std::move(socket)), name_(name) {}

    const endpoint& name() const noexcept { return name_; }

private:
    endpoint name_;
};

/// Throws std::system_error: `WHAT 127.0.0.1:5566: Connection reset by peer`.
[[noreturn]] void fail_on(const std::string& name, const char* what, std::error_code code);

/// How errors and dumps call a socket: by its name, or `a closed connection` where there is none.
std::string called(const owned_descriptor* socket, const char* kind);

/// What a read may report of the result 0, or of an error, of a call on this socket: an end of data
/// is none when the connection has failed, and another operation was told of that.
int read_outcome(descriptor_record& socket, int value) noexcept;
/// The same for an error of a write.
int write_outcome(descriptor_record& socket, int value) noexcept;

/// One that moves bytes, or waits for their end.
template <class Derived, class Value>
class stream_operation : public descriptor_operation<Derived, Value> {
protected:
    stream_operation(const socket_handle& socket, readiness direction,
                     bool moves_bytes = true) noexcept
        : descriptor_operation<Derived, Value>(socket, direction) {
        this->takes_turns = moves_bytes;
    }
    ~stream_operation() = default;

    std::string peer() const { return called(this->owner(), "connection"); }
    std::string tried_at(const char* what) const { return std::string(what) + " " + peer(); }
};

class [[nodiscard("without co_await nothing happens")]] recv_operation final
    : public stream_operation<recv_operation, std::size_t> {
public:
    recv_operation(const socket_handle& socket, std::span<std::byte> space) noexcept
        : stream_operation(socket, readiness::read), space_(space) {}

    int begin() noexcept {
        const int error = stream_operation::begin();
        if (error == 0) has_more = record().has_more;
        return error;
    }
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    std::size_t value() const noexcept { return static_cast<std::size_t>(result); }
    std::string tried() const { return tried_at("read from"); }

private:
    std::span<std::byte> space_;
};

class [[nodiscard("without co_await nothing happens")]] recv_exactly_operation final
    : public stream_operation<recv_exactly_operation, std::size_t> {
public:
    recv_exactly_operation(const socket_handle& socket, std::span<std::byte> space) noexcept
        : stream_operation(socket, readiness::read), space_(space) {}

    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    std::size_t value() const noexcept { return space_.size(); }
    std::error_code code() const noexcept;
    std::string tried() const { return tried_at("read from"); }

private:
    std::span<std::byte> left() const noexcept { return space_.subspan(done_); }

    std::span<std::byte> space_;
    std::size_t done_ = 0;
};

/// Receives into a buffer of the reactor's. None is held while nothing has come: the kernel picks
/// one when it has data (io_uring), or a call tries with one that goes back when there was nothing.
/// When all are lent it waits until there is data, and brings memory of its own.
class [[nodiscard("without co_await nothing happens")]] receive_operation final
    : public stream_operation<receive_operation, rondo::buffer> {
public:
    explicit receive_operation(const socket_handle& socket) noexcept
        : stream_operation(socket, readiness::read) {}

    int begin() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    rondo::buffer value() const noexcept;
    std::string tried() const { return tried_at("read from"); }

private:
    enum class way : std::uint8_t {
        picked,    // the kernel picks a buffer from the ring
        poll,      // that found none: waits until there is data
        repicked,  // there is: tries the ring once more
        own,       // brings space: a buffer of the pool's, or memory of its own
    };

    bool take(int value) noexcept;
    bool take_space() noexcept;
    void drop_space() noexcept;

    std::byte* space_ = nullptr;  // buffer `buffer` of the pool's, or memory of its own
    std::uint16_t taken_ = 0;     // way::own: the buffer of the pool's, or buffer_pool::none
    way way_ = way::picked;
};

class [[nodiscard("without co_await nothing happens")]] send_some_operation final
    : public stream_operation<send_some_operation, std::size_t> {
public:
    send_some_operation(const socket_handle& socket, std::span<const std::byte> bytes) noexcept
        : stream_operation(socket, readiness::write), bytes_(bytes) {}

    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    std::size_t value() const noexcept { return static_cast<std::size_t>(result); }
    std::string tried() const { return tried_at("write to"); }

private:
    std::span<const std::byte> bytes_;
};

class [[nodiscard("without co_await nothing happens")]] send_all_operation final
    : public stream_operation<send_all_operation, void> {
public:
    /// Smaller sends are copied: pinning pages and a second completion cost more than that. Where
    /// the line is depends on the machine; 10 KB in the kernel's documentation of MSG_ZEROCOPY.
    static constexpr std::size_t least_without_copy = 32 * 1024;

    send_all_operation(const socket_handle& socket, std::span<const std::byte> bytes) noexcept
        : stream_operation(socket, readiness::write), left_(bytes) {}

    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    void value() const noexcept {}
    std::string tried() const { return tried_at("write to"); }

private:
    std::span<const std::byte> left_;
};

/// Sends several buffers, one after the other, a window of them with each call.
class [[nodiscard("without co_await nothing happens")]] send_gather_operation final
    : public stream_operation<send_gather_operation, void> {
public:
    static constexpr std::size_t window = 16;

    send_gather_operation(const socket_handle& socket,
                          std::span<const std::span<const std::byte>> buffers) noexcept
        : stream_operation(socket, readiness::write), rest_(buffers) {}

    /// For up to `window` buffers that are listed nowhere else.
    void add(std::span<const std::byte> bytes) noexcept {
        if (!bytes.empty()) pieces_[count_++] = piece(bytes);
    }

    int begin() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    void value() const noexcept {}
    std::string tried() const { return tried_at("write to"); }

private:
    static iovec piece(std::span<const std::byte> bytes) noexcept {
        return {const_cast<std::byte*>(bytes.data()), bytes.size()};
    }
    void refill() noexcept;
    void point_message() noexcept;

    std::span<const std::span<const std::byte>> rest_;  // not in pieces_ yet
    std::array<iovec, window> pieces_;                  // [first_, count_) are to be sent
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    msghdr message_{};
};

class [[nodiscard("without co_await nothing happens")]] hangup_operation final
    : public stream_operation<hangup_operation, hangup> {
public:
    explicit hangup_operation(const socket_handle& socket) noexcept
        : stream_operation(socket, readiness::read, false) {}

    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    void describe(std::FILE* out) const override;
    hangup value() const noexcept;
    std::string tried() const { return tried_at("wait for"); }
};

class [[nodiscard("without co_await nothing happens")]] accept_operation final
    : public descriptor_operation<accept_operation, tcp_stream> {
public:
    explicit accept_operation(const socket_handle& listener) noexcept
        : descriptor_operation(listener, readiness::read) {}

    int begin() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    bool finish(int value) noexcept override;
    void describe(std::FILE* out) const override;
    tcp_stream value() const noexcept;
    std::string tried() const;

private:
    // A sockaddr_in6 holds an IPv4 address as well, and is a fifth of a sockaddr_storage.
    sockaddr_in6 peer_{};
    socklen_t peer_size_ = sizeof(sockaddr_in6);
};

class [[nodiscard("without co_await nothing happens")]] connect_operation final
    : public io_operation<connect_operation, tcp_stream> {
public:
    explicit connect_operation(const endpoint& peer) noexcept
        : io_operation(readiness::write), peer_(peer) {}

    int begin() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;
    int attempt() noexcept override;
    void abandon() noexcept;
    void describe(std::FILE* out) const override;
    tcp_stream value() const noexcept;
    std::string tried() const;

private:
    endpoint peer_;
    sockaddr_in6 address_{};
    socklen_t address_size_ = 0;
    bool started_ = false;  // epoll: connect(2) was called, what remains is to hear how it went
};

}  // namespace detail
}  // namespace rondo
