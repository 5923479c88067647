// Runs the test cases of all the files beside it. `rondo_tests --help` lists the options.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <sys/resource.h>

#include <algorithm>

namespace {

// Some tests hold thousands of connections, both ends in this process.
void allow_many_descriptors() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65'536);
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
    allow_many_descriptors();
    return doctest::Context{argc, argv}.run();
}
