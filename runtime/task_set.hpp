#pragma once
// Tasks whose results are taken as they come, and a limit on how many of them run.
//
//     co_await with_task_group([&](task_group& group) -> task<> {
//         task_set<page> fetching{group, 8};                      // eight at a time
//         for (const url& each : urls) fetching.spawn(fetch(each));
//         while (auto page = co_await fetching.next()) show(*page);    // the quickest first
//     });
//
// A task that fails makes next() throw, when its turn comes, and stops none of the others: the body
// may catch the exception and go on. If it does not, the exception leaves the body and ends the
// group, as any other does.

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// What a task_set knows of its tasks whatever they give.
struct task_set_counts {
    class wait;

    task_set_counts(task_group& runs_in, std::size_t most) noexcept
        : group(runs_in), limit(most != 0 ? most : std::numeric_limits<std::size_t>::max()) {}

    task_group& group;
    const std::size_t limit;
    std::size_t running = 0;
    bool abandoned = false;      // the set is gone, its tasks go on
    wait* for_result = nullptr;  // who awaits next(),
    wait* for_room = nullptr;    // and room()

    static void wake(wait*& waiter) noexcept;
};

class task_set_counts::wait : public suspension {
public:
    void cancel() noexcept override {
        place_ = nullptr;
        was_cancelled_ = true;
        current_core->wake(*task);
    }
    void describe(std::FILE* out) const override {
        std::fprintf(out, "one of %zu tasks of a task_set", counts_.running);
    }

protected:
    wait(task_set_counts& counts, wait*& place) noexcept : counts_(counts), place_(place) {}
    ~wait() = default;

    /// False: the task goes on at once.
    bool start(bool is_done, promise_base& waiter, std::source_location where) noexcept {
        if (place_ != nullptr) misuse("a task_set is awaited by two tasks at once", where);
        if (!is_done) was_cancelled_ = current_core->current->should_stop();
        if (is_done || was_cancelled_) return !keeps_turn(waiter, where, memory_cost);
        place_ = this;
        block(*this, waiter, where);
        return true;
    }

    task_set_counts& counts_;
    wait*& place_;
    bool was_cancelled_ = false;
};

inline void task_set_counts::wake(wait*& waiter) noexcept {
    if (waiter != nullptr) current_core->wake(*std::exchange(waiter, nullptr)->task);
}

template <class T>
struct task_set_state : task_set_counts {
    struct outcome {
        std::optional<stored_result<T>> value;
        std::exception_ptr error;  // where there is no value
    };

    using task_set_counts::task_set_counts;

    bool has_room() const noexcept { return running < limit && queued.empty(); }
    bool is_empty() const noexcept { return running == 0 && queued.empty() && ended.empty(); }

    std::deque<task<T>> queued;  // they have not started
    std::deque<outcome> ended;   // and wait to be taken
};

}  // namespace detail

/// A set of tasks in a task_group, all of which give a T. Made in the body of the group, and used
/// there. A set that is destroyed lets its tasks go on, those too that have not started: the group
/// waits for them, drops their results, and throws their first exception, or one that had not been
/// taken.
/// Thread safety: the scheduler of the group's owner only, wherever the tasks go.
template <class T = void>
class task_set {
    using state = detail::task_set_state<T>;

public:
    /// What next() gives: an optional value, of a reference a std::reference_wrapper; of void
    /// whether a task ended.
    using next_type = std::conditional_t<
        std::is_void_v<T>, bool,
        std::optional<std::conditional_t<std::is_reference_v<T>,
                                         std::reference_wrapper<std::remove_reference_t<T>>, T>>>;

    /// `limit` tasks run at the same time at most; 0: any number.
    explicit task_set(task_group& group, std::size_t limit = 0)
        : state_(std::make_shared<state>(group, limit)) {}
    task_set(const task_set&) = delete;
    task_set& operator=(const task_set&) = delete;
    ~task_set() {
        state_->abandoned = true;
        for (auto& each : state_->ended) {
            if (!each.error) continue;
            detail::group_body::attempt(state_->group,
                                        [&] { std::rethrow_exception(std::move(each.error)); });
        }
        state_->ended.clear();
    }

    /// Runs `work` as a task of the group, at once or when there is room for one more, in the order
    /// of the calls. See room() for work without end.
    void spawn(task<T> work, std::source_location where = std::source_location::current()) {
        if (!work) detail::misuse("a task is spawned that was moved from", where);
        if (state_->has_room()) {
            start(state_, std::move(work), where);
        } else {
            state_->queued.push_back(std::move(work));
        }
    }

    /// The same for any other awaitable.
    template <detail::awaitable Awaitable>
    void spawn(Awaitable work, std::source_location where = std::source_location::current()) {
        spawn(detail::as_task(std::move(work)), where);
    }

    /// The same for f(args...), which returns a task; see task_group::spawn. It is called when the
    /// task starts.
    template <class F, class... Args>
        requires(std::invocable<F&, Args...> || std::invocable<F&, Args&...>)
    void spawn(F f, Args... args) {
        spawn(task_group::call(std::move(f), std::move(args)...));
    }

    /// Tasks whose result has not been taken: queued, running and ended.
    std::size_t size() const noexcept {
        return state_->queued.size() + state_->running + state_->ended.size();
    }

    /// Tasks that have started and not ended.
    std::size_t running() const noexcept { return state_->running; }

    class next_awaiter final : public detail::task_set_counts::wait {
    public:
        explicit next_awaiter(state& from) noexcept : wait(from, from.for_result), from_(from) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            return start(!from_.ended.empty() || from_.is_empty(), waiter.promise(), where);
        }
        next_type await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            if (from_.ended.empty()) return {};
            auto first = std::move(from_.ended.front());
            from_.ended.pop_front();
            if (first.error) std::rethrow_exception(std::move(first.error));
            if constexpr (std::is_void_v<T>) {
                return true;
            } else if constexpr (std::is_reference_v<T>) {
                return std::ref(**first.value);
            } else {
                return std::move(first.value);
            }
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

    private:
        state& from_;
    };

    /// Completes with the result of the task that ended first, of those not taken yet, or throws
    /// its exception; empty (false, where T is void) when there is none left. One task at a time
    /// may wait.
    /// Cancellation: stops waiting; what ends meanwhile stays for the next await.
    [[nodiscard]] next_awaiter next() noexcept { return next_awaiter{*state_}; }

    class room_awaiter final : public detail::task_set_counts::wait {
    public:
        explicit room_awaiter(state& of) noexcept : wait(of, of.for_room), of_(of) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            return start(of_.has_room(), waiter.promise(), where);
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

    private:
        state& of_;
    };

    /// Completes when a task that is spawned now starts at once: for a body that finds work faster
    /// than its tasks do it. One task at a time may wait.
    /// Cancellation: stops waiting.
    [[nodiscard]] room_awaiter room() noexcept { return room_awaiter{*state_}; }

private:
    static void start(const std::shared_ptr<state>& set, task<T> work,
                      std::source_location where = std::source_location::current()) {
        set->group.spawn(run(set, std::move(work)), where);
        ++set->running;
    }

    static task<> run(std::shared_ptr<state> set, task<T> given) {
        detail::scheduler_core& home = *detail::current_core;
        typename state::outcome how;
        bool cancelled = false;
        try {
            const task<T> work = std::move(given);
            if constexpr (std::is_void_v<T>) {
                co_await work;
                how.value.emplace();
            } else if constexpr (std::is_reference_v<T>) {
                how.value.emplace(std::addressof(co_await work));
            } else {
                how.value.emplace(co_await work);
            }
        } catch (const operation_cancelled&) {
            how.error = std::current_exception();
            cancelled = true;
        } catch (...) {
            how.error = std::current_exception();
        }
        // The set's state is the home scheduler's.
        if (detail::current_core != &home) co_await shield(resume_on(*home.owner));
        --set->running;
        const bool stop = detail::current_core->current->should_stop();
        std::exception_ptr thrown;
        if (cancelled && stop) {
            thrown = how.error;  // with the group, or alone
        } else if (!set->abandoned) {
            set->ended.push_back(std::move(how));
        } else {
            thrown = how.error;
        }
        const bool drops = stop && !set->queued.empty();
        if (drops) set->queued.clear();
        while (!set->queued.empty() && set->running < set->limit) {
            task<T> next = std::move(set->queued.front());
            set->queued.pop_front();
            start(set, std::move(next));
        }
        if (!set->ended.empty() || set->is_empty()) set->wake(set->for_result);
        if (set->has_room()) set->wake(set->for_room);
        if (thrown) std::rethrow_exception(std::move(thrown));
        if (drops) throw operation_cancelled{};
    }

    std::shared_ptr<state> state_;
};

}  // namespace rondo
