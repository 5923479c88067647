#pragma once
// Waiting for several things of which exactly one happens.
//
//     auto next = co_await select(requests.receive(), stop.wait(), sleep_for(1s));
//     if (next.index() == 0) handle(std::get<0>(next));            // std::optional<request>
//
// when_any would run them all and cancel the losers: a second receive may have got an item by then,
// and it would be gone. Here the losers have not happened.

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/sync/detail/item_exchange.hpp>
#include <rondo/sync/detail/line_wait.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>
#include <rondo/sync/event.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace rondo {

namespace detail {

/// A sleep among the cases of a select.
class select_timer final : public timer {
public:
    explicit select_timer(const sleep_awaiter& sleep) noexcept { deadline = sleep.deadline; }

    void await_resume() const noexcept {}
    void expired() noexcept override {
        if (choice_->decide(this)) current_core->wake(*task);
    }
    void cancel() noexcept override {}  // the select is what is cancelled
    void describe(std::FILE* out) const override { std::fputs("a timer", out); }

private:
    friend struct select_access;
    selection* choice_ = nullptr;
};

// How a select deals with each kind of operation:
//   lock_of   the lock of its line, if it has one
//   attempt   under all locks: does it if it can be done at once; `woken`: waiters to be woken
//   join      under all locks: joins the line; false: it can be done at once after all, and is
//   leave     under its lock: leaves the line, if it is in it
//   key_of    what a selection is decided by
struct select_access {
    template <class T, class Exchange>
    static short_lock* lock_of(get_operation<T, Exchange>& get) noexcept {
        return &get.exchange_->lock();
    }
    template <class T, class Exchange>
    static bool attempt(get_operation<T, Exchange>& get, wake_list& woken) noexcept {
        get.item = get.place_.address();
        return take_step(get, get.exchange_->get_step(get.item), woken);
    }
    template <class T, class Exchange>
    static bool join(get_operation<T, Exchange>& get, selection& choice) noexcept {
        prepare(get, choice);
        get.exchange_->join_getters(get);
        return true;
    }
    template <class T, class Exchange>
    static void leave(get_operation<T, Exchange>& get) noexcept {
        get.exchange_->leave_getters(get);
    }

    template <class Exchange, class Holder>
    static short_lock* lock_of(put_awaiter_of<Exchange, Holder>& put) noexcept {
        return &put.exchange_->lock();
    }
    template <class Exchange, class Holder>
    static bool attempt(put_awaiter_of<Exchange, Holder>& put, wake_list& woken) noexcept {
        put.item = std::addressof(put.held_);
        return take_step(put, put.exchange_->put_step(*put.item), woken);
    }
    template <class Exchange, class Holder>
    static bool join(put_awaiter_of<Exchange, Holder>& put, selection& choice) noexcept {
        prepare(put, choice);
        put.exchange_->join_putters(put);
        return true;
    }
    template <class Exchange, class Holder>
    static void leave(put_awaiter_of<Exchange, Holder>& put) noexcept {
        put.exchange_->leave_putters(put);
    }

    static short_lock* lock_of(event::wait_awaiter& wait) noexcept { return &wait.event_.lock_; }
    static bool attempt(event::wait_awaiter& wait, wake_list&) noexcept {
        return wait.event_.is_set();
    }
    static bool join(event::wait_awaiter& wait, selection& choice) noexcept {
        prepare(wait, choice);
        return wait.event_.join_line_locked(wait);
    }
    static void leave(event::wait_awaiter& wait) noexcept { wait.event_.leave_line_locked(wait); }

    template <class Wait>
    static short_lock* lock_of(line_wait<Wait>& wait) noexcept {
        return &wait.self().line_lock();
    }
    template <class Wait>
    static bool attempt(line_wait<Wait>& wait, wake_list&) noexcept {
        return wait.self().has_news();
    }
    template <class Wait>
    static bool join(line_wait<Wait>& wait, selection& choice) noexcept {
        prepare(wait, choice);
        wait.self().line().push(wait);
        return true;
    }
    template <class Wait>
    static void leave(line_wait<Wait>& wait) noexcept {
        if (wait.in_line()) wait.self().line().remove(wait);
    }

    static const void* key_of(const waiter& one) noexcept { return &one; }

    static short_lock* lock_of(select_timer&) noexcept { return nullptr; }
    static bool attempt(select_timer&, wake_list&) noexcept { return false; }
    static bool join(select_timer& timer, selection& choice) noexcept {
        timer.choice_ = &choice;
        timer.task = current_core->current;
        current_core->timers.arm(timer, timer.deadline);
        return true;
    }
    static void leave(select_timer& timer) noexcept { current_core->timers.cancel(timer); }
    static const void* key_of(const select_timer& timer) noexcept { return &timer; }

private:
    template <class Operation>
    static void prepare(Operation& operation, selection& choice) noexcept {
        operation.choice_ = &choice;
        operation.prepare();
        operation.task = current_core->current;
    }
    template <class Operation, class Step>
    static bool take_step(Operation& operation, Step done, wake_list& woken) noexcept {
        operation.outcome = done.outcome;
        if (done.woken != nullptr) woken.push(*done.woken);
        return done.outcome != item_outcome::waits;
    }
};

// What a select keeps for an operation: itself, or what takes its place.
template <class Operation>
struct select_case {
    using type = Operation;
};
template <>
struct select_case<sleep_awaiter> {
    using type = select_timer;
};

template <class Operation>
concept selectable = requires(typename select_case<Operation>::type& one, wake_list& woken) {
    { select_access::attempt(one, woken) } -> std::same_as<bool>;
};

template <class... Cases>
class [[nodiscard("without co_await nothing happens")]] select_awaiter final : public suspension {
public:
    using variant = std::variant<alternative_t<Cases>...>;

    template <class... Operations>
    explicit select_awaiter(std::in_place_t, Operations&&... operations)
        : cases_(std::forward<Operations>(operations)...) {}

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        if (current_core->current->should_stop()) {
            choice_.decide(&choice_);
        } else if (!attempt_or_join()) {
            block(*this, waiter.promise(), where);
            return true;
        }
        return !keeps_turn(waiter.promise(), where, memory_cost);
    }

    variant await_resume() {
        finish();
        if (was_cancelled()) throw operation_cancelled{};
        std::optional<variant> result;
        for_winner([&]<std::size_t Index>(auto& one, std::integral_constant<std::size_t, Index>) {
            if constexpr (std::is_void_v<decltype(one.await_resume())>) {
                one.await_resume();
                result.emplace(std::in_place_index<Index>);
            } else {
                result.emplace(std::in_place_index<Index>, one.await_resume());
            }
        });
        return *std::move(result);
    }
    result<variant> resume_result() {
        finish();
        if (was_cancelled()) return std::errc::operation_canceled;
        std::error_code error;
        for_winner([&](auto& one, auto) {
            if constexpr (requires { one.error(); }) error = one.error();
        });
        if (error) return error;
        return await_resume();
    }
    bool was_cancelled() const noexcept { return choice_.decided_by() == &choice_; }

    void cancel() noexcept override {
        if (choice_.decide(&choice_)) current_core->wake(*task);
    }
    void describe(std::FILE* out) const override {
        std::fprintf(out, "one of %zu operations", sizeof...(Cases));
    }

private:
    using locks = std::array<short_lock*, sizeof...(Cases)>;

    template <class F>
    void for_each(F f) noexcept {
        std::apply([&](auto&... one) { (f(one), ...); }, cases_);
    }
    template <class F>
    void for_winner(F f) {
        const void* const winner = choice_.decided_by();
        [&]<std::size_t... Index>(std::index_sequence<Index...>) {
            ((select_access::key_of(std::get<Index>(cases_)) == winner
                  ? f(std::get<Index>(cases_), std::integral_constant<std::size_t, Index>{})
                  : void()),
             ...);
        }(std::index_sequence_for<Cases...>{});
    }

    // In which order to look at the cases: from one on, round and round, upwards or downwards. The
    // multiples of the golden ratio, without their integer part, are spread evenly, and so is each
    // second, third, ... of them (H. Weyl, 1916): each order gets its share, also where several
    // tasks select in turns.
    class order_of_cases {
    public:
        order_of_cases() noexcept {
            constexpr std::uint32_t golden = 0x9e37'79b9;
            const std::uint32_t fraction = current_core->selects++ * golden;
            const auto one = static_cast<std::size_t>(std::uint64_t{fraction} * 2 * count >> 32);
            first_ = one / 2;
            stride_ = one % 2 == 0 ? 1 : count - 1;
        }
        std::size_t at(std::size_t step) const noexcept {
            return (first_ + step * stride_) % count;
        }

    private:
        static constexpr std::size_t count = sizeof...(Cases);
        std::size_t first_;
        std::size_t stride_;
    };

    // False: it has joined all lines. All locks are held from before the first is looked at until
    // the last is joined: so nobody sees it in some of them only, nothing that happens between is
    // missed, and two selects that could serve each other are not both waiting. The order of their
    // addresses, so that two selects do not wait for each other's locks.
    bool attempt_or_join() noexcept {
        locks all{};
        const auto begin = all.begin();
        auto end = begin;
        for_each([&](auto& one) {
            short_lock* lock = select_access::lock_of(one);
            if (lock == nullptr) return;
            const auto place = std::lower_bound(begin, end, lock, std::less<>{});
            if (place != end && *place == lock) return;
            std::move_backward(place, end, end + 1);
            *place = lock;
            ++end;
        });
        for (auto lock = begin; lock != end; ++lock) (*lock)->lock();

        wake_list woken;
        bool done = false;
        const auto decide = [&](auto& one) {
            choice_.decide(select_access::key_of(one));
            done = true;
        };
        order_of_cases order;
        for (std::size_t step = 0; step < sizeof...(Cases) && !done; ++step) {
            std::size_t index = 0;
            for_each([&](auto& one) {
                if (index++ == order.at(step) && select_access::attempt(one, woken)) decide(one);
            });
        }
        if (!done) {
            for_each([&](auto& one) {
                if (!done && !select_access::join(one, choice_)) decide(one);
            });
            // An event that was set meanwhile. Nobody else can have decided: that takes a lock.
            if (done) for_each([](auto& one) { select_access::leave(one); });
            joined_ = !done;
        }

        for (auto lock = begin; lock != end; ++lock) (*lock)->unlock();
        woken.wake_all();
        return done;
    }

    // Leaves the queues where it still stands, also those from which it is just being taken. Not
    // the winner's: it was taken from there as the choice was made, and what it waited for may be
    // gone.
    void finish() noexcept {
        if (!joined_) return;
        joined_ = false;
        const void* const winner = choice_.decided_by();
        for_each([winner](auto& one) {
            if (select_access::key_of(one) == winner) return;
            short_lock* lock = select_access::lock_of(one);
            if (lock != nullptr) lock->lock();
            select_access::leave(one);
            if (lock != nullptr) lock->unlock();
        });
    }

    std::tuple<Cases...> cases_;
    selection choice_;
    bool joined_ = false;
};

}  // namespace detail

/// Waits until one of the operations can be done, and does that one and no other: sends and
/// receives of channels, puts and gets of queues, what the receivers of broadcasts and watches and
/// the ends of oneshots wait for, waits for events, and sleeps. Gives a variant as when_any does:
/// index() tells which one, std::monostate stands for void. That a queue or channel is closed
/// counts as done: it gives or throws what the operation alone would.
/// Of several that can be done at once it does one, and not always the same: each select begins to
/// look at another of its cases than the last one on this scheduler did, and goes on from there in
/// the order in which they are written, or backwards. The sequence is fixed, and in it each case
/// comes first equally often: so none that is always ready keeps the others from being done. What
/// must come first is asked for before: `if (stop.is_set()) ...`.
/// What would have been sent by the others is destroyed with them; see channel::send_from.
/// What the losers wait for must live until the select is done; what the winner waited for may be
/// gone by then, as where it is awaited alone.
/// Cancellation: none of them happens; where one has happened already, it is given all the same.
template <class... Operations>
auto select(Operations... operations) {
    constexpr bool can_select =
        sizeof...(Operations) > 0 && (detail::selectable<Operations> && ...);
    static_assert(
        can_select,
        "select: one of the cases cannot be taken back once it has begun. Channels, queues, "
        "broadcasts, watches, oneshots, events and sleeps can; an accept, a read, a task "
        "or a lock is raced with when_any, which cancels the losers.");
    if constexpr (can_select) {
        return detail::select_awaiter<typename detail::select_case<Operations>::type...>{
            std::in_place, std::move(operations)...};
    }
}

}  // namespace rondo
