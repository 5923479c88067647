#include <rondo/runtime/reactor/detail/epoll_reactor.hpp>

#include <rondo/runtime/reactor/detail/operation.hpp>
#include <rondo/runtime/reactor/detail/owned_descriptor.hpp>
#include <rondo/runtime/reactor/detail/pending_list.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
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

// What an event carries: its descriptor's number and, above it, which registration of the number it
// comes from.
std::uint64_t label(int fd, std::uint32_t registration) noexcept {
    return std::uint64_t{registration} << 32 | static_cast<std::uint32_t>(fd);
}
int number_in(std::uint64_t label) noexcept { return static_cast<int>(label & UINT32_MAX); }
std::uint32_t registration_in(std::uint64_t label) noexcept {
    return static_cast<std::uint32_t>(label >> 32);
}

bool watch_wake_ups(int epoll, int wake_fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = label(wake_fd, 0);
    return ::epoll_ctl(epoll, EPOLL_CTL_ADD, wake_fd, &event) == 0;
}

}  // namespace

epoll_reactor::epoll_reactor() {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) throw std::system_error(errno, std::system_category(), "epoll_create1");
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd_ < 0 || !watch_wake_ups(epoll_, wake_fd_)) {
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
    if (known == nullptr) [[unlikely]]
        return submit_without_entry(op);
    entry& at = *known;
    const bool is_read = op.direction == readiness::read;
    if (!is_read || !at.drained) {
        if (try_to_finish(op)) {
            if (is_read) at.drained = op.took_all && !at.ended;
            return submission::finished;
        }
    }
    if (!at.registered || op.fd_is_foreign) {
        if (const int error = watch(op.fd, at); error != 0) {
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

// Nothing tells when one without a descriptor is worth another try: its call is not to wait.
submission epoll_reactor::submit_without_entry(operation& op) noexcept {
    if (op.fd >= 0) {
        op.result = -ENOMEM;
    } else if (!try_to_finish(op)) {
        op.result = -EAGAIN;
    }
    return submission::finished;
}

int epoll_reactor::watch(int fd, entry& at) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    event.data.u64 = label(fd, ++at.registrations);
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
        // MOD reports afresh what is ready now, which is what a first registration does too.
        if (errno != EEXIST || ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) return errno;
    }
    if (!std::exchange(at.registered, true)) ++registered_;
    at.drained = false;
    at.ended = false;
    return 0;
}

void epoll_reactor::unwatch_if_foreign(const operation& op, entry& at) noexcept {
    if (!op.fd_is_foreign || at.waiting != nullptr) return;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, op.fd, nullptr);
    forget(at);
}

// All but who waits.
void epoll_reactor::forget(entry& at) noexcept {
    if (std::exchange(at.registered, false)) --registered_;
    at.drained = false;
    at.ended = false;
}

void epoll_reactor::cancel(operation& op) noexcept {
    entry& at = entries_[op.fd];
    remove_pending(at.waiting, op);
    --waiting_;
    unwatch_if_foreign(op, at);
    op.result = -ECANCELED;
    complete(op);
}

void epoll_reactor::retry(const epoll_event& event) noexcept {
    const int fd = number_in(event.data.u64);
    const std::uint32_t events = event.events;
    entry& at = entries_[fd];
    if (at.registrations != registration_in(event.data.u64) || !at.registered) [[unlikely]]
        return count_stray();
    if (at.waiting == nullptr) unregister_moved(fd, at);
    if ((events & read_events) != 0) at.drained = false;
    if ((events & end_events) != 0) at.ended = true;
    operation** link = &at.waiting;
    while (*link != nullptr) {
        operation& op = **link;
        if (!concerns(events, op.direction) || !try_to_finish(op)) {
            link = &op.next_on_fd;
            continue;
        }
        *link = op.next_on_fd;
        --waiting_;
        if (op.direction == readiness::read) at.drained = op.took_all && !at.ended;
        unwatch_if_foreign(op, at);
        complete(op);
    }
}

int epoll_reactor::wait_for_events(std::int64_t deadline, epoll_event* events, int room) noexcept {
    if (deadline == no_wait) return ::epoll_wait(epoll_, events, room, 0);
    if (deadline == forever) return ::epoll_wait(epoll_, events, room, -1);
    const std::int64_t left = std::max<std::int64_t>(deadline - now(), 0);
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
    // Few at once: a connection is answered while the kernel's part of it, which the read has
    // touched, is still in the cache: some per cent of an echo server's processor time, beside 256
    // at once.
    std::array<epoll_event, 32> events;
    const int count = wait_for_events(deadline, events.data(), static_cast<int>(events.size()));
    const int set = epoll_;
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.u64 == label(wake_fd_, 0)) {
            std::uint64_t ignored;
            [[maybe_unused]] const auto got = ::read(wake_fd_, &ignored, sizeof ignored);
        } else {
            retry(event);
            if (epoll_ != set) break;  // the new set tells again of the rest
        }
    }
}

void epoll_reactor::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto put = ::write(wake_fd_, &one, sizeof one);
}

void epoll_reactor::opened(int fd) noexcept { release(fd); }

// The operations that poll the descriptor are told afresh what it is ready for.
void epoll_reactor::arrived(int fd) noexcept {
    entry* const at = entries_.find(fd);
    if (at == nullptr) return;
    end_waiting(*at, EBADF, false);
    forget(*at);
    if (at->waiting == nullptr) return;
    if (const int error = watch(fd, *at); error != 0) end_waiting(*at, error, true);
}

const operation* epoll_reactor::first_pending(int fd) const noexcept {
    const entry* const at = entries_.find(fd);
    return at != nullptr ? at->waiting : nullptr;
}

void epoll_reactor::release(int fd) noexcept {
    entry* const at = entries_.find(fd);
    if (at == nullptr) return;
    end_waiting(*at, EBADF, true);
    forget(*at);
}

void epoll_reactor::end_waiting(entry& at, int error, bool foreign_too) noexcept {
    operation** link = &at.waiting;
    while (operation* const op = *link) {
        if (op->fd_is_foreign && !foreign_too) {
            link = &op->next_on_fd;
            continue;
        }
        *link = op->next_on_fd;
        --waiting_;
        op->result = -error;
        complete(*op);
    }
}

// Nobody here waits for the descriptor. Where another reactor uses it now, each byte for that one
// would wake this one.
void epoll_reactor::unregister_moved(int fd, entry& at) noexcept {
    const descriptor_record* const known = find_record(fd);
    // Relaxed: what another reactor has just done to it is noticed at the next event.
    if (known == nullptr || known->reactor.load(std::memory_order_relaxed) == id()) return;
    // That reactor may be closing it at this moment, and its number may become another's: then this
    // call finds nothing in the set, and changes nothing. ThreadSanitizer would take it for a race
    // if it were made by its wrapper.
    if (::syscall(SYS_epoll_ctl, epoll_, EPOLL_CTL_DEL, fd, nullptr) != 0) count_stray();
    forget(at);
}

// An event of a descriptor that was closed here, and whose number can no longer end its
// registration: epoll(7), question 6.
void epoll_reactor::count_stray() noexcept {
    // To make the set afresh costs a call for each descriptor, so as many may come before.
    if (++strays_ > registered_) renew_set();
}

void epoll_reactor::renew_set() noexcept {
    strays_ = 0;
    const int fresh = ::epoll_create1(EPOLL_CLOEXEC);
    if (fresh < 0) return;
    if (!watch_wake_ups(fresh, wake_fd_)) {
        ::close(fresh);
        return;
    }
    ::close(std::exchange(epoll_, fresh));
    for (int fd = 0; fd < entries_.size(); ++fd) {
        entry& at = entries_[fd];
        // A descriptor that nobody waits for is registered again at its next EAGAIN.
        forget(at);
        if (at.waiting == nullptr) continue;
        if (const int error = watch(fd, at); error != 0) end_waiting(at, error, true);
    }
}

void epoll_reactor::close(int fd) noexcept {
    release(fd);
    if (!is_used_on_thread(fd)) ::close(fd);
}

std::unique_ptr<reactor> make_epoll_reactor() { return std::make_unique<epoll_reactor>(); }

}  // namespace rondo::detail
