#include <rondo/runtime/detail/spin_policy.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/sleep.hpp>
#include <rondo/runtime/task_group.hpp>

#include <doctest/doctest.h>

#include <time.h>

#include <chrono>
#include <string>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

using namespace std::chrono_literals;

namespace {

constexpr std::int64_t patience = 50'000;

int looks_until_tired(detail::spin_policy& policy) {
    int looks = 0;
    for (; policy.worthwhile() && looks < 1000; ++looks) policy.looked(patience);
    return looks;
}

task<> echo_times(tcp_stream& stream, int times) {
    for (int i = 0; i < times; ++i) {
        const buffer got = co_await stream.receive();
        co_await stream.write_all(got);
    }
}

/// What the calling thread has used so far.
std::chrono::nanoseconds processor_time() {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace

TEST_CASE("without patience there is never a look") {
    detail::spin_policy policy{0};
    CHECK_FALSE(policy.enabled());
    policy.slept(0);
    policy.looked(0);
    CHECK_FALSE(policy.worthwhile());
}

TEST_CASE("looking in vain ends soon, and short sleeps begin it anew") {
    detail::spin_policy policy{patience};
    CHECK(policy.worthwhile());
    CHECK(looks_until_tired(policy) < 10);
    policy.slept(10 * patience);
    CHECK_FALSE(policy.worthwhile());
    policy.slept(patience / 2);
    CHECK(policy.worthwhile());
}

TEST_CASE("however much was found, a quiet server stops looking") {
    detail::spin_policy policy{patience};
    for (int i = 0; i < 100'000; ++i) policy.looked(patience / 2);
    CHECK(looks_until_tired(policy) < 20);
}

TEST_CASE("a reactor that spins does all that one that sleeps does") {
    on_each_reactor_kind([](auto run) {
        runtime two{{.reactors = 2, .reactor = run.kind(), .spin = 1h}};
        two.run([&]() -> task<> {
            scheduler& home = this_scheduler();
            scheduler& other = &home == &two.scheduler(0) ? two.scheduler(1) : two.scheduler(0);
            for (int i = 0; i < 200; ++i) {
                co_await resume_on(other);
                co_await resume_on(home);
            }
            for (int i = 0; i < 5; ++i) co_await sleep_for(1ms);
            auto [peer, stream] = co_await accept_peer();
            task_group group;
            group.spawn(echo_times(stream, 100));
            for (int i = 0; i < 100; ++i) {
                peer.send("x");
                while (peer.received().empty()) co_await yield();
            }
            co_await group.join();
        });
        // Neither a timer nor a message, the one to halt included, waited for the end of a look.
    });
}

TEST_CASE("a server with little to do hardly looks, however short the rest of its waits") {
    on_each_reactor_kind([](auto run) {
        constexpr auto look = 4ms;
        constexpr int times = 25;
        for (const auto pause : {look * 5 / 4, look * 5 / 2}) {
            const auto begin = processor_time();
            rondo::run(
                [&]() -> task<> {
                    auto [peer, stream] = co_await accept_peer();
                    for (int i = 0; i < times; ++i) {
                        co_await sleep_for(pause);
                        co_await stream.write_all("tick");
                    }
                },
                {.reactor = run.kind(), .spin = look});
            CHECK(processor_time() - begin < times * look / 2);
        }
    });
}

TEST_CASE("any length of a look can be asked for") {
    on_each_reactor_kind([](auto run) {
        for (const auto spin :
             {std::chrono::microseconds::min(), std::chrono::microseconds::max()}) {
            rondo::run([]() -> task<> { co_await sleep_for(1ms); },
                       {.reactor = run.kind(), .spin = spin});
        }
    });
}

}  // namespace rondo::test
