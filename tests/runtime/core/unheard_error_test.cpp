#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/unheard_error.hpp>

#include "support/child_process.hpp"
#include "support/pipe_ends.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

std::exception_ptr error_of(const char* text) {
    return std::make_exception_ptr(std::runtime_error(text));
}

// What comes on standard error while a child runs `body`.
template <class Body>
std::string standard_error_of(Body body) {
    ended_child child = child_with_pipe([&](int out) {
        ::dup2(out, STDERR_FILENO);
        body();
    });
    CHECK(child.status == 0);
    return std::move(child.text);
}

void fill(int fd) {
    REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    const std::string much(4096, 'x');
    while (::write(fd, much.data(), much.size()) > 0) {
    }
    while (::write(fd, "x", 1) > 0) {
    }
    REQUIRE(::fcntl(fd, F_SETFL, 0) == 0);
}

std::size_t lines_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
    return count;
}

std::vector<std::string> heard;

void remember(const unheard_error& lost) {
    heard.push_back(std::string(lost.origin) + ": " + detail::text_of(lost.error));
}

}  // namespace

TEST_CASE("an unheard error is one line on standard error by default") {
    CHECK(standard_error_of([] {
              detail::report_unheard(error_of("roll-back failed"), "a task");
              detail::report_unheard(std::make_exception_ptr(operation_cancelled{}), "another");
              detail::report_unheard(std::make_exception_ptr(7), "a third");
          }) ==
          "rondo: a task failed unheard: roll-back failed\n"
          "rondo: another failed unheard: operation_cancelled\n"
          "rondo: a third failed unheard: an exception of type int\n");
}

TEST_CASE("a hook is told of unheard errors in place of standard error") {
    const unheard_error_hook standard = set_unheard_error_hook(remember);
    detail::report_unheard(error_of("roll-back failed"), "a task");
    CHECK(heard == std::vector<std::string>{"a task: roll-back failed"});
    const bool gives_the_one_before = set_unheard_error_hook(nullptr) == remember;
    CHECK(gives_the_one_before);
    const bool null_is_the_default = set_unheard_error_hook(nullptr) == standard;
    CHECK(null_is_the_default);
}

TEST_CASE("where the hook for unheard errors throws, both errors are written") {
    CHECK(standard_error_of([] {
              set_unheard_error_hook(
                  [](const unheard_error&) { throw std::runtime_error("no log"); });
              detail::report_unheard(error_of("roll-back failed"), "a task");
          }) ==
          "rondo: a task failed unheard: roll-back failed\n"
          "rondo: the hook for unheard errors failed unheard: no log\n");
}

TEST_CASE("an unheard error does not wait for a full pipe, and is counted with the next line") {
    std::string line;
    CHECK(in_child([&] {
              const pipe_ends full;
              ::dup2(full.write_end, STDERR_FILENO);
              fill(full.write_end);
              for (int i = 0; i < 3; ++i) detail::report_unheard(error_of("lost"), "a task");
              // The flags of standard error are shared with whoever made the pipe.
              if ((::fcntl(full.write_end, F_GETFL) & O_NONBLOCK) != 0)
                  return std::string("changed");
              REQUIRE(::fcntl(full.read_end, F_SETFL, O_NONBLOCK) == 0);
              char space[4096];
              while (::read(full.read_end, space, sizeof space) > 0) {
              }
              detail::report_unheard(error_of("here"), "a task");
              const ssize_t size = ::read(full.read_end, space, sizeof space);
              return std::string(space, static_cast<std::size_t>(size > 0 ? size : 0));
          }) == "rondo: 3 unheard errors were left out here\nrondo: a task failed unheard: here\n");
}

TEST_CASE("an unheard error does not wait for a full socket") {
    CHECK(in_child([] {
              int ends[2];
              REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
              ::dup2(ends[0], STDERR_FILENO);
              fill(ends[0]);
              detail::report_unheard(error_of("lost"), "a task");
              ::close(ends[1]);
              detail::report_unheard(error_of("lost"), "a task");
              return std::string("it goes on");
          }) == "it goes on");
}

TEST_CASE("an unheard error survives a standard error that is closed or that nobody reads") {
    CHECK(in_child([] {
              {
                  const pipe_ends unread;
                  ::dup2(unread.write_end, STDERR_FILENO);
              }
              detail::report_unheard(error_of("lost"), "a task");
              ::close(STDERR_FILENO);
              detail::report_unheard(error_of("lost"), "a task");
              return std::string("it goes on");
          }) == "it goes on");
}

TEST_CASE("unheard errors that come by the thousand are counted at the end of the process") {
    const std::string text = standard_error_of([] {
        for (int i = 0; i < 1000; ++i) detail::report_unheard(error_of("again"), "a task");
        std::exit(0);
    });
    const std::size_t written = lines_of(text, "failed unheard: again\n");
    CHECK(written >= 20);
    CHECK(written < 1000);
    CHECK(lines_of(text, "unheard errors were left out") > 0);
    CHECK(text.ends_with(" unheard errors were left out\n"));
}

TEST_CASE("an unheard error whose text is long is cut, and ends its line all the same") {
    const std::string text = standard_error_of(
        [] { detail::report_unheard(error_of(std::string(10'000, 'x').c_str()), "a task"); });
    CHECK(text.size() == 4096);
    CHECK(text.ends_with("xxx\n"));
}

}  // namespace rondo::test
