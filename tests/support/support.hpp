#pragma once
// One body for every reactor kind.
//
//     TEST_CASE("a sleep ends") {
//         on_each_reactor_kind([](auto run) {
//             run([]() -> task<> { co_await sleep_for(1ms); });
//         });
//     }

#include <rondo/runtime/run.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>

namespace rondo::test {

/// What the body gets: runs a task, or a callable that returns one, on one kind of reactor.
class run_on {
public:
    explicit run_on(reactor_kind kind) noexcept : kind_(kind) {}

    template <class Work>
    decltype(auto) operator()(Work work) const {
        return rondo::run(std::move(work), {.reactor = kind_});
    }

    reactor_kind kind() const noexcept { return kind_; }

private:
    reactor_kind kind_;
};

/// Calls body(run_on) for io_uring and for epoll. A machine that denies io_uring fails the tests:
/// it is said so by RONDO_TEST_REACTORS=epoll, never found out by skipping.
template <class Body>
void on_each_reactor_kind(Body body) {
    const char* only = std::getenv("RONDO_TEST_REACTORS");
    for (const reactor_kind kind : {reactor_kind::io_uring, reactor_kind::epoll}) {
        if (only != nullptr && to_string(kind) != only) continue;
        CAPTURE(std::string(to_string(kind)));
        body(run_on{kind});
    }
}

}  // namespace rondo::test
