#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <rondo/runtime/reactor/detail/buffer_pool.hpp>
#include <rondo/runtime/reactor/detail/operation.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

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

const system_calls& reactor::calls() const noexcept { return real_calls; }

buffer_pool* reactor::make_buffers() noexcept {
    buffers_ = new (std::nothrow) buffer_pool;
    if (buffers_ != nullptr) prepare_buffers(*buffers_);
    return buffers_;
}

void check_turn(const operation& op, std::source_location where) noexcept {
    if (!op.takes_turns) return;
    const operation* other = current_core->io->first_pending(op.fd);
    for (; other != nullptr; other = other->next_on_fd) {
        // One that was cancelled has ended as far as its task can do anything about it.
        if (!other->takes_turns || other->direction != op.direction || other->cancel_wanted)
            continue;
        misuse(op.direction == readiness::read
                   ? "a stream is read while another task reads from it"
                   : "a stream is written while another task writes to it",
               where);
    }
}

void operation::cancel() noexcept {
    if (fd_closed) return;  // it is about to end with that
    cancel_wanted = true;
    current_core->io->cancel(*this);
}

std::unique_ptr<reactor> make_reactor(reactor_kind kind, reactor_factory* factory) {
    if (factory != nullptr) return factory->make(kind);
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
