#pragma once
// Something that is to be done once, by whoever comes first, while the others wait.
//
//     rondo::once loaded;
//     rondo::task<> use() {
//         co_await loaded.call([&]() -> rondo::task<> { table = co_await load(); });
//         ...                                        // there is a table
//     }

#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <source_location>
#include <utility>

namespace rondo {

/// Thread safety: tasks of any scheduler. What the call did is seen by all who come after it.
class once {
public:
    once() noexcept = default;
    once(const once&) = delete;
    once& operator=(const once&) = delete;

    /// Runs f(args...), a task, unless that has been done, or is being done by another task: then
    /// waits for its end. Completes when one f has run to its end. Where f fails, this call throws
    /// its exception, and the next in line tries its own f. The callable and the arguments are kept
    /// until then; arguments are passed as task_group::spawn passes them.
    /// An f that calls the same `once` waits for itself, for ever.
    /// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first,
    /// or pass what it captures as arguments.
    /// Cancellation: of a task that waits, leaves the line; of the one that runs f, cancels f, and
    /// the next in line tries.
    template <class F, class... Args>
    task<> call(F&& f, Args&&... args) {
        detail::refuse_what_is_destroyed_twice<F>();
        using kept = detail::kept_t<detail::pass::once, F, Args...>;
        constexpr bool is_right = detail::calls_nothing<kept>;
        static_assert(is_right,
                      "once::call: f(args...) must be a coroutine that returns task<>, for example "
                      "[&]() -> task<> { ... co_return; }");
        if constexpr (is_right) {
            return run<kept>(
                detail::keep_callable(std::forward<F>(f), std::forward<Args>(args)...));
        }
    }

    /// Whether it has been done.
    bool is_done() const noexcept { return state_.load(std::memory_order_acquire) == is_complete; }

private:
    template <class F>
    task<> run(F f) {
        const bool is_first = co_await enter_awaiter{*this};
        if (!is_first) co_return;
        attempt mine{*this};
        auto work = std::invoke(f);
        co_await std::move(work);
        mine.succeeded = true;
    }

    // Gives true to the one that is to run f.
    class enter_awaiter final : public detail::task_waiter {
    public:
        explicit enter_awaiter(once& of) noexcept : once_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || once_.is_done() || !once_.start_or_join(*this)) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            return true;
        }
        bool await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            return is_first_;
        }

        void cancel() noexcept override {
            was_cancelled_ = once_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override { std::fputs("a once", out); }

    private:
        friend class once;
        once& once_;
        bool was_cancelled_ = false;
        bool is_first_ = false;
    };

    // Ends with the scope of the call, which has thrown unless it says otherwise.
    struct attempt {
        explicit attempt(once& once) noexcept : of(once) {}
        attempt(const attempt&) = delete;
        attempt& operator=(const attempt&) = delete;
        ~attempt() { succeeded ? of.succeed() : of.fail(); }
        once& of;
        bool succeeded = false;
    };

    // is_awaited: one runs, and somebody is in the line; into and out of this state only under the
    // lock.
    enum : std::uint32_t { is_fresh, is_running, is_awaited, is_complete };

    bool start_or_join(enter_awaiter& one) noexcept;
    bool leave_line(enter_awaiter& one) noexcept;
    void succeed() noexcept;
    void fail() noexcept;

    std::atomic<std::uint32_t> state_{is_fresh};
    detail::short_lock lock_;
    detail::wait_list line_;
};

}  // namespace rondo
