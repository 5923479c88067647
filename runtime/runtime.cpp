#include <rondo/runtime/runtime.hpp>

#include <rondo/runtime/detail/deadlock.hpp>
#include <rondo/runtime/detail/misuse.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/detail/usable_cores.hpp>
#include <rondo/runtime/thread_pool.hpp>

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

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

}  // namespace

namespace detail {

runtime_threads::runtime_threads(runtime& owner, const runtime_options& options,
                                 bool first_on_calling_thread)
    : owner_(owner),
      options_(checked(options)),
      schedulers_(options_.reactors),
      first_is_here_(first_on_calling_thread) {
    if (first_is_here_) {
        if (options_.pin_threads) affinity_.emplace();
        make_scheduler(0);
    }
    try {
        start_threads();
    } catch (...) {
        end();
        if (first_is_here_) schedulers_.front()->leave();
        throw;
    }
}

void runtime_threads::start_threads() {
    const std::size_t first = first_is_here_ ? 1 : 0;
    std::vector<std::exception_ptr> errors(size());
    std::latch started{static_cast<std::ptrdiff_t>(size() - first)};
    std::exception_ptr error;
    for (std::size_t i = first; i < size(); ++i) {
        try {
            threads_.emplace_back(
                [this, i, &errors, &started] { thread_main(i, errors[i], started); });
        } catch (const std::system_error& failed) {
            error = std::make_exception_ptr(std::system_error(
                failed.code(), "start the thread of reactor " + std::to_string(i) + " of " +
                                   std::to_string(size())));
        } catch (...) {
            error = std::current_exception();
        }
        if (error) {
            started.count_down(static_cast<std::ptrdiff_t>(size() - i));
            break;
        }
    }
    started.wait();
    for (const std::exception_ptr& each : errors) {
        if (each && !error) error = each;
    }
    if (error) std::rethrow_exception(error);
}

runtime_threads::~runtime_threads() {
    end();
    if (first_is_here_) schedulers_.front()->leave();
}

void runtime_threads::end() noexcept {
    if (std::exchange(ended_, true)) return;
    stop();
    if (first_is_here_) schedulers_.front()->run_until_halted();
    for (std::thread& each : threads_) each.join();
    // The last to release may be a thread of another runtime, and still be telling.
    while (!told_to_halt_.load()) std::this_thread::yield();
    pool_owner_.reset();
}

void runtime_threads::make_scheduler(std::size_t index) {
    if (options_.pin_threads) run_on_cores({&cores_[index % cores_.size()], 1});
    schedulers_[index].reset(new scheduler(options_, *this, index));
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
        if (!each) continue;
        if (current_core == &each->core_) {
            each->cancel_everything();
        } else {
            each->core_.post(each->cancel_message_);
        }
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
    told_to_halt_.store(true);
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

void runtime_threads::look_for_deadlock() noexcept {
    std::exception_ptr error;
    try {
        // Held while the others' tasks are looked at: a scheduler that wakes to look by itself
        // waits here, and touches nothing.
        const std::lock_guard lock(changing_);
        if (!is_deadlocked()) return;
        std::vector<const scheduler_core*> cores;
        for (auto& each : schedulers_) cores.push_back(&each->core_);
        error = std::make_exception_ptr(deadlock_error(describe_deadlock(cores)));
    } catch (const std::bad_alloc&) {
        return;  // the schedulers look again
    }
    fail(std::move(error));
}

bool runtime_threads::is_deadlocked() {
    // Whoever holds a runtime that has threads of its own may submit to it.
    if (!first_is_here_ || stopping_.load() || failure_) return false;
    std::size_t threads = size();
    if (thread_pool* pool = pool_.load()) {
        if (!pool->idle()) return false;
        threads += pool->size();
    }
    if (threads_of_process() != threads) return false;
    // They are looked at one after the other: one that has been may since have been woken by one
    // that was still to come, which then went to sleep. So all are looked at twice, and those that
    // sleep in one go from the first look to the second all slept at the moment between the two.
    std::vector<unsigned> sleeps;
    for (const auto& each : schedulers_) sleeps.push_back(each->sleeps_without_hope_.load());
    return std::ranges::all_of(sleeps, [](unsigned count) { return count % 2 == 1; }) &&
           std::ranges::equal(schedulers_, sleeps, [](const auto& each, unsigned count) {
               return each->core_.messages.empty() && each->core_.posting.load() == 0 &&
                      each->sleeps_without_hope_.load() == count;
           });
}

thread_pool& runtime_threads::pool() {
    // Acquire: partner of the release below.
    if (thread_pool* made = pool_.load(std::memory_order_acquire)) return *made;
    const std::lock_guard lock(changing_);
    if (!pool_owner_) {
        thread_pool_options chosen{.threads = options_.pool_threads, .background = true};
        // Threads inherit the mask of the one that starts them, which may be pinned.
        if (options_.pin_threads) chosen.initializer = [this] { run_on_cores(cores_); };
        pool_owner_ = std::make_unique<thread_pool>(std::move(chosen));
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

void runtime::hold_for_main() { threads_->hold(); }

runtime::~runtime() {
    // run() destroys its own on the thread of the first scheduler, when no task is left.
    if (detail::current_core != nullptr && &this_runtime() == this &&
        (detail::current_core->current != nullptr || !threads_->first_is_here())) {
        detail::misuse("a runtime is destroyed by one of its own tasks or calls");
    }
}

std::size_t runtime::size() const noexcept { return threads_->size(); }

scheduler& runtime::scheduler(std::size_t index) noexcept { return threads_->at(index); }

std::size_t runtime::reactors_of(reactor_kind kind) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < size(); ++i) count += threads_->at(i).reactor() == kind ? 1 : 0;
    return count;
}

std::string runtime::describe() const {
    const std::size_t on_epoll = reactors_of(reactor_kind::epoll);
    const bool all_on_epoll = on_epoll == size();
    std::string text{to_string(all_on_epoll ? reactor_kind::epoll : reactor_kind::io_uring)};
    text += ", " + std::to_string(size()) + (size() == 1 ? " reactor" : " reactors");
    if (on_epoll != 0 && !all_on_epoll)
        text += ", " + std::to_string(on_epoll) + " of them on epoll";
    return text;
}

void runtime::stop() noexcept { threads_->stop(); }

thread_pool& runtime::pool() { return threads_->pool(); }

void runtime::check_before_run() const {
    rethrow_failure();
    if (detail::current_core != nullptr) {
        throw std::logic_error("runtime::run() is called from inside a task; co_await the work");
    }
}

void runtime::rethrow_failure() const {
    if (std::exception_ptr error = threads_->failure()) std::rethrow_exception(error);
}

void runtime::run_to_the_end(const detail::task_state& main) {
    scheduler(0).run_until_done(main);
    threads_->release();
    threads_->end();
    rethrow_failure();
}

runtime& this_runtime() noexcept { return this_scheduler().threads_.owner(); }

}  // namespace rondo
