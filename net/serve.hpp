#pragma once
// The loop of every server: accept, hand to a handler, go on.
//
//     task<> talk(tcp_stream peer);
//
//     co_await serve(tcp_listener::bind(local), talk, {.max_connections = 10'000});
//     co_await serve(tcp_listener::bind(local), talk, {.mode = accept_mode::balanced});

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo {

/// Which reactors of the runtime a server works on, and how connections come to them.
enum class accept_mode {
    /// That of the task that awaits serve. The one to take with one reactor, and where the program
    /// spreads its work by itself.
    single,

    /// All of them: one accepts, and hands each connection to the reactor that has the fewest of
    /// this server's, so that they never differ by more than one as connections come. The one to
    /// take when connections live long or are few, which is the common case. A hand-over costs a
    /// message to another thread and back, some microseconds.
    balanced,

    /// All of them, each with a listener of its own on the same address (SO_REUSEPORT, socket(7));
    /// the kernel picks one by a hash of the client's address. The one to take when a great many
    /// short connections come from many clients: nothing is handed over, and accepting itself is
    /// spread. Blind to load: of few connections most may fall to one reactor.
    per_reactor,
};

struct serve_options {
    /// So many connections are open at the same time at most; the next ones wait in the listener's
    /// backlog. 0: any number. With accept_mode::per_reactor each reactor has an equal share, at
    /// least one.
    std::size_t max_connections = 0;

    accept_mode mode = accept_mode::single;

    /// Hears of the exception that ended a connection, and whose it was. By default one line on
    /// standard error. With accept_mode::per_reactor each reactor calls a copy of it, maybe at the
    /// same time as another; else it is called on the reactor that accepts.
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
    serve_state(serve_options chosen, std::size_t reactors)
        : options(std::move(chosen)), connections(options.max_connections), open(reactors) {}

    serve_options options;
    connection_count connections;
    std::vector<std::size_t> open;  // connections on each reactor, of those served
};

/// Runs on the reactor that accepts, which keeps all the counts; the handler on that of the
/// connection.
template <class Handler>
task<> serve_connection(Handler& handler, tcp_stream peer, scheduler& place, std::size_t& open,
                        serve_state& state) {
    scheduler& home = this_scheduler();
    const endpoint remote = peer.remote_endpoint();
    std::exception_ptr error;
    try {
        co_await resume_on(place);
        auto talk = std::invoke(handler, std::move(peer));
        co_await talk;
    } catch (const operation_cancelled&) {
        // The server is being stopped.
    } catch (...) {
        error = std::current_exception();
    }
    if (&this_scheduler() != &home) co_await shield(resume_on(home));
    if (error) report(state.options, error, remote);
    --open;
    state.connections.closed();
}

struct close_at_exit {
    tcp_listener& listener;
    ~close_at_exit() { listener.close(); }
};

/// The next connection; waits while descriptors or memory are short, or the limit is reached.
task<tcp_stream> accept_next(tcp_listener& listener, serve_state& state);

/// Further listeners on the address of `first`, which is made to share it.
class listener_group {
public:
    static std::vector<tcp_listener> siblings(tcp_listener& first, std::size_t count);
};

/// What each of `reactors` may have open of a limit for all of them.
std::size_t share_of(std::size_t limit, std::size_t reactors) noexcept;

/// So many handlers of the same kind. Throws std::invalid_argument when it cannot be copied.
template <class Handler>
std::vector<Handler> copies_of(Handler handler, std::size_t count) {
    std::vector<Handler> all;
    all.reserve(count);
    if constexpr (std::is_copy_constructible_v<Handler>) {
        while (all.size() + 1 < count) all.push_back(handler);
    } else if (count > 1) {
        throw std::invalid_argument("serve: a handler for several reactors must be copyable");
    }
    all.push_back(std::move(handler));
    return all;
}

/// Serves what one listener accepts, on as many reactors as there are handlers: on this one, or on
/// all of the runtime.
template <class Handler>
task<> serve_one_listener(tcp_listener& listener, std::vector<Handler> handlers,
                          serve_options options) {
    serve_state state{std::move(options), handlers.size()};
    co_await with_task_group([&](task_group& connections) -> task<> {
        // Closed before the handlers are waited for: meanwhile new clients are refused, not kept
        // waiting.
        const close_at_exit closing{listener};
        runtime& all = this_runtime();
        for (;;) {
            tcp_stream peer = co_await accept_next(listener, state);
            const auto fewest = std::min_element(state.open.begin(), state.open.end());
            const auto index = static_cast<std::size_t>(fewest - state.open.begin());
            scheduler& place = handlers.size() == 1 ? this_scheduler() : all.scheduler(index);
            ++*fewest;
            state.connections.opened();
            connections.spawn(
                serve_connection(handlers[index], std::move(peer), place, *fewest, state));
        }
    });
}

template <class Handler>
task<> serve_owned(tcp_listener listener, std::vector<Handler> handlers, serve_options options) {
    co_await serve_one_listener(listener, std::move(handlers), std::move(options));
}

template <class Handler>
task<> serve_per_reactor(tcp_listener& listener, std::vector<Handler> handlers,
                         serve_options options) {
    options.max_connections = share_of(options.max_connections, handlers.size());
    co_await with_task_group([&](task_group& reactors) -> task<> {
        runtime& all = this_runtime();
        std::vector<tcp_listener> others = listener_group::siblings(listener, handlers.size() - 1);
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (&all.scheduler(i) == &this_scheduler()) continue;
            reactors.spawn_on(all.scheduler(i),
                              serve_owned(std::move(others.back()),
                                          copies_of(std::move(handlers.back()), 1), options));
            others.pop_back();
            handlers.pop_back();
        }
        co_await serve_one_listener(listener, std::move(handlers), options);
    });
}

template <class Handler>
task<> serve_owning(tcp_listener listener, Handler handler, serve_options options);

}  // namespace detail

/// Accepts connections and runs handler(tcp_stream), a task, for each, all at the same time, on the
/// reactors that serve_options::mode says; each reactor has a copy of the handler of its own. It is
/// kept until the last of its tasks has ended. An exception that leaves it ends its connection only
/// and goes to serve_options::on_error. Where descriptors run out, serve waits until it can accept
/// again. It ends only by an error of the listener, or by cancellation: closes the listener,
/// cancels the handlers, waits until all have ended, then throws operation_cancelled. A handler
/// that must finish what it is saying puts it into a `shield`.
template <class Handler>
    requires std::invocable<Handler&, tcp_stream>
task<> serve(tcp_listener& listener, Handler handler, serve_options options = {}) {
    const std::size_t reactors = options.mode == accept_mode::single ? 1 : this_runtime().size();
    std::vector<Handler> handlers = detail::copies_of(std::move(handler), reactors);
    if (options.mode == accept_mode::per_reactor && reactors > 1) {
        co_await detail::serve_per_reactor(listener, std::move(handlers), std::move(options));
    } else {
        co_await detail::serve_one_listener(listener, std::move(handlers), std::move(options));
    }
}

/// The same with a listener of its own.
template <class Handler>
    requires std::invocable<Handler&, tcp_stream>
task<> serve(tcp_listener&& listener, Handler handler, serve_options options = {}) {
    return detail::serve_owning(std::move(listener), std::move(handler), std::move(options));
}

template <class Handler>
task<> detail::serve_owning(tcp_listener listener, Handler handler, serve_options options) {
    co_await serve(listener, std::move(handler), std::move(options));
}

}  // namespace rondo
