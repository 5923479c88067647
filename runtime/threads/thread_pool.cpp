#include <rondo/runtime/threads/thread_pool.hpp>

#include <rondo/runtime/threads/detail/usable_cores.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace rondo {

namespace {

constexpr unsigned most_threads = 1'024;

detail::pool_core::options checked(thread_pool_options options) {
    if (options.threads > most_threads) {
        throw std::invalid_argument("thread_pool: " + std::to_string(options.threads) +
                                    " threads are asked for, " + std::to_string(most_threads) +
                                    " is the most");
    }
    const unsigned threads =
        options.threads != 0 ? options.threads : std::min(detail::usable_cores(), most_threads);
    return {threads, options.max_pending, std::move(options.initializer), options.background};
}

}  // namespace

thread_pool::thread_pool(thread_pool_options options)
    : core_(detail::pool_core::start(checked(std::move(options)))) {}

thread_pool::~thread_pool() { core_->end(); }

void thread_pool::shutdown(bool wait, bool cancel_pending) {
    const auto core = core_;  // a job that is cancelled may own this pool last
    core->shutdown(wait, cancel_pending);
}

}  // namespace rondo
