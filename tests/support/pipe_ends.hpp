#pragma once
// A pipe: something for the reactors to wait on that is no socket.
//
//     pipe_ends pipe;
//     auto waiter = group.spawn(read_from(pipe.read_end));
//     pipe.write("x");

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <string_view>
#include <utility>

namespace rondo::test {

struct pipe_ends {
    pipe_ends() {
        int fds[2];
        REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
        read_end = fds[0];
        write_end = fds[1];
    }
    pipe_ends(const pipe_ends&) = delete;
    pipe_ends& operator=(const pipe_ends&) = delete;
    ~pipe_ends() {
        ::close(read_end);
        close_write_end();
    }

    void write(std::string_view text) const {
        REQUIRE(::write(write_end, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    void drain() const {
        char space[100];
        REQUIRE(::read(read_end, space, sizeof space) > 0);
    }
    void close_write_end() {
        if (write_end >= 0) ::close(std::exchange(write_end, -1));
    }

    int read_end = -1;
    int write_end = -1;
};

}  // namespace rondo::test
