#pragma once
// Queues between those who make work and those who do it: Python's queue.Queue, PriorityQueue and
// LifoQueue.
//
//     rondo::queue<job> jobs{100};
//     co_await jobs.put(next_job());              // waits while there are 100
//     ...
//     job one = co_await jobs.get();              // waits while there are none
//     co_await one.run();
//     jobs.task_done();
//     ...
//     co_await jobs.join();                       // until all that was put is done

#include <rondo/sync/detail/item_exchange.hpp>

#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// Tasks that put are served in the order in which they came, and so are tasks that get.
/// Thread safety: tasks of any scheduler; what does not wait, and what blocks, from any thread.
/// What was done before a put is seen by the task that gets the item.
template <class T, class Store>
class basic_queue {
    using exchange = item_exchange<Store>;
    using item_type = typename Store::item_type;

public:
    using value_type = T;

    basic_queue(const basic_queue&) = delete;
    basic_queue& operator=(const basic_queue&) = delete;

    using put_awaiter = put_awaiter_of<exchange>;
    using get_awaiter = get_awaiter_of<T, exchange>;

    /// Puts `value`; waits while the queue is full.
    /// Throws closed_error once it is closed, at once also where it waits already; std::bad_alloc
    /// when there is no memory to keep the value in.
    /// Under g++ 12 an aggregate whose members have destructors must not be written inside a
    /// co_await expression, `co_await jobs.put(job{text})`: they would be destroyed twice. Name it
    /// first, or give the type a constructor.
    /// Cancellation: leaves the line and puts nothing; what has been put stays so.
    put_awaiter put(T value) {
        return put_awaiter{exchange_, keep_item<item_type>(std::move(value)), "a queue"};
    }

    /// Gets an item; waits while there is none. A waiting task is handed it directly.
    /// Throws closed_error once the queue is closed and empty.
    /// Cancellation: leaves the line and takes nothing; a task that has been handed an item has it.
    get_awaiter get() noexcept { return get_awaiter{exchange_, "a queue"}; }

    /// Puts `value` if there is room; false if not. Throws closed_error once the queue is closed.
    /// What is not put is left as it was (as far as it can be, where T's move may throw).
    bool try_put(T&& value) { return exchange_.try_put_value(value); }
    bool try_put(const T& value)
        requires std::copy_constructible<T>
    {
        return exchange_.try_put_copy(value);
    }

    /// Gets an item if there is one. Throws closed_error once the queue is closed and empty.
    std::optional<T> try_get() {
        item_place<T, item_type> place;
        const item_outcome how = exchange_.try_get(place.address());
        if (how == item_outcome::waits) return std::nullopt;
        if (how != item_outcome::done) throw_outcome(how);
        return place.take();
    }

    /// As put() and get(), for plain threads: they block. In a task that is misuse.
    /// A stop that is requested through `stop` ends the wait with operation_cancelled, and nothing
    /// has been put or taken; what needs no wait is done all the same.
    void put_blocking(T value, std::stop_token stop = {},
                      std::source_location where = std::source_location::current()) {
        check_put_may_block(where);
        auto item = keep_item<item_type>(std::move(value));
        put_until(item, never, stop);
    }
    T get_blocking(std::stop_token stop = {},
                   std::source_location where = std::source_location::current()) {
        check_get_may_block(where);
        item_place<T, item_type> place;
        get_until(place.address(), never, stop);
        return place.take();
    }

    /// The same for at most `limit`. False, and an empty optional, once that has passed; what was
    /// not put is left as it was (as far as it can be, where T's move may throw).
    template <class Rep, class Period>
    bool put_blocking_for(std::chrono::duration<Rep, Period> limit, T&& value,
                          std::stop_token stop = {},
                          std::source_location where = std::source_location::current()) {
        check_put_may_block(where);
        if constexpr (std::is_same_v<item_type, T>) {
            return put_until(value, deadline_after(limit), stop);
        } else {
            item_type item = keep_item<item_type>(std::move(value));
            const bool put = put_until(item, deadline_after(limit), stop);
            if constexpr (std::is_move_assignable_v<T>) {
                if (!put) value = std::move(*item);
            }
            return put;
        }
    }
    template <class Rep, class Period>
        requires std::copy_constructible<T>
    bool put_blocking_for(std::chrono::duration<Rep, Period> limit, const T& value,
                          std::stop_token stop = {},
                          std::source_location where = std::source_location::current()) {
        return put_blocking_for(limit, T(value), std::move(stop), where);
    }
    template <class Rep, class Period>
    std::optional<T> get_blocking_for(
        std::chrono::duration<Rep, Period> limit, std::stop_token stop = {},
        std::source_location where = std::source_location::current()) {
        check_get_may_block(where);
        item_place<T, item_type> place;
        if (!get_until(place.address(), deadline_after(limit), stop)) return std::nullopt;
        return place.take();
    }

    /// An item that was got is done with. Throws std::logic_error when called more often than items
    /// were put.
    void task_done() {
        wake_list woken;
        {
            const std::lock_guard guard(exchange_.lock());
            if (done_count_ == exchange_.put_count()) {
                throw std::logic_error("queue: task_done() is called more often than put()");
            }
            ++done_count_;
            if (done_count_ == exchange_.put_count()) woken.take_all(joiners_);
        }
        woken.wake_all();
    }

    class [[nodiscard("without co_await nothing happens")]] join_awaiter final
        : public task_waiter {
    public:
        explicit join_awaiter(basic_queue& of) noexcept : queue_(of) {}
        bool await_ready() const noexcept { return false; }
        template <rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = current_core->current->should_stop();
            prepare();
            if (was_cancelled_ || !queue_.join_line(*this)) {
                return !keeps_turn(waiter.promise(), where, memory_cost);
            }
            block(*this, waiter.promise(), where);
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = queue_.leave_line(*this);
            if (was_cancelled_) current_core->wake(*task);
        }
        void describe(std::FILE* out) const override {
            std::fputs("the end of a queue's work", out);
        }

    private:
        basic_queue& queue_;
        bool was_cancelled_ = false;
    };

    /// Completes when task_done() has been called for every item that was put, at once if it has.
    /// Closing does not end it.
    /// Cancellation: stops waiting.
    join_awaiter join() noexcept { return join_awaiter{*this}; }

    /// Nothing can be put any more. Tasks that wait to put get closed_error; tasks that get are
    /// given first what is still there.
    void close() noexcept { exchange_.close(); }
    bool is_closed() const noexcept { return exchange_.is_closed(); }

    /// How many items there are, at this moment.
    std::size_t size() const noexcept { return exchange_.size(); }
    bool empty() const noexcept { return size() == 0; }
    /// 0: any number.
    std::size_t max_size() const noexcept {
        return exchange_.limit() == unbounded ? 0 : exchange_.limit();
    }

protected:
    template <class... Args>
    explicit basic_queue(std::size_t max_size, Args&&... args)
        : exchange_(max_size == 0 ? unbounded : max_size, std::forward<Args>(args)...) {}
    ~basic_queue() = default;

private:
    static constexpr std::size_t unbounded = SIZE_MAX;

    static constexpr std::int64_t never = INT64_MAX;

    using blocked_thread = basic_thread_waiter<item_waiter<item_type>>;

    static void check_put_may_block(std::source_location where) noexcept {
        check_may_block(
            "put_blocking() is called in a task, which is to co_await put(): it would "
            "block the reactor",
            where);
    }
    static void check_get_may_block(std::source_location where) noexcept {
        check_may_block(
            "get_blocking() is called in a task, which is to co_await get(): it would "
            "block the reactor",
            where);
    }

    bool put_until(item_type& item, std::int64_t deadline, const std::stop_token& stop) {
        blocked_thread self;
        self.item = std::addressof(item);
        return finish_blocking(self, exchange_.put_or_join(self), deadline, stop,
                               &exchange::stop_putting);
    }
    bool get_until(item_type* place, std::int64_t deadline, const std::stop_token& stop) {
        blocked_thread self;
        self.item = place;
        return finish_blocking(self, exchange_.get_or_join(self), deadline, stop,
                               &exchange::stop_getting);
    }

    // False: the deadline has passed, and nothing has happened.
    bool finish_blocking(blocked_thread& self, item_outcome now, std::int64_t deadline,
                         const std::stop_token& stop,
                         bool (exchange::*leave)(item_waiter<item_type>&) noexcept) {
        if (now == item_outcome::waits) {
            if (!self.wait_until(deadline, stop)) {
                const bool has_left = (exchange_.*leave)(self);
                if (has_left && !stop.stop_requested()) return false;
                // Somebody else has taken it out of the line, and wakes it.
                if (!has_left) self.wait();
            }
            now = self.outcome;
        }
        if (now != item_outcome::done) throw_outcome(now);
        return true;
    }
    bool join_line(join_awaiter& one) noexcept {
        const std::lock_guard guard(exchange_.lock());
        if (done_count_ == exchange_.put_count()) return false;
        joiners_.push(one);
        return true;
    }
    bool leave_line(join_awaiter& one) noexcept {
        const std::lock_guard guard(exchange_.lock());
        if (!one.in_line()) return false;
        joiners_.remove(one);
        return true;
    }

    exchange exchange_;
    // Under the lock of the exchange.
    std::uint64_t done_count_ = 0;
    wait_list joiners_;
};

}  // namespace detail

/// First in, first out.
template <class T>
class queue : public detail::basic_queue<T, detail::fifo_store<T>> {
public:
    /// Holds `max_size` items at most; 0: any number.
    explicit queue(std::size_t max_size = 0) : queue::basic_queue(max_size) {}
};

/// Last in, first out.
template <class T>
class lifo_queue : public detail::basic_queue<T, detail::lifo_store<T>> {
public:
    explicit lifo_queue(std::size_t max_size = 0) : lifo_queue::basic_queue(max_size) {}
};

/// The smallest item first; of equal ones, the one that was put first. `Compare` must not throw.
template <class T, class Compare = std::less<T>>
class priority_queue : public detail::basic_queue<T, detail::priority_store<T, Compare>> {
public:
    explicit priority_queue(std::size_t max_size = 0, Compare compare = Compare())
        : priority_queue::basic_queue(max_size, std::move(compare)) {}
};

}  // namespace rondo
