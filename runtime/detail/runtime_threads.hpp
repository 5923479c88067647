#pragma once
// The schedulers of one runtime and the threads that they run on: how they start, and how they end.
//
// A runtime ends in two steps, both begun from any thread. stop() cancels every task, now and from
// now on, and refuses new ones. When the last has ended, all schedulers halt together; each goes on
// for as long as a task of its own is away, or one of another scheduler is there, closes its inbox
// and leaves its loop. So no task finds a scheduler of its own runtime gone.

#include <rondo/runtime/core/detail/inbox.hpp>
#include <rondo/runtime/reactor/detail/blocking_operation.hpp>
#include <rondo/runtime/runtime_options.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/threads/detail/usable_cores.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace rondo {

class runtime;
class thread_pool;

namespace detail {

class reactor;
class reactor_factory;

class runtime_threads final : public call_threads {
public:
    /// Starts everything; throws what went wrong, with nothing left behind. The reactors come from
    /// `factory`, which outlives this; without one they are the kernel's.
    runtime_threads(runtime& owner, const runtime_options& options, bool first_on_calling_thread,
                    reactor_factory* factory = nullptr);

    /// As end().
    ~runtime_threads();

    /// Stops, and waits for all threads. Blocks.
    void end() noexcept;

    bool first_is_here() const noexcept { return first_is_here_; }
    std::size_t size() const noexcept { return schedulers_.size(); }
    scheduler& at(std::size_t index) noexcept { return *schedulers_[index]; }
    runtime& owner() noexcept { return owner_; }
    thread_pool& pool();

    /// One for the scheduler that the calling thread is making.
    std::unique_ptr<reactor> make_reactor();

    /// The pool calls what would block a reactor.
    std::unique_ptr<handle> start(blocking_operation& op) override;

    /// Cancels everything. Any thread, any number of times.
    void stop() noexcept;

    bool stopping() const noexcept { return stopping_.load(); }

    /// Stops for an exception, which run() will throw; of several, the first. The others are
    /// reported as unheard, and so is the first where nobody calls run() any more.
    void fail(std::exception_ptr error) noexcept;
    /// What it was stopped for, to be thrown; null: it was not stopped for an exception.
    std::exception_ptr failure() noexcept;

    /// What a scheduler calls that has tasks left and sleeps until a message comes. Where none can
    /// come from anywhere any more, stops with a deadlock_error. Where the runtime was stopped
    /// before, and shields keep that from the tasks that are left, says so on standard error and
    /// opens the shields. False: there is no deadlock. True: the scheduler counts as awake again,
    /// and has something to do.
    bool end_deadlock(scheduler& caller) noexcept;

    /// Keeps the schedulers from halting. False: they have been told to stop.
    bool hold() noexcept;
    void release() noexcept;

private:
    void start_threads();
    void thread_main(std::size_t index, std::exception_ptr& error, std::latch& started) noexcept;
    void make_scheduler(std::size_t index);
    bool is_deadlocked() const;
    void end_stuck_stop(const std::string& text, std::exception_ptr error) noexcept;

    runtime& owner_;
    const runtime_options options_;
    reactor_factory* const factory_;
    const std::vector<int> cores_ = allowed_cores();  // before any thread is pinned
    std::optional<affinity_keeper> affinity_;         // of the calling thread, while it is pinned
    std::vector<std::unique_ptr<scheduler>> schedulers_;
    std::vector<std::thread> threads_;
    const bool first_is_here_;  // the first scheduler runs on the thread that made the runtime
    bool ended_ = false;

    std::atomic<bool> stopping_{false};
    std::atomic<std::size_t> holds_{1};  // tasks submitted and not ended; and one until stop()

    std::atomic<bool> told_to_halt_{false};  // all of them: release() is through

    std::mutex changing_;  // guards what follows
    std::exception_ptr failure_;
    bool failure_was_thrown_ = false;
    std::unique_ptr<thread_pool> pool_owner_;

    std::atomic<thread_pool*> pool_{nullptr};  // once it is made
};

}  // namespace detail
}  // namespace rondo
