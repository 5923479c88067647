#pragma once
// A connection of rondo as a stream of Asio, for what is written on top of one.
//
//     co_await with_task_group([&](task_group& group) -> task<> {
//         asio::ssl::stream<asio_stream> tls{asio_stream{std::move(client), group}, context};
//         co_await tls.async_handshake(asio::ssl::stream_base::server, use_task);
//         std::size_t n = co_await tls.async_read_some(asio::buffer(space), use_task);
//     });
//
// Each read and write is a task in the group. What waits for the kernel is rondo's reactor.

#include <rondo/asio/executor.hpp>
#include <rondo/net/tcp.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/task_group.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/dispatch.hpp>
#include <asio/error.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// What an asio_stream shares with its operations, which may outlast it.
struct asio_stream_state {
    asio_stream_state(tcp_stream connection, task_group& of)
        : socket(std::move(connection)), group(&of), executor(this_scheduler()) {}

    void close() noexcept {
        is_open = false;
        socket.close();
    }
    void stream_ends() noexcept {
        if (is_open) close();
        group = nullptr;
    }

    tcp_stream socket;
    // Null once the stream is gone: the group need not be there any more when an operation arrives
    // that another thread has started before.
    task_group* group;
    asio_executor executor;
    bool is_open = true;
};

template <class Buffers>
auto first_with_bytes(const Buffers& buffers) noexcept {
    auto each = asio::buffer_sequence_begin(buffers);
    const auto end = asio::buffer_sequence_end(buffers);
    using buffer = std::conditional_t<asio::is_mutable_buffer_sequence<Buffers>::value,
                                      asio::mutable_buffer, asio::const_buffer>;
    buffer found;
    for (; each != end && found.size() == 0; ++each) found = *each;
    return found;
}

// A handle kept in the slot of a handler: how its operation is cancelled.
class asio_stream_canceller {
public:
    explicit asio_stream_canceller(task_handle<void> operation) noexcept
        : operation_(std::move(operation)) {}
    void operator()(asio::cancellation_type type) noexcept {
        if (type != asio::cancellation_type::none) operation_.cancel();
    }

private:
    task_handle<void> operation_;
};

/// Starts a read, where Byte is std::byte, or a write, where it is const std::byte.
template <class Byte>
class asio_stream_initiation {
    static constexpr bool reads = !std::is_const_v<Byte>;

public:
    using executor_type = asio_executor;

    explicit asio_stream_initiation(std::shared_ptr<asio_stream_state> state) noexcept
        : state_(std::move(state)) {}

    executor_type get_executor() const noexcept { return state_->executor; }

    template <class Handler, class Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const {
        const auto buffer = first_with_bytes(buffers);
        const std::span<Byte> bytes{static_cast<Byte*>(buffer.data()), buffer.size()};
        state_->executor.execute(
            [state = state_, bytes, handler = std::forward<Handler>(handler)]() mutable {
                launch(std::move(state), bytes, std::move(handler));
            });
    }

private:
    template <class Handler>
    static void launch(std::shared_ptr<asio_stream_state> state, std::span<Byte> bytes,
                       Handler handler) {
        if (state->group == nullptr) {
            const auto executor = asio::get_associated_executor(handler, state->executor);
            asio::post(executor, [handler = std::move(handler)]() mutable {
                const std::error_code aborted = asio::error::operation_aborted;
                std::move(handler)(aborted, std::size_t{0});
            });
            return;
        }
        auto slot = asio::get_associated_cancellation_slot(handler);
        task_group& group = *state->group;
        auto operation = group.spawn(run(std::move(state), bytes, std::move(handler)));
        if (slot.is_connected()) {
            slot.template emplace<asio_stream_canceller>(std::move(operation));
        }
    }

    template <class Handler>
    static task<> run(std::shared_ptr<asio_stream_state> state, std::span<Byte> bytes,
                      Handler handler) {
        const auto executor = asio::get_associated_executor(handler, state->executor);
        const auto work = asio::make_work_guard(executor);  // what the handler runs on must go on
        std::size_t size = 0;
        std::error_code error;
        // Asio has an operation without bytes complete at once, and uses that.
        if (!bytes.empty()) {
            auto outcome = co_await as_result(operation_on(state->socket, bytes));
            if (outcome) size = *outcome;
            error = error_of(outcome, *state);
        }
        // The slot is the next operation's from the moment that the handler runs.
        auto slot = asio::get_associated_cancellation_slot(handler);
        if (slot.is_connected()) slot.clear();
        asio::dispatch(executor, [handler = std::move(handler), error, size]() mutable {
            std::move(handler)(error, size);
        });
    }

    static auto operation_on(tcp_stream& socket, std::span<Byte> bytes) noexcept {
        if constexpr (reads) {
            return socket.read_some(bytes);
        } else {
            return socket.write_some(bytes);
        }
    }

    static std::error_code error_of(const result<std::size_t>& outcome,
                                    const asio_stream_state& state) noexcept {
        if (outcome) {
            if (reads && *outcome == 0) return asio::error::eof;
            return {};
        }
        if (outcome.error() == std::errc::operation_canceled || !state.is_open) {
            return asio::error::operation_aborted;
        }
        // Those who wait for it compare with asio::error.
        return {outcome.error().value(), asio::error::get_system_category()};
    }

    std::shared_ptr<asio_stream_state> state_;
};

}  // namespace detail

/// A tcp_stream with the face of Asio's AsyncReadStream and AsyncWriteStream, and lowest_layer()
/// for asio::ssl::stream. It owns the connection, and closes it when destroyed.
/// Its operations are tasks of `group`, which so waits for all of them, and for their handlers
/// where those run on the scheduler, as they do if nothing else is bound to them. A group that is
/// cancelled ends them with asio::error::operation_aborted; an error of an operation goes to its
/// handler, never to the group. One read and one write may be pending at a time.
/// A handler's cancellation slot cancels its operation: bytes that were moved are reported. It is
/// to be used on the scheduler's thread.
/// asio::ssl::stream makes timers with the executor, so that Asio starts its own thread there; see
/// asio_executor. A TLS stream whose read or write was cancelled half-way is of no use any more.
/// Thread safety: the scheduler that it was made on. Operations may be started on any thread, if no
/// two calls are made at once; one that arrives only after the stream is gone ends with
/// asio::error::operation_aborted, and the group does not wait for its handler.
class asio_stream {
public:
    using executor_type = asio_executor;
    using lowest_layer_type = asio_stream;

    /// Takes over `connection`. Called on the scheduler of the group, which must live until the
    /// stream is destroyed.
    asio_stream(tcp_stream connection, task_group& group)
        : state_(std::make_shared<detail::asio_stream_state>(std::move(connection), group)) {}
    asio_stream(asio_stream&&) noexcept = default;
    asio_stream& operator=(asio_stream&& other) noexcept {
        if (this != &other) {
            let_go();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~asio_stream() { let_go(); }

    /// The scheduler's.
    executor_type get_executor() const noexcept { return state_->executor; }
    lowest_layer_type& lowest_layer() noexcept { return *this; }
    const lowest_layer_type& lowest_layer() const noexcept { return *this; }

    /// The connection below, for its addresses and options.
    tcp_stream& next_layer() noexcept { return state_->socket; }
    const tcp_stream& next_layer() const noexcept { return state_->socket; }

    /// Completes with void(std::error_code, std::size_t) when at least one byte has come into the
    /// first of the buffers that is not empty. asio::error::eof: the peer has finished.
    template <class Buffers, class Token>
    auto async_read_some(const Buffers& buffers, Token&& token) {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            detail::asio_stream_initiation<std::byte>{state_}, token, buffers);
    }

    /// Completes with void(std::error_code, std::size_t) when the kernel has taken at least one
    /// byte of the first buffer that is not empty.
    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token) {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            detail::asio_stream_initiation<const std::byte>{state_}, token, buffers);
    }

    bool is_open() const noexcept { return state_ != nullptr && state_->is_open; }

    /// Closes the connection. Pending operations end with asio::error::operation_aborted.
    void close() noexcept {
        if (is_open()) state_->close();
    }

private:
    void let_go() noexcept {
        if (state_ != nullptr) state_->stream_ends();
    }

    std::shared_ptr<detail::asio_stream_state> state_;
};

}  // namespace rondo
