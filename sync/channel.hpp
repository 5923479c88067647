#pragma once
// A pipe for values between tasks, with an end: many may send, many may receive.
//
//     rondo::channel<request> requests{16};
//     co_await requests.send(next);                                  // waits while 16 lie there
//     requests.close();
//     ...
//     while (auto one = co_await requests.receive()) handle(*one);   // ends once it is closed
//
// A channel of capacity 0 holds nothing: a send completes when somebody receives.

#include <rondo/sync/detail/item_exchange.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

/// Senders are served in the order they came, and so are receivers: nobody overtakes.
/// Thread safety: tasks of any scheduler; what does not wait, from any thread. What was done before
/// a send is seen by who receives the item.
template <class T>
class channel {
    using store = detail::fifo_store<T>;
    using exchange = detail::item_exchange<store>;
    using item_type = typename store::item_type;

public:
    using value_type = T;

    /// Room for `capacity` items is allocated here; nothing is later.
    explicit channel(std::size_t capacity = 0) : exchange_(capacity, capacity) {}
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;

    using send_awaiter = detail::put_awaiter_of<exchange>;
    using send_from_awaiter = detail::put_awaiter_of<exchange, T&>;
    using receive_awaiter = detail::receive_awaiter_of<T, exchange>;

    /// Completes when the value lies in the channel, or a receiver has it.
    /// Throws closed_error once the channel is closed, at once also where it waits already.
    /// Under g++ 12 an aggregate whose members have destructors must not be written inside a
    /// co_await expression, `co_await items.send(item{text})`: they would be destroyed twice. Name
    /// it first, or give the type a constructor.
    /// Cancellation: leaves the line and sends nothing; what has been sent stays so.
    send_awaiter send(T value) {
        return send_awaiter{exchange_, detail::keep_item<item_type>(std::move(value)), "a channel"};
    }

    /// The same from where `value` lies, which must stay there meanwhile. It is moved from when the
    /// send happens: after a cancellation or an error the caller still has it.
    send_from_awaiter send_from(T& value) noexcept
        requires std::same_as<item_type, T>
    {
        return send_from_awaiter{exchange_, value, "a channel"};
    }

    /// Receives the oldest item; waits while there is none. A waiting task is handed it directly.
    /// Gives an empty optional once the channel is closed and all has been received.
    /// Cancellation: leaves the line and takes nothing; a task that has been handed an item has it.
    receive_awaiter receive() noexcept { return receive_awaiter{exchange_, "a channel"}; }

    /// Sends if somebody waits for an item or there is room; false if not. Throws closed_error once
    /// the channel is closed. What is not sent is left as it was (as far as it can be, where T's
    /// move may throw).
    bool try_send(T&& value) { return exchange_.try_put_value(value); }
    bool try_send(const T& value)
        requires std::copy_constructible<T>
    {
        return exchange_.try_put_copy(value);
    }

    /// Receives if there is an item, or somebody who waits to send one; else an empty optional,
    /// whether the channel is closed or not.
    std::optional<T> try_receive() {
        detail::item_place<T, item_type> place;
        if (exchange_.try_get(place.address()) != detail::item_outcome::done) return std::nullopt;
        return place.take();
    }

    /// Nothing can be sent any more. A task that waits to send gets closed_error, and in
    /// send_from() keeps the value; what lies in the channel can still be received.
    void close() noexcept { exchange_.close(); }
    bool is_closed() const noexcept { return exchange_.is_closed(); }

    /// How many items lie in it, at this moment.
    std::size_t size() const noexcept { return exchange_.size(); }
    std::size_t capacity() const noexcept { return exchange_.limit(); }

private:
    exchange exchange_;
};

}  // namespace rondo
