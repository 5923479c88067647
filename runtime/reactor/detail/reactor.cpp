#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <rondo/runtime/reactor/detail/blocking_operation.hpp>
#include <rondo/runtime/reactor/detail/buffer_pool.hpp>
#include <rondo/runtime/reactor/detail/operation.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

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

submission reactor::submit_blocking(blocking_operation& op) noexcept {
    return submit_to_thread(op);
}

submission reactor::submit_to_thread(blocking_operation& op) noexcept {
    op.run = [](inbox_message& message) noexcept {
        current_core->io->ended_on_thread(static_cast<blocking_operation&>(message));
    };
    op.home_ = current_core;
    return start_on_thread(op) ? submission::pending : submission::finished;
}

// False: no thread could be asked, and that is the operation's result.
bool reactor::start_on_thread(blocking_operation& op) noexcept {
    try {
        op.call_ = threads_->start(op);
    } catch (const std::bad_alloc&) {
        op.result = -ENOMEM;
        return false;
    } catch (...) {
        op.result = -EAGAIN;
        return false;
    }
    op.next_on_thread_ = std::exchange(on_threads_, &op);
    return true;
}

void reactor::leave_threads(blocking_operation& op) noexcept {
    blocking_operation** link = &on_threads_;
    while (*link != &op) link = &(*link)->next_on_thread_;
    *link = op.next_on_thread_;
    op.call_.reset();
}

void reactor::withdraw(blocking_operation& op) noexcept {
    if (!op.call_->withdraw()) return;
    leave_threads(op);
    op.result = -ECANCELED;
    complete(op);
}

void reactor::ended_on_thread(blocking_operation& op) noexcept {
    leave_threads(op);
    if (op.closes_fd_ && !is_used_on_thread(op.fd)) current_core->kernel->close(op.fd);
    if (!op.finish(op.value_)) {
        if (op.cancel_wanted || op.fd_closed) {
            op.result = -ECANCELED;
        } else if (start_on_thread(op)) {
            return;
        }
    }
    complete(op);
}

bool reactor::end_calls_on(int fd) noexcept {
    blocking_operation* begun = nullptr;
    blocking_operation* next = nullptr;
    for (blocking_operation* op = on_threads_; op != nullptr; op = next) {
        next = op->next_on_thread_;
        if (op->fd != fd) continue;
        op->fd_closed = true;
        if (!op->call_->withdraw()) {
            begun = op;
            continue;
        }
        leave_threads(*op);
        op->result = -ECANCELED;
        complete(*op);
    }
    if (begun != nullptr) begun->closes_fd_ = true;
    return begun != nullptr;
}

void blocking_operation::run_on_thread() noexcept {
    value_ = attempt();
    home_->post(*this);  // not refused: the operation's task has not ended
}

void blocking_operation::cancel() noexcept {
    if (call_ == nullptr) return operation::cancel();
    if (fd_closed) return;
    cancel_wanted = true;
    current_core->io->withdraw(*this);
}

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
