#pragma once
// What belongs to the whole process, and is put back as it was: descriptors, the environment.
//
//     const environment variable{"RONDO_REACTOR", "epoll"};
//     const std::size_t before = open_descriptors();
//     const descriptor_shortage shortage;                  // no room for one more from here on

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

namespace rondo::test {

inline std::size_t entries_of(const char* directory) {
    const std::filesystem::directory_iterator first{directory};
    return static_cast<std::size_t>(std::distance(first, {}));
}

inline std::size_t open_descriptors() { return entries_of("/proc/self/fd"); }
inline std::size_t threads() { return entries_of("/proc/self/task"); }

/// An environment variable for a while; nullptr: not set.
class environment {
public:
    environment(const char* name, const char* value) : name_(name) {
        if (const char* before = std::getenv(name)) before_ = before;
        set(value);
    }
    environment(const environment&) = delete;
    environment& operator=(const environment&) = delete;
    ~environment() { set(before_ ? before_->c_str() : nullptr); }

private:
    void set(const char* value) const {
        if (value == nullptr) {
            ::unsetenv(name_);
        } else {
            ::setenv(name_, value, 1);
        }
    }

    const char* name_;
    std::optional<std::string> before_;
};

/// Leaves the process without a free descriptor, for a while. One that is closed meanwhile can be
/// opened again.
class descriptor_shortage {
public:
    descriptor_shortage() {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        int highest = 0;
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
            highest = std::max(highest, std::stoi(entry.path().filename()));
        }
        const rlimit few{static_cast<rlim_t>(highest) + 1, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        for (int fd; (fd = ::dup(STDIN_FILENO)) >= 0;) fillers_.push_back(fd);
    }
    descriptor_shortage(const descriptor_shortage&) = delete;
    descriptor_shortage& operator=(const descriptor_shortage&) = delete;
    ~descriptor_shortage() {
        for (const int fd : fillers_) ::close(fd);
        ::setrlimit(RLIMIT_NOFILE, &before_);
    }

private:
    rlimit before_{};
    std::vector<int> fillers_;
};

}  // namespace rondo::test
