#pragma once
// Several futures, taken as they get done.
//
//     auto order = as_completed(futures);
//     while (auto done = co_await order.next()) use(done->get());       // in a task
//     for (auto& done : as_completed(futures)) use(done.get());         // in a plain thread
//
//     auto [done, not_done] = co_await wait(futures, return_when::first_completed);
//     auto [ready, late] = wait(futures, return_when::first_exception).get();

#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/threads/detail/blocking_items.hpp>
#include <rondo/runtime/threads/detail/completion_list.hpp>
#include <rondo/runtime/threads/future.hpp>

#include <algorithm>
#include <coroutine>
#include <cstddef>
#include <future>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo {

namespace detail {

template <class T>
inline constexpr bool is_future = false;
template <class T>
inline constexpr bool is_future<future<T>> = true;

template <class Range>
concept future_range =
    std::ranges::input_range<Range> && is_future<std::ranges::range_value_t<Range>>;

template <class Range>
using future_value_t = typename std::ranges::range_value_t<Range>::value_type;

/// Leaves out each future that stands for the same result as one before it. Throws
/// std::future_error (no_state) for one that stands for nothing.
template <class T>
void keep_each_once(std::vector<future<T>>& all) {
    std::vector<std::pair<const future_state_base*, std::size_t>> places;
    places.reserve(all.size());
    for (const future<T>& one : all) {
        if (!one.valid()) throw std::future_error(std::future_errc::no_state);
        places.emplace_back(&future_access::state(one), places.size());
    }
    std::ranges::sort(places);
    std::vector<bool> is_repeated(all.size());
    bool any = false;
    for (std::size_t i = 1; i < places.size(); ++i) {
        if (places[i].first != places[i - 1].first) continue;
        is_repeated[places[i].second] = true;
        any = true;
    }
    if (!any) return;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (!is_repeated[i]) std::swap(all[kept++], all[i]);
    }
    all.resize(kept);
}

/// The futures of a range, each once: copies, or moved out of a container that is given away.
template <future_range Range>
auto collect_futures(Range&& range) {
    std::vector<std::ranges::range_value_t<Range>> all;
    if constexpr (std::ranges::sized_range<Range>) all.reserve(std::ranges::size(range));
    for (auto&& one : range) {
        if constexpr (std::is_lvalue_reference_v<Range> || std::ranges::view<Range>) {
            all.push_back(one);
        } else {
            all.push_back(std::move(one));
        }
    }
    keep_each_once(all);
    return all;
}

/// Futures and the list of those that are done, owned.
template <class T>
class watched_futures {
public:
    explicit watched_futures(std::vector<future<T>> futures)
        : futures_(std::move(futures)), left_(futures_.size()) {
        if (left_ == 0) return;
        list_ = new completion_list{left_};
        try {
            for (std::size_t i = 0; i < left_; ++i) {
                list_->watch(i, future_access::state(futures_[i]));
            }
        } catch (...) {
            list_->leave();
            throw;
        }
    }
    watched_futures(watched_futures&& other) noexcept
        : futures_(std::move(other.futures_)),
          list_(std::exchange(other.list_, nullptr)),
          left_(std::exchange(other.left_, 0)) {}
    watched_futures& operator=(watched_futures&&) = delete;
    ~watched_futures() {
        if (list_ != nullptr) list_->leave();
    }

    std::vector<future<T>>& futures() noexcept { return futures_; }
    std::size_t left() const noexcept { return left_; }
    /// Null when nothing more will come.
    completion_list* list() const noexcept { return left_ == 0 ? nullptr : list_; }
    /// The index of one that is done. Precondition: list()->ready().
    std::size_t take() noexcept {
        --left_;
        return list_->next();
    }
    /// Blocks the calling thread until one is done. Precondition: list() is not null.
    void wait(std::source_location where) {
        if (list_->ready()) return;
        check_may_block("a task blocks on futures; co_await them instead", where);
        list_->wait();
    }

private:
    std::vector<future<T>> futures_;
    completion_list* list_ = nullptr;
    std::size_t left_;
};

/// Waits for the next of them, and gives its index, or nothing at the end.
template <class T>
class [[nodiscard("without co_await nothing happens")]] completion_awaiter
    : public completion_wait {
public:
    explicit completion_awaiter(watched_futures<T>& watched) noexcept
        : completion_wait(watched.list()), watched_(watched) {}

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        return start(waiter.promise(), where);
    }
    std::optional<std::size_t> await_resume() {
        if (was_cancelled_) throw operation_cancelled{};
        if (list_ == nullptr) return std::nullopt;
        return watched_.take();
    }

protected:
    watched_futures<T>& watched_;
};

}  // namespace detail

/// Futures in the order in which they get done; those that are done at the start come first, in the
/// order they were given. Dropping it early changes nothing for the futures.
/// Thread safety: one task or one thread at a time.
template <class T>
class [[nodiscard]] completion_order
    : public detail::blocking_items<completion_order<T>, future<T>> {
public:
    explicit completion_order(std::vector<future<T>> futures) : watched_(std::move(futures)) {}

    class [[nodiscard("without co_await nothing happens")]] next_awaiter final
        : public detail::completion_awaiter<T> {
    public:
        using detail::completion_awaiter<T>::completion_awaiter;
        std::optional<future<T>> await_resume() {
            const auto index = detail::completion_awaiter<T>::await_resume();
            if (!index) return std::nullopt;
            return std::move(this->watched_.futures()[*index]);
        }
    };

    /// Completes when another one is done, and gives it; an empty optional when all were given.
    /// Cancellation: gives up waiting; nothing is lost.
    next_awaiter next() noexcept { return next_awaiter{watched_}; }

private:
    friend detail::blocking_items<completion_order, future<T>>;

    std::optional<future<T>> next_blocking(std::source_location where) {
        if (watched_.list() == nullptr) return std::nullopt;
        watched_.wait(where);
        return std::move(watched_.futures()[watched_.take()]);
    }

    detail::watched_futures<T> watched_;
};

/// The futures of `range` as they get done: `co_await order.next()` in a task, a range-for in a
/// plain thread. They are copied, or moved out of a container that is given away. One that is there
/// several times counts once. Throws std::future_error (no_state) for one that stands for nothing.
template <detail::future_range Range>
auto as_completed(Range&& range) -> completion_order<detail::future_value_t<Range>> {
    return completion_order<detail::future_value_t<Range>>{
        detail::collect_futures(std::forward<Range>(range))};
}

/// When wait() is content. A cancelled future is done, but no exception.
enum class return_when { first_completed, first_exception, all };

/// Both in the order in which they were given to wait().
template <class T>
struct wait_result {
    std::vector<future<T>> done;
    std::vector<future<T>> not_done;
};

/// What wait() gives: awaited in a task, or asked with get() in a plain thread, once.
template <class T>
class [[nodiscard("without co_await or get() nothing happens")]] wait_operation {
public:
    wait_operation(std::vector<future<T>> futures, return_when when)
        : watched_(std::move(futures)), when_(when) {}

    /// Blocks the calling thread, not a task's.
    wait_result<T> get(std::source_location where = std::source_location::current()) && {
        while (!content()) {
            watched_.wait(where);
            count(watched_.take());
        }
        return result(watched_);
    }

    class awaiter {
    public:
        explicit awaiter(task<wait_result<T>> work) noexcept : work_(std::move(work)) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        std::coroutine_handle<> await_suspend(
            std::coroutine_handle<Promise> waiter,
            std::source_location where = std::source_location::current()) noexcept {
            return work_.operator co_await().await_suspend(waiter, where);
        }
        wait_result<T> await_resume() { return work_.operator co_await().await_resume(); }

    private:
        task<wait_result<T>> work_;
    };

    /// Completes when `when` holds. Cancellation: gives up waiting; the futures go on.
    awaiter operator co_await() && { return awaiter{run(std::move(*this))}; }

private:
    static task<wait_result<T>> run(wait_operation self) {
        while (!self.content()) {
            detail::completion_awaiter<T> next{self.watched_};
            const std::optional<std::size_t> index = co_await next;
            self.count(*index);
        }
        co_return result(self.watched_);
    }

    void count(std::size_t index) {
        any_ = true;
        any_failed_ =
            any_failed_ || detail::future_access::state(watched_.futures()[index]).has_failed();
    }
    bool content() const noexcept {
        return watched_.left() == 0 || (when_ == return_when::first_completed && any_) ||
               (when_ == return_when::first_exception && any_failed_);
    }
    static wait_result<T> result(detail::watched_futures<T>& watched) {
        wait_result<T> sorted;
        for (const future<T>& one : watched.futures()) {
            (one.done() ? sorted.done : sorted.not_done).push_back(one);
        }
        return sorted;
    }

    detail::watched_futures<T> watched_;
    return_when when_;
    bool any_ = false;
    bool any_failed_ = false;
};

/// Waits until the first of the futures is done, the first has failed (or all are done), or all
/// are, and tells which are done and which are not. Completes at once for an empty range. Copies of
/// one future count once. Throws as as_completed.
template <detail::future_range Range>
auto wait(Range&& range, return_when when = return_when::all)
    -> wait_operation<detail::future_value_t<Range>> {
    return {detail::collect_futures(std::forward<Range>(range)), when};
}

}  // namespace rondo
