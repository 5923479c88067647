#include <rondo/runtime/reactor/signal.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/reactor/detail/open_descriptor.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>
#include <rondo/runtime/reactor/poll_fd.hpp>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <source_location>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace rondo {

namespace {

constexpr int signal_count = 64;

// One that listens for signals, as the signal handler sees it. The handler may run on any thread at
// any moment, so it reads and writes atomics only; `wanted` is not zero exactly while `fd` is
// valid.
struct listener {
    std::atomic<std::uint64_t> wanted{0};
    std::atomic<std::uint64_t> arrived{0};
    std::atomic<int> fd{-1};
};

// Signals belong to the process, so this does too. A forked child has a copy of its own, in which
// nobody listens: see begin_as_child().
struct registry {
    std::array<listener, 64> listeners;
    std::atomic<int> handlers_running{0};
    std::atomic<pid_t> process{0};        // that the handlers were installed in
    std::atomic<unsigned> generation{0};  // forks on the way from the first process to this one
    std::mutex changing;  // guards what follows, and who takes and gives back listeners
    std::array<unsigned, signal_count + 1> users{};
    std::array<struct sigaction, signal_count + 1> before{};
};

constinit registry signals;

void on_signal(int signal) {
    const int error = errno;
    if (::getpid() != signals.process.load()) {
        // A child that was made without fork(3), by clone or vfork. The descriptors are its
        // parent's: it does as if nobody had listened.
        ::sigaction(signal, &signals.before[signal], nullptr);
        ::raise(signal);
        errno = error;
        return;
    }
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

bool catch_signal(int signal) noexcept {
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    return ::sigaction(signal, &action, &signals.before[signal]) == 0;
}

// What others have installed since then stays. (Nothing can be done where the system refuses; it
// has let the handler be installed.)
void put_back(int signal) noexcept {
    struct sigaction now{};
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == on_signal) {
        ::sigaction(signal, &signals.before[signal], nullptr);
    }
}

// fork() copies handlers, and the descriptors are shared with the parent. So the child lets go of
// both; what in its memory listens belongs to an older generation.
void begin_as_child() noexcept {
    for (int signal = 1; signal <= signal_count; ++signal) {
        if (std::exchange(signals.users[signal], 0) != 0) put_back(signal);
    }
    for (listener& one : signals.listeners) {
        one.wanted.store(0);
        one.fd.store(-1);
    }
    signals.handlers_running.store(0);
    signals.generation.fetch_add(1);
    signals.process.store(::getpid());
    signals.changing.unlock();
}

void prepare_for_forks() {
    static const bool prepared = [] {
        const int error = ::pthread_atfork([] { signals.changing.lock(); },
                                           [] { signals.changing.unlock(); }, begin_as_child);
        if (error != 0) {
            throw std::system_error(error, std::system_category(), "pthread_atfork");
        }
        signals.process.store(::getpid());
        return true;
    }();
    (void)prepared;
}

}  // namespace

namespace detail {

// Catches signals for as long as it lives.
class signal_listening {
public:
    explicit signal_listening(signal_set wanted) : wanted_(wanted) {
        prepare_for_forks();
        fd_ = open_descriptor([] { return kernel().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
        if (fd_ < 0)
            throw std::system_error(errno, std::system_category(), "eventfd for wait_signal");
        const std::lock_guard lock(signals.changing);
        generation_ = signals.generation.load();
        for (listener& one : signals.listeners) {
            if (one.fd.load() >= 0) continue;
            mine_ = &one;
            break;
        }
        if (mine_ == nullptr) {
            kernel().close(fd_);
            throw std::system_error(EAGAIN, std::system_category(),
                                    "wait_signal: 64 tasks and subscriptions listen already");
        }
        mine_->fd.store(fd_);
        mine_->arrived.store(0);
        mine_->wanted.store(wanted_.bits());
        for (int signal = 1; signal <= signal_count; ++signal) {
            if (!wanted_.contains(signal)) continue;
            if (signals.users[signal] == 0 && !catch_signal(signal)) {
                const int error = errno;
                forget_below(signal);
                kernel().close(fd_);
                throw std::system_error(error, std::system_category(),
                                        "wait_signal: catch signal " + std::to_string(signal));
            }
            ++signals.users[signal];
        }
    }

    signal_listening(const signal_listening&) = delete;
    signal_listening& operator=(const signal_listening&) = delete;

    ~signal_listening() {
        {
            const std::lock_guard lock(signals.changing);
            if (is_of_this_process()) forget_below(signal_count + 1);
        }
        kernel().close(fd_);
    }

    task<int> next() {
        for (;;) {
            if (!is_of_this_process()) {
                throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                                        "wait for a signal with what the parent process made");
            }
            if (const int signal = take_arrived()) co_return signal;
            co_await poll_fd(fd_, POLLIN);
            // The handler notes the signal before it writes: what is noted later writes anew.
            std::uint64_t count;
            [[maybe_unused]] const auto got = kernel().read(fd_, &count, sizeof count);
        }
    }

    bool waiting = false;  // a task waits for the next signal

private:
    bool is_of_this_process() const noexcept { return generation_ == signals.generation.load(); }

    int take_arrived() noexcept {
        const std::uint64_t arrived = mine_->arrived.load();
        if (arrived == 0) return 0;
        const int signal = std::countr_zero(arrived) + 1;
        mine_->arrived.fetch_and(~signal_set::bit_of(signal));
        return signal;
    }

    // Under the lock; the signals from `end` on were not caught for this one.
    void forget_below(int end) noexcept {
        for (int signal = 1; signal < end; ++signal) {
            if (wanted_.contains(signal) && --signals.users[signal] == 0) put_back(signal);
        }
        mine_->wanted.store(0);
        // A handler on another thread may have seen the wish just before: the descriptor outlives
        // it.
        while (signals.handlers_running.load() != 0) ::sched_yield();
        mine_->fd.store(-1);
    }

    signal_set wanted_;
    int fd_ = -1;
    unsigned generation_ = 0;
    listener* mine_ = nullptr;
};

void end_signal_listening::operator()(signal_listening* one) const noexcept { delete one; }

namespace {

task<int> next_of(signal_listening& listening, std::source_location where) {
    if (std::exchange(listening.waiting, true)) {
        misuse("a signal_subscription is awaited by two tasks at once", where);
    }
    const struct waiting_ends {
        signal_listening& of;
        ~waiting_ends() { of.waiting = false; }
    } at_end{listening};
    auto next = listening.next();
    co_return co_await next;
}

}  // namespace
}  // namespace detail

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
    detail::signal_listening mine{wanted};
    auto next = mine.next();
    co_return co_await next;
}

signal_subscription::signal_subscription(signal_set signals)
    : listening_(new detail::signal_listening(signals)) {}

task<int> signal_subscription::next(std::source_location where) {
    return detail::next_of(*listening_, where);
}

}  // namespace rondo
