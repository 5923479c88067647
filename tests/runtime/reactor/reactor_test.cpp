// The reactors where the kernel does not play along: denied, full, overflowing, interrupted.

#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <rondo/runtime/reactor/poll_fd.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "support/child_process.hpp"
#include "support/net_support.hpp"
#include "support/pipe_ends.hpp"
#include "support/process_state.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

/// Lets the next calls of io_uring_enter fail, until its end or end().
class kernel_fault {
public:
    explicit kernel_fault(int error, int calls = 1'000'000) : calls_(calls) {
        error_ = error;
        left_ = calls;
    }
    kernel_fault(const kernel_fault&) = delete;
    kernel_fault& operator=(const kernel_fault&) = delete;
    ~kernel_fault() { end(); }

    bool struck() const { return left_ != calls_; }
    void end() const { left_ = 0; }

    /// The error of a call that is to fail, or 0.
    static int next() {
        if (left_ == 0) return 0;
        --left_;
        return error_;
    }

private:
    int calls_;
    static inline thread_local int left_ = 0;
    static inline thread_local int error_ = 0;
};

}  // namespace

}  // namespace rondo::test

// In place of liburing's own, so that it can fail.
extern "C" int io_uring_enter2(unsigned int fd, unsigned to_submit, unsigned min_complete,
                               unsigned flags, sigset_t* argument, std::size_t size) {
    if (const int error = rondo::test::kernel_fault::next()) return -error;
    const long value =
        ::syscall(__NR_io_uring_enter, fd, to_submit, min_complete, flags, argument, size);
    return value < 0 ? -errno : static_cast<int>(value);
}

namespace rondo::test {

namespace {

/// Sends a little through a connection and names the reactor that carried it.
task<std::string> used_reactor() {
    auto [client, server] = co_await connected_pair();
    co_await client.write_all("hello");
    const std::string text = co_await read_text(server, 5);
    if (text != "hello") co_return "broken";
    co_await sleep_for(std::chrono::microseconds(100));
    co_return std::string(to_string(this_scheduler().reactor()));
}

/// Descriptors that become ready when told to, with many waiters each.
class crowd {
public:
    explicit crowd(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            fds_.push_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
            REQUIRE(fds_.back() >= 0);
        }
    }
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    ~crowd() {
        for (const int fd : fds_) ::close(fd);
    }

    auto poll(std::size_t index) const { return poll_fd(fds_[index % fds_.size()], POLLIN); }
    void make_ready() const {
        for (const int fd : fds_) REQUIRE(::eventfd_write(fd, 1) == 0);
    }

private:
    std::vector<int> fds_;
};

struct counts {
    std::size_t ready = 0;
    std::size_t cancelled = 0;
    std::size_t timed_out = 0;
    std::size_t other = 0;

    void count(std::error_code error) {
        if (!error) {
            ++ready;
        } else if (error == std::errc::operation_canceled) {
            ++cancelled;
        } else if (error == std::errc::timed_out) {
            ++timed_out;
        } else {
            ++other;
        }
    }
};

task<> wait_for(const crowd& all, std::size_t index, counts& ends) {
    const auto got = co_await as_result(all.poll(index));
    ends.count(got.error());
}

task<> wait_until(const crowd& all, std::size_t index, std::chrono::nanoseconds limit,
                  counts& ends) {
    const auto got = co_await as_result(with_timeout(limit, all.poll(index)));
    ends.count(got.error());
}

constexpr std::size_t many = 10'000;  // more than two completion queues hold

void spawn_many(task_group& group, const crowd& all, counts& ends) {
    for (std::size_t i = 0; i < many; ++i) {
        group.spawn(wait_for, std::cref(all), i, std::ref(ends));
    }
}

bool maps_a_ring() {
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);) {
        if (line.find("io_uring") != std::string::npos) return true;
    }
    return false;
}

}  // namespace

TEST_CASE("automatic falls back to epoll where io_uring is denied, without a word") {
    const environment automatic{"RONDO_REACTOR", nullptr};
    // A sandbox may allow the first and deny the rest.
    for (const long call : {__NR_io_uring_setup, __NR_io_uring_register, __NR_io_uring_enter}) {
        for (const int error : {EPERM, ENOSYS, ENOMEM, EINVAL, EACCES}) {
            CAPTURE(call);
            CAPTURE(error);
            CHECK(in_child([=] {
                      deny(call, error);
                      const std::size_t before = open_descriptors();
                      const std::string used = run(used_reactor);
                      return open_descriptors() == before ? used : "a descriptor was left";
                  }) == "epoll");
        }
    }
}

TEST_CASE("asking by name for an io_uring that is denied is an error that says why") {
    for (const bool by_variable : {false, true}) {
        CAPTURE(by_variable);
        CHECK(in_child([=]() -> std::string {
                  const environment variable{"RONDO_REACTOR", by_variable ? "io_uring" : nullptr};
                  const auto kind = by_variable ? reactor_kind::automatic : reactor_kind::io_uring;
                  deny(__NR_io_uring_setup, EPERM);
                  try {
                      return run(used_reactor, {.reactor = kind});
                  } catch (const std::system_error& error) {
                      return std::string("error ") + std::to_string(error.code().value()) + ": " +
                             error.what();
                  }
              }) ==
              "error 1: the io_uring reactor is not available: io_uring_setup: "
              "Operation not permitted");
    }
}

TEST_CASE("the epoll reactor works where epoll_pwait2 is denied") {
    for (const int error : {EPERM, ENOSYS}) {
        CHECK(in_child([=] {
                  deny(__NR_epoll_pwait2, error);
                  return run(used_reactor, {.reactor = reactor_kind::epoll});
              }) == "epoll");
    }
}

TEST_CASE(
    "a descriptor that epoll takes no more of gives what has come, and an error to who waits") {
    CHECK(in_child([] {
              return run(
                  []() -> task<std::string> {
                      auto [peer, stream] = co_await accept_peer();
                      deny(__NR_epoll_ctl, ENOSPC);  // fs.epoll.max_user_watches is reached
                      std::string log;
                      for (const char* text : {"one", "two", "", "three"}) {
                          peer.send(text);
                          std::string space(10, '\0');
                          const auto got = co_await as_result(stream.read_some(bytes_of(space)));
                          log += got ? space.substr(0, *got) : got.error().message();
                          log += '.';
                      }
                      co_return log;
                  },
                  {.reactor = reactor_kind::epoll});
          }) == "one.two.No space left on device.three.");
}

TEST_CASE("ten thousand operations in flight complete all in one turn") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const crowd all{100};
            counts ends;
            task_group group;
            spawn_many(group, all, ends);
            co_await settle();
            CHECK(ends.ready == 0);
            all.make_ready();
            co_await group.join();
            CHECK(ends.ready == many);
        });
    });
}

TEST_CASE("ten thousand operations are cancelled in one turn, and the reactor goes on") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const crowd all{100};
            counts ends;
            task_group group;
            spawn_many(group, all, ends);
            co_await settle();
            group.cancel();
            co_await group.join();
            CHECK(ends.cancelled == many);
            all.make_ready();
            const auto again = co_await as_result(all.poll(7));
            CHECK(again.value_or(0) == POLLIN);
        });
    });
}

TEST_CASE("operations that are cancelled before the kernel has seen them never reach it") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const crowd all{100};
            counts ends;
            task_group group;
            spawn_many(group, all, ends);
            co_await yield();  // some were started, in the middle of a turn
            group.cancel();
            co_await group.join();
            CHECK(ends.cancelled == many);
        });
    });
}

TEST_CASE("ten thousand time limits on pending operations run out together") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            using namespace std::chrono_literals;
            const crowd all{100};
            counts ends;
            task_group group;
            for (std::size_t i = 0; i < many; ++i) {
                group.spawn(wait_until, std::cref(all), i, i % 2 == 0 ? 20ms : 1h, std::ref(ends));
            }
            while (ends.timed_out < many / 2) co_await sleep_for(1ms);
            CHECK(ends.ready == 0);
            all.make_ready();
            co_await group.join();
            CHECK(ends.timed_out == many / 2);
            CHECK(ends.ready == many / 2);
        });
    });
}

TEST_CASE("nothing is lost while the kernel refuses what is submitted, nor while it interrupts") {
    on_each_reactor_kind([](auto run) {
        for (const int error : {EBUSY, EAGAIN, EINTR}) {
            CAPTURE(error);
            run([=]() -> task<> {
                const crowd all{10};
                counts ends;
                task_group group;
                std::vector<task_handle<void>> waiters;
                for (std::size_t i = 0; i < 2'000; ++i) {
                    waiters.push_back(group.spawn(wait_for, std::cref(all), i, std::ref(ends)));
                }
                // As long as the queue fills up and most wait behind it.
                const kernel_fault fault{error};
                co_await yield_times(3'000);
                CHECK(fault.struck() == (this_scheduler().reactor() == reactor_kind::io_uring));
                for (std::size_t i = 0; i < waiters.size(); i += 2) waiters[i].cancel();
                co_await yield_times(300);
                fault.end();
                co_await settle();
                CHECK(ends.cancelled == 1'000);
                CHECK(ends.ready == 0);

                const kernel_fault second{error};
                for (std::size_t i = 1; i < waiters.size(); i += 4) waiters[i].cancel();
                all.make_ready();
                co_await yield_times(300);
                second.end();
                co_await group.join();
                CHECK(ends.ready >= 500);
                CHECK(ends.ready + ends.cancelled == 2'000);
                CHECK(ends.other == 0);
            });
        }
    });
}

TEST_CASE("streams work while the kernel refuses and interrupts all the time") {
    on_each_reactor_kind([](auto run) {
        for (const int error : {EBUSY, EAGAIN, EINTR}) {
            CAPTURE(error);
            run([=]() -> task<> {
                auto [client, server] = co_await connected_pair();
                for (int i = 0; i < 100; ++i) {
                    const std::string text = pattern(1'000 + static_cast<std::size_t>(i));
                    const kernel_fault fault{error, i % 4};
                    co_await client.write_all(text);
                    const std::string got = co_await read_text(server, text.size());
                    REQUIRE((got == text));
                }
            });
        }
    });
}

TEST_CASE("a fork leaves the parent's reactor alone, and the child without its memory") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const pipe_ends pipe;
            auto [client, server] = co_await connected_pair();
            std::string space(10, '\0');
            task_group group;
            auto poll = group.spawn(outcome_of(poll_fd(pipe.read_end, POLLIN), form::as_result));
            auto read = group.spawn(outcome_of(server.read_some(bytes_of(space)), form::as_result));
            co_await settle();
            const bool on_a_ring = this_scheduler().reactor() == reactor_kind::io_uring;
            CHECK(maps_a_ring() == on_a_ring);
            const std::string seen = in_child([&] {
                if (maps_a_ring()) return "the parent's ring";
                return ::write(pipe.write_end, "x", 1) == 1 ? "no ring" : "no pipe";
            });
            CHECK(seen == "no ring");
            const auto events = co_await poll;
            CHECK(events.value_or(0) == POLLIN);
            co_await client.write_all("hello");
            const auto got = co_await read;
            CHECK(got.value_or(0) == 5);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
