#pragma once
// Runs a few threads through every interleaving of their steps.
//
// The code under test is a template over its atomics; here it gets atomics whose every operation is
// a scheduling point: the thread stops before it, and the explorer decides which thread goes next.
// They take no memory order, so what is not sequentially consistent does not compile; hence one
// total order explains every execution, and the interleavings are the whole of the memory model.
// What is not modelled: races on plain memory, which are ThreadSanitizer's to find.
//
// The search is depth-first. It re-executes: a state is reached again by doing the same steps from
// the start. Each thread is deterministic, so all that its stack holds is a function of what its
// steps gave it. A state is therefore the shared memory and, for each thread, the results of its
// steps so far, less what it no longer needs; one that was met before is not explored again. The
// states form a graph without cycles, and the number of paths through it is the number of
// interleavings.

#include <rondo/runtime/core/detail/inbox.hpp>

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace rondo::test {

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
inline machine* running = nullptr;  // the machine whose threads are being stepped

// A few threads on stacks of their own, one of which runs at a time, up to its next step.
class machine {
public:
    /// One thread for each of `names`, which traces show.
    explicit machine(std::vector<std::string> names)
        : names_(std::move(names)), threads_(names_.size()) {}

    // From the explorer.

    // Before anything is made of which an execution consists.
    void begin() {
        cells_.clear();
        messages_.clear();
        failure_.reset();
        refusals_left = 0;
        stray_ends_left = 0;
        on_flag_access = nullptr;
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

    // The same, but the thread does all its steps up to its first wait: at the beginning it waits
    // already.
    void start_waiting(std::size_t thread, std::function<void()> body) {
        is_quiet_ = true;
        start(thread, std::move(body));
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
        all += static_cast<char>(refusals_left);
        all += static_cast<char>(stray_ends_left);
        for (const cell* word : cells_) all += word->code();
        for (const thread_of_control& t : threads_) {
            all += static_cast<char>(t.history.size());
            all += t.history;
        }
        return all;
    }

    const std::optional<std::string>& failure() const { return failure_; }

    bool tracing = false;

    // What an execution sets as it begins.
    int refusals_left = 0;    // how often compare_exchange_weak may still fail for no reason
    int stray_ends_left = 0;  // how often a sleep may still end for a timer or for input
    std::function<void()> on_flag_access;  // before each access to a word that is a bool

    // From the threads.

    // Stops here until the explorer lets the thread go on; says which outcome it chose.
    template <class Outcomes>
    int step(const Outcomes& outcomes) {
        if (is_quiet_) return 0;
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

    void first_wait() { is_quiet_ = false; }

    std::size_t current() const { return current_; }
    void add(const cell& word) { cells_.push_back(&word); }
    void add(const rondo::detail::inbox_message& one, std::string name) {
        messages_.emplace_back(&one, std::move(name));
    }

    // The same byte for the same pointer in every execution.
    char code_of(const rondo::detail::inbox_message* one) const {
        if (one == nullptr) return 0;
        for (std::size_t i = 0; i < messages_.size(); ++i) {
            if (messages_[i].first == one) return static_cast<char>(i + 1);
        }
        return code_of_closed;
    }
    std::string name_of(const rondo::detail::inbox_message* one) const {
        const char code = code_of(one);
        if (code == 0) return "empty";
        if (code == code_of_closed) return "closed";
        return messages_[static_cast<std::size_t>(code - 1)].second;
    }

    void fail(std::string why) {
        if (!failure_) failure_ = std::move(why);
    }

    template <class Text>
    void trace(const Text& text) const {
        if (!tracing) return;
        std::printf("    %-9s %s\n", names_[current_].c_str(), std::string(text()).c_str());
    }

private:
    static constexpr std::size_t stack_size = 64 * 1024;
    // the one pointer that is no message is the mark of a closed inbox
    static constexpr char code_of_closed = 100;

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

    std::vector<std::string> names_;
    std::vector<thread_of_control> threads_;
    ucontext_t explorer_{};
    bool is_quiet_ = false;
    std::size_t current_ = 0;
    int outcome_ = 0;
    std::vector<const cell*> cells_;
    std::vector<std::pair<const rondo::detail::inbox_message*, std::string>> messages_;
    std::optional<std::string> failure_;
};

// --- shared memory -------------------------------------------------------------------------------

// Memory that no step is made for: it belongs to one thread, or stands for what all can see.
struct counter final : cell {
    explicit counter(int start) : value(start) { running->add(*this); }
    char code() const override { return static_cast<char>(value); }

    int value;
};

inline char code_of(bool value) { return value ? 1 : 0; }
inline char code_of(std::uint64_t value) { return static_cast<char>(value); }
inline char code_of(const rondo::detail::inbox_message* message) {
    return running->code_of(message);
}

inline std::string name_of(bool value) { return value ? "true" : "false"; }
inline std::string name_of(std::uint64_t value) { return std::to_string(value); }
inline std::string name_of(const rondo::detail::inbox_message* message) {
    return running->name_of(message);
}

// A message that shows what it is linked to.
struct letter : rondo::detail::inbox_message, cell {
    char code() const override { return code_of(next); }
};

// What is built of this in place of std::atomic.
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

    // Nobody looks at what was there before, so nothing is recorded.
    void fetch_add(T difference) {
        step();
        value_ += difference;
        running->trace([&] { return name() + " = " + name_of(value_); });
    }

    bool compare_exchange_strong(T& expected, T value) {
        step();
        return compare_exchange(expected, value);
    }

    bool compare_exchange_weak(T& expected, T value) {
        const bool refused = running->step([&] {
            return running->refusals_left != 0 && value_ == expected ? 2 : 1;
        }) == 1;
        if (!refused) return compare_exchange(expected, value);
        --running->refusals_left;
        running->trace([&] {
            return name() + " is " + name_of(value_) + ", but not exchanged, for no reason";
        });
        return false;
    }

private:
    static constexpr bool is_flag = std::is_same_v<T, bool>;

    char code() const override { return code_of(value_); }

    static std::string name() {
        if (is_flag) return "asleep";
        return std::is_same_v<T, std::uint64_t> ? "count" : "inbox";
    }

    void step() const {
        running->step();
        if (is_flag && running->on_flag_access) running->on_flag_access();
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
        running->first_wait();
        running->step([this] { return written_ || running->stray_ends_left != 0 ? 1 : 0; });
        waiting_ = false;
        if (!written_) --running->stray_ends_left;
        running->record(code_of(written_));
        running->trace([&] { return written_ ? "is woken" : "ends its sleep for another reason"; });
        written_ = false;
    }

    // The same, but where may_do_else() is true the thread may also go on without having been
    // woken: then this is false.
    template <class Else>
    bool wait_unless(const Else& may_do_else) {
        waiting_ = true;
        running->first_wait();
        const int outcome =
            running->step([&] { return (written_ ? 1 : 0) + (may_do_else() ? 1 : 0); });
        waiting_ = false;
        const bool woken = written_ && outcome == 0;
        running->record(code_of(woken));
        running->trace([&] { return woken ? "is woken" : "looks"; });
        if (woken) written_ = false;
        return woken;
    }

    // Sets the count to 0 without blocking: what the reactor does when there is work to do.
    void poll() {
        running->step();
        running->trace([&] { return written_ ? "consumes a wake-up" : "sees no wake-up"; });
        written_ = false;
    }

    bool blocks() const { return waiting_ && !written_; }
    bool is_written() const { return written_; }

private:
    char code() const override { return code_of(written_); }

    bool written_ = false;
    bool waiting_ = false;
};

// --- the explorer --------------------------------------------------------------------------------

struct report {
    std::optional<std::string> failure;
    std::size_t executions = 0;
    std::size_t states = 0;
    std::uint64_t interleavings = 0;
};

// Goes through all interleavings of a scenario, or up to the first that goes wrong.
//
//     struct execution {                                // one run from the start
//         execution(machine& threads, const Scenario& what);       // starts all threads
//         bool rests() const;           // nobody can go on, unless a sleep ends for another reason
//         void check_rest() const;      // fails where that must not be
//     };
template <class Execution, class Scenario>
class explorer {
public:
    /// `names`: of the threads.
    explorer(const Scenario& what, std::vector<std::string> names)
        : what_(what), threads_(std::move(names)) {}

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
    static constexpr std::size_t too_long = 1000;

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
            // There may be more of them than the number can tell.
            if (__builtin_add_overflow(last.found, found_, &last.found)) last.found = UINT64_MAX;
            if (++last.now < last.choices.size()) return true;
            found_ = last.found;
            below_.emplace(std::move(last.state), found_);
            path_.pop_back();
        }
        return false;
    }

    const Scenario what_;
    machine threads_;
    std::optional<Execution> execution_;
    std::vector<fork> path_;
    std::unordered_map<std::string, std::uint64_t> below_;  // interleavings from a state to the end
    std::uint64_t found_ = 0;
};

}  // namespace rondo::test
