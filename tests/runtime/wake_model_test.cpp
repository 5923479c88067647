// Runs the inbox of a scheduler, and the loop that sleeps on it, through every interleaving.
//
//     wake_model_test             says how much was explored; exit status 1 if anything is wrong
//     wake_model_test --trace     shows also the steps by which each faulty inbox goes wrong
//
// The inbox is the very template that the scheduler uses, over the atomics of interleavings.hpp.

#include <rondo/runtime/core/detail/inbox.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/interleavings.hpp"

namespace {

using rondo::detail::basic_inbox;
using rondo::detail::inbox_message;
using rondo::detail::posted;

using rondo::test::checked;
using rondo::test::counter;
using rondo::test::explorer;
using rondo::test::letter;
using rondo::test::machine;
using rondo::test::report;
using rondo::test::running;
using rondo::test::wake_signal;

bool poster_inside_after_close = false;  // has been seen in some execution

struct numbered_letter final : letter {
    std::string name() const { return char('A' + poster - 1) + std::to_string(number); }

    std::size_t poster = 0;
    int number = 0;  // 1, 2, ... of its poster
};

// --- one execution -------------------------------------------------------------------------------

struct scenario {
    const char* name;
    int posters;
    int messages;      // of each poster
    int closes_after;  // so many messages have been taken; -1: never
    int refusals;      // compare_exchange_weak may so often fail for no reason
    int stray_ends;    // a sleep may so often end for a timer or for input
};

// Thread 0 is the sleeper, the others are the posters.
template <class Inbox>
class execution {
public:
    execution(machine& threads, const scenario& what) : threads_(threads), what_(what) {
        threads.refusals_left = what.refusals;
        threads.stray_ends_left = what.stray_ends;
        // A poster that looks at the flag has pushed its message.
        threads.on_flag_access = [this] {
            if (closed_ && running->current() != 0) poster_inside_after_close = true;
        };
        letters_.resize(static_cast<std::size_t>(what.posters * what.messages));
        for (std::size_t i = 0; i < letters_.size(); ++i) {
            letters_[i].poster = i / static_cast<std::size_t>(what.messages) + 1;
            letters_[i].number = static_cast<int>(i) % what.messages + 1;
            threads.add(letters_[i]);
            threads.add(letters_[i], letters_[i].name());
        }
        taken_.resize(threads.size());
        accepted_.resize(threads.size());
        threads.start(0, [this] { sleep_and_take(); });
        for (std::size_t poster = 1; poster < threads.size(); ++poster) {
            threads.start(poster, [this, poster] { post_all(poster); });
        }
    }
    execution(const execution&) = delete;
    execution& operator=(const execution&) = delete;

    /// What must hold once nobody can go on, unless a sleep ends for another reason.
    void check_rest() const {
        for (std::size_t poster = 1; poster < threads_.size(); ++poster) {
            if (!threads_.ended(poster)) return threads_.fail("a poster is stuck");
            if (taken_[poster] == accepted_[poster]) continue;
            if (taken_[poster] > accepted_[poster]) {
                return threads_.fail("a refused message was taken");
            }
            return threads_.fail(closed_ ? "an accepted message was lost at the close"
                                         : "it sleeps, and an accepted message is never taken");
        }
        if (what_.closes_after >= 0 && !closed_) threads_.fail("it never closes");
    }

    /// Nobody can go on, unless a sleep ends for another reason.
    bool rests() const {
        for (std::size_t thread = 0; thread < threads_.size(); ++thread) {
            const bool waits = thread == 0 && signal_.blocks();
            if (!waits && !threads_.ended(thread)) return false;
        }
        return true;
    }

private:
    // The loop of the scheduler, as far as the inbox goes.
    void sleep_and_take() {
        int taken = 0;
        for (;;) {
            running->forget_all_but('t', taken_);
            inbox_message* message = inbox_.take_all();
            const bool took = message != nullptr;
            while (message != nullptr) {
                inbox_message* next = message->next;
                if (!take(static_cast<numbered_letter&>(*message))) return;
                ++taken;
                message = next;
            }
            if (what_.closes_after >= 0 && taken >= what_.closes_after) {
                message = inbox_.close();
                closed_ = true;
                while (message != nullptr) {
                    inbox_message* next = message->next;
                    if (!take(static_cast<numbered_letter&>(*message))) return;
                    message = next;
                }
                return;
            }
            // A message may have made a task ready, and then there is another turn before a sleep.
            if (took && running->step([] { return 2; }) == 1) {
                signal_.poll();
                continue;
            }
            wakes_.value = 0;
            running->forget_all_but('a', taken_);
            if (inbox_.announce_sleep()) {
                signal_.wait();
            } else {
                signal_.poll();
            }
            running->forget_all_but('e', taken_);
            inbox_.end_sleep();
        }
    }

    bool take(numbered_letter& message) {
        running->record(running->code_of(&message));
        running->trace([&] { return "takes " + message.name(); });
        char& last = taken_[message.poster];
        if (message.number <= last) running->fail(message.name() + " is taken a second time");
        if (message.number > last + 1) running->fail(message.name() + " is taken out of order");
        last = static_cast<char>(message.number);
        message.next = nullptr;
        return !running->failure();
    }

    void post_all(std::size_t poster) {
        for (numbered_letter& message : letters_) {
            if (message.poster != poster) continue;
            running->forget_all_but('p', {static_cast<char>(message.number), accepted_[poster]});
            const bool too_late = closed_;
            running->record(too_late ? 1 : 0);
            const posted answer = inbox_.post(message);
            if (answer == posted::refused) {
                running->trace([&] { return message.name() + " is refused"; });
                if (!closed_) running->fail("a message is refused before the close");
                continue;
            }
            if (too_late) running->fail("a message is accepted after the close");
            accepted_[poster] = static_cast<char>(message.number);
            if (answer == posted::must_wake) {
                if (++wakes_.value > 1) running->fail("two wake-ups are written for one sleep");
                running->forget_all_but('w', {static_cast<char>(message.number)});
                signal_.write();
            }
        }
    }

    machine& threads_;
    const scenario& what_;
    Inbox inbox_;
    wake_signal signal_;
    std::vector<numbered_letter> letters_;
    counter wakes_{0};      // written, or about to be, for the sleep announced last
    bool closed_ = false;   // close() has returned
    std::string taken_;     // by poster: the number of the last message taken
    std::string accepted_;  // by poster: the number of the last message not refused
};

// --- inboxes with one thing wrong ----------------------------------------------------------------

enum class fault {
    none,
    poster_looks_before_it_pushes,
    poster_clears_the_flag_before_it_pushes,
    poster_clears_the_flag_with_a_store,
    poster_pushes_with_a_store,
    poster_looks_for_the_close_only_once,
    sleeper_looks_before_it_announces,
    sleeper_never_looks_again,
    sleeper_announces_only_once,
    sleeper_takes_with_a_store,
    sleeper_takes_the_newest_first,
    sleeper_closes_with_a_store,
    sleeper_drops_what_is_left,
};

// The same protocol written out once more. Without a fault it must pass, so that it is the fault
// that is found.
template <fault Fault>
class faulty_inbox {
public:
    posted post(inbox_message& message) noexcept {
        bool asleep = false;
        if (Fault == fault::poster_looks_before_it_pushes) asleep = asleep_.load();
        if (Fault == fault::poster_clears_the_flag_before_it_pushes)
            asleep = asleep_.exchange(false);
        inbox_message* newest = head_.load();
        if (newest == &closed_) return posted::refused;
        for (;;) {
            message.next = newest;
            if (Fault == fault::poster_pushes_with_a_store) {
                head_.store(&message);
                break;
            }
            if (head_.compare_exchange_weak(newest, &message)) break;
            if (Fault == fault::poster_looks_for_the_close_only_once) continue;
            if (newest == &closed_) return posted::refused;
        }
        if (Fault == fault::poster_looks_before_it_pushes) {
            asleep = asleep && asleep_.exchange(false);
        } else if (Fault == fault::poster_clears_the_flag_with_a_store) {
            asleep = asleep_.load();
            if (asleep) asleep_.store(false);
        } else if (Fault != fault::poster_clears_the_flag_before_it_pushes) {
            asleep = asleep_.load() && asleep_.exchange(false);
        }
        return asleep ? posted::must_wake : posted::taken_soon;
    }

    inbox_message* take_all() noexcept {
        inbox_message* newest = head_.load();
        if (newest == nullptr) return nullptr;
        if (Fault == fault::sleeper_takes_with_a_store) {
            head_.store(nullptr);
        } else {
            newest = head_.exchange(nullptr);
        }
        if (Fault == fault::sleeper_takes_the_newest_first) return newest;
        return oldest_first(newest);
    }

    bool announce_sleep() noexcept {
        bool empty = true;
        if (Fault == fault::sleeper_looks_before_it_announces) empty = head_.load() == nullptr;
        if (Fault != fault::sleeper_announces_only_once || announced_.value == 0)
            asleep_.store(true);
        announced_.value = 1;
        if (Fault == fault::sleeper_looks_before_it_announces) return empty;
        if (Fault == fault::sleeper_never_looks_again) return true;
        return head_.load() == nullptr;
    }

    void end_sleep() noexcept {
        if (Fault != fault::sleeper_announces_only_once) asleep_.store(false);
    }

    inbox_message* close() noexcept {
        if (Fault == fault::sleeper_closes_with_a_store) {
            inbox_message* left = head_.load();
            head_.store(&closed_);
            return oldest_first(left);
        }
        inbox_message* left = head_.exchange(&closed_);
        return Fault == fault::sleeper_drops_what_is_left ? nullptr : oldest_first(left);
    }

private:
    static inbox_message* oldest_first(inbox_message* newest) noexcept {
        inbox_message* oldest = nullptr;
        while (newest != nullptr) {
            inbox_message* next = std::exchange(newest->next, oldest);
            oldest = std::exchange(newest, next);
        }
        return oldest;
    }

    checked<inbox_message*> head_{nullptr};
    checked<bool> asleep_{false};
    counter announced_{0};
    inbox_message closed_;
};

// --- all of it -----------------------------------------------------------------------------------

constexpr std::array scenarios{
    scenario{"one poster of two messages", 1, 2, -1, 1, 1},
    scenario{"two posters of one message each", 2, 1, -1, 1, 1},
    scenario{"one poster of two messages, and close", 1, 2, 0, 1, 1},
    scenario{"one poster of two messages, and close after the first", 1, 2, 1, 1, 1},
    scenario{"two posters of one message each, and close after the first", 2, 1, 1, 0, 1},
};

bool show_traces = false;

std::vector<std::string> names_of(const scenario& what) {
    std::vector<std::string> names{"sleeper"};
    for (int i = 0; i < what.posters; ++i) names.push_back(std::string("poster ") + char('A' + i));
    return names;
}

template <class Inbox>
using explorer_of = explorer<execution<Inbox>, scenario>;

template <class Inbox>
bool passes(const char* name) {
    std::printf("%s\n", name);
    for (const scenario& each : scenarios) {
        explorer_of<Inbox> search{each, names_of(each)};
        const report all = search.explore();
        if (all.failure) {
            std::printf("  %s: WRONG: %s\n", each.name, all.failure->c_str());
            search.print_last();
            return false;
        }
        std::printf("  %s: %llu interleavings, %zu states, %zu executions\n", each.name,
                    static_cast<unsigned long long>(all.interleavings), all.states, all.executions);
    }
    return true;
}

template <fault Fault>
bool is_found(const char* name) {
    for (const scenario& each : scenarios) {
        explorer_of<faulty_inbox<Fault>> search{each, names_of(each)};
        const report all = search.explore();
        if (!all.failure) continue;
        std::printf("  %s: %s (%s, %zu executions)\n", name, all.failure->c_str(), each.name,
                    all.executions);
        if (show_traces) search.print_last();
        return true;
    }
    std::printf("  %s: NOT FOUND\n", name);
    return false;
}

bool all_faults_are_found() {
    std::puts("inboxes with one thing wrong");
    bool all = true;
    all &= is_found<fault::poster_looks_before_it_pushes>("poster looks before it pushes");
    all &= is_found<fault::poster_clears_the_flag_before_it_pushes>(
        "poster clears the flag before it pushes");
    all &=
        is_found<fault::poster_clears_the_flag_with_a_store>("poster clears the flag with a store");
    all &= is_found<fault::poster_pushes_with_a_store>("poster pushes with a store");
    all &= is_found<fault::poster_looks_for_the_close_only_once>(
        "poster looks for the close only once");
    all &= is_found<fault::sleeper_looks_before_it_announces>("sleeper looks before it announces");
    all &= is_found<fault::sleeper_never_looks_again>("sleeper never looks again");
    all &= is_found<fault::sleeper_announces_only_once>("sleeper announces only once");
    all &= is_found<fault::sleeper_takes_with_a_store>("sleeper takes with a store");
    all &= is_found<fault::sleeper_takes_the_newest_first>("sleeper takes the newest first");
    all &= is_found<fault::sleeper_closes_with_a_store>("sleeper closes with a store");
    all &= is_found<fault::sleeper_drops_what_is_left>("sleeper drops what is left");
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    show_traces = argc > 1 && std::string_view(argv[1]) == "--trace";
    bool good = passes<basic_inbox<checked>>("the scheduler's inbox");
    // Hence close() alone does not make it safe to destroy the inbox, or what a poster wakes.
    if (poster_inside_after_close) {
        std::puts("  a poster may still be inside post() when close() has returned");
    }
    good = passes<faulty_inbox<fault::none>>("the same written out once more") && good;
    good = all_faults_are_found() && good;
    return good ? 0 : 1;
}
