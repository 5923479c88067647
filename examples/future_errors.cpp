// An exception in a pool's thread is kept in the future, and thrown where the result is asked for.
// Prints callback handler, then get RuntimeError.

#include <rondo/runtime/threads/thread_pool.hpp>

#include <iostream>
#include <stdexcept>

namespace {

void spam() { throw std::runtime_error("spam"); }

void handler(rondo::future<> done) {
    std::cout << "callback handler\n";
    try {
        done.get();
    } catch (const std::runtime_error&) {
        std::cout << "get RuntimeError\n";
    }
}

}  // namespace

int main() {
    rondo::thread_pool pool{2};
    pool.submit(spam).add_done_callback(handler);
}
