#pragma once
// Threads for what blocks or burns CPU.
//
//     thread_pool pool{4};
//     future<int> answer = pool.submit(fib, 40);
//     int n = co_await answer;                               // in a task
//     int m = answer.get();                                  // in a plain thread
//
//     auto thumbnails = pool.map(shrink, pictures);          // in the order of the pictures
//     while (auto one = co_await thumbnails.next()) co_await send(*one);
//     for (auto& one : pool.map_unordered(shrink, pictures)) save(one);   // as they get done

#include <rondo/runtime/core/detail/frame_recycler.hpp>
#include <rondo/runtime/threads/as_completed.hpp>
#include <rondo/runtime/threads/detail/blocking_items.hpp>
#include <rondo/runtime/threads/detail/pool_core.hpp>
#include <rondo/runtime/threads/detail/pool_map.hpp>
#include <rondo/runtime/threads/future.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace rondo {

struct thread_pool_options {
    /// 0: one per usable core. At most 1024.
    unsigned threads = 0;
    /// How many jobs may wait for a thread; 0: any number.
    std::size_t max_pending = 0;
    /// Runs first in each thread. If it throws, the pool is broken: what is pending gets that
    /// exception, and submit throws it.
    std::function<void()> initializer = {};
    /// The threads give way where cores are scarce: ten steps nicer than others (sched(7)).
    bool background = false;
};

class thread_pool;
template <class T>
class mapped;
template <class T>
class mapped_unordered;

namespace detail {

class runtime_threads;

template <class F, class... Args>
using call_result_t = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;

/// f(args...) with all of them kept, as std::thread keeps them.
template <class F, class... Args>
auto keep_call(F&& f, Args&&... args) {
    return [f = std::decay_t<F>(std::forward<F>(f)),
            args = std::tuple<std::decay_t<Args>...>(
                std::forward<Args>(args)...)]() mutable -> call_result_t<F, Args...> {
        return std::apply(
            [&](auto&... arg) -> call_result_t<F, Args...> {
                return std::invoke(std::move(f), std::move(arg)...);
            },
            args);
    };
}

/// The elements of `range`: moved out of a container that is given away, otherwise copied.
template <class Range>
using element_t = std::conditional_t<std::is_lvalue_reference_v<Range> ||
                                         std::ranges::view<std::remove_cvref_t<Range>>,
                                     std::decay_t<std::ranges::range_reference_t<Range>>,
                                     std::decay_t<std::ranges::range_value_t<Range>>>;

template <class... Ranges>
auto collect_arguments(Ranges&&... ranges) -> std::vector<std::tuple<element_t<Ranges>...>> {
    std::vector<std::tuple<element_t<Ranges>...>> all;
    const auto forwarded = []<class Range>(std::type_identity<Range>, auto&& element) -> auto&& {
        if constexpr (std::is_lvalue_reference_v<Range> ||
                      std::ranges::view<std::remove_cvref_t<Range>>) {
            return std::forward<decltype(element)>(element);
        } else {
            return std::move(element);
        }
    };
    const auto zip = [&](auto... at) {
        while (((at != std::ranges::end(ranges)) && ...)) {
            all.emplace_back(forwarded(std::type_identity<Ranges>{}, *at)...);
            (void)(++at, ...);
        }
    };
    zip(std::ranges::begin(ranges)...);
    return all;
}

template <class F, class... Ranges>
using map_plan_t = map_plan<std::decay_t<F>, std::tuple<element_t<Ranges>...>>;
template <class F, class... Ranges>
using map_value_t = typename map_plan_t<F, Ranges...>::value;

// What an optional can hold in place of a T: void becomes std::monostate, a reference a
// std::reference_wrapper.
template <class T>
using map_item_t =
    std::conditional_t<std::is_void_v<T>, std::monostate,
                       std::conditional_t<std::is_reference_v<T>,
                                          std::reference_wrapper<std::remove_reference_t<T>>, T>>;

/// Precondition: it is done.
template <class T>
map_item_t<T> take_item(future<T> from) {
    if constexpr (std::is_void_v<T>) {
        std::move(from).get();
        return {};
    } else {
        return std::move(from).get();
    }
}

template <class T>
void cancel_all(std::vector<future<T>>& futures) noexcept {
    for (future<T>& one : futures) {
        if (one.valid()) one.cancel();
    }
}

template <class F>
auto submit_job(thread_pool& pool, F f) -> future<std::invoke_result_t<F>>;

}  // namespace detail

/// A fixed number of threads and what they are to run. Jobs start roughly in the order in which
/// they were submitted. The destructor is shutdown(true, false): it waits for all that was
/// submitted. It blocks: destroyed in a task, it holds up the reactor. Where a job of the pool owns
/// it last, it is shutdown(false, false): the threads do what was submitted, and end by themselves.
/// Thread safety: any thread, any task; shutdown too.
class thread_pool {
public:
    /// Throws std::invalid_argument for more than 1024 threads, std::system_error when not even one
    /// can be started. Where some cannot, those that can do the work: size() tells how many.
    explicit thread_pool(unsigned threads) : thread_pool(thread_pool_options{.threads = threads}) {}
    explicit thread_pool(thread_pool_options options = {});
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    ~thread_pool();

    /// Has a thread call f(args...), all kept and passed as std::thread does: std::ref for a
    /// reference. They are destroyed before the future is done.
    /// With max_pending a plain thread waits for room; a task, which must not block, gets
    /// std::system_error (resource_unavailable_try_again); a job of this very pool is let in.
    /// Throws std::runtime_error after shutdown, the initializer's exception if that failed.
    /// Under g++ 12 a lambda whose captures have destructors must not be written inside a co_await
    /// expression, `co_await pool.submit([text] { ... })`: they would be destroyed twice. Name it
    /// or the future first, or pass what it captures as arguments.
    template <class F, class... Args>
        requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
    auto submit(F&& f, Args&&... args) -> future<detail::call_result_t<F, Args...>> {
        auto call = detail::keep_call(std::forward<F>(f), std::forward<Args>(args)...);
        core_->admit();
        return detail::admission{*core_}.submit(std::move(call));
    }

    /// The same if there is room, at once; an empty optional if not. The arguments may be used up
    /// either way.
    template <class F, class... Args>
        requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
    auto try_submit(F&& f, Args&&... args)
        -> std::optional<future<detail::call_result_t<F, Args...>>> {
        auto call = detail::keep_call(std::forward<F>(f), std::forward<Args>(args)...);
        if (!core_->try_admit()) return std::nullopt;
        return detail::admission{*core_}.submit(std::move(call));
    }

    /// f(element) for each element of the range, or f(a, b...) for several ranges side by side, as
    /// far as the shortest goes. The results come in the order of the range; an exception comes
    /// where its result would. The range is read here; f is kept once, and called by several
    /// threads at a time. All is submitted at once; with max_pending as room comes, which this call
    /// does not wait for. Throws as submit.
    template <class F, std::ranges::input_range... Ranges>
        requires(sizeof...(Ranges) > 0)
    auto map(F&& f, Ranges&&... ranges) -> mapped<detail::map_value_t<F, Ranges...>>;

    /// The same, in the order in which they get done.
    template <class F, std::ranges::input_range... Ranges>
        requires(sizeof...(Ranges) > 0)
    auto map_unordered(F&& f, Ranges&&... ranges)
        -> mapped_unordered<detail::map_value_t<F, Ranges...>>;

    /// Takes no more jobs. What is pending is run, or cancelled if `cancel_pending`. `wait` blocks
    /// until the threads have ended; from a job of this pool that is std::system_error
    /// (resource_deadlock_would_occur). It may be called again.
    void shutdown(bool wait = true, bool cancel_pending = false);

    /// Whether all its threads wait for work, at this moment.
    bool idle() const noexcept { return core_->resting(); }

    /// How many threads it has, which may be fewer than were asked for.
    std::size_t size() const noexcept { return core_->size(); }

private:
    friend class detail::runtime_threads;
    template <class F>
    friend auto detail::submit_job(thread_pool& pool, F f) -> future<std::invoke_result_t<F>>;

    template <class F, class... Ranges>
    auto start_map(F&& f, Ranges&&... ranges) {
        return detail::map_plan_t<F, Ranges...>::start(
            *core_, std::forward<F>(f), detail::collect_arguments(std::forward<Ranges>(ranges)...));
    }

    std::shared_ptr<detail::pool_core> core_;
};

/// The results of thread_pool::map: a range-for in a plain thread, `co_await next()` in a task.
/// void gives std::monostate, a reference a std::reference_wrapper. Dropping it cancels what has
/// not started.
/// Thread safety: one task or one thread at a time.
template <class T>
class [[nodiscard]] mapped : public detail::blocking_items<mapped<T>, detail::map_item_t<T>> {
public:
    using value_type = detail::map_item_t<T>;

    explicit mapped(std::vector<future<T>> futures) noexcept : futures_(std::move(futures)) {}
    mapped(mapped&&) noexcept = default;
    mapped& operator=(mapped&&) = delete;
    ~mapped() { detail::cancel_all(futures_); }

    class [[nodiscard("without co_await nothing happens")]] next_awaiter final
        : public detail::future_wait {
    public:
        explicit next_awaiter(mapped& results) noexcept
            : future_wait(results.next_state()), results_(results) {
            detail::refuse_over_aligned<value_type>();
        }
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) {
            if (state_ != nullptr) return start(waiter.promise(), where);
            was_cancelled_ = detail::current_core->current->should_stop();
            return !detail::keeps_turn(waiter.promise(), where);
        }
        std::optional<value_type> await_resume() {
            if (was_cancelled_) throw operation_cancelled{};
            if (state_ == nullptr) return std::nullopt;
            let_go();
            return results_.take();
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

    private:
        mapped& results_;
    };

    /// Completes when the next result is there, and gives it, or throws its exception; an empty
    /// optional at the end. Cancellation: gives up waiting; nothing is lost.
    next_awaiter next() noexcept { return next_awaiter{*this}; }

private:
    friend detail::blocking_items<mapped, value_type>;

    detail::future_state_base* next_state() const noexcept {
        return next_ == futures_.size() ? nullptr : &detail::future_access::state(futures_[next_]);
    }
    value_type take() { return detail::take_item(std::move(futures_[next_++])); }
    std::optional<value_type> next_blocking(std::source_location where) {
        if (next_ == futures_.size()) return std::nullopt;
        futures_[next_].wait(where);
        return take();
    }

    std::vector<future<T>> futures_;
    std::size_t next_ = 0;
};

/// The results of thread_pool::map_unordered; as `mapped` otherwise.
template <class T>
class [[nodiscard]] mapped_unordered
    : public detail::blocking_items<mapped_unordered<T>, detail::map_item_t<T>> {
public:
    using value_type = detail::map_item_t<T>;

    explicit mapped_unordered(std::vector<future<T>> futures) : watched_(std::move(futures)) {}
    mapped_unordered(mapped_unordered&&) noexcept = default;
    mapped_unordered& operator=(mapped_unordered&&) = delete;
    ~mapped_unordered() { detail::cancel_all(watched_.futures()); }

    class [[nodiscard("without co_await nothing happens")]] next_awaiter final
        : public detail::completion_awaiter<T> {
    public:
        explicit next_awaiter(mapped_unordered& results) noexcept
            : detail::completion_awaiter<T>(results.watched_) {
            detail::refuse_over_aligned<value_type>();
        }
        std::optional<value_type> await_resume() {
            const auto index = detail::completion_awaiter<T>::await_resume();
            if (!index) return std::nullopt;
            return detail::take_item(std::move(this->watched_.futures()[*index]));
        }
    };

    /// As mapped::next, in the order in which the results get there.
    next_awaiter next() noexcept { return next_awaiter{*this}; }

private:
    friend detail::blocking_items<mapped_unordered, value_type>;

    std::optional<value_type> next_blocking(std::source_location where) {
        if (watched_.list() == nullptr) return std::nullopt;
        watched_.wait(where);
        return detail::take_item(std::move(watched_.futures()[watched_.take()]));
    }

    detail::watched_futures<T> watched_;
};

template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0)
auto thread_pool::map(F&& f, Ranges&&... ranges) -> mapped<detail::map_value_t<F, Ranges...>> {
    return mapped<detail::map_value_t<F, Ranges...>>{
        start_map(std::forward<F>(f), std::forward<Ranges>(ranges)...)};
}

template <class F, std::ranges::input_range... Ranges>
    requires(sizeof...(Ranges) > 0)
auto thread_pool::map_unordered(F&& f, Ranges&&... ranges)
    -> mapped_unordered<detail::map_value_t<F, Ranges...>> {
    return mapped_unordered<detail::map_value_t<F, Ranges...>>{
        start_map(std::forward<F>(f), std::forward<Ranges>(ranges)...)};
}

namespace detail {

/// submit for tasks that wait for the result themselves: never blocks, whatever max_pending says.
/// Throws as submit when the pool was shut down or is broken.
template <class F>
auto submit_job(thread_pool& pool, F f) -> future<std::invoke_result_t<F>> {
    pool.core_->force_admit();
    return admission{*pool.core_}.submit(std::move(f));
}

}  // namespace detail
}  // namespace rondo
