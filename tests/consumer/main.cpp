// A program outside the tree: it sees what a user of the library sees and nothing else.

#include <rondo/rondo.hpp>

#include <cstdio>

namespace {

rondo::task<int> answer() {
    co_await rondo::yield();
    co_return 42;
}

}  // namespace

int main() { std::printf("%d\n", rondo::run(answer())); }
