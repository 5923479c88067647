#include <rondo/runtime/detail/reactor.hpp>

#include <rondo/runtime/detail/buffer_pool.hpp>
#include <rondo/runtime/detail/operation.hpp>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

namespace rondo {

std::string_view to_string(reactor_kind kind) noexcept {
    switch (kind) {
        case reactor_kind::io_uring: return "io_uring";
        case reactor_kind::epoll: return "epoll";
        case reactor_kind::automatic: break;
    }
    return "automatic";
}

reactor_kind parse_reactor_kind(std::string_view name) {
    for (auto kind : {reactor_kind::automatic, reactor_kind::io_uring, reactor_kind::epoll}) {
        if (name == to_string(kind)) return kind;
    }
    throw std::invalid_argument("unknown reactor '" + std::string(name) +
                                "': it is automatic, io_uring or epoll");
}

namespace detail {

reactor::reactor() noexcept
    : id_([] {
          static constinit std::atomic<std::uint32_t> last{0};
          return ++last;
      }()) {}

reactor::~reactor() {
    if (buffers_ != nullptr) buffers_->close();
}

buffer_pool* reactor::make_buffers() noexcept {
    buffers_ = new (std::nothrow) buffer_pool;
    if (buffers_ != nullptr) prepare_buffers(*buffers_);
    return buffers_;
}

void operation::cancel() noexcept {
    cancel_wanted = true;
    current_core->io->cancel(*this);
}

std::unique_ptr<reactor> make_reactor(reactor_kind kind) {
    if (kind == reactor_kind::automatic) {
        const char* name = std::getenv("RONDO_REACTOR");
        if (name != nullptr && *name != '\0') {
            try {
                kind = parse_reactor_kind(name);
            } catch (const std::invalid_argument& error) {
                throw std::invalid_argument(std::string("RONDO_REACTOR: ") + error.what());
            }
        }
    }
    switch (kind) {
        case reactor_kind::io_uring: return make_io_uring_reactor();
        case reactor_kind::epoll: return make_epoll_reactor();
        case reactor_kind::automatic: break;
    }
    try {
        return make_io_uring_reactor();
    } catch (const std::system_error&) {
        return make_epoll_reactor();
    }
}

}  // namespace detail
}  // namespace rondo
