// The shapes of operations that the library's own sockets do not have: without a descriptor,
// blocking, with many results, and unknown to the kernel.

#include <rondo/runtime/reactor/detail/operation.hpp>

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/reactor/detail/blocking_operation.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "support/blocked_pool.hpp"
#include "support/leaping_reactor.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

using namespace std::chrono_literals;

namespace rondo::test {

namespace {

using detail::blocking_operation;
using detail::descriptor_operation;
using detail::io_operation;
using detail::owned_descriptor;
using detail::readiness;

constexpr unsigned char no_opcode = 200;  // that any kernel has

class open_operation final : public io_operation<open_operation, int, blocking_operation> {
public:
    explicit open_operation(std::string path) : path_(std::move(path)) {}

    int begin() const noexcept { return 0; }
    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_openat(&sqe, AT_FDCWD, path_.c_str(), O_RDONLY | O_CLOEXEC, 0);
    }
    int attempt() noexcept override {
        const int opened = ::openat(AT_FDCWD, path_.c_str(), O_RDONLY | O_CLOEXEC);
        return opened < 0 ? -errno : opened;
    }
    void describe(std::FILE* out) const override { std::fputs("open", out); }
    int value() const noexcept { return result; }
    std::string tried() const { return "open " + path_; }

private:
    std::string path_;
};

class read_at_operation final
    : public descriptor_operation<read_at_operation, std::size_t, blocking_operation> {
public:
    read_at_operation(const owned_descriptor& file, std::size_t offset, std::span<std::byte> space)
        : descriptor_operation(file, readiness::any), offset_(offset), space_(space) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_read(&sqe, fd, space_.data(), static_cast<unsigned>(space_.size()), offset_);
    }
    int attempt() noexcept override {
        const auto got = ::pread(fd, space_.data(), space_.size(), static_cast<off_t>(offset_));
        return got < 0 ? -errno : static_cast<int>(got);
    }
    void describe(std::FILE* out) const override { std::fputs("read", out); }
    std::size_t value() const noexcept { return static_cast<std::size_t>(result); }
    std::string tried() const { return "read"; }

private:
    std::size_t offset_;
    std::span<std::byte> space_;
};

/// Blocks its thread until it is let go.
struct gate {
    std::latch began{1};
    std::latch opened{1};
};

/// A call that no kernel has a request for, so that a thread makes it on every reactor.
class gated_operation final
    : public descriptor_operation<gated_operation, int, blocking_operation> {
public:
    gated_operation(const owned_descriptor& on, gate& at)
        : descriptor_operation(on, readiness::any), gate_(&at) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_nop(&sqe);
        sqe.opcode = no_opcode;
    }
    int attempt() noexcept override {
        gate_->began.count_down();
        gate_->opened.wait();
        return ::fcntl(fd, F_GETFD) < 0 ? -errno : 7;
    }
    void describe(std::FILE* out) const override { std::fputs("a gate", out); }
    int value() const noexcept { return result; }
    std::string tried() const { return "gate"; }

private:
    gate* gate_;
};

/// A readiness operation that the kernel has no request for.
class unknown_operation final : public descriptor_operation<unknown_operation, int> {
public:
    explicit unknown_operation(const owned_descriptor& on)
        : descriptor_operation(on, readiness::any) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_nop(&sqe);
        sqe.opcode = no_opcode;
    }
    int attempt() noexcept override { return 7; }
    void describe(std::FILE* out) const override { std::fputs("the unknown", out); }
    int value() const noexcept { return result; }
    std::string tried() const { return "unknown"; }
};

/// What came in through a listening socket.
struct arrivals {
    arrivals() = default;
    arrivals(const arrivals&) = delete;
    arrivals& operator=(const arrivals&) = delete;
    ~arrivals() {
        for (const int fd : accepted) ::close(fd);
    }
    std::vector<int> accepted;
    std::size_t expected = 0;
    event all_came;
};

/// Accepts connections until it has `enough` of them, all with one request.
class accept_many_operation final : public descriptor_operation<accept_many_operation, void> {
public:
    accept_many_operation(const owned_descriptor& listener, arrivals& to, std::size_t enough)
        : descriptor_operation(listener, readiness::read), to_(&to), enough_(enough) {}

    int begin() noexcept {
        if (const int error = descriptor_operation::begin(); error != 0) return error;
        if (detail::current_core->io->needs_nonblocking()) make_non_blocking(fd);
        return 0;
    }
    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_multishot_accept(&sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
    }
    int attempt() noexcept override {
        const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
        return accepted < 0 ? -errno : accepted;
    }
    bool finish(int value) noexcept override {
        result = value;
        if (value < 0) return true;
        to_->accepted.push_back(value);
        if (to_->accepted.size() == to_->expected) to_->all_came.set();
        return to_->accepted.size() >= enough_;
    }
    void describe(std::FILE* out) const override { std::fputs("connections", out); }
    void value() const noexcept {}
    std::string tried() const { return "accept"; }

private:
    arrivals* to_;
    std::size_t enough_;
};

constexpr std::size_t no_limit = SIZE_MAX;

/// A file that is gone when this is.
class temporary_file {
public:
    explicit temporary_file(std::string_view text) {
        const int fd = ::mkstemp(path_.data());
        REQUIRE(fd >= 0);
        REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        ::close(fd);
    }
    temporary_file(const temporary_file&) = delete;
    temporary_file& operator=(const temporary_file&) = delete;
    ~temporary_file() { ::unlink(path_.c_str()); }
    const std::string& path() const { return path_; }

private:
    std::string path_ = "/tmp/rondo-operation-test-XXXXXX";
};

/// A listening socket, and where to connect to.
class raw_listener {
public:
    raw_listener() {
        socket_ = owned_descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_storage address;
        const socklen_t size = any_port().to_sockaddr(address);
        REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(::listen(socket_.get(), 64) == 0);
        socklen_t room = sizeof address;
        REQUIRE(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &room) == 0);
        local_ = endpoint::from_sockaddr(address);
    }
    void close() { socket_.close(); }
    const owned_descriptor& socket() const { return socket_; }
    const endpoint& local() const { return local_; }

private:
    owned_descriptor socket_;
    endpoint local_;
};

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

task<int> pass(const owned_descriptor& on, gate& at) {
    gated_operation op{on, at};
    co_return co_await op;
}

task<> accept_many(const owned_descriptor& listener, arrivals& to, std::size_t enough) {
    accept_many_operation op{listener, to, enough};
    co_await op;
}

}  // namespace

TEST_CASE("an operation without a descriptor opens a file, and one that blocks reads it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const std::string text = pattern(100'000);
            const temporary_file made{text};
            for (int round = 0; round < 3; ++round) {
                open_operation open{made.path()};
                const owned_descriptor file{co_await open};
                std::string got(text.size(), '\0');
                std::size_t done = 0;
                while (done < got.size()) {
                    read_at_operation read{file, done, bytes_of(got).subspan(done)};
                    const std::size_t size = co_await read;
                    REQUIRE(size > 0);
                    done += size;
                }
                CHECK(got == text);
                read_at_operation at_end{file, text.size(), bytes_of(got)};
                CHECK(co_await at_end == 0);
            }
            open_operation missing{made.path() + ".missing"};
            const auto none = co_await as_result(missing);
            CHECK(none.error() == std::errc::no_such_file_or_directory);
        });
    });
}

TEST_CASE("many blocking operations run at the same time, and none needs a free thread to begin") {
    on_each_reactor_kind([](auto run) {
        const auto work = []() -> task<> {
            const temporary_file made{"x"};
            task_group group;
            std::size_t opened = 0;
            const auto open_one = [&]() -> task<> {
                open_operation open{made.path()};
                const owned_descriptor file{co_await open};
                if (file.get() >= 0) ++opened;
            };
            for (int i = 0; i < 200; ++i) group.spawn(open_one);
            co_await group.join();
            CHECK(opened == 200);
        };
        rondo::run(work, {.reactor = run.kind(), .pool_threads = 2});
    });
}

TEST_CASE("a blocking operation that is cancelled before a thread is free for it never begins") {
    on_each_reactor_kind([](auto run) {
        const auto work = []() -> task<> {
            const owned_descriptor on{::eventfd(0, EFD_CLOEXEC)};
            gate shut;
            blocked_pool busy{this_runtime().pool()};
            task_group group;
            auto waiting = group.spawn(pass, std::cref(on), std::ref(shut));
            co_await settle();
            CHECK_FALSE(waiting.done());
            waiting.cancel();
            CHECK_THROWS_AS(co_await waiting, operation_cancelled);
            CHECK_FALSE(shut.began.try_wait());
            busy.open_without_waiting();
            co_await group.join();
        };
        rondo::run(work, {.reactor = run.kind(), .pool_threads = 1});
    });
}

TEST_CASE(
    "a blocking operation that has begun is waited for when it is cancelled, and its result "
    "is given") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const owned_descriptor on{::eventfd(0, EFD_CLOEXEC)};
            gate shut;
            task_group group;
            auto waiting = group.spawn(pass, std::cref(on), std::ref(shut));
            co_await settle();
            shut.began.wait();
            waiting.cancel();
            co_await settle();
            CHECK_FALSE(waiting.done());
            shut.opened.count_down();
            CHECK(co_await waiting == 7);
            co_await group.join();
        });
    });
}

TEST_CASE(
    "a descriptor that is closed while a thread uses it stays open until the call has ended") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            owned_descriptor on{::eventfd(0, EFD_CLOEXEC)};
            const int number = on.get();
            gate shut;
            gate shut_as_well;
            task_group group;
            auto first = group.spawn(pass, std::cref(on), std::ref(shut));
            auto second = group.spawn(pass, std::cref(on), std::ref(shut_as_well));
            co_await settle();
            shut.began.wait();
            shut_as_well.began.wait();
            on.close();
            CHECK(is_open(number));
            shut.opened.count_down();
            CHECK(co_await first == 7);
            CHECK(is_open(number));
            shut_as_well.opened.count_down();
            CHECK(co_await second == 7);
            co_await yield();
            CHECK_FALSE(is_open(number));
            co_await group.join();
        });
    });
}

TEST_CASE("one request accepts many connections, until it is cancelled") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const raw_listener listener;
            arrivals came;
            came.expected = 5;
            task_group group;
            auto accepting =
                group.spawn(accept_many, std::cref(listener.socket()), std::ref(came), no_limit);
            const plain_socket early{listener.local()};
            co_await settle();
            const plain_socket second{listener.local()};
            const plain_socket third{listener.local()};
            co_await yield();
            const plain_socket fourth{listener.local()};
            const plain_socket fifth{listener.local()};
            co_await came.all_came.wait();
            CHECK(came.accepted.size() == 5);
            CHECK_FALSE(accepting.done());
            accepting.cancel();
            CHECK_THROWS_AS(co_await accepting, operation_cancelled);
            co_await group.join();
        });
    });
}

TEST_CASE("a timeout ends a request for many results, and nothing that came before is lost") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const raw_listener listener;
            arrivals came;
            const plain_socket one{listener.local()};
            const plain_socket other{listener.local()};
            auto accepting = accept_many(listener.socket(), came, no_limit);
            CHECK_THROWS_AS(co_await with_timeout(50ms, std::move(accepting)), timeout_error);
            CHECK(came.accepted.size() == 2);
        });
    });
}

TEST_CASE("a request for many results ends when the operation has enough") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const raw_listener listener;
            arrivals came;
            task_group group;
            auto accepting =
                group.spawn(accept_many, std::cref(listener.socket()), std::ref(came), 2);
            co_await settle();
            const plain_socket one{listener.local()};
            const plain_socket two{listener.local()};
            co_await accepting;
            CHECK(came.accepted.size() >= 2);
            // The next one may ask again.
            auto next = group.spawn(accept_many, std::cref(listener.socket()), std::ref(came), 3);
            const plain_socket three{listener.local()};
            co_await next;
            CHECK(came.accepted.size() >= 3);
            co_await group.join();
        });
    });
}

TEST_CASE("closing the descriptor ends a request for many results") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            arrivals came;
            raw_listener listener;
            task_group group;
            const auto accept = [&]() -> task<std::error_code> {
                auto accepting = accept_many(listener.socket(), came, no_limit);
                const auto got = co_await as_result(std::move(accepting));
                co_return got.error();
            };
            auto accepting = group.spawn(accept);
            co_await settle();
            listener.close();
            CHECK(co_await accepting == std::errc::bad_file_descriptor);
            co_await group.join();
        });
    });
}

TEST_CASE("a request that the kernel does not know is told to its operation only") {
    on_each_reactor_kind([](auto run) {
        run([kind = run.kind()]() -> task<> {
            const owned_descriptor on{::eventfd(0, EFD_CLOEXEC)};
            unknown_operation unknown{on};
            const auto got = co_await as_result(unknown);
            if (kind == reactor_kind::io_uring) {
                CHECK(got.error() == std::errc::operation_not_supported);
            } else {
                CHECK(got.value() == 7);
            }
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("hello");
            CHECK(co_await read_text(server, 5) == "hello");
        });
    });
}

TEST_CASE("what is no operation asks the reactor's kernel, too") {
    on_each_reactor_kind([](auto run) {
        static thread_local int binds;
        binds = 0;
        detail::system_calls calls = detail::real_calls;
        calls.bind = [](int, const sockaddr*, socklen_t) {
            ++binds;
            errno = EADDRINUSE;
            return -1;
        };
        const auto work = []() -> task<> {
            CHECK_THROWS_AS(tcp_listener::bind(any_port()), std::system_error);
            co_return;
        };
        run_in_leaps(work, run.kind(), calls);
        CHECK(binds == 1);
    });
}

}  // namespace rondo::test
