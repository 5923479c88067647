#include <rondo/runtime/detail/epoll_reactor.hpp>

#include <rondo/runtime/detail/operation.hpp>
#include <rondo/runtime/detail/pending_list.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace rondo::detail {

namespace {

constexpr std::uint32_t read_events = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr std::uint32_t write_events = EPOLLOUT | EPOLLHUP | EPOLLERR;
// After these a short read does not mean that there is no more to read: an end or an error makes
// the next one return at once, and TCP's urgent data (EPOLLPRI) cuts reads short in mid-stream.
constexpr std::uint32_t end_events = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;

bool concerns(std::uint32_t events, readiness wanted) noexcept {
    switch (wanted) {
        case readiness::read: return (events & read_events) != 0;
        case readiness::write: return (events & write_events) != 0;
        case readiness::any: break;
    }
    return true;
}

}  // namespace

epoll_reactor::epoll_reactor() {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) throw std::system_error(errno, std::system_category(), "epoll_create1");
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.fd = wake_fd_;
    if (wake_fd_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) {
        const int error = errno;
        if (wake_fd_ >= 0) ::close(wake_fd_);
        ::close(epoll_);
        throw std::system_error(error, std::system_category(), "eventfd for the epoll reactor");
    }
}

epoll_reactor::~epoll_reactor() {
    ::close(wake_fd_);
    ::close(epoll_);
}

submission epoll_reactor::submit(operation& op) noexcept {
    entry* const known = entries_.of(op.fd);
    if (known == nullptr) [[unlikely]] {
        op.result = -ENOMEM;
        return submission::finished;
    }
    entry& at = *known;
    const bool is_read = op.waits_for == readiness::read;
    if (!is_read || !at.drained) {
        if (try_to_finish(op)) {
            if (is_read) at.drained = op.drained && !at.ended;
            return submission::finished;
        }
    }
    if (!at.registered || op.fd_is_foreign) {
        if (const int error = watch(op, at); error != 0) {
            // What a drained read was not tried for may have come all the same.
            if (std::exchange(at.drained, false)) return submit(op);
            op.result = -error;
            return submission::finished;
        }
    }
    append_pending(at.waiting, op);
    ++waiting_;
    return submission::pending;
}

int epoll_reactor::watch(const operation& op, entry& at) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    event.data.fd = op.fd;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, op.fd, &event) != 0) {
        // MOD reports afresh what is ready now, which is what a first registration does too.
        if (errno != EEXIST || ::epoll_ctl(epoll_, EPOLL_CTL_MOD, op.fd, &event) != 0) return errno;
    }
    at.registered = true;
    at.drained = false;
    at.ended = false;
    return 0;
}

void epoll_reactor::unwatch_if_foreign(const operation& op, entry& at) noexcept {
    if (!op.fd_is_foreign || at.waiting != nullptr) return;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, op.fd, nullptr);
    at = entry{};
}

void epoll_reactor::cancel(operation& op) noexcept {
    entry& at = entries_[op.fd];
    remove_pending(at.waiting, op);
    --waiting_;
    unwatch_if_foreign(op, at);
    op.result = -ECANCELED;
    complete(op);
}

void epoll_reactor::retry(int fd, std::uint32_t events) noexcept {
    entry& at = entries_[fd];
    if ((events & read_events) != 0) at.drained = false;
    if ((events & end_events) != 0) at.ended = true;
    operation** link = &at.waiting;
    while (*link != nullptr) {
        operation& op = **link;
        if (!concerns(events, op.waits_for) || !try_to_finish(op)) {
            link = &op.next_on_fd;
            continue;
        }
        *link = op.next_on_fd;
        --waiting_;
        if (op.waits_for == readiness::read) at.drained = op.drained && !at.ended;
        unwatch_if_foreign(op, at);
        complete(op);
    }
}

int epoll_reactor::wait_for_events(std::int64_t deadline, epoll_event* events, int room) noexcept {
    if (deadline == no_wait) return ::epoll_wait(epoll_, events, room, 0);
    if (deadline == forever) return ::epoll_wait(epoll_, events, room, -1);
    const std::int64_t left = std::max<std::int64_t>(deadline - now_ns(), 0);
    if (has_pwait2_) {
        const timespec timeout{static_cast<time_t>(left / 1'000'000'000),
                               static_cast<long>(left % 1'000'000'000)};
        const int count = ::epoll_pwait2(epoll_, events, room, &timeout, nullptr);
        if (count >= 0 || errno == EINTR) return count;
        has_pwait2_ = false;  // Linux before 5.11, or denied
    }
    const std::int64_t ms = std::min<std::int64_t>((left + 999'999) / 1'000'000, INT32_MAX);
    return ::epoll_wait(epoll_, events, room, static_cast<int>(ms));
}

void epoll_reactor::wait(std::int64_t deadline) noexcept {
    if (deadline == no_wait && waiting_ == 0) return;
    // Few at once: who has been read for is answered while the kernel's part of the connection is
    // still in the cache: some per cent of an echo server's processor time, beside 256 at once.
    std::array<epoll_event, 32> events;
    const int count = wait_for_events(deadline, events.data(), static_cast<int>(events.size()));
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.fd == wake_fd_) {
            std::uint64_t ignored;
            [[maybe_unused]] const auto got = ::read(wake_fd_, &ignored, sizeof ignored);
        } else {
            retry(event.data.fd, event.events);
        }
    }
}

void epoll_reactor::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto put = ::write(wake_fd_, &one, sizeof one);
}

void epoll_reactor::opened(int fd) noexcept { release(fd); }

// Else each byte for the other reactor would wake this one. What entries_ holds of the descriptor
// is wrong from now on, until opened() is called for its number, as for every descriptor that
// comes.
void epoll_reactor::disown(int fd) noexcept { ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

void epoll_reactor::release(int fd) noexcept {
    entry* const at = entries_.find(fd);
    if (at == nullptr) return;
    while (operation* op = at->waiting) {
        at->waiting = op->next_on_fd;
        --waiting_;
        op->result = -EBADF;
        complete(*op);
    }
    *at = entry{};
}

void epoll_reactor::close(int fd) noexcept {
    release(fd);
    ::close(fd);
}

std::unique_ptr<reactor> make_epoll_reactor() { return std::make_unique<epoll_reactor>(); }

}  // namespace rondo::detail
