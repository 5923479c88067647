#include <rondo/runtime/core/detail/error_lines.hpp>

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/errors.hpp>

#include <cxxabi.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <typeinfo>

namespace rondo::detail {

namespace {

constexpr std::int64_t line_interval_ns = 100'000'000;
constexpr std::int64_t lines_at_once = 20;

// What a pipe takes whole or not at all (pipe(7), PIPE_BUF).
constexpr std::size_t longest = 4096;

constinit std::atomic<error_lines*> listed_lines{nullptr};

/// While it lives, a write of this thread to a pipe without readers ends with EPIPE alone.
class no_pipe_signal {
public:
    no_pipe_signal() noexcept {
        ::sigemptyset(&pipe_);
        ::sigaddset(&pipe_, SIGPIPE);
        sigset_t pending;
        ::sigpending(&pending);
        // One that is pending already is somebody else's, and stays.
        was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
        if (!was_pending_) ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    no_pipe_signal(const no_pipe_signal&) = delete;
    no_pipe_signal& operator=(const no_pipe_signal&) = delete;
    ~no_pipe_signal() {
        if (was_pending_) return;
        const timespec at_once{};
        while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t pipe_;
    sigset_t before_;
    bool was_pending_;
};

bool put(int fd, const char* text, std::size_t size) noexcept {
    return ::write(fd, text, size) == static_cast<ssize_t>(size);
}

// A descriptor of our own for what standard error is, whose O_NONBLOCK is nobody else's.
bool put_through_own_descriptor(const char* text, std::size_t size) noexcept {
    const int own = ::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0) {
        const bool done = put(own, text, size);
        ::close(own);
        return done;
    }
    if (errno == ENXIO) return false;  // a pipe that nobody reads
    // It may not be opened, or /proc is not there. A pipe that has room has it for a whole line,
    // unless somebody else writes at the same moment.
    pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    return ::poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0 &&
           put(STDERR_FILENO, text, size);
}

}  // namespace

bool write_without_waiting(const char* text, std::size_t size) noexcept {
    const int error_before = errno;
    bool done = false;
    struct stat what;
    if (::fstat(STDERR_FILENO, &what) == 0) {
        if (S_ISSOCK(what.st_mode)) {
            const ssize_t sent = ::send(STDERR_FILENO, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
            done = sent == static_cast<ssize_t>(size);
        } else {
            const no_pipe_signal quiet;
            // A file opened a second time would be written from its beginning.
            done = S_ISREG(what.st_mode) ? put(STDERR_FILENO, text, size)
                                         : put_through_own_descriptor(text, size);
        }
    }
    errno = error_before;
    return done;
}

void error_lines::write(const char* format, ...) noexcept {
    if (!admit()) return leave_out(1);
    char text[longest];
    const std::uint64_t left_out = left_out_.exchange(0);
    int size = 0;
    if (left_out != 0) {
        size = std::snprintf(text, sizeof text, "rondo: %" PRIu64 " %s were left out here\n",
                             left_out, kind_);
    }
    std::size_t end = static_cast<std::size_t>(size);
    std::va_list arguments;
    va_start(arguments, format);
    size = std::vsnprintf(text + end, sizeof text - end, format, arguments);
    va_end(arguments);
    end = std::min(end + static_cast<std::size_t>(std::max(size, 0)), sizeof text - 1);
    text[end++] = '\n';
    if (!write_without_waiting(text, end)) leave_out(left_out + 1);
}

// The generic cell rate algorithm (ITU-T I.371): a line that comes too early changes nothing.
bool error_lines::admit() noexcept {
    const std::int64_t now = real_clock.now();
    // relaxed, here and below: the counts guard nothing
    std::int64_t until = paid_until_ns_.load(std::memory_order_relaxed);
    for (;;) {
        const std::int64_t next = std::max(until, now) + line_interval_ns;
        if (next - now > lines_at_once * line_interval_ns) return false;
        if (paid_until_ns_.compare_exchange_weak(until, next, std::memory_order_relaxed)) {
            return true;
        }
    }
}

void error_lines::leave_out(std::uint64_t lines) noexcept {
    left_out_.fetch_add(lines, std::memory_order_relaxed);
    if (listed_.exchange(true)) return;
    next_listed_ = listed_lines.load();
    while (!listed_lines.compare_exchange_weak(next_listed_, this)) {
    }
    if (next_listed_ == nullptr) std::atexit(tell_at_exit);
}

void error_lines::tell_at_exit() noexcept {
    for (error_lines* each = listed_lines.load(); each != nullptr; each = each->next_listed_) {
        const std::uint64_t left_out = each->left_out_.exchange(0);
        if (left_out == 0) continue;
        char text[longest];
        const int size = std::snprintf(text, sizeof text, "rondo: %" PRIu64 " %s were left out\n",
                                       left_out, each->kind_);
        write_without_waiting(text, static_cast<std::size_t>(size));
    }
}

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& known) {
        return known.what();
    } catch (const operation_cancelled&) {
        return "operation_cancelled";
    } catch (...) {
        const char* name = abi::__cxa_current_exception_type()->name();
        int status = 0;
        const std::unique_ptr<char, decltype(&std::free)> readable{
            abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free};
        return std::string("an exception of type ") + (readable ? readable.get() : name);
    }
}

}  // namespace rondo::detail
