#pragma once
// Messages from other threads to a scheduler: any number of threads post, one takes.
//
//     if (inbox.post(message) == posted::must_wake) reactor.wake();      // any thread
//
//     while (inbox_message* message = inbox.take_all()) run them;        // the scheduler's thread
//     if (inbox.announce_sleep()) reactor.wait(...);                     // ends when woken
//     inbox.end_sleep();
//
// No wake-up is lost, and at most one is written a sleep. The words are head_ and asleep_; all
// that is done to them is sequentially consistent, so there is one order S of all of it.
//
//     poster    P1: pushes on head_          P2: reads asleep_, and if set, exchanges it for false
//     sleeper   S1: asleep_ = true           S2: reads head_, and sleeps only if that is empty
//
// Suppose that the sleeper sleeps although a message was pushed and not taken. Then S2 found
// head_ empty, so S2 comes before P1 in S, and S1 before S2, P1 before P2: P2 finds asleep_ set,
// unless another poster's P2 has cleared it since S1. Whoever cleared it after S1 wakes the
// sleeper. So somebody does. Only the one exchange that finds asleep_ set writes a wake-up, and the
// sleeper sets it once a sleep. A wake-up that is written late ends a later sleep early, and has
// cleared the flag of that sleep: so the sleeper announces a sleep before each wait, not before the
// first one only. tests/runtime/wake_model_test.cpp runs this very code through every interleaving.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <atomic>

namespace rondo::detail {

/// What is posted: run() is called on the scheduler's thread, and owns the message from then on.
struct inbox_message {
    inbox_message* next = nullptr;
    void (*run)(inbox_message&) noexcept = nullptr;
};

enum class posted {
    taken_soon,  // the scheduler is awake and will look
    must_wake,   // it sleeps, and waking it falls to this caller
    refused,     // the inbox is closed; the message is still the caller's
};

template <template <class> class Atomic>
class basic_inbox {
public:
    basic_inbox() = default;
    basic_inbox(const basic_inbox&) = delete;
    basic_inbox& operator=(const basic_inbox&) = delete;

    /// Any thread. The messages of one thread are taken in the order in which it posts them.
    posted post(inbox_message& message) noexcept {
        inbox_message* newest = head_.load();
        do {
            if (newest == &closed_) return posted::refused;
            message.next = newest;
        } while (!head_.compare_exchange_weak(newest, &message));
        return asleep_.load() && asleep_.exchange(false) ? posted::must_wake : posted::taken_soon;
    }

    // What follows is for the scheduler's thread.

    bool empty() const noexcept {
        const inbox_message* newest = head_.load();
        return newest == nullptr || newest == &closed_;
    }

    /// Takes everything, linked through `next`, oldest first; null when there is nothing.
    inbox_message* take_all() noexcept {
        if (empty()) return nullptr;
        return oldest_first(head_.exchange(nullptr));
    }

    /// Tells posters that they must wake the scheduler. False: it must not sleep, something is
    /// here.
    bool announce_sleep() noexcept {
        asleep_.store(true);
        return head_.load() == nullptr;
    }
    void end_sleep() noexcept { asleep_.store(false); }

    /// From now on posts are refused. Takes what was there, as take_all(). Once only.
    inbox_message* close() noexcept { return oldest_first(head_.exchange(&closed_)); }

private:
    static inbox_message* oldest_first(inbox_message* newest) noexcept {
        inbox_message* oldest = nullptr;
        while (newest != nullptr) {
            inbox_message* next = newest->next;
            newest->next = oldest;
            oldest = newest;
            newest = next;
        }
        return oldest;
    }

    Atomic<inbox_message*> head_{nullptr};  // newest first; &closed_ once closed
    Atomic<bool> asleep_{false};
    inbox_message closed_;
};

using inbox = basic_inbox<std::atomic>;

}  // namespace rondo::detail
