#pragma once
// For what a test must not do to its own process: limits, filters, deadly signals.
//
//     CHECK(in_child([] {
//         deny_everything();
//         return run(work);                 // a text; what it throws becomes the exception's text
//     }) == "it worked");

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <exception>
#include <string>

namespace rondo::test {

/// Runs body() in a forked child and gives the text that it returned, or that of what it threw, or
/// "killed by signal 15".
template <class Body>
std::string in_child(Body body) {
    int ends[2];
    if (::pipe(ends) != 0) return "no pipe";
    const pid_t child = ::fork();
    if (child < 0) return "no fork";
    if (child == 0) {
        ::close(ends[0]);
        // doctest's handlers would report the parent's test as crashed.
        for (int number = 1; number <= 64; ++number) std::signal(number, SIG_DFL);
        std::string text;
        try {
            text = body();
        } catch (const std::exception& error) {
            text = error.what();
        } catch (...) {
            text = "an exception that is no std::exception";
        }
        for (std::size_t done = 0; done < text.size();) {
            const ssize_t put = ::write(ends[1], text.data() + done, text.size() - done);
            if (put <= 0) break;
            done += static_cast<std::size_t>(put);
        }
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string text;
    char chunk[4096];
    for (ssize_t got; (got = ::read(ends[0], chunk, sizeof chunk)) > 0;) {
        text.append(chunk, static_cast<std::size_t>(got));
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
    if (WEXITSTATUS(status) != 0) return "exit status " + std::to_string(WEXITSTATUS(status));
    return text;
}

}  // namespace rondo::test
