// Callbacks: what is to happen when a result is there, without anybody waiting for it. Prints
// res: 832040, res: 1346269 and res: 2178309 as they get done, then end.

#include "fib.hpp"

#include <rondo/runtime/threads/thread_pool.hpp>

#include <iostream>
#include <string>

namespace {

/// Runs on the thread that has computed the number. A line is written in one piece, because other
/// threads write theirs at the same time.
void handler(rondo::future<unsigned long long> done) {
    std::cout << "res: " + std::to_string(done.get()) + '\n';
}

}  // namespace

int main() {
    {
        rondo::thread_pool pool{3};
        for (unsigned n = 30; n < 33; ++n) pool.submit(fib, n).add_done_callback(handler);
    }  // the pool goes when all that was submitted is done, callbacks too
    std::cout << "end\n";
}
