#pragma once
// Awaiting any asynchronous operation of Asio, or of a library built on it, from a task.
//
//     co_await timer.async_wait(rondo::use_task);
//     std::size_t n = co_await asio::async_read(socket, buffer, rondo::use_task);
//     auto [command, body] = co_await library.async_receive(rondo::use_task);    // several results
//     auto sent = co_await as_result(asio::async_write(socket, buffer, rondo::use_task));
//
// The operation is started on the executor of its own I/O object and the handler runs there too;
// the task resumes on its own scheduler. So nothing but Asio's own threads touches a socket while
// an operation of it is under way, and two tasks may use one socket as two of Asio's coroutines
// may.

#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/detail/wakeable.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/runtime/core/task.hpp>

#include <asio/async_result.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/dispatch.hpp>
#include <asio/error.hpp>
#include <asio/post.hpp>

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <source_location>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace rondo {

/// The completion token by which an operation of Asio becomes something to co_await.
///
/// co_await: completes when the operation's handler has run. A std::error_code that comes first
/// among the results is thrown as std::system_error, or is the error of the result under as_result;
/// a std::exception_ptr that comes first is thrown. Of what remains, nothing is void, one result is
/// itself, several are a std::tuple. What the operation throws as it is started is thrown.
/// Codes are left as they are: compare them with asio::error, whose category older versions of Asio
/// do not relate to std::errc.
/// An operation that is dropped without a result, as when its io_context is destroyed, is a
/// std::system_error with std::future_errc::broken_promise.
/// Cancellation: asks the operation to end through its cancellation slot, on its executor, and
/// waits until the handler has run. A result that came first is given;
/// asio::error::operation_aborted becomes operation_cancelled. Without a cancellation of ours that
/// code is an error as any other.
/// An operation that does not listen to its slot (a resolver's does not) is waited for; on an
/// io_context that nobody runs, until somebody does or destroys it.
/// Its executor: the I/O object's, which the operation names. Handlers of one operation must not
/// run on several threads at once, nor may its cancellation: on an io_context that several threads
/// run, give the I/O object a strand, as Asio asks for anyway. An operation that names no executor
/// is started and cancelled by the awaiting task's thread. Adapters around the token hide the name
/// in older versions of Asio: say it there, as_tuple(use_task(socket.get_executor())).
/// Thread safety: any task on any scheduler. The I/O object is touched on its executor only, by the
/// operation; what else the program does with it, such as timer.cancel(), is to be done there, too.
template <class Executor = void>
struct use_task_t {
    Executor executor;
};

template <>
struct use_task_t<void> {
    /// The same token, for operations that are started and cancelled on `executor`.
    template <class Executor>
    constexpr use_task_t<Executor> operator()(const Executor& executor) const {
        return {executor};
    }
};

inline constexpr use_task_t<> use_task{};

namespace detail {

/// The part of an await of Asio that the results' type does not matter to. Trivially destructible,
/// as all awaiters are: what it holds, it lets go of when it is resumed.
class asio_wait_base : public task_wait {
public:
    /// On the executor: there will be no result.
    void abandoned() noexcept {
        outcome_ = outcome::abandoned;
        handler_done();
    }
    asio::cancellation_slot slot() noexcept { return signal_.slot(); }

    void describe(std::FILE* out) const override { std::fputs("an operation of Asio", out); }

protected:
    enum class outcome : std::uint8_t { value, code, exception, abandoned, cancelled };

    asio_wait_base() noexcept {}
    ~asio_wait_base() {}

    void begin() noexcept {
        was_started_ = true;
        prepare();
        ::new (static_cast<void*>(&signal_)) asio::cancellation_signal;
    }

    /// Counts what is still to be waited for: the handler, the call that starts the operation, the
    /// call that cancels it. The last one to be done wakes the task, and may touch nothing
    /// afterwards.
    bool add_part() noexcept {
        unsigned parts = parts_.load();
        do {
            if (parts == 0) return false;
        } while (!parts_.compare_exchange_weak(parts, parts + 1));
        return true;
    }
    void part_done() noexcept {
        if (parts_.fetch_sub(1) == 1) wake();
    }

    /// On the executor: the outcome is written.
    void handler_done() noexcept {
        is_done_.store(true);
        part_done();
    }
    bool is_done() const noexcept { return is_done_.load(); }

    /// On the executor.
    void emit() noexcept {
        if (is_done()) return;
        try {
            signal_.emit(asio::cancellation_type::all);
        } catch (...) {
            // Out of memory on the way: then the operation is not cancelled, and is waited for.
        }
    }

    /// As it is resumed, on the task's scheduler.
    outcome conclude() noexcept {
        if (!was_started_) return outcome::cancelled;
        std::destroy_at(&signal_);
        const bool aborted = outcome_ == outcome::abandoned ||
                             (outcome_ == outcome::code && code_ == asio::error::operation_aborted);
        return cancel_wanted_ && aborted ? outcome::cancelled : outcome_;
    }
    std::error_code code_of(outcome how) const noexcept {
        return how == outcome::code ? code_
                                    : std::make_error_code(std::future_errc::broken_promise);
    }

    // The outcome is written before the last part is done, and read after the wake-up.
    outcome outcome_ = outcome::cancelled;
    bool was_started_ = false;
    bool cancel_wanted_ = false;  // the task's own thread only
    std::error_code code_;

private:
    std::atomic<bool> is_done_{false};
    std::atomic<unsigned> parts_{2};
    union {
        asio::cancellation_signal signal_;
    };
};

/// The handler that Asio gets. Whoever destroys it uncalled has abandoned the operation.
template <class Wait, class... Results>
class asio_handler {
public:
    using cancellation_slot_type = asio::cancellation_slot;

    explicit asio_handler(Wait& wait) noexcept : wait_(&wait) {}
    asio_handler(asio_handler&& other) noexcept : wait_(std::exchange(other.wait_, nullptr)) {}
    asio_handler& operator=(asio_handler&& other) noexcept {
        std::swap(wait_, other.wait_);
        return *this;
    }
    ~asio_handler() {
        if (wait_ != nullptr) wait_->abandoned();
    }

    cancellation_slot_type get_cancellation_slot() const noexcept {
        return wait_ != nullptr ? wait_->slot() : cancellation_slot_type{};
    }

    void operator()(std::decay_t<Results>... results) {
        std::exchange(wait_, nullptr)->complete(std::move(results)...);
    }

private:
    Wait* wait_;
};

/// What the task gets of a completion's results: nothing, the only one, or a tuple.
template <class... Values>
struct several {
    using type = std::tuple<Values...>;
};
template <class Value>
struct several<Value> {
    using type = Value;
};
template <>
struct several<> {
    using type = void;
};

template <class... Results>
struct asio_results : several<Results...> {};
template <class... Values>
struct asio_results<std::error_code, Values...> : several<Values...> {};
template <class... Values>
struct asio_results<std::exception_ptr, Values...> : several<Values...> {};

/// Where the results arrive.
template <class T>
class asio_wait : public asio_wait_base {
public:
    /// On the executor. By reference, so that a move that throws does so in here.
    template <class... Results>
    void complete(Results&&... results) noexcept {
        try {
            keep(std::forward<Results>(results)...);
        } catch (...) {
            keep_exception(std::current_exception());
        }
        handler_done();
    }

    T await_resume() {
        const outcome how = conclude();
        if (how == outcome::value) return take();
        if (how == outcome::exception) take_exception();
        if (how == outcome::cancelled) throw operation_cancelled{};
        throw std::system_error(code_of(how));
    }

    result<T> resume_result() {
        const outcome how = conclude();
        if (how == outcome::exception) {
            try {
                take_exception();
            } catch (const operation_cancelled&) {
                return std::errc::operation_canceled;
            } catch (const std::system_error& error) {
                return explained_error{error.code(), error.what()};
            }
        }
        if (how == outcome::cancelled) return std::errc::operation_canceled;
        if (how != outcome::value) return code_of(how);
        if constexpr (std::is_void_v<T>) {
            return {};
        } else {
            return take();
        }
    }

protected:
    asio_wait() noexcept {}
    ~asio_wait() {}

    void keep_exception(std::exception_ptr error) noexcept {
        ::new (static_cast<void*>(&error_)) std::exception_ptr(std::move(error));
        outcome_ = outcome::exception;
    }

private:
    template <class First, class... Rest>
    void keep(First first, Rest... rest) {
        if constexpr (std::same_as<First, std::error_code>) {
            if (!first) return keep_values(std::move(rest)...);
            code_ = first;
            outcome_ = outcome::code;
        } else if constexpr (std::same_as<First, std::exception_ptr>) {
            if (!first) return keep_values(std::move(rest)...);
            keep_exception(std::move(first));
        } else {
            keep_values(std::move(first), std::move(rest)...);
        }
    }
    void keep() noexcept { keep_values(); }

    template <class... Values>
    void keep_values(Values... values) {
        ::new (static_cast<void*>(&value_)) stored_result<T>(std::move(values)...);
        outcome_ = outcome::value;
    }

    T take() {
        if constexpr (!std::is_void_v<T>) {
            const struct at_end {
                asio_wait& self;
                ~at_end() { std::destroy_at(&self.value_); }
            } guard{*this};
            return std::move(value_);
        }
    }

    // A coroutine of Asio that was cancelled ends by throwing the code.
    [[noreturn]] void take_exception() {
        const std::exception_ptr error = std::move(error_);
        std::destroy_at(&error_);
        if (!cancel_wanted_) std::rethrow_exception(error);
        try {
            std::rethrow_exception(error);
        } catch (const std::system_error& thrown) {
            if (thrown.code() != asio::error::operation_aborted) throw;
        }
        throw operation_cancelled{};
    }

    union {
        stored_result<T> value_;    // when the outcome is a value
        std::exception_ptr error_;  // when it is an exception
    };
};

/// An operation that has not been started: what starts it, and with which arguments. Executor is
/// void where nobody names one.
template <class T, class Handler, class Executor, class Initiation, class... Args>
class [[nodiscard("without co_await nothing happens")]] asio_operation {
    static constexpr bool has_executor = !std::is_void_v<Executor>;
    using executor_type = std::conditional_t<has_executor, Executor, std::monostate>;

public:
    asio_operation(executor_type executor, Initiation initiation, Args... args)
        : executor_(std::move(executor)),
          initiation_(std::move(initiation)),
          args_(std::move(args)...) {}

    class awaiter final : public asio_wait<T> {
    public:
        explicit awaiter(asio_operation& of) noexcept : of_(of) {}

        bool await_ready() const noexcept { return false; }
        template <rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) noexcept {
            if (current_core->current->should_stop()) return !keeps_turn(waiter.promise(), where);
            this->begin();
            block(*this, waiter.promise(), where);
            start();
            return true;
        }

        void cancel() noexcept override {
            if (std::exchange(this->cancel_wanted_, true) || !this->add_part()) return;
            if constexpr (has_executor) {
                // Never from in here: what it resumes would run in the middle of a cancellation.
                submit([](auto& executor, auto call) { asio::post(executor, std::move(call)); },
                       call_to<&awaiter::emit_now, &awaiter::part_done>{this});
            } else {
                emit_now();
            }
        }

    private:
        /// A call on its way to the executor, which may drop it.
        template <void (awaiter::*Run)() noexcept, void (awaiter::*Drop)() noexcept>
        class call_to {
        public:
            explicit call_to(awaiter* target) noexcept : target_(target) {}
            call_to(call_to&& other) noexcept : target_(std::exchange(other.target_, nullptr)) {}
            call_to& operator=(call_to&&) = delete;
            ~call_to() {
                if (target_ != nullptr) (target_->*Drop)();
            }
            void operator()() { (std::exchange(target_, nullptr)->*Run)(); }

        private:
            awaiter* target_;
        };

        void start() noexcept {
            if constexpr (has_executor) {
                submit([](auto& executor, auto call) { asio::dispatch(executor, std::move(call)); },
                       call_to<&awaiter::initiate, &awaiter::never_started>{this});
            } else {
                initiate();
            }
        }

        // The call may have run by the time that this returns, and all of this be gone.
        template <class Submit, class Call>
        void submit(Submit how, Call call) noexcept {
            try {
                auto executor = of_.executor_;
                how(executor, std::move(call));
            } catch (...) {
                // Out of memory: the call was dropped, and has said so.
            }
        }

        void initiate() noexcept {
            try {
                std::apply(
                    [this](Args&... args) {
                        std::move(of_.initiation_)(Handler{*this}, std::move(args)...);
                    },
                    of_.args_);
            } catch (...) {
                // The handler went with it; if not, its outcome counts.
                if (this->is_done() && this->outcome_ == asio_wait_base::outcome::abandoned) {
                    this->keep_exception(std::current_exception());
                }
            }
            this->part_done();
        }
        void never_started() noexcept {
            this->abandoned();
            this->part_done();
        }
        void emit_now() noexcept {
            this->emit();
            this->part_done();
        }
        void part_done() noexcept { asio_wait_base::part_done(); }

        asio_operation& of_;
    };

    awaiter operator co_await() && noexcept { return awaiter{*this}; }

private:
    [[no_unique_address]] executor_type executor_;
    Initiation initiation_;
    std::tuple<Args...> args_;
};

template <class Initiation>
concept names_executor = requires(const Initiation& initiation) {
    typename Initiation::executor_type;
    { initiation.get_executor() } -> std::convertible_to<typename Initiation::executor_type>;
};

template <class Chosen, class Results, class Initiation, class... Args>
auto make_asio_operation(const use_task_t<Chosen>& token, Initiation initiation, Args... args) {
    using value = typename Results::value;
    using handler = typename Results::handler;
    if constexpr (!std::is_void_v<Chosen>) {
        return asio_operation<value, handler, Chosen, Initiation, Args...>{
            token.executor, std::move(initiation), std::move(args)...};
    } else if constexpr (names_executor<Initiation>) {
        auto executor = initiation.get_executor();
        return asio_operation<value, handler, decltype(executor), Initiation, Args...>{
            std::move(executor), std::move(initiation), std::move(args)...};
    } else {
        return asio_operation<value, handler, void, Initiation, Args...>{
            std::monostate{}, std::move(initiation), std::move(args)...};
    }
}

template <class... Results>
struct asio_signature {
    using value = typename asio_results<std::decay_t<Results>...>::type;
    using handler = asio_handler<asio_wait<value>, Results...>;
};

}  // namespace detail
}  // namespace rondo

template <class Executor, class Returned, class... Results>
class asio::async_result<rondo::use_task_t<Executor>, Returned(Results...)> {
public:
    template <class Initiation, class... Args>
    static auto initiate(Initiation&& initiation, const rondo::use_task_t<Executor>& token,
                         Args&&... args) {
        return rondo::detail::make_asio_operation<Executor,
                                                  rondo::detail::asio_signature<Results...>,
                                                  std::decay_t<Initiation>, std::decay_t<Args>...>(
            token, std::forward<Initiation>(initiation), std::forward<Args>(args)...);
    }
};
