// Runs the search for deadlocks, and the question whether a pool rests, through every interleaving.
//
//     deadlock_model_test           says how much was explored; exit status 1 if anything is wrong
//     deadlock_model_test --trace   shows also the steps by which each faulty search goes wrong
//
// all_asleep(), the sleep counts and the inboxes are the very templates that the runtime uses. The
// workers' queues are reduced to a number of jobs each.

#include <rondo/runtime/core/detail/inbox.hpp>
#include <rondo/runtime/threads/detail/all_asleep.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "support/interleavings.hpp"

namespace {

using rondo::detail::all_asleep;
using rondo::detail::basic_inbox;
using rondo::detail::basic_sleep_count;
using rondo::detail::posted;
using rondo::detail::sleep_pass;

using rondo::test::checked;
using rondo::test::counter;
using rondo::test::explorer;
using rondo::test::letter;
using rondo::test::machine;
using rondo::test::report;
using rondo::test::running;
using rondo::test::wake_signal;

using count = basic_sleep_count<checked>;

enum class fault {
    none,
    asks_before_it_looks,  // pool and threads are asked, then the reactors looked at twice
    looks_only_once,       // the counts are not read a second time
    looks_at_queues_before_threads,  // within the passes, but in the other order
    believes_idle_flags,             // the pool's flags, read one by one, in place of its counts
    counts_a_worker_awake_too_late,  // after it has taken its job
    waits_again_without_announcing,  // after a wake-up that came for nothing
    ignores_messages_under_way,      // the inboxes are not looked at
};

// --- a worker of the pool ------------------------------------------------------------------------

template <fault Fault>
class worker {
public:
    /// run() for each job, on the calling thread.
    template <class Run>
    void work(Run run) {
        for (;;) {
            running->forget_all_but('w', {});
            if (jobs.load() != 0) {
                jobs.fetch_add(~std::uint64_t{0});
                run();
                continue;
            }
            sleeps.begin();
            idle.store(true);
            if (jobs.load() == 0) bell.wait();
            idle.store(false);
            if (Fault == fault::counts_a_worker_awake_too_late && jobs.load() != 0) {
                jobs.fetch_add(~std::uint64_t{0});
                sleeps.end();
                run();
                continue;
            }
            sleeps.end();
        }
    }

    void push() {
        jobs.fetch_add(1);
        if (idle.load() && idle.exchange(false)) bell.write();
    }

    checked<std::uint64_t> jobs{0};
    checked<bool> idle{false};
    wake_signal bell;
    count sleeps;
};

// --- the search for deadlocks --------------------------------------------------------------------

enum class outsider {
    none,
    submits_the_job,    // a thread of the user's, there from the start
    started_by_the_job  // and answers in its place
};

struct search {
    const char* name;
    int offloads;    // of the task on reactor 1, one after the other
    bool answers;    // to reactor 0, in the end; otherwise it waits for ever, too
    outsider other;  // is part of the first offload
    int looks;       // at any moment
};

struct answer final : letter {};

// Thread 0 is reactor 0, whose task waits for the answer and which looks for a deadlock; 1 is
// reactor 1, 2 the pool's only worker, 3 the outsider.
template <fault Fault>
class search_execution {
public:
    search_execution(machine& threads, const search& what) : threads_(threads), what_(what) {
        work_left_.value = what.offloads + (what.answers ? 1 : 0);
        looks_left_.value = what.looks;
        letters_.resize(static_cast<std::size_t>(what.offloads) + 1);
        for (std::size_t i = 0; i < letters_.size(); ++i) {
            threads.add(letters_[i]);
            threads.add(letters_[i], i == 0 ? "the answer" : "result " + std::to_string(i));
        }
        threads.start_waiting(0, [this] { wait_and_look(); });
        threads.start_waiting(2, [this] { worker_.work([this] { run_job(); }); });
        threads.start(1, [this] { offload_all(); });
        if (what.other != outsider::none) threads.start(3, [this] { be_outsider(); });
    }
    search_execution(const search_execution&) = delete;
    search_execution& operator=(const search_execution&) = delete;

    bool rests() const { return threads_.ended(0) && others_rest(); }
    void check_rest() const {
        if (work_left_.value != 0) threads_.fail("it ends, and work is left");
    }

private:
    struct reactor {
        basic_inbox<checked> messages;
        wake_signal wake;
        count sleeps;
    };

    void post(reactor& to, letter& message) {
        if (to.messages.post(message) == posted::must_wake) to.wake.write();
    }

    // A wake-up that comes for nothing ends no sleep.
    bool stays_asleep(reactor& self) {
        if (Fault == fault::waits_again_without_announcing) return self.messages.empty();
        return self.messages.announce_sleep();
    }

    bool others_rest() const {
        return reactors_[1].wake.blocks() && worker_.bell.blocks() &&
               (what_.other == outsider::none || threads_.ended(3));
    }

    // Reactor 0.
    void wait_and_look() {
        reactor& self = reactors_[0];
        for (;;) {
            running->forget_all_but('t', {});
            if (self.messages.take_all() != nullptr) {
                --work_left_.value;
                return;
            }
            if (self.messages.announce_sleep()) {
                self.sleeps.begin();
                do {
                    while (!self.wake.wait_unless([this] { return may_look(); })) {
                        if (look()) return;
                        running->forget_all_but('l', {});
                    }
                } while (stays_asleep(self));
                self.sleeps.end();
            } else {
                self.wake.poll();
            }
            self.messages.end_sleep();
        }
    }

    // As often as the scenario says, and once when nobody else can go on.
    bool may_look() const {
        return looks_left_.value != 0 || (others_rest() && reactors_[0].wake.blocks());
    }

    // True: the thread is to end.
    bool look() {
        const bool is_last = others_rest() && !reactors_[0].wake.is_written();
        if (looks_left_.value != 0) --looks_left_.value;
        if (is_deadlocked()) {
            if (work_left_.value != 0) running->fail("a deadlock is found, and work is going on");
            return true;
        }
        if (is_last) running->fail("nobody can go on, and no deadlock is found");
        return is_last;
    }

    bool is_deadlocked() {
        const auto reactors = [this](sleep_pass& pass) {
            for (const reactor& each : reactors_) pass.look_at(each.sleeps);
        };
        const auto everybody = [&](sleep_pass& pass) {
            reactors(pass);
            pass.look_at(worker_.sleeps);
        };
        const auto no_other_thread = [this] { return kernel_threads_.load() == 3; };
        const auto no_message = [this] {
            return reactors_[0].messages.empty() && reactors_[1].messages.empty();
        };
        const auto no_job = [this] { return worker_.jobs.load() == 0; };
        const auto pool_is_idle = [&] { return worker_.idle.load() && no_job(); };

        switch (Fault) {
            case fault::none:
            case fault::waits_again_without_announcing:
            case fault::counts_a_worker_awake_too_late: break;
            case fault::asks_before_it_looks:
                return pool_is_idle() && no_other_thread() && all_asleep(reactors, no_message);
            case fault::looks_only_once: {
                sleep_pass once;
                everybody(once);
                return once.all_asleep() && no_other_thread() && no_message() && no_job();
            }
            case fault::looks_at_queues_before_threads:
                return all_asleep(everybody,
                                  [&] { return no_message() && no_job() && no_other_thread(); });
            case fault::believes_idle_flags:
                return all_asleep(
                    reactors, [&] { return no_other_thread() && pool_is_idle() && no_message(); });
            case fault::ignores_messages_under_way:
                return all_asleep(everybody, [&] { return no_other_thread() && no_job(); });
        }
        return all_asleep(everybody, [&] { return no_other_thread() && no_message() && no_job(); });
    }

    // Reactor 1. One offload follows on the other.
    void offload_all() {
        reactor& self = reactors_[1];
        if (what_.other != outsider::submits_the_job) worker_.push();
        char done = 0;
        for (;;) {
            running->forget_all_but('t', {done});
            if (self.messages.take_all() != nullptr) {
                --work_left_.value;
                if (++done < what_.offloads) {
                    worker_.push();
                } else if (what_.answers) {
                    post(reactors_[0], letters_[0]);
                }
            }
            running->forget_all_but('a', {done});
            if (self.messages.announce_sleep()) {
                self.sleeps.begin();
                do {
                    self.wake.wait();
                } while (stays_asleep(self));
                self.sleeps.end();
            } else {
                self.wake.poll();
            }
            self.messages.end_sleep();
        }
    }

    // The worker.
    void run_job() {
        ++jobs_run_.value;
        if (what_.other == outsider::started_by_the_job && jobs_run_.value == 1) {
            kernel_threads_.fetch_add(1);
            outsider_began_.value = 1;
            return;
        }
        post(reactors_[1], letters_[static_cast<std::size_t>(jobs_run_.value)]);
    }

    void be_outsider() {
        if (what_.other == outsider::submits_the_job) {
            worker_.push();
        } else {
            running->step([this] { return outsider_began_.value; });
            post(reactors_[1], letters_[1]);
        }
        kernel_threads_.fetch_add(~std::uint64_t{0});
    }

    machine& threads_;
    const search& what_;
    std::array<reactor, 2> reactors_;
    worker<Fault> worker_;
    std::vector<answer> letters_;  // the answer, and what the offloads give
    checked<std::uint64_t> kernel_threads_{what_.other == outsider::submits_the_job ? 4U : 3U};
    counter outsider_began_{0};
    counter jobs_run_{0};
    counter work_left_{0};  // offloads not ended, and the answer not taken
    counter looks_left_{0};
};

constexpr std::array searches{
    search{"an offload and an answer", 1, true, outsider::none, 1},
    search{"an offload, then a deadlock", 1, false, outsider::none, 1},
    search{"an offload and an answer, looked at twice", 1, true, outsider::none, 2},
    search{"two offloads and an answer, looked at by the end", 2, true, outsider::none, 0},
    search{"a thread that submits the job and ends", 1, true, outsider::submits_the_job, 1},
    search{"a job that starts a thread", 1, true, outsider::started_by_the_job, 1},
    search{"a job that starts a thread, then a deadlock", 1, false, outsider::started_by_the_job,
           1},
};

// --- whether a pool rests ------------------------------------------------------------------------

struct resting {
    const char* name;
    int jobs;  // each submits the next, to the other worker
};

// Thread 0 asks, 1 and 2 are the workers.
template <fault Fault>
class resting_execution {
public:
    resting_execution(machine& threads, const resting& what) : threads_(threads) {
        jobs_left_.value = what.jobs;
        submissions_left_.value = what.jobs - 1;
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            threads.start_waiting(i + 1,
                                  [this, i] { workers_[i].work([this, i] { run_job(i); }); });
        }
        threads.start(0, [this] { ask(); });
    }
    resting_execution(const resting_execution&) = delete;
    resting_execution& operator=(const resting_execution&) = delete;

    bool rests() const { return threads_.ended(0) && others_rest(); }
    void check_rest() const {
        if (jobs_left_.value != 0) threads_.fail("a job is never run");
    }

private:
    bool others_rest() const { return workers_[0].bell.blocks() && workers_[1].bell.blocks(); }

    // At any moment, which may be before the first job is submitted.
    void ask() {
        workers_[0].push();
        running->step();
        const bool is_last = others_rest();
        const bool yes = is_resting();
        if (yes && jobs_left_.value != 0) running->fail("the pool rests, and a job is going on");
        if (!yes && is_last) running->fail("nobody can go on, and the pool does not rest");
    }

    bool is_resting() {
        const auto no_job = [this] {
            return workers_[0].jobs.load() == 0 && workers_[1].jobs.load() == 0;
        };
        if (Fault == fault::believes_idle_flags) {
            return workers_[0].idle.load() && workers_[1].idle.load() && no_job();
        }
        return all_asleep(
            [this](sleep_pass& pass) {
                for (const auto& each : workers_) pass.look_at(each.sleeps);
            },
            no_job);
    }

    void run_job(std::size_t index) {
        if (submissions_left_.value != 0) {
            --submissions_left_.value;
            workers_[1 - index].push();
        }
        running->step();  // it takes its time
        --jobs_left_.value;
    }

    machine& threads_;
    std::array<worker<Fault>, 2> workers_;
    counter jobs_left_{0};
    counter submissions_left_{0};
};

constexpr std::array restings{
    resting{"one job", 1},
    resting{"three jobs, one after the other", 3},
};

// --- all of it -----------------------------------------------------------------------------------

bool show_traces = false;

std::vector<std::string> names_of(const search& what) {
    std::vector<std::string> names{"reactor 0", "reactor 1", "worker"};
    if (what.other != outsider::none) names.emplace_back("outsider");
    return names;
}
std::vector<std::string> names_of(const resting&) { return {"asker", "worker 0", "worker 1"}; }

template <class Execution, class Scenario, std::size_t N>
bool passes(const std::array<Scenario, N>& scenarios) {
    for (const Scenario& each : scenarios) {
        explorer<Execution, Scenario> tour{each, names_of(each)};
        const report all = tour.explore();
        if (all.failure) {
            std::printf("  %s: WRONG: %s\n", each.name, all.failure->c_str());
            tour.print_last();
            return false;
        }
        std::printf("  %s: %llu interleavings, %zu states, %zu executions\n", each.name,
                    static_cast<unsigned long long>(all.interleavings), all.states, all.executions);
    }
    return true;
}

template <class Execution, class Scenario, std::size_t N>
bool is_found(const char* name, const std::array<Scenario, N>& scenarios) {
    for (const Scenario& each : scenarios) {
        explorer<Execution, Scenario> tour{each, names_of(each)};
        const report all = tour.explore();
        if (!all.failure) continue;
        std::printf("  %s: %s (%s, %zu executions)\n", name, all.failure->c_str(), each.name,
                    all.executions);
        if (show_traces) tour.print_last();
        return true;
    }
    std::printf("  %s: NOT FOUND\n", name);
    return false;
}

template <fault Fault>
bool search_is_found_wrong(const char* name) {
    return is_found<search_execution<Fault>>(name, searches);
}

bool all_faults_are_found() {
    std::puts("searches with one thing wrong");
    bool all = true;
    all &= search_is_found_wrong<fault::asks_before_it_looks>("it asks before it looks");
    all &= search_is_found_wrong<fault::looks_only_once>("it looks only once");
    all &= search_is_found_wrong<fault::looks_at_queues_before_threads>(
        "it looks at the queues before it counts the threads");
    all &= search_is_found_wrong<fault::believes_idle_flags>("it believes the pool's idle flags");
    all &= search_is_found_wrong<fault::counts_a_worker_awake_too_late>(
        "a worker counts as awake too late");
    all &= search_is_found_wrong<fault::waits_again_without_announcing>(
        "a reactor waits again without announcing it");
    all &= search_is_found_wrong<fault::ignores_messages_under_way>(
        "it ignores messages that are under way");
    std::puts("a pool that believes its idle flags");
    all &= is_found<resting_execution<fault::believes_idle_flags>>(
        "it reads them one after the other", restings);
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    show_traces = argc > 1 && std::string_view(argv[1]) == "--trace";
    std::puts("the search for deadlocks");
    bool good = passes<search_execution<fault::none>>(searches);
    std::puts("whether a pool rests");
    good = passes<resting_execution<fault::none>>(restings) && good;
    good = all_faults_are_found() && good;
    return good ? 0 : 1;
}
