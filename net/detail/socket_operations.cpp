#include <rondo/net/detail/socket_operations.hpp>

#include <rondo/io/stream.hpp>
#include <rondo/net/tcp.hpp>
#include <rondo/runtime/reactor/detail/buffer_pool.hpp>
#include <rondo/runtime/reactor/detail/open_descriptor.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

namespace rondo::detail {

namespace {

unsigned clamped(std::size_t size) noexcept {
    return static_cast<unsigned>(std::min(size, most_at_once));
}

// Calls until a signal no longer interrupts; gives the result or minus the errno.
template <class Call>
int without_interruption(Call call) noexcept {
    for (;;) {
        const auto value = call();
        if (value >= 0) return static_cast<int>(value);
        if (errno != EINTR) return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

// By reference: an operation's own members are read again for another try, and need not be kept.
int try_recv(const int& fd, const std::span<std::byte>& space) noexcept {
    return without_interruption([&] {
        return current_core->kernel->recv(fd, space.data(), clamped(space.size()), MSG_DONTWAIT);
    });
}

int try_send(const int& fd, const std::span<const std::byte>& bytes) noexcept {
    return without_interruption([&] {
        return current_core->kernel->send(fd, bytes.data(), clamped(bytes.size()),
                                          MSG_DONTWAIT | MSG_NOSIGNAL);
    });
}

// No IORING_RECVSEND_POLL_FIRST, though most reads find nothing yet: the kernel's own first try
// costs less than that flag, by 4 % of an echo server's processor time (64 connections, 64 bytes,
// Linux 6.18).
void prepare_recv(io_uring_sqe& sqe, int fd, std::span<std::byte> space) noexcept {
    io_uring_prep_recv(&sqe, fd, space.data(), clamped(space.size()), 0);
}

void prepare_send(io_uring_sqe& sqe, int fd, std::span<const std::byte> bytes) noexcept {
    io_uring_prep_send(&sqe, fd, bytes.data(), clamped(bytes.size()), MSG_NOSIGNAL);
}

bool needs_nonblocking() noexcept { return current_core->io->needs_nonblocking(); }

// Whether an error says that the connection is no more, and does so once only.
bool breaks_connection(int error) noexcept {
    switch (error) {
        case ECONNRESET:
        case EPIPE:
        case ETIMEDOUT:
        case ECONNABORTED:
        case ECONNREFUSED:
        case EPROTO:
        case ENETDOWN:
        case ENETRESET:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH: return true;
        default: return false;
    }
}

void note_failure(descriptor_record& socket, int error) noexcept {
    if (socket.broken == 0 && breaks_connection(error)) {
        socket.broken = static_cast<std::int16_t>(error);
    }
}

endpoint endpoint_of(const sockaddr_in6& address, socklen_t size) {
    sockaddr_storage storage{};
    std::memcpy(&storage, &address, std::min<std::size_t>(size, sizeof address));
    return endpoint::from_sockaddr(storage);
}

}  // namespace

void fail_on(const std::string& name, const char* what, std::error_code code) {
    throw std::system_error(code, std::string(what) + " " + name);
}

std::string called(const owned_descriptor* socket, const char* kind) {
    if (socket == nullptr) return std::string("a closed ") + kind;
    return static_cast<const socket_handle*>(socket)->name().to_string();
}

int read_outcome(descriptor_record& socket, int value) noexcept {
    if (value < 0) note_failure(socket, -value);
    // A reset that comes after the peer has ended the stream is EPIPE, and takes nothing from that.
    if (value != 0 || socket.broken == 0 || socket.broken == EPIPE) return value;
    return -socket.broken;
}

int write_outcome(descriptor_record& socket, int value) noexcept {
    // After shutdown_write() that is no word about the connection.
    if (value != -EPIPE || !socket.write_ended) note_failure(socket, -value);
    return value;
}

// recv

void recv_operation::prepare(io_uring_sqe& sqe) noexcept { prepare_recv(sqe, fd, space_); }

int recv_operation::attempt() noexcept { return try_recv(fd, space_); }

bool recv_operation::finish(int value) noexcept {
    const bool filled = value > 0 && static_cast<std::size_t>(value) == space_.size();
    result = value;
    // Of a stream that was closed under it nothing may be left.
    if (!fd_closed) {
        const bool more = filled && has_more;
        // Seldom written: what lies beside it belongs to streams of other threads.
        if (record().has_more != more) record().has_more = more;
        if (value <= 0) result = read_outcome(record(), value);
    }
    took_all = value > 0 && !filled;
    return true;
}

void recv_operation::describe(std::FILE* out) const {
    std::fprintf(out, "recv from %s", peer().c_str());
}

void recv_exactly_operation::prepare(io_uring_sqe& sqe) noexcept {
    // A recv of no bytes would wait for some.
    if (left().empty()) return io_uring_prep_nop(&sqe);
    prepare_recv(sqe, fd, left());
}

int recv_exactly_operation::attempt() noexcept { return left().empty() ? 0 : try_recv(fd, left()); }

bool recv_exactly_operation::finish(int value) noexcept {
    took_all = value > 0 && static_cast<std::size_t>(value) < left().size();
    result = value;
    if (left().empty()) return true;
    if (value <= 0) {
        if (!fd_closed) result = read_outcome(record(), value);
        if (result == 0) result = ended_early;
        return true;
    }
    done_ += static_cast<std::size_t>(value);
    return left().empty();
}

void recv_exactly_operation::describe(std::FILE* out) const {
    std::fprintf(out, "recv from %s, %zu of %zu bytes there", peer().c_str(), done_, space_.size());
}

std::error_code recv_exactly_operation::code() const noexcept {
    if (result == ended_early) return stream_errc::unexpected_end;
    return {-result, std::system_category()};
}

// receive

int receive_operation::begin() noexcept {
    if (const int error = stream_operation::begin(); error != 0) return error;
    buffer_pool* pool = current_core->io->buffers();
    if (pool == nullptr) return -ENOMEM;
    if (!pool->feeds_ring()) way_ = way::poll;
    return 0;
}

void receive_operation::prepare(io_uring_sqe& sqe) noexcept {
    switch (way_) {
        case way::poll: return io_uring_prep_poll_add(&sqe, fd, POLLIN);
        case way::own:
            if (!take_space()) return io_uring_prep_nop(&sqe);  // finish() says what is wrong
            return prepare_recv(sqe, fd, {space_, buffer_pool::buffer_size});
        case way::picked:
        case way::repicked: break;
    }
    io_uring_prep_recv(&sqe, fd, nullptr, buffer_pool::buffer_size, 0);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.buf_group = reactor::buffer_group;
}

int receive_operation::attempt() noexcept {
    way_ = way::own;
    if (!take_space()) return -ENOMEM;
    const int value = try_recv(fd, {space_, buffer_pool::buffer_size});
    if (value == -EAGAIN) drop_space();
    return value;
}

// A buffer of the pool's where the kernel does not pick from those, and memory of its own where all
// are lent. False: there is none.
bool receive_operation::take_space() noexcept {
    if (space_ != nullptr) return true;
    buffer_pool& pool = *current_core->io->buffers();
    taken_ = pool.feeds_ring() ? buffer_pool::none : pool.take();
    space_ = taken_ != buffer_pool::none
                 ? pool.at(taken_)
                 : static_cast<std::byte*>(std::malloc(buffer_pool::buffer_size));
    return space_ != nullptr;
}

void receive_operation::drop_space() noexcept {
    if (taken_ != buffer_pool::none) {
        current_core->io->buffers()->give_back(taken_, space_);
    } else {
        std::free(space_);
    }
    space_ = nullptr;
}

bool receive_operation::finish(int value) noexcept {
    if (!take(value)) return false;
    if (result <= 0 && !fd_closed) result = read_outcome(record(), result);
    return true;
}

bool receive_operation::take(int value) noexcept {
    result = value;
    if (way_ == way::own) {
        if (space_ == nullptr) {
            if (value == 0) result = -ENOMEM;
        } else if (value > 0) {
            buffer = taken_;
            took_all = value < static_cast<int>(buffer_pool::buffer_size);
        } else {
            drop_space();
        }
        return true;
    }
    buffer_pool& pool = *current_core->io->buffers();
    if (buffer != buffer_pool::none) {
        space_ = pool.at(buffer);
        return true;
    }
    if (way_ == way::poll && value > 0) {  // readiness: data would have space
        way_ = pool.feeds_ring() ? way::repicked : way::own;
        return false;
    }
    if (value != -ENOBUFS) return true;
    if (!pool.replenish()) way_ = way_ == way::picked ? way::poll : way::own;
    return false;
}

void receive_operation::describe(std::FILE* out) const {
    std::fprintf(out, "receive from %s", peer().c_str());
}

rondo::buffer receive_operation::value() const noexcept {
    buffer_pool* pool = buffer != buffer_pool::none ? current_core->io->buffers() : nullptr;
    return {space_, space_ != nullptr ? static_cast<std::size_t>(result) : 0, pool, buffer};
}

// send

void send_some_operation::prepare(io_uring_sqe& sqe) noexcept { prepare_send(sqe, fd, bytes_); }

int send_some_operation::attempt() noexcept { return try_send(fd, bytes_); }

bool send_some_operation::finish(int value) noexcept {
    result = value;
    if (value < 0 && !fd_closed) write_outcome(record(), value);
    return true;
}

void send_some_operation::describe(std::FILE* out) const {
    std::fprintf(out, "send to %s", peer().c_str());
}

void send_all_operation::prepare(io_uring_sqe& sqe) noexcept {
    if (!record().zero_copy || left_.size() < least_without_copy ||
        !current_core->io->sends_without_copy()) {
        return prepare_send(sqe, fd, left_);
    }
    constexpr unsigned report_usage = 1u << 3;  // newer than the headers of liburing 2.3
    io_uring_prep_send_zc(&sqe, fd, left_.data(), clamped(left_.size()), MSG_NOSIGNAL, 0);
    sqe.ioprio |= report_usage;
}

int send_all_operation::attempt() noexcept { return try_send(fd, left_); }

bool send_all_operation::finish(int value) noexcept {
    result = value;
    // No more memory may be locked for it (RLIMIT_MEMLOCK), or the socket is none that can do it.
    const bool refused = value == -ENOMEM || value == -ENOBUFS || value == -EOPNOTSUPP;
    if (refused && !fd_closed && std::exchange(record().zero_copy, false)) return false;
    if (value < 0) {
        if (!fd_closed) write_outcome(record(), value);
        return true;
    }
    // The way to this peer needs copies (loopback does): no more of them that cost extra.
    if (buffer == copied && !fd_closed) record().zero_copy = false;
    left_ = left_.subspan(static_cast<std::size_t>(value));
    return left_.empty();
}

void send_all_operation::describe(std::FILE* out) const {
    std::fprintf(out, "send to %s, %zu bytes left", peer().c_str(), left_.size());
}

int send_gather_operation::begin() noexcept {
    refill();
    return stream_operation::begin();
}

// Replaces sent pieces by those that follow.
void send_gather_operation::refill() noexcept {
    if (first_ != count_) return;
    if (count_ == pieces_.size() || !rest_.empty()) first_ = count_ = 0;
    while (count_ < pieces_.size() && !rest_.empty()) {
        if (!rest_.front().empty()) pieces_[count_++] = piece(rest_.front());
        rest_ = rest_.subspan(1);
    }
}

void send_gather_operation::point_message() noexcept {
    message_.msg_iov = pieces_.data() + first_;
    message_.msg_iovlen = count_ - first_;
}

void send_gather_operation::prepare(io_uring_sqe& sqe) noexcept {
    point_message();
    io_uring_prep_sendmsg(&sqe, fd, &message_, MSG_NOSIGNAL);
}

int send_gather_operation::attempt() noexcept {
    point_message();
    return without_interruption(
        [&] { return current_core->kernel->sendmsg(fd, &message_, MSG_DONTWAIT | MSG_NOSIGNAL); });
}

bool send_gather_operation::finish(int value) noexcept {
    result = value;
    if (value < 0) {
        if (!fd_closed) write_outcome(record(), value);
        return true;
    }
    auto sent = static_cast<std::size_t>(value);
    while (first_ != count_ && sent >= pieces_[first_].iov_len) sent -= pieces_[first_++].iov_len;
    if (first_ != count_) {
        pieces_[first_] = piece({static_cast<std::byte*>(pieces_[first_].iov_base) + sent,
                                 pieces_[first_].iov_len - sent});
        return false;
    }
    refill();
    return first_ == count_;
}

void send_gather_operation::describe(std::FILE* out) const {
    std::fprintf(out, "sendmsg to %s", peer().c_str());
}

// hangup

void hangup_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_poll_add(&sqe, fd, POLLRDHUP);
}

int hangup_operation::attempt() noexcept {
    pollfd state{fd, POLLRDHUP, 0};
    const int count = without_interruption([&] { return kernel().poll(&state, 1, 0); });
    if (count < 0) return count;
    return count == 0 ? -EAGAIN : state.revents;
}

void hangup_operation::describe(std::FILE* out) const {
    std::fprintf(out, "the end of the connection with %s", peer().c_str());
}

hangup hangup_operation::value() const noexcept {
    // An operation that was told of the failure has taken that from what poll(2) sees.
    const bool broken = is_open() && record().broken != 0;
    return (result & POLLERR) != 0 || broken ? hangup::broken : hangup::no_more_data;
}

// accept

int accept_operation::begin() noexcept {
    if (const int error = descriptor_operation::begin(); error != 0) return error;
    if (needs_nonblocking() && !record().never_blocks) {
        const int flags = kernel().fcntl(fd, F_GETFL, 0);
        if (flags < 0 || kernel().fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
        record().never_blocks = true;
    }
    return 0;
}

void accept_operation::prepare(io_uring_sqe& sqe) noexcept {
    peer_size_ = sizeof peer_;
    io_uring_prep_accept(&sqe, fd, reinterpret_cast<sockaddr*>(&peer_), &peer_size_, SOCK_CLOEXEC);
    if (std::exchange(record().has_none, false) && current_core->io->polls_before_accept()) {
        // A look that finds none makes a socket and a file first, and throws them away: a tenth of
        // what a short connection costs. For the first try only: what it is told to poll for, a
        // second one looks at.
        constexpr unsigned poll_first = 1u << 2;  // newer than the headers of liburing 2.3
        sqe.ioprio |= poll_first;
    }
}

int accept_operation::attempt() noexcept {
    peer_size_ = sizeof peer_;
    return without_interruption([&] {
        return kernel().accept4(fd, reinterpret_cast<sockaddr*>(&peer_), &peer_size_, SOCK_CLOEXEC);
    });
}

bool accept_operation::finish(int value) noexcept {
    result = value;
    if (!fd_closed) record().has_none = !has_more;
    switch (-value) {
        // accept(2): errors of a connection that was gone before it was taken are no errors of the
        // listener.
        case ECONNABORTED:
        case EPROTO:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH: return false;
        default: return true;
    }
}

void accept_operation::describe(std::FILE* out) const {
    std::fprintf(out, "accept on %s", called(owner(), "listener").c_str());
}

tcp_stream accept_operation::value() const noexcept {
    current_core->io->opened(result);
    return tcp_stream{socket_handle{result}, endpoint_of(peer_, peer_size_)};
}

std::string accept_operation::tried() const { return "accept on " + called(owner(), "listener"); }

// connect

int connect_operation::begin() noexcept {
    sockaddr_storage storage{};
    address_size_ = peer_.to_sockaddr(storage);
    std::memcpy(&address_, &storage, address_size_);
    const int type = SOCK_STREAM | SOCK_CLOEXEC | (needs_nonblocking() ? SOCK_NONBLOCK : 0);
    fd = open_descriptor([&] { return kernel().socket(storage.ss_family, type, IPPROTO_TCP); });
    if (fd < 0) return -errno;
    current_core->io->opened(fd);
    const int on = 1;
    kernel().setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return 0;
}

void connect_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_connect(&sqe, fd, reinterpret_cast<const sockaddr*>(&address_), address_size_);
}

int connect_operation::attempt() noexcept {
    if (!started_) {
        started_ = true;
        if (kernel().connect(fd, reinterpret_cast<const sockaddr*>(&address_), address_size_) == 0)
            return 0;
        return errno == EINPROGRESS || errno == EINTR ? -EAGAIN : -errno;
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (kernel().getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -errno;
    if (error != 0) return -error;
    sockaddr_storage ignored;
    size = sizeof ignored;
    return kernel().getpeername(fd, reinterpret_cast<sockaddr*>(&ignored), &size) == 0 ? 0
                                                                                       : -EAGAIN;
}

void connect_operation::abandon() noexcept {
    if (fd >= 0) current_core->io->close(std::exchange(fd, -1));
}

void connect_operation::describe(std::FILE* out) const {
    std::fprintf(out, "connect to %s", peer_.to_string().c_str());
}

tcp_stream connect_operation::value() const noexcept {
    socket_handle socket{fd};
    // This reactor knows it already.
    if (descriptor_record* const known = socket.record(); known != nullptr) {
        known->reactor.store(current_core->reactor_id, std::memory_order_relaxed);
    }
    return tcp_stream{std::move(socket), peer_};
}

std::string connect_operation::tried() const { return "connect to " + peer_.to_string(); }

}  // namespace rondo::detail
