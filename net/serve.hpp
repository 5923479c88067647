#pragma once
// The loop of every server: accept, hand to a handler, go on.
//
//     task<> talk(tcp_stream peer);
//
//     co_await serve(tcp_listener::bind(local), talk, {.max_connections = 10'000});

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/task.hpp>
#include <rondo/runtime/task_group.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <utility>

namespace rondo {

struct serve_options {
    /// So many connections are open at the same time at most; the next ones wait in the listener's
    /// backlog. 0: any number.
    std::size_t max_connections = 0;

    /// Hears of the exception that ended a connection, and whose it was. By default one line on
    /// standard error.
    std::function<void(std::exception_ptr, const endpoint&)> on_error = {};
};

namespace detail {

/// Tells the hook, or standard error where there is none, or where the hook itself throws.
void report(const serve_options& options, const std::exception_ptr& error,
            const endpoint& peer) noexcept;

/// Whether accept failed for want of something that will come back: descriptors or memory.
bool is_shortage(const std::error_code& error) noexcept;

/// Counts a server's open connections, and holds its one acceptor back while they are too many.
class connection_count {
public:
    explicit connection_count(std::size_t limit) noexcept : limit_(limit) {}

    void opened() noexcept { ++open_; }
    void closed() noexcept {
        --open_;
        if (acceptor_ != nullptr) current_core->wake(*std::exchange(acceptor_, nullptr)->task);
    }

    class room_awaiter final : public suspension {
    public:
        explicit room_awaiter(connection_count& count) noexcept : count_(count) {}
        bool await_ready() const noexcept {
            return count_.limit_ == 0 || count_.open_ < count_.limit_;
        }
        template <rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = current_core->current->should_stop();
            if (was_cancelled_) return false;
            block(*this, waiter.promise(), where);
            count_.acceptor_ = this;
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }

        void cancel() noexcept override;
        void describe(std::FILE* out) const override;

    private:
        connection_count& count_;
        bool was_cancelled_ = false;
    };

    /// Completes when one more connection may be opened.
    room_awaiter room() noexcept { return room_awaiter{*this}; }

private:
    std::size_t limit_;  // 0: none
    std::size_t open_ = 0;
    room_awaiter* acceptor_ = nullptr;
};

struct serve_state {
    explicit serve_state(serve_options chosen)
        : options(std::move(chosen)), connections(options.max_connections) {}

    serve_options options;
    connection_count connections;
};

template <class Handler>
task<> serve_connection(Handler& handler, tcp_stream peer, serve_state& state) {
    const endpoint remote = peer.remote_endpoint();
    try {
        auto talk = std::invoke(handler, std::move(peer));
        co_await talk;
    } catch (const operation_cancelled&) {
        // The server is being stopped.
    } catch (...) {
        report(state.options, std::current_exception(), remote);
    }
    state.connections.closed();
}

struct close_at_exit {
    tcp_listener& listener;
    ~close_at_exit() { listener.close(); }
};

template <class Handler>
task<> serve_owned(tcp_listener listener, Handler handler, serve_options options);

/// The next connection; waits while descriptors or memory are short, or the limit is reached.
task<tcp_stream> accept_next(tcp_listener& listener, serve_state& state);

}  // namespace detail

/// Accepts connections and runs handler(tcp_stream), a task, for each, all at the same time. The
/// handler is kept until the last of its tasks has ended. An exception that leaves it ends its
/// connection only and goes to serve_options::on_error. Where descriptors run out, serve waits
/// until it can accept again. It ends only by an error of the listener, or by cancellation: closes
/// the listener, cancels the handlers, waits until all have ended, then throws operation_cancelled.
/// A handler that must finish what it is saying puts it into a `shield`.
template <class Handler>
    requires std::invocable<Handler&, tcp_stream>
task<> serve(tcp_listener& listener, Handler handler, serve_options options = {}) {
    detail::serve_state state{std::move(options)};
    co_await with_task_group([&](task_group& connections) -> task<> {
        // Closed before the handlers are waited for: meanwhile new clients are refused, not kept
        // waiting.
        const detail::close_at_exit closing{listener};
        for (;;) {
            tcp_stream peer = co_await detail::accept_next(listener, state);
            state.connections.opened();
            connections.spawn(detail::serve_connection(handler, std::move(peer), state));
        }
    });
}

/// The same with a listener of its own.
template <class Handler>
    requires std::invocable<Handler&, tcp_stream>
task<> serve(tcp_listener&& listener, Handler handler, serve_options options = {}) {
    return detail::serve_owned(std::move(listener), std::move(handler), std::move(options));
}

template <class Handler>
task<> detail::serve_owned(tcp_listener listener, Handler handler, serve_options options) {
    co_await serve(listener, std::move(handler), std::move(options));
}

}  // namespace rondo
