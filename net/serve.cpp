#include <rondo/net/serve.hpp>

#include <rondo/runtime/sleep.hpp>

#include <chrono>
#include <cstdio>
#include <system_error>

namespace rondo::detail {

void report_connection_error(const std::exception_ptr& error, const endpoint& peer) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& known) {
        std::fprintf(stderr, "rondo: connection of %s: %s\n", peer.to_string().c_str(),
                     known.what());
    } catch (...) {
        std::fprintf(stderr, "rondo: connection of %s: unknown exception\n",
                     peer.to_string().c_str());
    }
}

bool is_shortage(const std::error_code& error) noexcept {
    return error == std::errc::too_many_files_open ||
           error == std::errc::too_many_files_open_in_system ||
           error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

task<tcp_stream> accept_next(tcp_listener& listener, serve_state& state) {
    using namespace std::chrono_literals;
    for (;;) {
        const std::size_t limit = state.options.max_connections;
        while (limit != 0 && state.open >= limit) {
            state.one_closed.clear();
            co_await state.one_closed.wait();
        }
        auto accepted = co_await as_result(listener.accept());
        if (accepted) co_return std::move(*accepted);
        if (accepted.error() == std::errc::operation_canceled) throw operation_cancelled{};
        if (!is_shortage(accepted.error())) {
            throw std::system_error(accepted.error(),
                                    "accept on " + listener.local_endpoint().to_string());
        }
        // The connection stays in the backlog; asking again at once would only burn the processor.
        co_await sleep_for(50ms);
    }
}

}  // namespace rondo::detail
