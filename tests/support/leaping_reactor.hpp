#pragma once
// A reactor of neither kind: it passes everything on to one of the kernel's, and has a clock of its
// own, which leaps to the next deadline whenever nothing else is left to do.
//
//     run_in_leaps([]() -> task<> { co_await sleep_for(24h); }, reactor_kind::epoll);  // at once

#include <rondo/runtime/reactor/detail/reactor.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>
#include <rondo/runtime/run.hpp>

#include <cstdint>
#include <memory>
#include <source_location>
#include <utility>

namespace rondo::test {

class leaping_reactor final : public detail::reactor {
public:
    leaping_reactor(std::unique_ptr<detail::reactor> kernel, const detail::system_calls& calls)
        : kernel_(std::move(kernel)), calls_(calls) {}

    const detail::system_calls& calls() const noexcept override { return calls_; }

    std::int64_t now() const noexcept override { return now_; }
    std::int64_t wall_now() const noexcept override { return now_ + wall_ahead; }

    void wait(std::int64_t deadline) noexcept override {
        if (deadline == forever) return kernel_->wait(forever);
        kernel_->wait(no_wait);
        if (now_ < deadline) now_ = deadline;
    }

    reactor_kind kind() const noexcept override { return kernel_->kind(); }
    bool needs_nonblocking() const noexcept override { return kernel_->needs_nonblocking(); }
    detail::submission submit(detail::operation& op) noexcept override {
        return kernel_->submit(op);
    }
    void cancel(detail::operation& op) noexcept override { kernel_->cancel(op); }
    void wake() noexcept override { kernel_->wake(); }
    void opened(int fd) noexcept override { kernel_->opened(fd); }
    void arrived(int fd) noexcept override { kernel_->arrived(fd); }
    void hand_over(int fd) noexcept override { kernel_->hand_over(fd); }
    const detail::operation* first_pending(int fd) const noexcept override {
        return kernel_->first_pending(fd);
    }
    void release(int fd) noexcept override { kernel_->release(fd); }
    void close(int fd) noexcept override { kernel_->close(fd); }
    void flush() noexcept override { kernel_->flush(); }

private:
    static constexpr std::int64_t wall_ahead = 1'000'000'000'000'000'000;

    const std::unique_ptr<detail::reactor> kernel_;
    const detail::system_calls& calls_;
    std::int64_t now_ = 1'000'000'000;
};

/// run() on such a reactor, over the kernel's of this kind, with these system calls.
template <class F>
auto run_in_leaps(F f, reactor_kind kind, const detail::system_calls& calls = detail::real_calls) {
    struct factory final : detail::reactor_factory {
        explicit factory(const detail::system_calls& table) : calls(table) {}
        std::unique_ptr<detail::reactor> make(reactor_kind wanted) override {
            return std::make_unique<leaping_reactor>(detail::make_reactor(wanted), calls);
        }
        const detail::system_calls& calls;
    } leaping{calls};
    detail::main_run here{{.reactor = kind}, &leaping};
    return here(f(), std::source_location::current());
}

}  // namespace rondo::test
