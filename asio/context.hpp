#pragma once
// An io_context that runs beside the reactors, for the timers, sockets and resolvers of Asio.
//
//     rondo::asio_context background;
//     asio::ip::tcp::resolver resolver{background.get_executor()};
//     auto found = co_await resolver.async_resolve("example.org", "https", rondo::use_task);

#include <rondo/asio/executor.hpp>
#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/scheduler.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <pthread.h>

#include <exception>
#include <optional>
#include <thread>

namespace rondo {

/// An asio::io_context and the thread that runs it, until this is destroyed. Made in a task, or
/// before run(), it lives as long as the scope that it stands in: where that is the main task's, as
/// long as the runtime.
/// An exception that leaves a handler stops the runtime of the task that has made it, and is thrown
/// by run(); made outside of tasks, it is std::terminate, as in any thread.
/// Thread safety: get_executor() and context() may be called from any thread.
class asio_context {
public:
    using executor_type = asio::io_context::executor_type;

    /// Throws std::system_error when the thread cannot be had.
    asio_context() {
        if (detail::current_core != nullptr) maker_.emplace(this_scheduler());
        thread_ = std::thread([this] { run(); });
    }
    asio_context(const asio_context&) = delete;
    asio_context& operator=(const asio_context&) = delete;

    /// Stops it and waits for its thread: for the handler that is running, and for a look-up of a
    /// resolver. Operations still pending then are dropped: a task that awaits one with use_task
    /// gets std::future_errc::broken_promise. As with any io_context, its timers and sockets must
    /// be gone by then, and no task that awaits one of them may be cancelled meanwhile by another
    /// thread.
    ~asio_context() {
        context_.stop();
        thread_.join();
    }

    /// What timers, sockets and resolvers are made with.
    executor_type get_executor() noexcept { return context_.get_executor(); }
    asio::io_context& context() noexcept { return context_; }

private:
    void run() {
        ::pthread_setname_np(::pthread_self(), "rondo-asio");
        for (;;) {
            try {
                context_.run();
                return;
            } catch (...) {
                if (!maker_) throw;
                maker_->execute(
                    [error = std::current_exception()] { std::rethrow_exception(error); });
            }
        }
    }

    std::optional<asio_executor> maker_;
    asio::io_context context_{1};
    asio::executor_work_guard<executor_type> work_{context_.get_executor()};
    std::thread thread_;
};

}  // namespace rondo
