#pragma once
// For what a test must not do to its own process: limits, filters, deadly signals.
//
//     CHECK(in_child([] {
//         deny_everything();
//         return run(work);                 // a text; what it throws becomes the exception's text
//     }) == "it worked");

#include <doctest/doctest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <iostream>
#include <string>
#include <system_error>

#include "pipe_ends.hpp"

namespace rondo::test {

/// From now on the system call fails with `error` in this process, as container runtimes do it.
inline void deny(long call, int error) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof filter / sizeof *filter, filter};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        throw std::system_error(errno, std::system_category(), "seccomp");
    }
}

struct ended_child {
    std::string text;  // what it wrote to its pipe
    int status = 0;    // as of waitpid
};

/// Runs body(fd) in a forked child that may write to fd, and waits for its end.
template <class Body>
ended_child child_with_pipe(Body body) {
    pipe_ends pipe;
    std::cout.flush();  // or the child writes it once more
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::close(pipe.read_end);
        // doctest's handlers would report the parent's test as crashed.
        for (int number = 1; number <= 64; ++number) std::signal(number, SIG_DFL);
        body(pipe.write_end);
        ::_exit(0);
    }
    pipe.close_write_end();
    ended_child how;
    char chunk[4096];
    for (ssize_t got; (got = ::read(pipe.read_end, chunk, sizeof chunk)) > 0;) {
        how.text.append(chunk, static_cast<std::size_t>(got));
    }
    REQUIRE(::waitpid(child, &how.status, 0) == child);
    return how;
}

/// Runs body() in a forked child and gives the text that it returned, or that of what it threw, or
/// "killed by signal 15".
template <class Body>
std::string in_child(Body body) {
    const ended_child how = child_with_pipe([&](int out) {
        std::string text;
        try {
            text = body();
        } catch (const std::exception& error) {
            text = error.what();
        } catch (...) {
            text = "an exception that is no std::exception";
        }
        for (std::size_t done = 0; done < text.size();) {
            const ssize_t put = ::write(out, text.data() + done, text.size() - done);
            if (put <= 0) break;
            done += static_cast<std::size_t>(put);
        }
    });
    if (WIFSIGNALED(how.status)) return "killed by signal " + std::to_string(WTERMSIG(how.status));
    if (WEXITSTATUS(how.status) != 0) {
        return "exit status " + std::to_string(WEXITSTATUS(how.status));
    }
    return how.text;
}

}  // namespace rondo::test
