#pragma once
// Several tasks at the same time, none of which is ever lost.
//
//     co_await with_task_group([&](task_group& group) -> task<> {
//         auto weather = group.spawn(fetch("weather"));
//         group.spawn(log_progress, std::ref(out));
//         show(co_await weather);
//     });                                            // waits for all of them
//
// A group ends when all its tasks have. The first exception cancels the rest and is thrown at the
// join; a further one goes to the hook of unheard_error.hpp. A finished task's memory is returned
// at once, so a group may stay open for as long as a server runs.

#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/core/task_name.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/resume_on.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace rondo {

class task_group;
template <class T>
class task_set;

namespace detail {

/// What is waited for by whoever awaits a task_handle.
class handle_wait : public suspension {
public:
    explicit handle_wait(task_state& target) noexcept : target_(target) {}
    void cancel() noexcept override;
    void describe(std::FILE* out) const override;
    void finished() noexcept { current_core->wake(*task); }

protected:
    ~handle_wait() = default;
    void start(promise_base& waiter, std::source_location where) noexcept {
        if (target_.waiter != nullptr)
            misuse("a task_handle is awaited by two tasks at once", where);
        target_.waiter = this;
        block(*this, waiter, where);
    }
    task_state& target_;
    bool was_cancelled_ = false;
};

/// A handle of a task that has not ended is gone.
void drop_handle(task_state& task) noexcept;

void free_named_task_state(task_state& task) noexcept;

/// The handle of a task that failed was dropped, and neither it nor the group's join gave the
/// error.
void report_unheard_task(task_state& task, const std::exception_ptr& error) noexcept;

inline void free_task_state(task_state& task) noexcept {
    if ((task.flags & scope_node::has_name) != 0) [[unlikely]]
        return free_named_task_state(task);
    promise_base::operator delete(&task, sizeof(task_state));
}

template <class Awaitable>
auto as_task(Awaitable work) -> task<await_result_t<Awaitable>> {
    co_return co_await std::move(work);
}
template <class T>
task<T> as_task(task<T> work) noexcept {
    return work;
}

class task_dump;
class group_body;

}  // namespace detail

/// The result of a spawned task, and a way to cancel that task alone. Dropping the handle changes
/// nothing for the task; keeping it keeps the finished task's outermost frame, for the result, and
/// the parameters of that frame with it.
/// Thread safety: the scheduler that it came from only, wherever the task is.
template <class T>
class task_handle {
public:
    task_handle(task_handle&& other) noexcept
        : frame_(std::exchange(other.frame_, nullptr)), task_(other.task_) {}
    task_handle& operator=(task_handle&& other) noexcept {
        if (this != &other) {
            reset();
            frame_ = std::exchange(other.frame_, nullptr);
            task_ = other.task_;
        }
        return *this;
    }
    ~task_handle() { reset(); }

    /// Whether the task has ended, in whatever way.
    bool done() const noexcept { return (task_->flags & detail::scope_node::ended) != 0; }

    /// Cancels the task: each of its awaits ends with operation_cancelled. That ending is no error
    /// of the group. No effect on a task that has ended.
    void cancel() noexcept {
        if (!done()) detail::cancel_subtree(*task_);
    }

    class awaiter final : public detail::handle_wait {
    public:
        awaiter(std::coroutine_handle<detail::task_promise<T>> frame,
                detail::task_state& task) noexcept
            : handle_wait(task), frame_(frame) {}
        bool await_ready() const noexcept {
            return has_ended() && detail::spend_allowance(detail::memory_cost);
        }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            if (!has_ended()) {
                was_cancelled_ = detail::current_core->current->should_stop();
                if (!was_cancelled_) {
                    start(waiter.promise(), where);
                    return true;
                }
            }
            return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
        }
        T await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            target_.flags &= ~detail::scope_node::unheard;
            return frame_.promise().take();
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

    private:
        bool has_ended() const noexcept { return (target_.flags & detail::scope_node::ended) != 0; }
        std::coroutine_handle<detail::task_promise<T>> frame_;
    };

    /// Completes when the task has ended, with its value (moved out: await it once) or its
    /// exception.
    /// Cancellation: gives up waiting; the task goes on.
    awaiter operator co_await() const noexcept { return awaiter{frame_, *task_}; }

private:
    friend class task_group;
    friend class runtime;
    const detail::task_state& state() const noexcept { return *task_; }
    task_handle(std::coroutine_handle<detail::task_promise<T>> frame,
                detail::task_state& task) noexcept
        : frame_(frame), task_(&task) {}

    void reset() noexcept {
        if (!frame_) return;
        if (done()) {
            if ((task_->flags & detail::scope_node::unheard) != 0) [[unlikely]]
                detail::report_unheard_task(*task_, *frame_.promise().failure());
            frame_.destroy();
            detail::free_task_state(*task_);
        } else {
            detail::drop_handle(*task_);
        }
    }

    std::coroutine_handle<detail::task_promise<T>> frame_;
    detail::task_state* task_;
};

/// A set of running tasks with one end. Made directly, it must be joined before it is destroyed: a
/// group dropped with tasks unjoined aborts with a sentence that names the place where it was made.
/// with_task_group joins by itself, also when an exception passes.
/// Thread safety: the scheduler of its owner only; cancel() from the group's own tasks wherever
/// they are.
class task_group final : private detail::scope_state {
public:
    explicit task_group(std::source_location where = std::source_location::current()) noexcept;
    task_group(const task_group&) = delete;
    task_group& operator=(const task_group&) = delete;
    ~task_group();

    /// Runs `work` as a task of its own; it starts when the running task next waits or yields.
    template <class T>
    task_handle<T> spawn(task<T> work,
                         std::source_location where = std::source_location::current()) {
        if (!work) detail::misuse("a task is spawned that was moved from", where);
        detail::task_state& task = start(work.frame().promise(), where);
        return task_handle<T>{work.release(), task};
    }

    /// The same for any other awaitable.
    template <detail::awaitable Awaitable>
    auto spawn(Awaitable work, std::source_location where = std::source_location::current()) {
        detail::refuse_foreign_awaiter<Awaitable>();
        return spawn(detail::as_task(std::move(work)), where);
    }

    /// Runs f(args...), which returns a task. The callable and the arguments are kept until it has
    /// ended; they are passed as std::thread passes them: moved into value parameters, so a T&
    /// parameter takes std::ref(x), or the kept argument itself where f takes nothing else.
    template <class F, class... Args>
        requires(!detail::awaitable<F>)
    auto spawn(F f, Args... args) {
        if constexpr (!detail::calls_awaitable<F, Args...>) {
            detail::refuse_to_spawn<F, Args...>();
        } else if constexpr (sizeof...(Args) == 0 && (std::is_empty_v<F> || std::is_pointer_v<F>)) {
            return spawn(std::invoke(f), where_);
        } else {
            return spawn(call(std::move(f), std::move(args)...), where_);
        }
    }

    /// The same with a name for dumps.
    template <class T>
    task_handle<T> spawn(task_name name, task<T> work,
                         std::source_location where = std::source_location::current()) {
        if (!work) detail::misuse("a task is spawned that was moved from", where);
        detail::task_state& task = start(work.frame().promise(), where, std::move(name));
        return task_handle<T>{work.release(), task};
    }
    template <detail::awaitable Awaitable>
    auto spawn(task_name name, Awaitable work,
               std::source_location where = std::source_location::current()) {
        detail::refuse_foreign_awaiter<Awaitable>();
        return spawn(std::move(name), detail::as_task(std::move(work)), where);
    }
    template <class F, class... Args>
        requires(!detail::awaitable<F>)
    auto spawn(task_name name, F f, Args... args) {
        if constexpr (!detail::calls_awaitable<F, Args...>) {
            detail::refuse_to_spawn<F, Args...>();
        } else {
            return spawn(std::move(name), call(std::move(f), std::move(args)...), where_);
        }
    }

    /// The same on another scheduler: the task goes there, and is joined and cancelled from here as
    /// any other. A callable is called there; what is kept for it is destroyed here. Where that
    /// scheduler has stopped, the task fails with runtime_errc::scheduler_stopped.
    template <detail::awaitable Awaitable>
    auto spawn_on(scheduler& where, Awaitable work) {
        detail::refuse_foreign_awaiter<Awaitable>();
        return spawn(await_on(where, std::move(work)), where_);
    }
    template <class F, class... Args>
        requires(!detail::awaitable<F>)
    auto spawn_on(scheduler& where, F f, Args... args) {
        if constexpr (!detail::calls_awaitable<F, Args...>) {
            detail::refuse_to_spawn<F, Args...>();
        } else {
            return spawn(call_on(where, std::move(f), std::move(args)...), where_);
        }
    }
    template <detail::awaitable Awaitable>
    auto spawn_on(scheduler& where, task_name name, Awaitable work) {
        detail::refuse_foreign_awaiter<Awaitable>();
        return spawn(std::move(name), await_on(where, std::move(work)), where_);
    }
    template <class F, class... Args>
        requires(!detail::awaitable<F>)
    auto spawn_on(scheduler& where, task_name name, F f, Args... args) {
        if constexpr (!detail::calls_awaitable<F, Args...>) {
            detail::refuse_to_spawn<F, Args...>();
        } else {
            return spawn(std::move(name), call_on(where, std::move(f), std::move(args)...), where_);
        }
    }

    /// Cancels every task of the group, now and from now on.
    void cancel() noexcept {
        if (home_ == detail::current_core) {
            ended_early_ = ended_early_ || !is_cancelled();
            detail::cancel_subtree(*this);
        } else {
            cancel_from_elsewhere();
        }
    }

    /// The tasks that have not ended. The body of with_task_group is none of them.
    std::size_t size() const noexcept { return running_; }

    class join_awaiter;

    /// Completes when every task has ended; throws the first exception that one of them ended with.
    /// The group may be used again afterwards; one that was cancelled or has failed stays
    /// cancelled.
    /// Cancellation: cancels the group, waits for its tasks, then throws operation_cancelled. So
    /// does the join of a group whose surroundings alone were cancelled (the join may stand in a
    /// shield), if a task ended for that reason.
    join_awaiter join() noexcept;

private:
    friend void detail::finish_task(detail::task_state&, detail::promise_base&) noexcept;
    friend class detail::group_body;
    friend class detail::task_dump;
    friend void detail::left_open(const detail::scope_node&, const char*, const char*) noexcept;
    friend class scheduler;
    template <class T>
    friend class task_set;

    class end_awaiter;

    task_group(detail::scope_node& under, std::source_location where) noexcept;

    // The owner's stay inside the group's scope: while it lasts, the group's cancellation reaches
    // the owner too.
    class entry {
    public:
        explicit entry(task_group& group) noexcept : group_(group) {
            detail::enter_scope(group, *detail::current_core->current);
        }
        entry(const entry&) = delete;
        entry& operator=(const entry&) = delete;
        ~entry() { detail::leave_scope(group_); }

    private:
        task_group& group_;
    };

    detail::task_state& start(detail::promise_base& root, std::source_location where);
    detail::task_state& start(detail::promise_base& root, std::source_location where,
                              task_name name);
    void check_home(std::source_location where) const noexcept;
    void begin(detail::task_state& task, detail::promise_base& root, std::source_location where,
               std::uint32_t flags) noexcept;
    // These take over memory that is had already, for a task_state.
    template <class T>
    task_handle<T> spawn_in(void* memory, task<T> work, std::source_location where) noexcept {
        detail::task_state& task = start_in(memory, work.frame().promise(), where);
        return task_handle<T>{work.release(), task};
    }
    detail::task_state& start_in(void* memory, detail::promise_base& root,
                                 std::source_location where) noexcept;
    void child_ended() noexcept;
    void child_failed(detail::task_state& task, const std::exception_ptr& error) noexcept;
    bool fail(std::exception_ptr error) noexcept;
    void report_unheard(const std::exception_ptr& error, std::string_view name) const noexcept;
    void hold_back_joiner() noexcept;
    void cancel_from_elsewhere() noexcept;
    void arrived() noexcept override { home_ = detail::current_core; }

    template <class F, class... Args>
    static auto invoke_kept(F& f, Args&... args) {
        if constexpr (std::invocable<F&, Args...>) {
            return std::invoke(f, std::move(args)...);
        } else {
            return std::invoke(f, args...);
        }
    }

    template <class F, class... Args>
    static auto call(F f, Args... args)
        -> task<detail::await_result_t<decltype(invoke_kept(f, args...))>> {
        auto work = invoke_kept(f, args...);
        co_return co_await std::move(work);
    }

    template <class Awaitable>
    static auto await_on(scheduler& where, Awaitable work)
        -> task<detail::await_result_t<Awaitable>> {
        co_await resume_on(where);
        co_return co_await std::move(work);
    }

    template <class F, class... Args>
    static auto call_on(scheduler& where, F f, Args... args)
        -> task<detail::await_result_t<decltype(invoke_kept(f, args...))>> {
        co_await resume_on(where);
        auto work = invoke_kept(f, args...);
        co_return co_await std::move(work);
    }

    detail::scheduler_core* home_ = detail::current_core;
    std::size_t running_ = 0;
    end_awaiter* joiner_ = nullptr;  // until it resumes
    std::exception_ptr error_;       // the first that a child ended with, until a join throws it
    std::source_location where_;
    bool joined_ = true;        // nothing was spawned since the last join
    bool ended_early_ = false;  // cancel() was called, and came before any further out
    bool cut_short_ = false;    // a cancellation from further out ended a child since the last join
};

// What completes when every task has ended.
class task_group::end_awaiter : public detail::suspension {
public:
    explicit end_awaiter(task_group& group) noexcept : group_(group) {}
    bool await_ready() noexcept;
    template <detail::rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        group_.joiner_ = this;
        task = detail::current_core->current;
        if (group_.running_ == 0) return detail::give_way(waiter.promise(), where);
        detail::block(*this, waiter.promise(), where);
    }

    // Whether a task was cut short because what the group runs in was cancelled. Throws the
    // first error.
    bool await_resume() {
        const bool cut_short = end();
        if (group_.error_) std::rethrow_exception(std::exchange(group_.error_, nullptr));
        return cut_short;
    }

    void cancel() noexcept override;
    void describe(std::FILE* out) const override;

protected:
    ~end_awaiter() = default;

    // Whether a task was cut short, once for each join.
    bool end() noexcept {
        group_.joined_ = true;
        group_.joiner_ = nullptr;
        return std::exchange(group_.cut_short_, false);
    }

    task_group& group_;
    bool was_cancelled_ = false;
};

class [[nodiscard("without co_await nothing happens")]] task_group::join_awaiter final
    : public end_awaiter {
public:
    using end_awaiter::end_awaiter;
    void await_resume() {
        if (was_cancelled()) throw operation_cancelled{};
        if (group_.error_) std::rethrow_exception(std::exchange(group_.error_, nullptr));
    }
    bool was_cancelled() noexcept {
        was_cancelled_ |= end();
        return was_cancelled_ && !group_.error_;
    }
};

inline task_group::join_awaiter task_group::join() noexcept { return join_awaiter{*this}; }

namespace detail {

template <class F, class... Args>
struct group_result {
    using call = kept_t<pass::once, F, Args...>;
    static constexpr bool is_right = calls_task<call, task_group&>;
    static_assert(is_right,
                  "with_task_group: f(group, args...) must be a coroutine that returns a task, for "
                  "example [](task_group& group) -> task<> { ... co_return; }");
    using type = task_or_none_t<is_right, call, task_group&>;
};
template <class F, class... Args>
using group_result_t = typename group_result<F, Args...>::type;

class group_body {
public:
    class end final : public task_group::end_awaiter {
    public:
        using end_awaiter::end_awaiter;
    };

    /// Calls start(), which spawns into the group. What it throws, the group's join will throw.
    template <class Start>
    static void attempt(task_group& group, Start start) noexcept {
        try {
            start();
        } catch (...) {
            fail(group, std::current_exception());
            group.joined_ = false;
        }
    }

    template <class F>
    static auto run(F f, std::source_location where) -> std::invoke_result_t<F&, task_group&> {
        using value = typename std::invoke_result_t<F&, task_group&>::value_type;
        if constexpr (is_kept_call<F>) where = co_await place_of_await{};
        task_group group{where};
        std::optional<stored_result<value>> result;
        bool cancelled = false;
        {
            task_group::entry inside{group};
            try {
                auto body = std::invoke(f, group);
                if constexpr (std::is_void_v<value>) {
                    co_await body;
                } else if constexpr (std::is_reference_v<value>) {
                    result.emplace(std::addressof(co_await body));
                } else {
                    result.emplace(co_await body);
                }
            } catch (const operation_cancelled&) {
                if (group.is_cancelled()) {
                    cancelled = !group.ended_early_ || !std::is_void_v<value>;
                } else {
                    fail(group, std::current_exception());
                }
            } catch (...) {
                fail(group, std::current_exception());
            }
        }
        const bool cut_short = co_await end{group};
        if (cancelled || cut_short) throw operation_cancelled{};
        if constexpr (std::is_reference_v<value>) {
            co_return static_cast<value>(**result);
        } else if constexpr (!std::is_void_v<value>) {
            co_return *std::move(result);
        }
    }

private:
    static void fail(task_group& group, std::exception_ptr error) noexcept {
        if (!group.fail(error)) group.report_unheard(error, {});
    }
};

}  // namespace detail

/// Runs f(group, args...), a task, with a group of its own, then waits for all the group's tasks
/// and gives f's result. The first exception from f or from a task cancels everything else inside,
/// f included, and is thrown once all have ended; later ones go to the hook of unheard_error.hpp.
/// An operation_cancelled that leaves a task which nobody cancelled (it awaited a future that
/// somebody cancelled, say) is an exception like any other. The callable and the arguments are kept
/// until the end; arguments are passed as task_group::spawn passes them.
/// group.cancel() inside ends it early; where that ends f, it is a normal end if f gives void, else
/// operation_cancelled.
/// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first, or
/// pass what it captures as arguments.
/// Cancellation: passes to f and to every task, and waits for them. If it ended one of them, throws
/// operation_cancelled, also where f has given a value; if all ended by themselves, gives that
/// value.
template <class F>
auto with_task_group(F&& f, std::source_location where = std::source_location::current())
    -> detail::group_result_t<F> {
    detail::refuse_what_is_destroyed_twice<F>();
    if constexpr (detail::group_result<F>::is_right) {
        return detail::group_body::run(std::decay_t<F>(std::forward<F>(f)), where);
    }
}
template <class F, class Arg, class... Args>
    requires(!std::same_as<std::remove_cvref_t<Arg>, std::source_location>)
auto with_task_group(F&& f, Arg&& arg, Args&&... args) -> detail::group_result_t<F, Arg, Args...> {
    detail::refuse_what_is_destroyed_twice<F>();
    if constexpr (detail::group_result<F, Arg, Args...>::is_right) {
        return detail::group_body::run(
            detail::keep_callable(std::forward<F>(f), std::forward<Arg>(arg),
                                  std::forward<Args>(args)...),
            std::source_location{});
    }
}

}  // namespace rondo
