#pragma once
// A sequence whose items may have to be waited for.
//
//     rondo::async_generator<std::string> lines(rondo::tcp_stream& peer);
//
//     auto input = lines(peer);
//     while (auto line = co_await input.next()) use(*line);

#include <rondo/runtime/core/detail/promise_base.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

/// A lazy sequence of T; between its items it may await. It runs only while somebody awaits next().
/// Moves, never copies. Destroying it between two items destroys what its frame holds.
///
/// A scope_entry that it holds across a co_yield holds its consumer as well: whatever the consumer
/// awaits before it asks for the next item runs inside that scope, and is cancelled with it. The
/// scope must be left, by the generator's end or its destruction, before the consumer's task ends,
/// and before the consumer leaves a scope further out; else the program aborts and names the place.
/// The same holds for a task_group. Where that is not wanted, a task with scopes of its own puts
/// the items into a channel.
///
/// Cancellation: reaches the await inside; operation_cancelled then leaves next() as any exception
/// would.
/// Thread safety: the scheduler that awaits next(); one at a time.
template <class T>
class [[nodiscard]] async_generator {
    static_assert(std::is_object_v<T>,
                  "an async_generator gives values; give pointers for references");

public:
    class promise_type;

    async_generator(async_generator&& other) noexcept
        : frame_(std::exchange(other.frame_, nullptr)) {}
    async_generator& operator=(async_generator&& other) noexcept {
        if (this != &other) {
            if (frame_) frame_.destroy();
            frame_ = std::exchange(other.frame_, nullptr);
        }
        return *this;
    }
    ~async_generator() {
        if (frame_) frame_.destroy();
    }

    class next_awaiter;

    /// Completes with the next item, or with an empty optional once the sequence has ended, however
    /// often it is asked again. An exception inside the generator ends the sequence and is thrown
    /// here.
    next_awaiter next() noexcept { return next_awaiter{frame_}; }

private:
    explicit async_generator(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    std::coroutine_handle<promise_type> frame_;
};

template <class T>
class async_generator<T>::promise_type : public detail::promise_base {
public:
    async_generator get_return_object() noexcept {
        detail::refuse_over_aligned<T>();
        return async_generator{std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }

    // Hands control back to the frame that awaits next().
    struct to_consumer {
        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(
            std::coroutine_handle<promise_type> frame) const noexcept {
            promise_base* consumer = frame.promise().parent();
            return detail::transfer_to(handle_of(*consumer));
        }
        void await_resume() const noexcept {}
    };

    to_consumer final_suspend() const noexcept { return {}; }
    to_consumer yield_value(T&& item) noexcept {
        item_ = std::addressof(item);
        return {};
    }

    // An lvalue stays the generator's: the consumer takes a copy.
    struct copy_to_consumer : to_consumer {
        explicit copy_to_consumer(const T& item) : copy(item) {}
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> frame) noexcept {
            frame.promise().item_ = std::addressof(copy);
            return to_consumer::await_suspend(frame);
        }
        T copy;
    };
    copy_to_consumer yield_value(const T& item)
        requires std::copy_constructible<T>
    {
        return copy_to_consumer{item};
    }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { error_ = std::current_exception(); }

private:
    friend class next_awaiter;
    T* item_ = nullptr;  // the operand of the co_yield in progress
    std::exception_ptr error_;
};

template <class T>
class [[nodiscard("without co_await nothing happens")]] async_generator<T>::next_awaiter {
public:
    explicit next_awaiter(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    bool await_ready() const noexcept {
        return frame_.done() && detail::spend_allowance(detail::memory_cost);
    }
    template <detail::rondo_promise Promise>
    std::coroutine_handle<> await_suspend(
        std::coroutine_handle<Promise> consumer,
        std::source_location where = std::source_location::current()) noexcept {
        detail::promise_base& base = consumer.promise();
        const bool keeps_turn = detail::keeps_turn(base, where, detail::memory_cost);
        if (frame_.done()) return std::noop_coroutine();
        base.where = where;
        frame_.promise().set_parent(base);
        frame_.promise().item_ = nullptr;
        if (!keeps_turn) {
            // The generator goes on then, and not its consumer.
            detail::current_core->current->leaf = &frame_.promise();
            return std::noop_coroutine();
        }
        return detail::transfer_to(frame_);
    }
    std::optional<T> await_resume() {
        promise_type& promise = frame_.promise();
        if (promise.error_) std::rethrow_exception(std::exchange(promise.error_, nullptr));
        if (frame_.done()) return std::nullopt;
        return std::optional<T>{std::move(*promise.item_)};
    }

private:
    std::coroutine_handle<promise_type> frame_;
};

}  // namespace rondo
