#include <rondo/runtime/threads/detail/pool_core.hpp>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <climits>
#include <stdexcept>
#include <system_error>

namespace rondo::detail {

namespace {

constexpr int background_nice = 10;

/// Which pool the calling thread works for, and as which of its workers.
struct place_of_work {
    const pool_core* pool = nullptr;
    std::size_t index = 0;
};
constinit thread_local place_of_work here;

// Not SCHED_IDLE, though it yields as well: where anything else kept the cores busy, a job of 0.2 s
// took 20. With this one a reactor's short requests are as fast (bench/fib_demo), and a pool beside
// busy programs still gets a tenth of a core.
void go_to_background() noexcept {
    const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
    (void)::setpriority(PRIO_PROCESS, thread,
                        ::getpriority(PRIO_PROCESS, thread) + background_nice);
}

}  // namespace

// --- one queue -----------------------------------------------------------------------------------

bool pool_shard::push(pool_job& job) noexcept {
    // relaxed: the exchange decides
    pool_job* newest = inbox_.load(std::memory_order_relaxed);
    do {
        if (newest == closed()) return false;
        job.next_ = newest;
    } while (!inbox_.compare_exchange_weak(newest, &job));
    return true;
}

pool_shard::taken pool_shard::take() noexcept {
    if (empty()) return {nullptr, false};
    const std::lock_guard lock{taking_};
    // relaxed: first_ is written under the lock only
    pool_job* oldest = first_.load(std::memory_order_relaxed);
    if (oldest == nullptr) {
        // Only pushes change the inbox meanwhile, and it is closed under the lock.
        if (!has_jobs(inbox_.load(std::memory_order_relaxed))) return {nullptr, false};
        pool_job* newest = inbox_.exchange(nullptr);
        while (newest != nullptr) {
            pool_job* const next = newest->next_;
            newest->next_ = oldest;
            oldest = newest;
            newest = next;
        }
    }
    first_.store(oldest->next_);
    return {oldest, !empty()};
}

// The inbox first: jobs move from it to first_. Between the two a job is seen in neither; see
// pool_core::take().
bool pool_shard::empty() const noexcept {
    return !has_jobs(inbox_.load()) && first_.load() == nullptr;
}

std::size_t pool_shard::remove_cancelled(pool_job*& removed) noexcept {
    const std::unique_lock lock{taking_, std::try_to_lock};
    if (!lock) return 0;
    pool_job* const oldest = first_.load(std::memory_order_relaxed);
    pool_job* from_inbox = nullptr;
    if (has_jobs(inbox_.load(std::memory_order_relaxed))) {
        pool_job* newest = inbox_.exchange(nullptr);
        while (newest != nullptr) {
            pool_job* const next = newest->next_;
            newest->next_ = from_inbox;
            from_inbox = newest;
            newest = next;
        }
    }
    pool_job* first = nullptr;
    pool_job** end = &first;
    std::size_t left = 0;
    for (pool_job* job : {oldest, from_inbox}) {
        while (job != nullptr) {
            pool_job* const next = job->next_;
            // acquire: the cancelling thread is done with what it reaches through the job
            if (job->was_cancelled_.load(std::memory_order_acquire)) {
                job->next_ = std::exchange(removed, job);
            } else {
                *end = job;
                end = &job->next_;
                ++left;
            }
            job = next;
        }
    }
    *end = nullptr;
    first_.store(first);
    return left;
}

bool pool_shard::close() noexcept {
    const std::lock_guard lock{taking_};
    pool_job* nothing = nullptr;
    return first_.load(std::memory_order_relaxed) == nullptr &&
           (inbox_.compare_exchange_strong(nothing, closed()) || nothing == closed());
}

// --- what is queued ------------------------------------------------------------------------------

std::shared_ptr<pool_core> pool_job::hold_pool() const noexcept {
    return pool_->shared_from_this();
}

void pool_job::leave(pool_core& pool) noexcept {
    // release: the pool is held; with the acquire of whoever waits for that
    was_cancelled_.store(true, std::memory_order_release);
    if (has_place_.exchange(false)) pool.job_left();
}

void pool_job::wait_for_cancelling_thread() const noexcept {
    while (!was_cancelled_.load(std::memory_order_acquire)) std::this_thread::yield();
}

// --- workers -------------------------------------------------------------------------------------
//
// No job waits while a worker sleeps. All accesses to the inboxes, to first_ and to idle_ that are
// named here are sequentially consistent.
//
//  - Who pushes a job looks at idle_ afterwards, and claims a worker whose bit is set. A worker
//    sets its bit and looks at all shards afterwards, then sleeps. So either the pusher sees the
//    bit, or the worker's look comes after the push, and finds the job unless somebody is taking
//    it, or moving it from the inbox to first_.
//  - Who takes a job and leaves others in the shard stores first_ and then claims one more worker.
//    So a worker that looked while jobs were between inbox and first_ is either seen here, or
//    looked after the store. Whoever clears out cancelled jobs does the same.
//  - A claim is a debt of the claimed worker: there was a job when it was made. The worker might be
//    awake already and take another job than that one. So a worker that was idle looks at all
//    shards once more when it has taken a job, after its own bit is clear, and claims one more if
//    it finds something. A claim that came before that clear had its job pushed before; one that
//    comes after finds the bit clear, and is made of another worker, or of none, when all are
//    awake. And each that is awake looks at all shards before it sleeps.

void pool_core::work(std::size_t index) noexcept {
    here = {this, index};
    workers_[index].sleeps.end();
    threads_.fetch_add(1);
    if (background_) go_to_background();
    if (initializer_) {
        try {
            initializer_();
        } catch (...) {
            break_with(std::current_exception());
        }
    }
    for (;;) {
        pool_job* job = take(index);
        if (job == nullptr) job = wait_for_job(index);
        if (job == nullptr) break;
        handle(*job);
    }
    threads_.fetch_sub(1);
    workers_[index].sleeps.begin();
}

void pool_core::handle(pool_job& job) noexcept {
    if (max_pending_ != 0 && job.has_place_.exchange(false)) job_left();
    switch (fate_.load(std::memory_order_acquire)) {  // acquire: error_ was written before
        case fate::run: job.run(); break;
        case fate::cancel: job.discard(nullptr); break;
        case fate::fail: job.discard(error_); break;
    }
}

pool_job* pool_core::take(std::size_t index) noexcept {
    for (std::size_t i = index, left = shards_.size(); left != 0; --left) {
        const auto [job, more] = shards_[i].take();
        if (job != nullptr) {
            if (more) wake_one(i);
            return job;
        }
        if (++i == shards_.size()) i = 0;
    }
    return nullptr;
}

pool_job* pool_core::wait_for_job(std::size_t index) noexcept {
    std::atomic<std::uint64_t>& word = idle_[index / 64];
    const std::uint64_t bit = std::uint64_t{1} << (index % 64);
    std::atomic<std::uint32_t>& bell = workers_[index].bell;
    sleep_count& sleeps = workers_[index].sleeps;
    for (;;) {
        sleeps.begin();
        word.fetch_or(bit);
        if (!any_job() && !stopping_.load()) {
            while (bell.exchange(0) == 0) futex_wait(bell, 0);
        }
        word.fetch_and(~bit);
        sleeps.end();
        if (pool_job* const job = take(index)) {
            if (any_job()) wake_one(index);
            return job;
        }
        if (stopping_.load() && shards_[index].close()) return nullptr;
    }
}

bool pool_core::any_job() const noexcept {
    for (const pool_shard& shard : shards_) {
        if (!shard.empty()) return true;
    }
    return false;
}

void pool_core::wake_one(std::size_t preferred) noexcept {
    const std::size_t first_word = preferred / 64;
    for (std::size_t i = 0; i < idle_.size(); ++i) {
        const std::size_t at = (first_word + i) % idle_.size();
        std::uint64_t idle = idle_[at].load();
        while (idle != 0) {
            const std::uint64_t wanted = std::uint64_t{1} << (preferred % 64);
            const bool take_wanted = i == 0 && (idle & wanted) != 0;
            const std::uint64_t bit = take_wanted ? wanted : idle & (~idle + 1);
            const std::uint64_t before = idle_[at].fetch_and(~bit);
            if ((before & bit) != 0) {
                ring(workers_[at * 64 + static_cast<std::size_t>(std::countr_zero(bit))]);
                return;
            }
            idle = before;
        }
    }
}

void pool_core::ring(worker& one) noexcept {
    // A bell that nobody hears rings once more at the next sleep, which ends at once.
    if (one.bell.exchange(1) == 0) futex_wake(&one.bell, 1);
}

std::size_t pool_core::shard_for_push() noexcept {
    if (here.pool == this) return here.index;
    for (std::size_t i = 0; i < idle_.size(); ++i) {
        // relaxed: a hint, of who will come first
        const std::uint64_t idle = idle_[i].load(std::memory_order_relaxed);
        if (idle != 0) return i * 64 + static_cast<std::size_t>(std::countr_zero(idle));
    }
    if (size_ == 1) return 0;
    return turn_.fetch_add(1, std::memory_order_relaxed) % size_;
}

bool pool_core::push(pool_job& job) noexcept {
    // relaxed: the push publishes it
    job.has_place_.store(true, std::memory_order_relaxed);
    std::size_t at = shard_for_push();
    for (std::size_t left = shards_.size(); left != 0; --left) {
        if (shards_[at].push(job)) {
            wake_one(at);
            return true;
        }
        if (++at == shards_.size()) at = 0;
    }
    // Otherwise its cancellation has given the place back already.
    if (max_pending_ != 0 && !job.has_place_.exchange(false)) pending_.fetch_add(1);
    return false;
}

void pool_core::job_cancelled() noexcept {
    cancelled_.fetch_add(1);
    // Whoever clears out looks again when the flag is down, so that the last one is not forgotten.
    while (cancelled_.load() >= enough_cancelled_.load() && !clearing_out_.exchange(true)) {
        clearing_.end();
        clear_out_cancelled();
        clearing_.begin();
        clearing_out_.store(false);
    }
}

void pool_core::clear_out_cancelled() noexcept {
    cancelled_.store(0);
    pool_job* removed = nullptr;
    std::size_t left = 0;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        left += shards_[i].remove_cancelled(removed);
        if (!shards_[i].empty()) wake_one(i);
    }
    enough_cancelled_.store(left + 1);
    while (removed != nullptr) std::exchange(removed, removed->next_)->run();
}

bool pool_core::resting() const noexcept {
    return all_asleep([this](sleep_pass& pass) { show_sleeps(pass); },
                      [this] { return !any_job(); });
}

bool pool_core::push_follower(pool_job& job) noexcept {
    if (max_pending_ != 0) pending_.fetch_add(1);
    if (push(job)) return true;
    job_left();
    return false;
}

// --- room ----------------------------------------------------------------------------------------

bool pool_core::take_room() noexcept {
    if (max_pending_ == 0) return true;
    std::size_t pending = pending_.load();
    do {
        if (pending >= max_pending_) return false;
    } while (!pending_.compare_exchange_weak(pending, pending + 1));
    return true;
}

// A thread that waits for room says so, then looks for room; one that makes room does so, then
// looks for waiting threads. All sequentially consistent: one of the two sees the other.
void pool_core::job_left() noexcept {
    if (max_pending_ == 0) return;
    pending_.fetch_sub(1);
    if (room_waiters_.load() == 0) return;
    room_epoch_.fetch_add(1);
    futex_wake(&room_epoch_, 1);
}

void pool_core::check_open() const {
    if (fate_.load(std::memory_order_acquire) == fate::fail) std::rethrow_exception(error_);
    if (stopping_.load()) refuse();
}

void pool_core::refuse() const {
    if (fate_.load(std::memory_order_acquire) == fate::fail) std::rethrow_exception(error_);
    throw std::runtime_error("submit to a thread_pool that was shut down");
}

bool pool_core::try_admit() {
    check_open();
    return take_room();
}

void pool_core::force_admit() {
    check_open();
    if (max_pending_ != 0) pending_.fetch_add(1);
}

void pool_core::admit() {
    // A worker that waited for room in its own pool could wait for itself.
    if (here.pool == this) return force_admit();
    if (try_admit()) return;
    if (current_core != nullptr) {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                                "submit to a thread_pool: max_pending jobs wait already");
    }
    room_waiters_.fetch_add(1);
    const struct leaving {
        std::atomic<std::uint32_t>& waiters;
        ~leaving() { waiters.fetch_sub(1); }
    } at_end{room_waiters_};
    for (;;) {
        const std::uint32_t epoch = room_epoch_.load();
        if (try_admit()) return;
        futex_wait(room_epoch_, epoch);
    }
}

// --- the beginning and the end -------------------------------------------------------------------

pool_core::pool_core(options options)
    : max_pending_(options.max_pending),
      background_(options.background),
      initializer_(std::move(options.initializer)),
      workers_(options.threads),
      shards_(options.threads),
      idle_((options.threads + 63) / 64) {}

std::shared_ptr<pool_core> pool_core::start(options options) {
    auto pool = std::make_shared<pool_core>(std::move(options));
    pool->start_threads();
    return pool;
}

void pool_core::start_threads() {
    // Of those that run already, none reads size_.
    for (; size_ < workers_.size(); ++size_) {
        try {
            workers_[size_].thread =
                std::thread([self = shared_from_this(), i = size_] { self->work(i); });
        } catch (const std::exception& error) {
            if (size_ == 0) {
                const auto* known = dynamic_cast<const std::system_error*>(&error);
                if (known == nullptr) throw;
                throw std::system_error(known->code(), "start a thread of a thread_pool");
            }
            // Those that run do the work of all.
            for (std::size_t i = size_; i < shards_.size(); ++i) shards_[i].close();
            return;
        }
    }
}

void pool_core::end() noexcept {
    stop();
    if (here.pool != this) return join();
    const std::lock_guard lock{joining_};
    for (worker& one : workers_) {
        if (one.thread.joinable()) one.thread.detach();
    }
}

void pool_core::stop() noexcept {
    stopping_.store(true);
    for (worker& one : workers_) ring(one);
    room_epoch_.fetch_add(1);
    futex_wake(&room_epoch_, INT_MAX);
}

void pool_core::break_with(std::exception_ptr error) noexcept {
    {
        const std::lock_guard lock{ending_};
        if (fate_.load(std::memory_order_relaxed) != fate::fail) {
            error_ = std::move(error);
            fate_.store(fate::fail);
        }
    }
    stop();
    drain();
}

void pool_core::drain() noexcept {
    for (pool_shard& shard : shards_) {
        while (pool_job* const job = shard.take().job) handle(*job);
    }
}

void pool_core::shutdown(bool wait, bool cancel_pending) {
    if (wait && here.pool == this) {
        throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                                "a job waits for the shutdown of its own thread_pool");
    }
    if (cancel_pending) {
        fate as_ever = fate::run;
        fate_.compare_exchange_strong(as_ever, fate::cancel);
    }
    stop();
    if (cancel_pending) drain();
    if (wait) join();
}

void pool_core::join() noexcept {
    const std::lock_guard lock{joining_};
    for (worker& one : workers_) {
        if (one.thread.joinable()) one.thread.join();
    }
}

}  // namespace rondo::detail
