#pragma once
// A line that empties under the hands of whoever gives back: the only task in it is cancelled at
// that very moment. Whoever has the primitive next may destroy it, so the one who gives it back
// must not touch it any more. That is for the sanitizers to see.
//
//     on_each_reactor_kind([](auto run) {
//         destroy_when_line_empties<mutex>(run, hold, wait, is_free);
//     });

#include <rondo/runtime/core/detail/sanitizers.hpp>
#include <rondo/runtime/core/task.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/testing/testing.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "many_reactors.hpp"

namespace rondo::test {

/// What the holder, on another reactor, goes by.
class signal_to_release {
public:
    explicit signal_to_release(int delay) noexcept : delay_(delay) {}

    /// By the holder, once it has the primitive; returns when it is to give it back.
    void holding() noexcept {
        stage_.store(held);
        while (stage_.load() != released) std::this_thread::yield();
        for (int i = 0; i < delay_; ++i) stage_.load();
    }

private:
    template <class Primitive, class Hold, class Wait, class IsFree>
    friend void destroy_when_line_empties(const run_on&, Hold, Wait, IsFree);

    enum stage { fresh, held, released };
    std::atomic<stage> stage_{fresh};
    const int delay_;
};

/// hold(primitive, signal) is a task that takes it, calls signal.holding(), and gives it back;
/// wait(primitive), one that waits for it; is_free(primitive) tells, without a lock, that it could
/// be had.
template <class Primitive, class Hold, class Wait, class IsFree>
void destroy_when_line_empties(const run_on& run, Hold hold, Wait wait, IsFree is_free) {
#if defined(RONDO_ADDRESS_SANITIZER) || defined(RONDO_THREAD_SANITIZER)
    constexpr int rounds = 1500;
#else
    constexpr int rounds = 60;  // that it ends, and that every delay below is taken once
#endif
    run_many(run, 2, [&]() -> task<> {
        for (int round = 0; round < rounds; ++round) {
            auto one = std::make_unique<Primitive>();
            signal_to_release signal(round % 40);
            task_group group;
            group.spawn_on(place(1), hold, std::ref(*one), std::ref(signal));
            co_await until([&] { return signal.stage_.load() == signal_to_release::held; });
            auto waiter = group.spawn(wait, std::ref(*one));
            co_await settle();
            signal.stage_.store(signal_to_release::released);
            for (int i = 0; i < round % 47; ++i) signal.stage_.load();
            waiter.cancel();
            // If the cancellation came too late the waiter is the one to have it.
            co_await settle();
            co_await until([&] { return is_free(*one); });
            if (waiter.done()) one.reset();
            co_await group.join();
        }
    });
}

}  // namespace rondo::test
