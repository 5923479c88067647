#include <rondo/runtime/signal.hpp>

#include <rondo/runtime/detail/open_descriptor.hpp>
#include <rondo/runtime/poll_fd.hpp>

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace rondo {

namespace {

constexpr int signal_count = 64;

// One waiting task, as the signal handler sees it. The handler may run on any thread at any moment,
// so it reads and writes atomics only; `wanted` is not zero exactly while `fd` is valid.
struct listener {
    std::atomic<std::uint64_t> wanted{0};
    std::atomic<std::uint64_t> arrived{0};
    std::atomic<int> fd{-1};
};

// Signals belong to the process, so this does too.
struct registry {
    std::array<listener, 64> listeners;
    std::atomic<int> handlers_running{0};
    std::mutex changing;  // guards what follows, and who takes and gives back listeners
    std::array<unsigned, signal_count + 1> users{};
    std::array<struct sigaction, signal_count + 1> before{};
};

constinit registry signals;

void on_signal(int signal) {
    const int error = errno;
    signals.handlers_running.fetch_add(1);
    for (listener& one : signals.listeners) {
        if ((one.wanted.load() & signal_set::bit_of(signal)) == 0) continue;
        one.arrived.fetch_or(signal_set::bit_of(signal));
        const std::uint64_t wake = 1;
        [[maybe_unused]] const auto put = ::write(one.fd.load(), &wake, sizeof wake);
    }
    signals.handlers_running.fetch_sub(1);
    errno = error;
}

// A registered wish for signals, for as long as it lives.
class subscription {
public:
    explicit subscription(signal_set wanted) : wanted_(wanted) {
        fd_ = detail::open_descriptor([] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
        if (fd_ < 0)
            throw std::system_error(errno, std::system_category(), "eventfd for wait_signal");
        const std::lock_guard lock(signals.changing);
        for (listener& one : signals.listeners) {
            if (one.fd.load() >= 0) continue;
            mine_ = &one;
            break;
        }
        if (mine_ == nullptr) {
            ::close(fd_);
            throw std::system_error(EAGAIN, std::system_category(),
                                    "wait_signal: 64 tasks wait already");
        }
        mine_->fd.store(fd_);
        mine_->arrived.store(0);
        mine_->wanted.store(wanted_.bits());
        for (int signal = 1; signal <= signal_count; ++signal) {
            if (!wanted_.contains(signal) || signals.users[signal]++ != 0) continue;
            struct sigaction action{};
            action.sa_handler = on_signal;
            action.sa_flags = SA_RESTART;
            ::sigemptyset(&action.sa_mask);
            ::sigaction(signal, &action, &signals.before[signal]);
        }
    }

    subscription(const subscription&) = delete;
    subscription& operator=(const subscription&) = delete;

    ~subscription() {
        {
            const std::lock_guard lock(signals.changing);
            for (int signal = 1; signal <= signal_count; ++signal) {
                if (!wanted_.contains(signal) || --signals.users[signal] != 0) continue;
                ::sigaction(signal, &signals.before[signal], nullptr);
            }
            mine_->wanted.store(0);
            // A handler on another thread may have seen the wish just before: the descriptor
            // outlives it.
            while (signals.handlers_running.load() != 0) ::sched_yield();
            mine_->fd.store(-1);
        }
        ::close(fd_);
    }

    int fd() const noexcept { return fd_; }
    std::uint64_t arrived() const noexcept { return mine_->arrived.load(); }

private:
    signal_set wanted_;
    int fd_ = -1;
    listener* mine_ = nullptr;
};

}  // namespace

void signal_set::add(int number) {
    // The C library keeps the numbers between the classic signals and SIGRTMIN for itself.
    const bool reserved = number > 31 && number < SIGRTMIN;
    if (number < 1 || number > signal_count || number == SIGKILL || number == SIGSTOP || reserved) {
        throw std::invalid_argument("wait_signal: " + std::to_string(number) +
                                    " is no signal that can be caught");
    }
    bits_ |= bit_of(number);
}

task<int> wait_signal(signal_set wanted) {
    subscription mine{wanted};
    while (mine.arrived() == 0) co_await poll_fd(mine.fd(), POLLIN);
    co_return std::countr_zero(mine.arrived()) + 1;
}

}  // namespace rondo
