#include <rondo/runtime/runtime.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/core/unheard_error.hpp>
#include <rondo/runtime/detail/deadlock.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>
#include <rondo/runtime/threads/detail/all_asleep.hpp>
#include <rondo/runtime/threads/detail/usable_cores.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
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

// How the hook for unheard errors is told of an error that stops a runtime.
constexpr const char* posted_function = "a function that was posted to a scheduler";

runtime_threads::runtime_threads(runtime& owner, const runtime_options& options,
                                 bool first_on_calling_thread, reactor_factory* factory)
    : owner_(owner),
      options_(checked(options)),
      factory_(factory),
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
    if (failure_ && !failure_was_thrown_) report_unheard(std::move(failure_), posted_function);
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

std::unique_ptr<reactor> runtime_threads::make_reactor() {
    return detail::make_reactor(options_.reactor, factory_);
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
    bool is_first;
    {
        const std::lock_guard lock(changing_);
        is_first = !failure_;
        if (is_first) failure_ = error;
    }
    if (!is_first) report_unheard(std::move(error), posted_function);
    stop();
}

std::exception_ptr runtime_threads::failure() noexcept {
    const std::lock_guard lock(changing_);
    failure_was_thrown_ = failure_ != nullptr;
    return failure_;
}

bool runtime_threads::end_deadlock(scheduler& caller) noexcept {
    std::string text;
    std::exception_ptr error;
    try {
        // One scheduler asks at a time. None of the others touches its tasks before it is told.
        const std::lock_guard lock(changing_);
        if (!is_deadlocked()) return false;
        std::vector<const scheduler_core*> cores;
        for (auto& each : schedulers_) cores.push_back(&each->core_);
        text = describe_deadlock(cores);
        error = std::make_exception_ptr(deadlock_error(text));
        // What it does next makes others' tasks ready, so nobody else may find the same.
        caller.sleeps_.end();
    } catch (const std::bad_alloc&) {
        return false;  // the schedulers look again
    }
    if (stopping_.load()) {
        end_stuck_stop(text, std::move(error));
    } else {
        fail(std::move(error));
    }
    return true;
}

// A task that was cancelled and goes on waiting for another task is inside a shield: every other
// wait for a message ends. Until somebody is told to open a shield, all schedulers sleep, and what
// they own may be read here.
void runtime_threads::end_stuck_stop(const std::string& text, std::exception_ptr error) noexcept {
    const bool can_end = std::ranges::any_of(
        schedulers_, [](const auto& each) { return has_closed_shield(each->core_.root); });
    write_report(can_end ? "rondo: shield() keeps the cancellation from tasks that nothing can "
                           "wake; it reaches them now\n"
                         : "rondo: tasks that nothing can wake do not end when cancelled\n");
    write_report(text);
    if (!can_end) std::abort();
    {
        const std::lock_guard lock(changing_);
        if (!failure_) failure_ = std::move(error);
    }
    for (auto& each : schedulers_) {
        if (current_core == &each->core_) {
            each->open_shields();
        } else {
            each->core_.post(each->open_shields_message_);
        }
    }
}

// all_asleep.hpp has the proof.
bool runtime_threads::is_deadlocked() const {
    // Whoever holds a runtime that has threads of its own may submit to it.
    if (!first_is_here_) return false;
    const thread_pool* const made = pool_.load();
    const pool_core* const pool = made != nullptr ? made->core_.get() : nullptr;
    return all_asleep(
        [&](sleep_pass& pass) {
            for (const auto& each : schedulers_) pass.look_at(each->sleeps_);
            if (pool != nullptr) pool->show_sleeps(pass);
        },
        [&] {
            const std::size_t threads = size() + (pool != nullptr ? pool->threads() : 0);
            return threads_of_process() == threads &&
                   std::ranges::all_of(
                       schedulers_,
                       [](const auto& each) { return each->core_.messages.empty(); }) &&
                   (pool == nullptr || !pool->any_job());
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

std::unique_ptr<call_threads::handle> runtime_threads::start(blocking_operation& op) {
    struct queued_call final : handle {
        bool withdraw() noexcept override { return job.cancel(); }
        future<void> job;
    };
    // First what may throw: the operation may have ended as soon as the job is queued.
    auto call = std::make_unique<queued_call>();
    call->job = submit_job(pool(), [&op] { op.run_on_thread(); });
    return call;
}

}  // namespace detail

runtime::runtime(runtime_options options)
    : threads_(std::make_unique<detail::runtime_threads>(*this, options, false)) {}

runtime::runtime(runtime_options options, on_calling_thread, detail::reactor_factory* factory) {
    if (detail::current_core != nullptr) {
        throw std::logic_error("run() is called from inside a task; co_await the work instead");
    }
    threads_ = std::make_unique<detail::runtime_threads>(*this, options, true, factory);
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
