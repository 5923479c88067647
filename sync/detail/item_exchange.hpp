#pragma once
// What queues and channels are made of: a store with a limit, the line of those who wait to put an
// item in, and of those who wait to get one.
//
// What holds whenever the lock is free, of the waiters that nobody has claimed elsewhere (select):
//   - somebody waits to get:  the store is empty and nobody waits to put;
//   - somebody waits to put:  the store is full;
//   - it is closed:           nobody waits.
// (A select may stand in both lines of a channel without room; it does not serve itself.)
// So an item goes straight to the one who waits for it, and a place that becomes free is filled at
// once by the one who has waited longest: nobody overtakes.
//
// An item stays with the one who puts it until it is taken: until then it may leave the line with
// the item, after that the put has happened.

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/sync/detail/item_store.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>
#include <rondo/sync/errors.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo::detail {

/// How a put or a get stands.
enum class item_outcome : std::uint8_t {
    waits,
    done,
    closed,
    cancelled,
    no_memory,
};

[[noreturn]] void throw_outcome(item_outcome outcome);
std::error_code error_of(item_outcome outcome) noexcept;

/// Somebody who puts an item, or gets one.
template <class Item>
class item_waiter : public waiter {
public:
    // Of who puts: the item, until it is taken. Of who gets: the place to construct it at.
    Item* item = nullptr;
    // Written under the lock by who takes the waiter out of the line.
    item_outcome outcome = item_outcome::waits;

protected:
    item_waiter() noexcept = default;
    item_waiter(const item_waiter&) noexcept = default;
    ~item_waiter() = default;
};

template <class Store>
class item_exchange {
public:
    using item_type = typename Store::item_type;
    using waiter_type = item_waiter<item_type>;

    /// `limit` items at most are stored.
    template <class... Args>
    explicit item_exchange(std::size_t limit, Args&&... args)
        : limit_(limit), store_(std::forward<Args>(args)...) {
        refuse_over_aligned<item_type>();
    }
    item_exchange(const item_exchange&) = delete;
    item_exchange& operator=(const item_exchange&) = delete;

    short_lock& lock() noexcept { return lock_; }

    /// Puts, or joins the line where it says `waits`.
    item_outcome put_or_join(waiter_type& one) noexcept {
        lock_.lock();
        const step done = put_step(*one.item);
        if (done.outcome == item_outcome::waits) putters_.push(one);
        lock_.unlock();
        if (done.woken != nullptr) done.woken->wake();
        return done.outcome;
    }
    item_outcome get_or_join(waiter_type& one) noexcept {
        lock_.lock();
        const step done = get_step(one.item);
        if (done.outcome == item_outcome::waits) getters_.push(one);
        lock_.unlock();
        if (done.woken != nullptr) done.woken->wake();
        return done.outcome;
    }

    /// The same without joining: nothing has happened where it says `waits`.
    item_outcome try_put(item_type& item) noexcept {
        lock_.lock();
        const step done = put_step(item);
        lock_.unlock();
        if (done.woken != nullptr) done.woken->wake();
        return done.outcome;
    }
    /// The same for the value of an item: false where there is no room, otherwise throws. It is
    /// left as it was where nothing has happened, as far as it can be.
    template <class T>
    bool try_put_value(T& value) {
        if constexpr (std::is_same_v<item_type, T>) {
            return was_put(try_put(value));
        } else {
            item_type item = keep_item<item_type>(std::move(value));
            const item_outcome how = try_put(item);
            if constexpr (std::is_move_assignable_v<T>) {
                if (how != item_outcome::done) value = std::move(*item);
            }
            return was_put(how);
        }
    }
    template <class T>
    bool try_put_copy(const T& value) {
        item_type item = keep_item<item_type>(value);
        return was_put(try_put(item));
    }
    item_outcome try_get(item_type* place) noexcept {
        lock_.lock();
        const step done = get_step(place);
        lock_.unlock();
        if (done.woken != nullptr) done.woken->wake();
        return done.outcome;
    }

    /// False: its put or get has ended.
    bool stop_putting(waiter_type& one) noexcept { return leave_line(putters_, one); }
    bool stop_getting(waiter_type& one) noexcept { return leave_line(getters_, one); }

    void close() noexcept {
        wake_list woken;
        {
            const std::lock_guard guard(lock_);
            closed_ = true;
            while (waiter_type* one = take_first(putters_)) turn_away(*one, woken);
            while (waiter_type* one = take_first(getters_)) turn_away(*one, woken);
        }
        woken.wake_all();
    }

    bool is_closed() const noexcept {
        const std::lock_guard guard(lock_);
        return closed_;
    }
    std::size_t size() const noexcept {
        const std::lock_guard guard(lock_);
        return store_.size();
    }
    std::size_t limit() const noexcept { return limit_; }

    /// How many items were ever put. Under the lock.
    std::uint64_t put_count() const noexcept { return put_count_; }

    struct step {
        item_outcome outcome;
        waiter* woken;  // once the lock is released
    };

    // For select, which holds the locks of several lines at a time.
    step put_step(item_type& item) noexcept {
        if (closed_) return {item_outcome::closed, nullptr};
        if (waiter_type* getter = take_first(getters_)) {
            std::construct_at(getter->item, std::move(item));
            getter->outcome = item_outcome::done;
            ++put_count_;
            return {item_outcome::done, getter};
        }
        if (store_.size() >= limit_) return {item_outcome::waits, nullptr};
        try {
            store_.make_room();
        } catch (...) {
            return {item_outcome::no_memory, nullptr};
        }
        store_.push(std::move(item));
        ++put_count_;
        return {item_outcome::done, nullptr};
    }
    step get_step(item_type* place) noexcept {
        if (store_.size() != 0) {
            store_.take(place);
            waiter_type* const putter = take_first(putters_);
            if (putter != nullptr) {
                store_.push(std::move(*putter->item));
                putter->outcome = item_outcome::done;
                ++put_count_;
            }
            return {item_outcome::done, putter};
        }
        if (waiter_type* putter = take_first(putters_)) {  // nothing is ever stored: a rendezvous
            std::construct_at(place, std::move(*putter->item));
            putter->outcome = item_outcome::done;
            ++put_count_;
            return {item_outcome::done, putter};
        }
        return {closed_ ? item_outcome::closed : item_outcome::waits, nullptr};
    }
    void join_putters(waiter_type& one) noexcept { putters_.push(one); }
    void join_getters(waiter_type& one) noexcept { getters_.push(one); }
    void leave_putters(waiter_type& one) noexcept {
        if (one.in_line()) putters_.remove(one);
    }
    void leave_getters(waiter_type& one) noexcept {
        if (one.in_line()) getters_.remove(one);
    }

private:
    static waiter_type* take_first(wait_list& line) noexcept {
        while (!line.empty()) {
            auto& one = static_cast<waiter_type&>(line.pop());
            if (one.claim()) return &one;
        }
        return nullptr;
    }
    static void turn_away(waiter_type& one, wake_list& woken) noexcept {
        one.outcome = item_outcome::closed;
        woken.push(one);
    }
    static bool was_put(item_outcome how) {
        if (how == item_outcome::waits) return false;
        if (how != item_outcome::done) throw_outcome(how);
        return true;
    }
    bool leave_line(wait_list& line, waiter_type& one) noexcept {
        const std::lock_guard guard(lock_);
        if (!one.in_line()) return false;
        line.remove(one);
        one.outcome = item_outcome::cancelled;
        return true;
    }

    mutable short_lock lock_;
    bool closed_ = false;
    const std::size_t limit_;
    wait_list getters_;
    wait_list putters_;
    Store store_;
    std::uint64_t put_count_ = 0;  // ever
};

/// Either end of a wait: what puts and gets of tasks have in common.
template <class Item>
class item_awaiter : public basic_task_waiter<item_waiter<Item>> {
public:
    bool await_ready() const noexcept { return false; }
    bool was_cancelled() const noexcept { return this->outcome == item_outcome::cancelled; }

protected:
    item_awaiter() noexcept = default;
    item_awaiter(const item_awaiter&) noexcept = default;
    ~item_awaiter() = default;

    /// attempt(): puts or gets, or joins the line. Once it has, the outcome is another's to write.
    template <class Promise, class Attempt>
    bool suspend(Promise& promise, std::source_location where, Attempt attempt) noexcept {
        item_outcome now = item_outcome::cancelled;
        if (!current_core->current->should_stop()) {
            this->prepare();
            now = attempt();
            if (now == item_outcome::waits) {
                block(*this, promise, where);
                return true;
            }
        }
        this->outcome = now;
        return !keeps_turn(promise, where, memory_cost);
    }
    void check() const {
        if (this->outcome != item_outcome::done) throw_outcome(this->outcome);
    }
};

/// Room for an item that may come. Trivially destructible: what came is moved out by take(), which
/// is called when the awaiter is resumed. (g++ 12 destroys awaiters in conditions at the wrong
/// time.)
template <class T, class Item>
class item_place {
public:
    Item* address() noexcept { return reinterpret_cast<Item*>(bytes_); }

    /// Precondition: it came.
    T take() {
        struct last_rites {
            Item* item;
            ~last_rites() { std::destroy_at(item); }
        } const at_end{std::launder(address())};
        return T(std::move(value_of<T>(*at_end.item)));
    }

private:
    alignas(Item) std::byte bytes_[sizeof(Item)];
};

/// co_await to get an item from `Exchange`, which is the base of `Of`.
template <class T, class Exchange>
class get_operation : public item_awaiter<typename Exchange::item_type> {
public:
    using item_type = typename Exchange::item_type;

    get_operation(Exchange& from, const char* what) noexcept : exchange_(&from), what_(what) {}

    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        this->item = place_.address();
        return this->suspend(waiter.promise(), where,
                             [this] { return exchange_->get_or_join(*this); });
    }

    void cancel() noexcept override {
        if (exchange_->stop_getting(*this)) current_core->wake(*this->task);
    }
    void describe(std::FILE* out) const override { std::fprintf(out, "an item from %s", what_); }

protected:
    get_operation(const get_operation&) noexcept = default;
    ~get_operation() = default;

    T take() { return place_.take(); }

private:
    friend struct select_access;

    Exchange* exchange_;
    const char* what_;
    item_place<T, item_type> place_;
};

/// Gives the item, or throws what there is instead.
template <class T, class Exchange>
class [[nodiscard("without co_await nothing happens")]] get_awaiter_of final
    : public get_operation<T, Exchange> {
public:
    using get_operation<T, Exchange>::get_operation;

    T await_resume() {
        this->check();
        return this->take();
    }
    std::error_code error() const noexcept { return error_of(this->outcome); }
    result<T> resume_result() {
        if (const std::error_code none = error()) return none;
        return this->take();
    }
};

/// Gives the item, or an empty optional once there will be none.
template <class T, class Exchange>
class [[nodiscard("without co_await nothing happens")]] receive_awaiter_of final
    : public get_operation<T, Exchange> {
public:
    using get_operation<T, Exchange>::get_operation;

    std::optional<T> await_resume() {
        if (this->outcome == item_outcome::closed) return std::nullopt;
        this->check();
        return this->take();
    }
};

/// co_await to put an item, which `Holder` holds meanwhile: an item_type, or a reference to one.
template <class Exchange, class Holder = typename Exchange::item_type>
class [[nodiscard("without co_await nothing happens")]] put_awaiter_of final
    : public item_awaiter<typename Exchange::item_type> {
public:
    put_awaiter_of(Exchange& to, Holder item, const char* what) noexcept
        : exchange_(&to), what_(what), held_(static_cast<Holder&&>(item)) {}

    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        this->item = std::addressof(held_);
        return this->suspend(waiter.promise(), where,
                             [this] { return exchange_->put_or_join(*this); });
    }
    void await_resume() const { this->check(); }
    std::error_code error() const noexcept { return error_of(this->outcome); }
    result<> resume_result() const noexcept { return error(); }

    void cancel() noexcept override {
        if (exchange_->stop_putting(*this)) current_core->wake(*this->task);
    }
    void describe(std::FILE* out) const override {
        std::fprintf(out, "room for an item in %s", what_);
    }

private:
    friend struct select_access;

    Exchange* exchange_;
    const char* what_;
    Holder held_;
};

}  // namespace rondo::detail
