// Runs the inbox of a scheduler, and the loop that sleeps on it, through every interleaving.
//
//     wake_model_test             says how much was explored; exit status 1 if anything is wrong
//     wake_model_test --trace     shows also the steps by which each faulty inbox goes wrong
//
// The inbox is the very template that the scheduler uses, over atomics whose every operation is a
// scheduling point: the thread stops before it, and the explorer decides who goes next. All that is
// done to the inbox is sequentially consistent (the atomics here take no memory order, so anything
// else does not compile), hence one total order explains every execution, and the interleavings are
// the whole of the memory model. What is not modelled: races on plain memory, which are
// ThreadSanitizer's to find.
//
// The search is depth-first. It re-executes: a state is reached again by doing the same steps from
// the start. Each thread is deterministic, so all that its stack holds is a function of what its
// steps gave it. A state is therefore the shared memory and, for each thread, the results of its
// steps so far, less what it no longer needs; one that was met before is not explored again. The
// states form a graph without cycles, and the number of paths through it is the number of
// interleavings.

#include <rondo/runtime/detail/inbox.hpp>

#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using rondo::detail::basic_inbox;
using rondo::detail::inbox_message;
using rondo::detail::posted;

// --- threads that the explorer steps -------------------------------------------------------------

// A word of shared memory, as the explorer sees it.
class cell {
public:
    // The value: the same byte for the same value in every execution.
    virtual char code() const = 0;

protected:
    ~cell() = default;
};

class machine;
machine* running = nullptr;  // the machine whose threads are being stepped

// A few threads on stacks of their own, one of which runs at a time, up to its next step.
class machine {
public:
    explicit machine(std::size_t threads) : threads_(threads) {}

    // From the explorer.

    // Before anything is made of which an execution consists.
    void begin() {
        cells_.clear();
        failure_.reset();
    }

    void start(std::size_t thread, std::function<void()> body) {
        thread_of_control& t = threads_[thread];
        t.body = std::move(body);
        t.ended = false;
        t.history.clear();
        ::getcontext(&t.context);
        t.context.uc_stack.ss_sp = t.stack.get();
        t.context.uc_stack.ss_size = stack_size;
        t.context.uc_link = &explorer_;
        ::makecontext(&t.context, &machine::run_body, 0);
        go_on(thread, 0);
    }

    // The ways in which this thread's next step can come out; 0 while it is blocked.
    int outcomes(std::size_t thread) const {
        const thread_of_control& t = threads_[thread];
        return t.ended ? 0 : t.outcomes(t.outcomes_of);
    }

    // Lets a thread do its next step and all that it does alone after that.
    void go_on(std::size_t thread, int outcome) {
        current_ = thread;
        outcome_ = outcome;
        running = this;
        ::swapcontext(&explorer_, &threads_[thread].context);
    }

    bool ended(std::size_t thread) const { return threads_[thread].ended; }
    std::size_t size() const { return threads_.size(); }

    std::string state() const {
        std::string all;
        all.reserve(64);
        for (const cell* word : cells_) all += word->code();
        for (const thread_of_control& t : threads_) {
            all += static_cast<char>(t.history.size());
            all += t.history;
        }
        return all;
    }

    const std::optional<std::string>& failure() const { return failure_; }

    bool tracing = false;

    // From the threads.

    // Stops here until the explorer lets the thread go on; says which outcome it chose.
    template <class Outcomes>
    int step(const Outcomes& outcomes) {
        thread_of_control& t = threads_[current_];
        t.outcomes_of = &outcomes;
        t.outcomes = [](const void* self) { return (*static_cast<const Outcomes*>(self))(); };
        ::swapcontext(&t.context, &explorer_);
        record(static_cast<char>(outcome_));
        return outcome_;
    }

    void step() {
        step([] { return 1; });
    }

    // What the thread has learnt: from here on its doing may depend on it.
    void record(char result) { threads_[current_].history += result; }

    // From here on the doing of the thread depends on nothing else than on `rest`,
    // and on `place`, another one for each place in the code that calls this.
    void forget_all_but(char place, const std::string& rest) {
        threads_[current_].history = place;
        threads_[current_].history += rest;
    }

    std::size_t current() const { return current_; }
    void add(const cell& word) { cells_.push_back(&word); }

    void fail(std::string why) {
        if (!failure_) failure_ = std::move(why);
    }

    template <class Text>
    void trace(const Text& text) const {
        if (!tracing) return;
        const std::string who =
            current_ == 0 ? "sleeper" : std::string("poster ") + char('A' + current_ - 1);
        std::printf("    %-9s %s\n", who.c_str(), std::string(text()).c_str());
    }

private:
    static constexpr std::size_t stack_size = 64 * 1024;

    struct thread_of_control {
        ucontext_t context{};
        std::unique_ptr<char[]> stack{new char[stack_size]};
        std::function<void()> body;
        bool ended = true;
        int (*outcomes)(const void*) = nullptr;
        const void* outcomes_of = nullptr;
        std::string history;
    };

    static void run_body() {
        thread_of_control& t = running->threads_[running->current_];
        t.body();
        t.ended = true;
        t.history.clear();
    }

    std::vector<thread_of_control> threads_;
    ucontext_t explorer_{};
    std::size_t current_ = 0;
    int outcome_ = 0;
    std::vector<const cell*> cells_;
    std::optional<std::string> failure_;
};

// --- shared memory -------------------------------------------------------------------------------

struct letter final : inbox_message, cell {
    char code() const override;  // of `next`
    std::string name() const { return char('A' + poster - 1) + std::to_string(number); }

    std::size_t poster = 0;
    int number = 0;  // 1, 2, ... of its poster
};

struct counter final : cell {
    explicit counter(int start) : value(start) { running->add(*this); }
    char code() const override { return static_cast<char>(value); }

    int value;
};

// What one execution is made of, beside the inbox.
struct surroundings {
    std::vector<letter> letters;
    counter refusals_left{0};    // how often compare_exchange_weak may still fail for no reason
    counter stray_ends_left{0};  // how often a sleep may still end for a timer or for input
    counter wakes{0};            // written, or about to be, for the sleep announced last
    bool closed = false;         // close() has returned true
};
surroundings* around = nullptr;

bool poster_inside_after_close = false;  // has been seen in some execution

constexpr char code_of_closed = 100;

char code_of(bool value) { return value ? 1 : 0; }

char code_of(const inbox_message* message) {
    if (message == nullptr) return 0;
    char code = 1;
    for (const letter& each : around->letters) {
        if (message == &each) return code;
        ++code;
    }
    return code_of_closed;  // the one pointer that is no letter is the mark of a closed inbox
}

char letter::code() const { return code_of(next); }

std::string name_of(bool value) { return value ? "true" : "false"; }

std::string name_of(const inbox_message* message) {
    const char code = code_of(message);
    if (code == 0) return "empty";
    if (code == code_of_closed) return "closed";
    return around->letters[static_cast<std::size_t>(code - 1)].name();
}

// What the inbox is built of in place of std::atomic.
template <class T>
class checked final : cell {
public:
    checked(T value) : value_(value) { running->add(*this); }

    T load() const {
        step();
        running->record(code_of(value_));
        running->trace([&] { return name() + " is " + name_of(value_); });
        return value_;
    }

    void store(T value) {
        step();
        running->trace([&] { return name() + " = " + name_of(value); });
        value_ = value;
    }

    T exchange(T value) {
        step();
        running->record(code_of(value_));
        running->trace(
            [&] { return name() + " was " + name_of(value_) + ", = " + name_of(value); });
        return std::exchange(value_, value);
    }

    bool compare_exchange_strong(T& expected, T value) {
        step();
        return compare_exchange(expected, value);
    }

    bool compare_exchange_weak(T& expected, T value) {
        const bool refused = running->step([&] {
            return around->refusals_left.value != 0 && value_ == expected ? 2 : 1;
        }) == 1;
        if (!refused) return compare_exchange(expected, value);
        --around->refusals_left.value;
        running->trace([&] {
            return name() + " is " + name_of(value_) + ", but not exchanged, for no reason";
        });
        return false;
    }

private:
    static constexpr bool is_flag = std::is_same_v<T, bool>;

    char code() const override { return code_of(value_); }

    static std::string name() { return is_flag ? "asleep" : "inbox"; }

    void step() const {
        running->step();
        // A poster that looks at the flag has pushed its message.
        if (is_flag && around->closed && running->current() != 0) poster_inside_after_close = true;
    }

    bool compare_exchange(T& expected, T value) {
        const bool same = value_ == expected;
        running->record(code_of(value_));
        running->trace([&] {
            return name() + " is " + name_of(value_) +
                   (same ? ", = " + name_of(value) : ", not " + name_of(expected));
        });
        (same ? value_ : expected) = same ? value : value_;
        return same;
    }

    T value_;
};

// A counter like an eventfd. Whether it is 0 is all that anybody can see of it.
class wake_signal final : cell {
public:
    wake_signal() { running->add(*this); }

    void write() {
        running->step();
        running->trace([&] { return "writes a wake-up"; });
        written_ = true;
    }

    // Blocks while the count is 0, then sets it to 0.
    void wait() {
        waiting_ = true;
        running->step([this] { return written_ || around->stray_ends_left.value != 0 ? 1 : 0; });
        waiting_ = false;
        if (!written_) --around->stray_ends_left.value;
        running->record(code_of(written_));
        running->trace([&] { return written_ ? "is woken" : "ends its sleep for another reason"; });
        written_ = false;
    }

    // Sets the count to 0 without blocking: what the reactor does when there is work to do.
    void poll() {
        running->step();
        running->trace([&] { return written_ ? "consumes a wake-up" : "sees no wake-up"; });
        written_ = false;
    }

    bool blocks() const { return waiting_ && !written_; }

private:
    char code() const override { return code_of(written_); }

    bool written_ = false;
    bool waiting_ = false;
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
class execution : surroundings {
public:
    execution(machine& threads, const scenario& what) : threads_(threads), what_(what) {
        around = this;
        refusals_left.value = what.refusals;
        stray_ends_left.value = what.stray_ends;
        letters.resize(static_cast<std::size_t>(what.posters * what.messages));
        for (std::size_t i = 0; i < letters.size(); ++i) {
            letters[i].poster = i / static_cast<std::size_t>(what.messages) + 1;
            letters[i].number = static_cast<int>(i) % what.messages + 1;
            threads.add(letters[i]);
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
            return threads_.fail(closed ? "an accepted message was lost at the close"
                                        : "it sleeps, and an accepted message is never taken");
        }
        if (what_.closes_after >= 0 && !closed) threads_.fail("it never closes");
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
                if (!take(static_cast<letter&>(*message))) return;
                ++taken;
                message = next;
            }
            if (what_.closes_after >= 0 && taken >= what_.closes_after && inbox_.close()) {
                closed = true;
                return;
            }
            // A message may have made a task ready, and then there is another turn before a sleep.
            if (took && running->step([] { return 2; }) == 1) {
                signal_.poll();
                continue;
            }
            wakes.value = 0;
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

    bool take(letter& message) {
        running->record(code_of(&message));
        running->trace([&] { return "takes " + message.name(); });
        char& last = taken_[message.poster];
        if (message.number <= last) running->fail(message.name() + " is taken a second time");
        if (message.number > last + 1) running->fail(message.name() + " is taken out of order");
        last = static_cast<char>(message.number);
        message.next = nullptr;
        return !running->failure();
    }

    void post_all(std::size_t poster) {
        for (letter& message : letters) {
            if (message.poster != poster) continue;
            running->forget_all_but('p', {static_cast<char>(message.number), accepted_[poster]});
            const bool too_late = closed;
            running->record(code_of(too_late));
            const posted answer = inbox_.post(message);
            if (answer == posted::refused) {
                running->trace([&] { return message.name() + " is refused"; });
                if (!closed) running->fail("a message is refused before the close");
                continue;
            }
            if (too_late) running->fail("a message is accepted after the close");
            accepted_[poster] = static_cast<char>(message.number);
            if (answer == posted::must_wake) {
                if (++wakes.value > 1) running->fail("two wake-ups are written for one sleep");
                running->forget_all_but('w', {static_cast<char>(message.number)});
                signal_.write();
            }
        }
    }

    machine& threads_;
    const scenario& what_;
    Inbox inbox_;
    wake_signal signal_;
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
    sleeper_closes_on_messages,
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
        inbox_message* oldest = nullptr;
        while (newest != nullptr) {
            inbox_message* next = std::exchange(newest->next, oldest);
            oldest = std::exchange(newest, next);
        }
        return oldest;
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

    bool close() noexcept {
        inbox_message* none = nullptr;
        if (Fault == fault::sleeper_closes_with_a_store) {
            if (head_.load() != nullptr) return false;
            head_.store(&closed_);
            return true;
        }
        if (Fault == fault::sleeper_closes_on_messages) {
            head_.store(&closed_);
            return true;
        }
        return head_.compare_exchange_strong(none, &closed_);
    }

private:
    checked<inbox_message*> head_{nullptr};
    checked<bool> asleep_{false};
    counter announced_{0};
    inbox_message closed_;
};

// --- the explorer --------------------------------------------------------------------------------

struct report {
    std::optional<std::string> failure;
    std::size_t executions = 0;
    std::size_t states = 0;
    std::uint64_t interleavings = 0;
};

// Goes through all interleavings of a scenario, or up to the first that goes wrong.
template <class Inbox>
class explorer {
public:
    explicit explorer(const scenario& what)
        : what_(what), threads_(static_cast<std::size_t>(what.posters) + 1) {}

    report explore() {
        report all;
        do {
            ++all.executions;
            replay();
            all.failure = go_down();
            all.states = below_.size();
            if (all.failure) return all;
        } while (back_up());
        all.interleavings = found_;
        return all;
    }

    /// Prints the steps of the interleaving that went wrong.
    void print_last() {
        threads_.tracing = true;
        replay();
        threads_.tracing = false;
    }

private:
    // More steps than any execution needs: a thread runs in a circle.
    static constexpr std::size_t too_long = 200;

    struct choice {
        std::size_t thread;
        int outcome;
    };

    // A state on the path to where the search is, and the choices there; `now` is the one tried.
    struct fork {
        std::string state;
        std::vector<choice> choices;
        std::size_t now = 0;
        std::uint64_t found = 0;
    };

    void replay() {
        running = &threads_;
        threads_.begin();
        execution_.emplace(threads_, what_);
        for (const fork& passed : path_) go(passed.choices[passed.now]);
    }

    void go(choice next) { threads_.go_on(next.thread, next.outcome); }

    std::vector<choice> choices() const {
        std::vector<choice> all;
        for (std::size_t thread = 0; thread < threads_.size(); ++thread) {
            for (int i = 0; i < threads_.outcomes(thread); ++i) all.push_back({thread, i});
        }
        return all;
    }

    // From where the replay has led to, always the first choice, down to an end or to a state from
    // which everything is known. found_ becomes the number of interleavings from there.
    std::optional<std::string> go_down() {
        for (;;) {
            if (execution_->rests()) execution_->check_rest();
            if (path_.size() > too_long) threads_.fail("it never comes to an end");
            if (threads_.failure()) return threads_.failure();
            std::string state = threads_.state();
            if (const auto known = below_.find(state); known != below_.end()) {
                found_ = known->second;
                return {};
            }
            std::vector<choice> next = choices();
            if (next.empty()) {
                found_ = 1;
                below_.emplace(std::move(state), found_);
                return {};
            }
            path_.push_back({std::move(state), std::move(next)});
            go(path_.back().choices.front());
        }
    }

    // To the next choice not tried; false when there is none.
    bool back_up() {
        while (!path_.empty()) {
            fork& last = path_.back();
            last.found += found_;
            if (++last.now < last.choices.size()) return true;
            found_ = last.found;
            below_.emplace(std::move(last.state), found_);
            path_.pop_back();
        }
        return false;
    }

    const scenario what_;
    machine threads_;
    std::optional<execution<Inbox>> execution_;
    std::vector<fork> path_;
    std::unordered_map<std::string, std::uint64_t> below_;  // interleavings from a state to the end
    std::uint64_t found_ = 0;
};

constexpr std::array scenarios{
    scenario{"one poster of two messages", 1, 2, -1, 1, 1},
    scenario{"two posters of one message each", 2, 1, -1, 1, 1},
    scenario{"one poster of two messages, and close", 1, 2, 0, 1, 1},
    scenario{"one poster of two messages, and close after the first", 1, 2, 1, 1, 1},
    scenario{"two posters of one message each, and close after the first", 2, 1, 1, 0, 1},
};

bool show_traces = false;

template <class Inbox>
bool passes(const char* name) {
    std::printf("%s\n", name);
    for (const scenario& each : scenarios) {
        explorer<Inbox> search{each};
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
        explorer<faulty_inbox<Fault>> search{each};
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
    all &= is_found<fault::sleeper_closes_on_messages>("sleeper closes on messages");
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
