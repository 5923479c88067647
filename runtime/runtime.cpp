#include <rondo/runtime/runtime.hpp>

#include <rondo/runtime/detail/misuse.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/detail/usable_cores.hpp>
#include <rondo/runtime/thread_pool.hpp>

#include <pthread.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace rondo {

namespace {

unsigned checked(const char* what, unsigned count) {
    if (count > runtime_options::most_threads) {
        throw std::invalid_argument(std::string("runtime_options::") + what + ": " +
                                    std::to_string(count) + " is more than " +
                                    std::to_string(runtime_options::most_threads));
    }
    return count != 0 ? count : detail::usable_cores();
}

runtime_options checked(runtime_options options) {
    options.reactors = checked("reactors", options.reactors);
    options.pool_threads = checked("pool_threads", options.pool_threads);
    return options;
}

void pin(std::size_t index) {
    const std::vector<int> cores = detail::allowed_cores();
    if (cores.empty()) return;
    const auto core = static_cast<std::size_t>(cores[index % cores.size()]);
    const std::size_t size = CPU_ALLOC_SIZE(core + 1);
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> one(
        CPU_ALLOC(core + 1), [](cpu_set_t* set) { CPU_FREE(set); });
    CPU_ZERO_S(size, one.get());
    CPU_SET_S(core, size, one.get());
    ::pthread_setaffinity_np(::pthread_self(), size, one.get());
}

}  // namespace

namespace detail {

runtime_threads::runtime_threads(runtime& owner, const runtime_options& options,
                                 bool first_on_calling_thread)
    : owner_(owner),
      options_(checked(options)),
      schedulers_(options_.reactors),
      first_is_here_(first_on_calling_thread) {
    if (first_on_calling_thread) {
        if (options_.pin_threads) {
            cpu_set_t before;
            if (::pthread_getaffinity_np(::pthread_self(), sizeof before, &before) == 0) {
                affinity_before_ = before;
            }
        }
        make_scheduler(0);
    }
    const std::size_t first = first_on_calling_thread ? 1 : 0;
    std::vector<std::exception_ptr> errors(size());
    std::latch started{static_cast<std::ptrdiff_t>(size() - first)};
    std::exception_ptr error;
    for (std::size_t i = first; i < size(); ++i) {
        try {
            threads_.emplace_back(
                [this, i, &errors, &started] { thread_main(i, errors[i], started); });
        } catch (...) {
            error = std::current_exception();
            started.count_down(static_cast<std::ptrdiff_t>(size() - i));
            break;
        }
    }
    started.wait();
    for (const std::exception_ptr& each : errors) {
        if (each && !error) error = each;
    }
    if (error) {
        join();
        std::rethrow_exception(error);
    }
}

runtime_threads::~runtime_threads() { join(); }

void runtime_threads::join() noexcept {
    stop();
    if (first_is_here_ && schedulers_.front() != nullptr) {
        scheduler& here = *schedulers_.front();
        here.run_until_halted();
        here.leave();
        if (affinity_before_) {
            ::pthread_setaffinity_np(::pthread_self(), sizeof(cpu_set_t), &*affinity_before_);
        }
    }
    for (std::thread& each : threads_) each.join();
    threads_.clear();
    pool_owner_.reset();
}

void runtime_threads::make_scheduler(std::size_t index) {
    if (options_.pin_threads) pin(index);
    schedulers_[index].reset(new scheduler(options_.reactor, *this, index));
}

void runtime_threads::thread_main(std::size_t index, std::exception_ptr& error,
                                  std::latch& started) noexcept {
    ::pthread_setname_np(::pthread_self(), ("rondo-" + std::to_string(index)).c_str());
    try {
        make_scheduler(index);
    } catch (...) {
        error = std::current_exception();
        started.count_down();
        return;
    }
    started.count_down();
    schedulers_[index]->run_until_halted();
    schedulers_[index]->leave();
}

void runtime_threads::stop() noexcept {
    if (stopping_.exchange(true)) return;
    for (auto& each : schedulers_) {
        if (each) each->core_.post(each->cancel_message_);
    }
    release();
}

bool runtime_threads::hold() noexcept {
    std::size_t holds = holds_.load();
    do {
        if (holds == 0 || stopping_.load()) return false;
    } while (!holds_.compare_exchange_weak(holds, holds + 1));
    return true;
}

void runtime_threads::release() noexcept {
    if (holds_.fetch_sub(1) != 1) return;
    for (auto& each : schedulers_) {
        if (each) each->core_.post(each->halt_message_);
    }
}

void runtime_threads::fail(std::exception_ptr error) noexcept {
    {
        const std::lock_guard lock(changing_);
        if (!failure_) failure_ = std::move(error);
    }
    stop();
}

std::exception_ptr runtime_threads::failure() noexcept {
    const std::lock_guard lock(changing_);
    return failure_;
}

thread_pool& runtime_threads::pool() {
    // Acquire: partner of the release below.
    if (thread_pool* made = pool_.load(std::memory_order_acquire)) return *made;
    const std::lock_guard lock(changing_);
    if (!pool_owner_) {
        pool_owner_ = std::make_unique<thread_pool>(
            thread_pool_options{.threads = options_.pool_threads, .background = true});
        pool_.store(pool_owner_.get(), std::memory_order_release);
    }
    return *pool_owner_;
}

}  // namespace detail

runtime::runtime(runtime_options options)
    : threads_(std::make_unique<detail::runtime_threads>(*this, options, false)) {}

runtime::runtime(runtime_options options, on_calling_thread) {
    if (detail::current_core != nullptr) {
        throw std::logic_error("run() is called from inside a task; co_await the work instead");
    }
    threads_ = std::make_unique<detail::runtime_threads>(*this, options, true);
}

runtime::~runtime() {
    if (detail::current_core != nullptr && &this_runtime() == this &&
        detail::current_core->current != nullptr) {
        detail::misuse("a runtime is destroyed by one of its own tasks");
    }
}

std::size_t runtime::size() const noexcept { return threads_->size(); }

scheduler& runtime::scheduler(std::size_t index) noexcept { return threads_->at(index); }

void runtime::stop() noexcept { threads_->stop(); }

thread_pool& runtime::pool() { return threads_->pool(); }

void runtime::check_that_it_may_block() const {
    if (detail::current_core != nullptr) {
        throw std::logic_error("runtime::run() is called from inside a task; co_await the work");
    }
}

void runtime::rethrow_failure() const {
    if (std::exception_ptr error = threads_->failure()) std::rethrow_exception(error);
}

void runtime::run_to_the_end(const detail::task_state& main) {
    rondo::scheduler& here = scheduler(0);
    here.run_until_done(main);
    threads_->stop();
    rethrow_failure();
}

runtime& this_runtime() noexcept { return this_scheduler().threads_.owner(); }

}  // namespace rondo
