#pragma once
// Whether several threads slept at one and the same moment, found out by a thread that cannot stop
// them.
//
//     struct worker { sleep_count sleeps; };       // each thread has one, and writes it alone
//
//     self.sleeps.begin();                         // from here on it touches nothing of others'
//     wait_for_something_to_do();
//     self.sleeps.end();                           // before it takes what there is to do
//
//     const bool nothing_will_happen = all_asleep(
//         [&](auto& pass) { for (worker& each : workers) pass.look_at(each.sleeps); },
//         [&] { return no_other_thread_exists() && nothing_is_queued(); });
//
// A look at the threads one after the other proves nothing when all were found asleep: the
// first of them may have been woken by the last, which fell asleep just before it was looked at. So
// every thread counts: its count is even while it is awake, odd while it sleeps, and only grows.
// all_asleep() reads all counts, then asks whatever else it has to know, then reads all counts once
// more. Suppose that each count is odd in the first pass and the same in the second.
//
//  1. A count that only grows and is the same at two moments has not changed between them. So each
//     thread slept from the moment of its first reading to that of its second, and all of them
//     slept from the end of the first pass to the beginning of the second. All that is asked is
//     asked within that time, and so it is asked of threads that do nothing meanwhile. An answer
//     from before the first pass would be worth nothing: the thread that was asked may have gone
//     on, and have woken others, before the passes began.
//
//  2. For a deadlock the questions are, in this order: does the process have other threads than the
//     sleepers, and is anything queued for one of them? Let M be the moment within that time at
//     which the kernel counted the threads. Only sleepers existed at M; the caller is one of them,
//     and does nothing but ask. What had been queued by M is still queued when the queues are
//     looked at, after M: only a sleeper would take it, or a thread that was not there. The queues
//     were empty, so nothing was queued at M. A sleeper that has neither a timer nor a request in
//     the kernel wakes for what is queued alone. So at M nothing ran, and nothing could ever happen
//     again. The order matters: a thread that is not counted any more may have queued something
//     after the queues were looked at, were that done first.
//
//  3. Whether a pool of threads rests is the same without the first question. Any thread outside
//     may go on submitting jobs, but takes none. What is in a queue when all_asleep() begins stays
//     there while the workers sleep, so queues that are found empty were empty at the moment at
//     which the first pass ended.
//
// All accesses to the counts and to the heads of the queues are sequentially consistent, so there
// is one order of them, which "moment" stands for. The kernel counts threads under a lock, which a
// thread that ends takes after all else that it has done; so what it queued is seen by those who
// have counted without it. tests/runtime/deadlock_model_test.cpp runs this code through every
// interleaving.

#include <atomic>
#include <cstdint>

namespace rondo::detail {

/// How often a thread has fallen asleep and woken. begin() and end() are for that thread alone.
template <template <class> class Atomic>
class basic_sleep_count {
public:
    enum class start { awake, asleep };

    /// A thread that does not exist yet may count as asleep: it wakes when it begins.
    explicit basic_sleep_count(start how = start::awake) noexcept
        : count_(how == start::asleep ? 1 : 0) {}
    basic_sleep_count(const basic_sleep_count&) = delete;
    basic_sleep_count& operator=(const basic_sleep_count&) = delete;

    void begin() noexcept { count_.fetch_add(1); }
    void end() noexcept { count_.fetch_add(1); }

    std::uint64_t value() const noexcept { return count_.load(); }

private:
    Atomic<std::uint64_t> count_;
};

using sleep_count = basic_sleep_count<std::atomic>;

/// One reading of all counts.
class sleep_pass {
public:
    template <template <class> class Atomic>
    void look_at(const basic_sleep_count<Atomic>& one) noexcept {
        const std::uint64_t value = one.value();
        if (value % 2 == 0) somebody_is_awake_ = true;
        sum_ += value;
    }

    bool all_asleep() const noexcept { return !somebody_is_awake_; }

    /// Of counts that only grow, the sum is the same only where each of them is.
    bool same_as(const sleep_pass& earlier) const noexcept { return sum_ == earlier.sum_; }

private:
    std::uint64_t sum_ = 0;
    bool somebody_is_awake_ = false;
};

/// Whether all threads slept for as long as ask() took, which gives true. look_at_all(sleep_pass&)
/// shows their counts. False also when that cannot be proved, because a thread woke meanwhile.
template <class LookAtAll, class Ask>
bool all_asleep(LookAtAll look_at_all, Ask ask) {
    sleep_pass before;
    look_at_all(before);
    if (!before.all_asleep() || !ask()) return false;
    sleep_pass after;
    look_at_all(after);
    return after.same_as(before);
}

}  // namespace rondo::detail
