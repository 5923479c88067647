#include <rondo/net/serve.hpp>

#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>

namespace rondo {

namespace detail {

namespace {

constinit error_lines connection_errors{"errors of connections"};

void print(const std::exception_ptr& error, const endpoint& peer) noexcept {
    try {
        connection_errors.write("rondo: connection of %s: %s", peer.to_string().c_str(),
                                text_of(error).c_str());
    } catch (...) {
        connection_errors.write("rondo: a connection: an error, and no memory to describe it");
    }
}

bool is_departure(const std::error_code& code) noexcept {
    return code == std::errc::connection_reset || code == std::errc::broken_pipe ||
           code == std::errc::not_connected || code == std::errc::connection_aborted;
}

// Whether the client has left, and nothing else has failed. A handler may have connections of its
// own to other servers: an error that names another endpoint, or something else, is none of the
// client's.
bool has_left(const std::exception_ptr& error, const endpoint& peer) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::system_error& known) {
        try {
            const std::string_view text = known.what();
            // As in "read from 127.0.0.1:40312: Connection reset by peer".
            if (text.find(" " + peer.to_string() + ": ") != std::string_view::npos) {
                return is_departure(known.code()) || known.code() == std::errc::timed_out;
            }
            return is_departure(known.code()) && text == known.code().message();
        } catch (...) {
            return false;
        }
    } catch (...) {
        return false;
    }
}

}  // namespace

void report(const serve_options& options, const std::exception_ptr& error,
            const endpoint& peer) noexcept {
    if (!options.on_error) {
        if (!has_left(error, peer)) print(error, peer);
        return;
    }
    try {
        options.on_error(error, peer);
    } catch (...) {
        print(error, peer);
        print(std::current_exception(), peer);
    }
}

accept_failure failure_of_accept(const std::error_code& error, const tcp_listener& listener) {
    if (error == std::errc::operation_canceled) throw operation_cancelled{};
    switch (error.value()) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: return accept_failure::shortage;
        // accept(2): network errors that were pending on the new socket, and what a firewall, or a
        // kernel with other protocols, says of one connection.
        case ECONNABORTED:
        case ECONNRESET:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENETDOWN:
        case ENETUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case ENOSR:
        case EOPNOTSUPP:
        case EPERM:
        case EPROTO:
        case EPROTONOSUPPORT:
        case ESOCKTNOSUPPORT:
        case ETIMEDOUT: return accept_failure::of_connection;
        default: break;
    }
    throw std::system_error(error, "accept on " + listener.local_endpoint().to_string());
}

void connection_count::wait_awaiter::begin() noexcept {
    using namespace std::chrono_literals;
    count_.acceptor_ = this;
    if (for_a_while_) current_core->timers.arm(*this, deadline_after(50ms));
}

void connection_count::wait_awaiter::end() noexcept {
    count_.acceptor_ = nullptr;
    current_core->timers.cancel(*this);
    current_core->wake(*task);
}

void connection_count::wait_awaiter::cancel() noexcept {
    was_cancelled_ = true;
    end();
}

void connection_count::wait_awaiter::describe(std::FILE* out) const {
    if (for_a_while_) {
        std::fputs("descriptors or memory for one more connection", out);
    } else {
        std::fprintf(out, "one of %zu connections to close", count_.open_);
    }
}

std::vector<tcp_listener> listener_group::siblings(tcp_listener& first, std::size_t count) {
    // The first one was bound alone, so an address that was in use has been refused. Its socket is
    // opened to others only now.
    const int on = 1;
    if (detail::kernel().setsockopt(first.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on,
                                    sizeof on) != 0) {
        throw std::system_error(errno, std::system_category(),
                                "share " + first.local_endpoint().to_string());
    }
    listen_options options = first.options_;
    options.reuse_port = true;
    std::vector<tcp_listener> all;
    while (all.size() < count) all.push_back(tcp_listener::bind(first.local_endpoint(), options));
    return all;
}

std::size_t share_of(std::size_t limit, std::size_t reactors) noexcept {
    return (limit + reactors - 1) / reactors;
}

}  // namespace detail

std::size_t open_connections::size() const noexcept {
    const std::lock_guard lock{changing_};
    return size_;
}

std::vector<endpoint> open_connections::peers() const {
    std::vector<endpoint> all;
    const std::lock_guard lock{changing_};
    all.reserve(size_);
    for (const entry* one = first_; one != nullptr; one = one->next_) all.push_back(one->peer_);
    return all;
}

open_connections::entry::entry(open_connections* list, const endpoint& peer) noexcept
    : list_(list), peer_(peer) {
    if (list_ == nullptr) return;
    const std::lock_guard lock{list_->changing_};
    previous_ = list_->last_;
    (previous_ == nullptr ? list_->first_ : previous_->next_) = this;
    list_->last_ = this;
    ++list_->size_;
}

open_connections::entry::~entry() {
    if (list_ == nullptr) return;
    const std::lock_guard lock{list_->changing_};
    (previous_ == nullptr ? list_->first_ : previous_->next_) = next_;
    (next_ == nullptr ? list_->last_ : next_->previous_) = previous_;
    --list_->size_;
}

}  // namespace rondo
