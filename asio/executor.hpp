#pragma once
// A scheduler as an executor of Asio: handlers run between the tasks of that scheduler.
//
//     rondo::asio_executor here{rondo::this_scheduler()};
//     asio::post(here, [] { std::puts("soon, on this scheduler"); });       // from any thread
//     int n = co_await asio::co_spawn(here, coroutine(), rondo::use_task);
//     asio::steady_timer timer{here, 1s};      // waits on a thread of Asio's, calls back here

#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/detail/scheduler_extension.hpp>
#include <rondo/runtime/scheduler.hpp>

#include <asio/execution.hpp>
#include <asio/execution_context.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// The execution_context of one scheduler. It outlives the scheduler for as long as executors refer
/// to it; what is submitted then is dropped.
class asio_home final : public asio::execution_context, public scheduler_extension {
public:
    static asio_home& of(scheduler& target) {
        scheduler_core& core = core_of(target);
        return scheduler_extension::of<asio_home>(core, &kind,
                                                  [&core] { return new asio_home(core); });
    }

    void add_reference() noexcept {
        // relaxed: the caller has a reference already, so nothing is ordered by it
        references_.fetch_add(1, std::memory_order_relaxed);
    }
    void release() noexcept {
        // release: what was done under this reference comes before the end; acquire: the last one
        // to go has seen all of it
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    /// Whether the calling thread is the scheduler's. While it has not left, no other scheduler can
    /// have its address.
    bool is_here() const noexcept { return current_core == &core_ && !has_left_.load(); }

    /// Any thread. False: the scheduler has left, and the message is the caller's again.
    bool post(inbox_message& message) noexcept {
        posting_.fetch_add(1);
        const bool taken = !has_left_.load() && core_.post(message);
        posting_.fetch_sub(1);
        return taken;
    }

private:
    static constexpr char kind = 0;

    explicit asio_home(scheduler_core& core) noexcept : scheduler_extension(&kind), core_(core) {}
    ~asio_home() = default;

    // What still waits in services of Asio's own (timers and sockets made with the executor) goes.
    // A thread that posts has raised posting_ before it looks at has_left_: either this sees the
    // one, or that thread sees the other.
    void scheduler_leaves() noexcept override {
        has_left_.store(true);
        while (posting_.load() != 0) std::this_thread::yield();
        shutdown();
    }
    void drop() noexcept override { release(); }

    scheduler_core& core_;  // until it has left
    std::atomic<bool> has_left_{false};
    std::atomic<unsigned> posting_{0};
    std::atomic<std::size_t> references_{1};  // the scheduler's
};

/// A handler on its way to a scheduler, in memory that is recycled as frames are.
template <class F>
class asio_call final : public posted_call {
public:
    explicit asio_call(F f) : f_(std::move(f)) {}
    // A call that is dropped is destroyed here, never inside of what has submitted it.
    void call() override {
        if (!current_core->drops_calls) std::invoke(f_);
    }

    static void* operator new(std::size_t size) { return promise_base::operator new(size); }
    static void operator delete(void* memory, std::size_t size) noexcept {
        promise_base::operator delete(memory, size);
    }

private:
    F f_;
};

}  // namespace detail

/// Runs functions on one scheduler's thread, between tasks; they must not block. Models Asio's
/// executor concept, and converts to asio::any_io_executor.
///
/// blocking.possibly (as it begins): runs at once, before execute() returns, what is submitted on
/// the scheduler's own thread, in the middle of a task if one submits it, and queues everything
/// else. blocking.never: always queues; first in, first out for each submitting thread.
/// relationship.fork and .continuation: the same.
/// outstanding_work.tracked: can be asked for and is remembered, but keeps nothing going: a runtime
/// ends when its main task has, as always. To wait for the end of a coroutine, await it:
/// `co_await asio::co_spawn(executor, coroutine(), use_task)`.
/// context: an asio::execution_context of the scheduler's own. Timers and sockets may be made with
/// the executor. Asio then runs a thread of its own to wait for them, one for each scheduler where
/// that is done, which ends with the scheduler; all their handlers run on the scheduler.
/// An exception that leaves a function stops the runtime, and is thrown by run().
/// Once the scheduler has stopped, what waits for Asio there is destroyed without being called, and
/// so is all that is submitted later, which begins when its last task has ended. Executors and I/O
/// objects may outlive it, but no I/O object is to be made with an executor that has.
/// Thread safety: any thread.
class asio_executor {
public:
    /// For any scheduler, from any thread, while the scheduler exists.
    explicit asio_executor(scheduler& target) : home_(&detail::asio_home::of(target)) {
        home_->add_reference();
    }
    asio_executor(const asio_executor& other) noexcept : home_(other.home_), bits_(other.bits_) {
        home_->add_reference();
    }
    /// What was moved from may be destroyed, and assigned to.
    asio_executor(asio_executor&& other) noexcept
        : home_(std::exchange(other.home_, nullptr)), bits_(other.bits_) {}
    asio_executor& operator=(asio_executor other) noexcept {
        std::swap(home_, other.home_);
        std::swap(bits_, other.bits_);
        return *this;
    }
    ~asio_executor() {
        if (home_ != nullptr) home_->release();
    }

    friend bool operator==(const asio_executor&, const asio_executor&) noexcept = default;

    /// Whether the caller is on the scheduler's thread.
    bool running_in_this_thread() const noexcept { return home_->is_here(); }

    /// Runs f(), now or later.
    template <class F>
    void execute(F&& f) const {
        if ((bits_ & never_blocks) == 0 && home_->is_here()) {
            try {
                std::decay_t<F> function(std::forward<F>(f));
                function();
            } catch (...) {
                detail::posted_call::failed();
            }
            return;
        }
        using call_type = detail::asio_call<std::decay_t<F>>;
        auto call = std::make_unique<call_type>(std::decay_t<F>(std::forward<F>(f)));
        if (home_->post(*call)) call.release();
    }

    // Asio's properties: asio::require, prefer and query come here.

    asio_executor require(asio::execution::blocking_t::possibly_t) const noexcept {
        return with(bits_ & ~never_blocks);
    }
    asio_executor require(asio::execution::blocking_t::never_t) const noexcept {
        return with(bits_ | never_blocks);
    }
    asio_executor require(asio::execution::relationship_t::fork_t) const noexcept {
        return with(bits_ & ~continues);
    }
    asio_executor require(asio::execution::relationship_t::continuation_t) const noexcept {
        return with(bits_ | continues);
    }
    asio_executor require(asio::execution::outstanding_work_t::untracked_t) const noexcept {
        return with(bits_ & ~tracks_work);
    }
    asio_executor require(asio::execution::outstanding_work_t::tracked_t) const noexcept {
        return with(bits_ | tracks_work);
    }

    asio::execution_context& query(asio::execution::context_t) const noexcept { return *home_; }
    static constexpr asio::execution::mapping_t query(asio::execution::mapping_t) noexcept {
        return asio::execution::mapping.thread;
    }
    asio::execution::blocking_t query(asio::execution::blocking_t) const noexcept {
        if ((bits_ & never_blocks) != 0) return asio::execution::blocking.never;
        return asio::execution::blocking.possibly;
    }
    asio::execution::relationship_t query(asio::execution::relationship_t) const noexcept {
        if ((bits_ & continues) != 0) return asio::execution::relationship.continuation;
        return asio::execution::relationship.fork;
    }
    asio::execution::outstanding_work_t query(asio::execution::outstanding_work_t) const noexcept {
        if ((bits_ & tracks_work) != 0) return asio::execution::outstanding_work.tracked;
        return asio::execution::outstanding_work.untracked;
    }

private:
    enum : unsigned { never_blocks = 1, continues = 2, tracks_work = 4 };

    asio_executor with(unsigned bits) const noexcept {
        asio_executor changed{*this};
        changed.bits_ = bits;
        return changed;
    }

    detail::asio_home* home_;
    unsigned bits_ = 0;
};

static_assert(asio::execution::is_executor<asio_executor>::value);

}  // namespace rondo
