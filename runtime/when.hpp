#pragma once
// Several awaitables at the same time: all of them, or the first.
//
//     auto [user, orders] = co_await when_all(load_user(id), load_orders(id));
//     auto winner = co_await when_any(peer.read_some(buffer), wait_signal({SIGTERM}));
//     if (winner.index() == 1) ...

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <iterator>
#include <optional>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace rondo {

namespace detail {

// What stands for a result in tuples and variants: references as themselves, void as
// std::monostate.
template <class T>
using result_or_monostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class Awaitable>
using slot_t = result_or_monostate<await_result_t<Awaitable>>;

// A variant cannot hold a reference.
template <class Awaitable>
using alternative_t =
    std::conditional_t<std::is_reference_v<slot_t<Awaitable>>,
                       std::reference_wrapper<std::remove_reference_t<slot_t<Awaitable>>>,
                       slot_t<Awaitable>>;

// Where when_all keeps a result while others run. It is written in a task of its own that nobody
// has a handle of: what that task was given ends with it, and not with the last of all.
template <class Awaitable>
using result_slot = std::optional<stored_result<await_result_t<Awaitable>>>;

template <class Awaitable>
auto fill(result_slot<Awaitable>& slot, Awaitable work) -> task<> {
    using result = await_result_t<Awaitable>;
    if constexpr (std::is_void_v<result>) {
        co_await std::move(work);
        slot.emplace();
    } else if constexpr (std::is_reference_v<result>) {
        slot.emplace(std::addressof(co_await std::move(work)));
    } else {
        slot.emplace(co_await std::move(work));
    }
}

template <class Awaitable>
auto take_result(result_slot<Awaitable>& slot) -> slot_t<Awaitable> {
    if constexpr (std::is_reference_v<slot_t<Awaitable>>) {
        return static_cast<slot_t<Awaitable>>(**slot);
    } else {
        return *std::move(slot);
    }
}

// The winner is written at home: work may hop, and end elsewhere.
template <std::size_t Index, class Variant, class Awaitable>
auto race(std::optional<Variant>& winner, task_group& group, Awaitable work) -> task<> {
    using result = await_result_t<Awaitable>;
    scheduler_core& home = *current_core;
    if constexpr (std::is_void_v<result>) {
        co_await std::move(work);
        if (current_core != &home) co_await shield(resume_on(*home.owner));
        if (!winner) winner.emplace(std::in_place_index<Index>);
    } else {
        result value = co_await std::move(work);
        if (current_core != &home) co_await shield(resume_on(*home.owner));
        if (!winner) winner.emplace(std::in_place_index<Index>, std::forward<result>(value));
    }
    group.cancel();
}

template <std::size_t... Index, class... Awaitables>
auto run_race(std::index_sequence<Index...>, Awaitables... work)
    -> task<std::variant<alternative_t<Awaitables>...>> {
    using variant = std::variant<alternative_t<Awaitables>...>;
    std::optional<variant> winner;
    task_group group;
    group_body::attempt(group,
                        [&] { (group.spawn(race<Index>(winner, group, std::move(work))), ...); });
    co_await group_body::end{group};
    if (!winner) throw operation_cancelled{};
    co_return std::move(*winner);
}

template <class... Awaitables>
auto run_all(Awaitables... work) -> task<std::tuple<slot_t<Awaitables>...>> {
    std::tuple<result_slot<Awaitables>...> slots;
    task_group group;
    group_body::attempt(group, [&] {
        std::apply([&](auto&... slot) { (group.spawn(fill(slot, std::move(work))), ...); }, slots);
    });
    const bool cut_short = co_await group_body::end{group};
    if (cut_short) throw operation_cancelled{};
    co_return std::apply(
        [](auto&... slot) {
            return std::tuple<slot_t<Awaitables>...>{take_result<Awaitables>(slot)...};
        },
        slots);
}

template <class Awaitable>
auto run_all(std::vector<Awaitable> work) -> task<std::vector<alternative_t<Awaitable>>> {
    std::vector<result_slot<Awaitable>> slots(work.size());
    task_group group;
    group_body::attempt(group, [&] {
        for (std::size_t i = 0; i < work.size(); ++i) {
            group.spawn(fill(slots[i], std::move(work[i])));
        }
    });
    const bool cut_short = co_await group_body::end{group};
    if (cut_short) throw operation_cancelled{};
    std::vector<alternative_t<Awaitable>> results;
    results.reserve(slots.size());
    for (auto& slot : slots) results.push_back(take_result<Awaitable>(slot));
    co_return results;
}

}  // namespace detail

/// Runs all of them at the same time and gives their results as a tuple, std::monostate for void.
/// The first exception cancels the others and is thrown once all have ended.
/// They start in the order in which they are written.
/// Cancellation: cancels all of them, waits, then throws operation_cancelled.
template <detail::awaitable... Awaitables>
auto when_all(Awaitables&&... work) -> task<std::tuple<detail::slot_t<Awaitables>...>> {
    return detail::run_all(detail::hold(std::forward<Awaitables>(work))...);
}

/// The same for a range of awaitables (moved from): their results in a vector, in the order of the
/// range. Nothing starts before the whole range has been read.
template <std::ranges::input_range Range>
    requires detail::awaitable<std::ranges::range_value_t<Range>>
auto when_all(Range work)
    -> task<std::vector<detail::alternative_t<std::ranges::range_value_t<Range>>>> {
    using awaitable = std::ranges::range_value_t<Range>;
    std::vector<awaitable> all;
    for (auto&& one : work) all.push_back(awaitable(std::move(one)));
    return detail::run_all(std::move(all));
}

/// Runs all of them at the same time; the first to give a result wins, the others are cancelled and
/// waited for. index() of the variant tells who won; void gives std::monostate, a reference a
/// std::reference_wrapper. The result of a loser that could no longer be stopped is destroyed. An
/// exception, a loser's too, is thrown once all have ended: an error is never dropped.
/// Cancellation: cancels all of them and waits, then gives the winner if there is one all the same,
/// else throws operation_cancelled.
template <detail::awaitable... Awaitables>
    requires(sizeof...(Awaitables) > 0)
auto when_any(Awaitables&&... work) -> task<std::variant<detail::alternative_t<Awaitables>...>> {
    return detail::run_race(std::index_sequence_for<Awaitables...>{},
                            detail::hold(std::forward<Awaitables>(work))...);
}

}  // namespace rondo
