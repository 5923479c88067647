#pragma once
// What the tests of Asio share: an operation whose every step is the test's.
//
//     manual_operation<std::error_code, int> operation;
//     auto waiter = group.spawn(await(operation.start(use_task)));
//     co_await settle();
//     operation.complete({}, 42);           // from any thread

#include <rondo/asio/use_task.hpp>
#include <rondo/runtime/core/task.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>

#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace rondo::test {

/// An asynchronous operation that names no executor, and ends when the test says so.
template <class... Results>
class manual_operation {
public:
    template <class Token>
    auto start(Token&& token) {
        return asio::async_initiate<Token, void(Results...)>(
            [this](auto handler) {
                ++started;
                auto slot = asio::get_associated_cancellation_slot(handler);
                if (slot.is_connected()) {
                    slot.assign([this](asio::cancellation_type) {
                        ++cancelled;
                        if (on_cancel) on_cancel();
                    });
                }
                pending_ = std::make_unique<holder<decltype(handler)>>(std::move(handler));
            },
            token);
    }

    void complete(Results... results) {
        auto pending = std::move(pending_);
        pending->call(std::move(results)...);
    }
    /// Forgets the handler, uncalled.
    void drop() { pending_.reset(); }

    int started = 0;
    int cancelled = 0;                // how often its slot was told
    std::function<void()> on_cancel;  // what it does then

private:
    struct pending_handler {
        virtual ~pending_handler() = default;
        virtual void call(Results... results) = 0;
    };
    template <class Handler>
    struct holder final : pending_handler {
        explicit holder(Handler kept) : handler(std::move(kept)) {}
        void call(Results... results) override { std::move(handler)(std::move(results)...); }
        Handler handler;
    };

    std::unique_ptr<pending_handler> pending_;
};

/// How an await has ended, in words.
template <class Awaitable>
task<std::string> ending_of(Awaitable awaitable) {
    std::string text = "value";
    try {
        co_await std::move(awaitable);
    } catch (const operation_cancelled&) {
        text = "cancelled";
    } catch (const std::system_error& error) {
        text = error.code() == std::future_errc::broken_promise ? "dropped"
               : error.code() == asio::error::operation_aborted ? "aborted"
                                                                : error.code().message();
    } catch (const std::exception& error) {
        text = error.what();
    }
    co_return text;
}

}  // namespace rondo::test
