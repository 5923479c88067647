#pragma once
// The loop of every server: accept, hand to a handler, go on.
//
//     task<> talk(tcp_stream peer);
//
//     co_await serve(tcp_listener::bind(local), talk, {.max_connections = 10'000});
//     co_await serve(tcp_listener::bind(local), talk, {.mode = accept_mode::balanced});

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/cancel_scope.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/detail/callable.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <system_error>
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

class open_connections;

struct serve_options {
    /// So many connections are open at the same time at most; the next ones wait in the listener's
    /// backlog. 0: any number. With accept_mode::per_reactor each reactor has an equal share, at
    /// least one.
    std::size_t max_connections = 0;

    accept_mode mode = accept_mode::single;

    /// Hears of the exception that ended a connection, and whose it was. With
    /// accept_mode::per_reactor each reactor calls a copy of it, maybe at the same time as another;
    /// else it is called on the reactor that accepts. It must not block.
    /// By default an error is a line on standard error, which never waits, raises no SIGPIPE, and
    /// has a limit of ten lines a second after the first twenty; the next line tells how many were
    /// left out. That a client has left (its connection was reset, or is gone as something is
    /// written to it) is no error then.
    std::function<void(std::exception_ptr, const endpoint&)> on_error = {};

    /// Where the server's open connections are listed for whoever wants to know; null: nowhere. It
    /// must outlive the server, and several servers may share one.
    open_connections* connections = nullptr;
};

/// The connections that a server has open at the moment.
///
///     rondo::open_connections clients;
///     group.spawn(serve(listener, talk, {.connections = &clients}));
///     ...
///     std::printf("%zu clients\n", clients.size());
///
/// A connection is listed from the moment at which it was accepted until its handler has ended.
/// Thread safety: any thread.
class open_connections {
public:
    open_connections() noexcept = default;
    open_connections(const open_connections&) = delete;
    open_connections& operator=(const open_connections&) = delete;

    /// How many there are.
    [[nodiscard]] std::size_t size() const noexcept;

    /// Their clients, those that came first at the front. It takes time in proportion to their
    /// number, in which no connection can begin or end.
    [[nodiscard]] std::vector<endpoint> peers() const;

    /// One of them; part of the server.
    class entry {
    public:
        entry(open_connections* list, const endpoint& peer) noexcept;
        entry(const entry&) = delete;
        entry& operator=(const entry&) = delete;
        ~entry();

        const endpoint& peer() const noexcept { return peer_; }

    private:
        friend class open_connections;
        open_connections* const list_;
        const endpoint peer_;
        entry* next_ = nullptr;
        entry* previous_ = nullptr;
    };

private:
    mutable std::mutex changing_;
    entry* first_ = nullptr;
    entry* last_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {

/// Tells the hook, or standard error where there is none, or where the hook itself throws.
void report(const serve_options& options, const std::exception_ptr& error,
            const endpoint& peer) noexcept;

/// Counts a server's open connections, and holds its one acceptor back while they are too many, or
/// while what it takes to open one is short.
class connection_count {
public:
    explicit connection_count(std::size_t limit) noexcept : limit_(limit) {}

    void opened() noexcept { ++open_; }
    void closed() noexcept {
        --open_;
        ++closed_;
        if (acceptor_ != nullptr) std::exchange(acceptor_, nullptr)->end();
    }

    /// How many were ever closed.
    std::uint64_t closed_so_far() const noexcept { return closed_; }

    /// The one wait of the acceptor: until a connection is closed, or for a while.
    class [[nodiscard("without co_await nothing happens")]] wait_awaiter final : public timer {
    public:
        wait_awaiter(connection_count& count, bool is_over, bool for_a_while) noexcept
            : count_(count), is_over_(is_over), for_a_while_(for_a_while) {}
        bool await_ready() const noexcept { return is_over_; }
        template <rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            was_cancelled_ = current_core->current->should_stop();
            if (was_cancelled_) return false;
            block(*this, waiter.promise(), where);
            begin();
            return true;
        }
        void await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
        }

        void end() noexcept;
        void expired() noexcept override { end(); }
        void cancel() noexcept override;
        void describe(std::FILE* out) const override;

    private:
        void begin() noexcept;

        connection_count& count_;
        bool is_over_;
        bool for_a_while_;
        bool was_cancelled_ = false;
    };

    /// Completes when one more connection may be opened.
    wait_awaiter room() noexcept { return {*this, limit_ == 0 || open_ < limit_, false}; }

    /// Completes when a connection has been closed that was not among the first `seen`, which may
    /// have left what is short, or after a while: something else may have.
    wait_awaiter relief(std::uint64_t seen) noexcept { return {*this, closed_ != seen, true}; }

private:
    std::size_t limit_;  // 0: none
    std::size_t open_ = 0;
    std::uint64_t closed_ = 0;
    wait_awaiter* acceptor_ = nullptr;
};

/// What an acceptor does about an accept that failed.
enum class accept_failure : std::uint8_t {
    of_connection,  // only that connection has failed: goes on with the next one
    shortage,       // waits until descriptors or memory may have come back
};

/// Throws what is an error of the listener, or a cancellation.
accept_failure failure_of_accept(const std::error_code& error, const tcp_listener& listener);

struct serve_state {
    serve_state(serve_options chosen, std::size_t reactors)
        : options(std::move(chosen)), connections(options.max_connections), open(reactors) {}

    serve_options options;
    connection_count connections;
    std::vector<std::size_t> open;  // connections on each reactor, of those served
};

/// One connection among those that are counted, on the reactor that accepts.
class counted_connection {
public:
    counted_connection(serve_state& state, std::size_t& on_its_reactor) noexcept
        : state_(&state), on_its_reactor_(on_its_reactor) {
        ++on_its_reactor_;
        state_->connections.opened();
    }
    counted_connection(counted_connection&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), on_its_reactor_(other.on_its_reactor_) {}
    counted_connection& operator=(counted_connection&&) = delete;
    ~counted_connection() {
        if (state_ == nullptr) return;
        --on_its_reactor_;
        state_->connections.closed();
    }

    serve_state& state() const noexcept { return *state_; }

private:
    serve_state* state_;
    std::size_t& on_its_reactor_;
};

/// Runs on the reactor that accepts, which keeps all the counts; the handler on that of the
/// connection.
template <class Handler>
task<> serve_connection(Handler& handler, tcp_stream peer, scheduler& place,
                        counted_connection count) {
    scheduler& home = this_scheduler();
    const open_connections::entry listed{count.state().options.connections, peer.remote_endpoint()};
    std::exception_ptr error;
    try {
        co_await resume_on(place);
        // The stream ends with the handler, before its end is counted.
        auto talk = std::invoke(handler, std::move(peer));
        co_await talk;
    } catch (const operation_cancelled&) {
        // The server is being stopped; or the handler awaited something that somebody cancelled.
        if (!current_core->current->should_stop()) error = std::current_exception();
    } catch (...) {
        error = std::current_exception();
    }
    if (&this_scheduler() != &home) {
        // The way home must not fail, so it is no shield(), whose frame takes memory.
        cancel_scope scope;
        const scope_entry shielded{scope, std::chrono::nanoseconds::max()};
        co_await resume_on(home);
    }
    if (error) report(count.state().options, error, listed.peer());
}

struct close_at_exit {
    tcp_listener& listener;
    ~close_at_exit() { listener.close(); }
};

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
        const auto start = [&](tcp_stream peer) {
            const auto fewest = std::min_element(state.open.begin(), state.open.end());
            const auto index = static_cast<std::size_t>(fewest - state.open.begin());
            scheduler& place = handlers.size() == 1 ? this_scheduler() : all.scheduler(index);
            connections.spawn(serve_connection(handlers[index], std::move(peer), place,
                                               counted_connection{state, *fewest}));
        };
        // Nothing in here allocates but the start of a connection, which is dropped if that fails.
        constexpr unsigned most_in_a_row = 16;
        for (unsigned failed_in_a_row = 0;;) {
            co_await state.connections.room();
            const std::uint64_t closed = state.connections.closed_so_far();
            auto accepted = co_await as_result(listener.accept());
            accept_failure failure = accept_failure::shortage;
            try {
                if (accepted) {
                    start(std::move(*accepted));
                    failed_in_a_row = 0;
                    continue;
                }
                failure = failure_of_accept(accepted.error(), listener);
            } catch (const std::bad_alloc&) {
                // As any other shortage.
            }
            // Failures of connections that never end are as good as a shortage: something around
            // the process forbids them, for now.
            if (failure == accept_failure::of_connection && ++failed_in_a_row < most_in_a_row) {
                continue;
            }
            failed_in_a_row = 0;
            co_await state.connections.relief(closed);
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
task<> serve_kept(tcp_listener& listener, Handler handler, serve_options options) {
    const std::size_t reactors = options.mode == accept_mode::single ? 1 : this_runtime().size();
    std::vector<Handler> handlers = copies_of(std::move(handler), reactors);
    if (options.mode == accept_mode::per_reactor && reactors > 1) {
        co_await serve_per_reactor(listener, std::move(handlers), std::move(options));
    } else {
        co_await serve_one_listener(listener, std::move(handlers), std::move(options));
    }
}

template <class Handler>
task<> serve_owning(tcp_listener listener, Handler handler, serve_options options) {
    co_await serve_kept(listener, std::move(handler), std::move(options));
}

/// Whether it is one; if not, the compiler has said what is wrong with it.
template <class Handler, class... Args>
constexpr bool is_handler() noexcept {
    refuse_what_is_destroyed_twice<Handler>();
    using call = kept_t<pass::each_time, Handler, Args...>;
    constexpr bool is_callable = std::invocable<call&, tcp_stream>;
    static_assert(is_callable,
                  "serve: the handler cannot be called as handler(tcp_stream, args...). (A member "
                  "function is called inside a lambda: [&](tcp_stream peer) { return "
                  "object.talk(std::move(peer)); }.)");
    static_assert(!is_callable || calls_nothing<call, tcp_stream>,
                  "serve: the handler must be a coroutine that returns task<>: what another task "
                  "gives would be lost, and a function that returns void cannot wait.");
    return calls_nothing<call, tcp_stream>;
}

}  // namespace detail

/// Accepts connections and runs handler(tcp_stream, args...), a task, for each, all at the same
/// time, on the reactors that serve_options::mode says; each reactor has a copy of the handler and
/// of the arguments of its own. They are kept until the last of the handler's tasks has ended; the
/// arguments are passed to each call as they are, so a value parameter gets a copy. An exception
/// that leaves the handler ends its connection only and goes to serve_options::on_error. Where
/// descriptors run out, serve waits until it can accept again; where there is no memory to begin
/// with a connection, that one is dropped. Once it serves, it ends only by an error of the
/// listener, or by cancellation: closes the listener, cancels the handlers, waits until all have
/// ended, then throws operation_cancelled. A handler that must finish what it is saying puts it
/// into a `shield`.
/// Under g++ 12 a temporary lambda whose captures have destructors is refused; name it first, or
/// pass what it captures as arguments.
template <class Handler, class... Args>
task<> serve(tcp_listener& listener, Handler&& handler, serve_options options = {},
             Args&&... args) {
    if constexpr (detail::is_handler<Handler, Args...>()) {
        return detail::serve_kept(listener,
                                  detail::keep_callable<detail::pass::each_time>(
                                      std::forward<Handler>(handler), std::forward<Args>(args)...),
                                  std::move(options));
    }
}

/// The same with a listener of its own.
template <class Handler, class... Args>
task<> serve(tcp_listener&& listener, Handler&& handler, serve_options options = {},
             Args&&... args) {
    if constexpr (detail::is_handler<Handler, Args...>()) {
        return detail::serve_owning(
            std::move(listener),
            detail::keep_callable<detail::pass::each_time>(std::forward<Handler>(handler),
                                                           std::forward<Args>(args)...),
            std::move(options));
    }
}

}  // namespace rondo
