#include <rondo/net/resolve.hpp>

#include <rondo/net/detail/quoted.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/sleep.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <source_location>
#include <string_view>
#include <system_error>
#include <thread>

namespace rondo {

const std::error_category& resolver_category() noexcept {
    class category final : public std::error_category {
    public:
        const char* name() const noexcept override { return "rondo.resolver"; }
        std::string message(int value) const override { return ::gai_strerror(value); }
    };
    static const category instance;
    return instance;
}

namespace {

// "localhost" or a name below it, in capitals or not, with or without the dot of the root. A name
// with an empty label is none (RFC 1035, section 3.1), so it is not below localhost either.
bool is_localhost(std::string_view name) noexcept {
    constexpr std::string_view top = "localhost";
    const auto same_letter = [](char given, char small) {
        return (given >= 'A' && given <= 'Z' ? given - 'A' + 'a' : given) == small;
    };
    if (name.ends_with('.')) name.remove_suffix(1);
    if (name.size() < top.size()) return false;
    const std::string_view below = name.substr(0, name.size() - top.size());
    if (!std::ranges::equal(name.substr(below.size()), top, same_letter)) return false;
    if (below.empty()) return true;
    return below.ends_with('.') && !below.starts_with('.') &&
           below.find("..") == std::string_view::npos;
}

std::vector<endpoint> loopback(std::uint16_t port) {
    return {endpoint{ip_address::loopback_v6(), port}, endpoint{ip_address::loopback_v4(), port}};
}

struct lookup_result {
    std::vector<endpoint> endpoints;
    std::error_code error;
};

lookup_result look_up(const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* found = nullptr;
    const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (status == EAI_SYSTEM) return {{}, {errno, std::system_category()}};
    if (status != 0) return {{}, {status, resolver_category()}};
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &::freeaddrinfo);
    lookup_result result;
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        if (one->ai_family != AF_INET && one->ai_family != AF_INET6) continue;
        sockaddr_storage storage{};
        std::memcpy(&storage, one->ai_addr, one->ai_addrlen);
        result.endpoints.emplace_back(endpoint::from_sockaddr(storage).address(), port);
    }
    if (result.endpoints.empty()) result.error = {EAI_NONAME, resolver_category()};
    return result;
}

// Waits for a look-up on another thread, which reports through the scheduler's inbox.
class lookup_awaiter final : public detail::suspension, private detail::inbox_message {
public:
    lookup_awaiter(const std::string& host, std::uint16_t port) noexcept
        : host_(host), port_(port) {}

    bool await_ready() const {
        if (detail::current_core->current->should_stop()) throw operation_cancelled{};
        return false;
    }
    template <detail::rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) {
        detail::scheduler_core& home = *detail::current_core;
        run = [](detail::inbox_message& message) noexcept {
            detail::current_core->wake(*static_cast<lookup_awaiter&>(message).task);
        };
        try {
            thread_ = std::thread([this, &home] {
                try {
                    result_ = look_up(host_, port_);
                } catch (const std::bad_alloc&) {
                    result_.error = std::make_error_code(std::errc::not_enough_memory);
                }
                home.post(*this);
            });
        } catch (const std::system_error& error) {
            throw std::system_error(error.code(), "resolve " + host_ + ": start a thread");
        }
        detail::block(*this, waiter.promise(), where);
    }
    lookup_result await_resume() {
        thread_.join();
        if (cancelled_) throw operation_cancelled{};
        return std::move(result_);
    }

    void cancel() noexcept override { cancelled_ = true; }
    void describe(std::FILE* out) const override {
        std::fprintf(out, "the look-up of %s", host_.c_str());
    }

private:
    const std::string& host_;
    std::uint16_t port_;
    bool cancelled_ = false;
    lookup_result result_;
    std::thread thread_;
};

}  // namespace

task<std::vector<endpoint>> resolve(std::string host, std::uint16_t port) {
    // What is known at once counts against the turn as any other await; it is no cancel point.
    (void)co_await as_result(detail::turn_point{});
    if (const auto numeric = ip_address::try_parse(host)) {
        co_return std::vector<endpoint>{endpoint{*numeric, port}};
    }
    // The C library would look up what comes before the NUL: another host than a check of the whole
    // name has seen.
    if (host.find('\0') != host.npos) {
        throw std::system_error(EAI_NONAME, resolver_category(), "resolve " + detail::quoted(host));
    }
    if (is_localhost(host)) co_return loopback(port);
    lookup_awaiter lookup{host, port};
    lookup_result found = co_await lookup;
    if (found.error) throw std::system_error(found.error, "resolve " + host);
    co_return std::move(found.endpoints);
}

}  // namespace rondo
