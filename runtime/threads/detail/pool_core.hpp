#pragma once
// The engine of thread_pool: its workers, their queues, and what is queued.

#include <rondo/runtime/threads/detail/all_asleep.hpp>
#include <rondo/runtime/threads/detail/future_state.hpp>
#include <rondo/runtime/threads/future.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::detail {

class pool_core;

/// What a worker runs. It holds a reference to its own state while it is queued.
class pool_job {
public:
    /// Runs it, unless it was cancelled, and lets go of it.
    virtual void run() noexcept = 0;
    /// Cancels it, or fails it with `error` if there is one, and lets go of it.
    virtual void discard(const std::exception_ptr& error) noexcept = 0;

protected:
    explicit pool_job(pool_core& pool) noexcept : pool_(&pool) {}
    ~pool_job() = default;

    /// For the thread that has cancelled it. It holds the pool first, since that may go at any time
    /// once others know of the cancellation, and may let go of the job.
    std::shared_ptr<pool_core> hold_pool() const noexcept;
    /// The others know of it, and the job's place is free.
    void leave(pool_core& pool) noexcept;
    /// For whoever finds it cancelled, before letting go of it: the pool must not go before the
    /// cancelling thread has come to the pool through it.
    void wait_for_cancelling_thread() const noexcept;

private:
    friend class pool_shard;
    friend class pool_core;
    pool_core* const pool_;
    pool_job* next_ = nullptr;
    std::atomic<bool> has_place_{false};      // it is counted in the pool's pending_
    std::atomic<bool> was_cancelled_{false};  // and whoever did that holds the pool
};

/// One worker's queue. A thread that submits pushes without a lock; workers take under one that
/// only workers want (and the thread that shuts down or breaks the pool, or that clears out
/// cancelled jobs and finds it free).
class alignas(64) pool_shard {
public:
    /// False: the shard is closed.
    bool push(pool_job& job) noexcept;

    struct taken {
        pool_job* job;  // the oldest; null: there was none
        bool more;      // more were left
    };
    taken take() noexcept;

    /// Takes out those that were cancelled, and puts them before `removed`; how many others there
    /// are. Nothing happens, and it is 0, while somebody takes.
    std::size_t remove_cancelled(pool_job*& removed) noexcept;

    /// False while it may seem empty only because somebody is taking from it.
    bool empty() const noexcept;
    /// No push succeeds from now on; false: it is not empty.
    bool close() noexcept;

private:
    static pool_job* closed() noexcept { return reinterpret_cast<pool_job*>(1); }
    static bool has_jobs(const pool_job* inbox) noexcept {
        return inbox != nullptr && inbox != closed();
    }

    std::atomic<pool_job*> inbox_{nullptr};  // newest first; closed() for good in the end
    alignas(64) std::mutex taking_;
    // Oldest first, older than all of the inbox. Written under taking_.
    std::atomic<pool_job*> first_{nullptr};
};

/// Owned by its thread_pool and by each of its workers.
class pool_core : public std::enable_shared_from_this<pool_core> {
public:
    struct options {
        unsigned threads;
        std::size_t max_pending;
        std::function<void()> initializer;
        bool background;
    };

    /// Starts as many of the threads as can be had, and throws std::system_error if that is none.
    static std::shared_ptr<pool_core> start(options options);

    explicit pool_core(options options);
    pool_core(const pool_core&) = delete;
    pool_core& operator=(const pool_core&) = delete;

    /// Its thread_pool goes: waits until all is done. A job of its own does not wait; then the
    /// workers go on alone.
    void end() noexcept;

    /// Makes room for one job; the thread waits for it if it has to. Throws where submit does.
    void admit();
    /// The same without waiting; false: there is no room.
    bool try_admit();
    /// The same whether there is room or not.
    void force_admit();
    /// The same without a look at whether the pool is open.
    bool take_room() noexcept;
    /// An admitted job never came.
    void withdraw() noexcept { job_left(); }

    /// Queues an admitted job; false: every worker has left, and the place is the caller's again.
    bool push(pool_job& job) noexcept;

    /// The same for a job that follows on one of this pool that is being run or discarded: it takes
    /// over that one's room.
    bool push_follower(pool_job& job) noexcept;

    /// A job of this pool was cancelled: from time to time the cancelled ones are cleared out.
    void job_cancelled() noexcept;

    [[noreturn]] void refuse() const;
    void shutdown(bool wait, bool cancel_pending);
    std::size_t size() const noexcept { return size_; }
    /// Every worker waits for work, and there is none.
    bool resting() const noexcept;

    /// For all_asleep(): a worker sleeps while it waits for a job, and when it has left.
    void show_sleeps(sleep_pass& pass) const noexcept {
        for (const worker& one : workers_) pass.look_at(one.sleeps);
        pass.look_at(clearing_);
    }
    bool any_job() const noexcept;
    /// How many workers have begun and not left. Settled while all of them sleep.
    std::size_t threads() const noexcept { return threads_.load(); }

private:
    struct alignas(64) worker {
        std::atomic<std::uint32_t> bell{0};
        sleep_count sleeps{sleep_count::start::asleep};
        std::thread thread;
    };
    enum class fate : std::uint32_t { run, cancel, fail };

    friend class pool_job;

    void start_threads();
    void work(std::size_t index) noexcept;
    void clear_out_cancelled() noexcept;
    void handle(pool_job& job) noexcept;
    pool_job* take(std::size_t index) noexcept;
    pool_job* wait_for_job(std::size_t index) noexcept;
    void stop() noexcept;
    void break_with(std::exception_ptr error) noexcept;
    void drain() noexcept;
    void join() noexcept;

    void wake_one(std::size_t preferred) noexcept;
    void ring(worker& one) noexcept;
    std::size_t shard_for_push() noexcept;

    void check_open() const;
    void job_left() noexcept;

    const std::size_t max_pending_;
    const bool background_;
    std::function<void()> initializer_;
    std::vector<worker> workers_;
    std::vector<pool_shard> shards_;  // one each; those of workers that did not start are closed
    std::size_t size_ = 0;            // how many workers have started

    // Bit i % 64 of word i / 64 is set while worker i looks for work for the last time, or sleeps.
    // The thread that clears the bit rings the worker's bell, or is that worker.
    std::vector<std::atomic<std::uint64_t>> idle_;

    alignas(64) std::atomic<std::size_t> turn_{0};     // round robin over the shards
    alignas(64) std::atomic<std::size_t> pending_{0};  // counted only with a max_pending
    std::atomic<std::uint32_t> room_epoch_{0};
    std::atomic<std::uint32_t> room_waiters_{0};

    // Jobs cancelled since the queues were cleared out, and how many are worth doing it again: more
    // than were left the last time. So no more of the queued jobs are cancelled than wait, or were
    // submitted since, and on average a cancellation looks at a few jobs only.
    std::atomic<std::size_t> cancelled_{0};
    std::atomic<std::size_t> enough_cancelled_{1};
    std::atomic<bool> clearing_out_{false};
    // The thread that clears out hides jobs for a moment, so it counts as awake meanwhile.
    sleep_count clearing_{sleep_count::start::asleep};

    // A worker adds itself when it has woken, and takes itself away before it sleeps for good. So
    // while all sleep, those counted are the threads that the process has of this pool, or there
    // are even more of them, which have yet to begin or to end.
    std::atomic<std::size_t> threads_{0};

    alignas(64) std::atomic<bool> stopping_{false};
    std::atomic<fate> fate_{fate::run};  // of what is queued
    std::exception_ptr error_;           // why it is broken; written before fate_ says fail
    std::mutex ending_;                  // of error_
    std::mutex joining_;                 // of the threads, when they are joined
};

/// The future's side of a job that gives a T.
template <class T>
class job_state : public future_state<T>, public pool_job {
public:
    explicit job_state(pool_core& pool) noexcept : pool_job(pool) {}
    void drop() noexcept { this->release(); }

protected:
    /// It was cancelled, and nobody else touches it yet.
    virtual void prepare_to_leave() noexcept {}
    /// Destroys what would have made the value.
    virtual void destroy_work() noexcept = 0;

    /// Runs f once, unless it was cancelled: then `work`, from which f takes what it needs, is gone
    /// already, or about to be.
    template <class F, class Work>
    void run_once(F f, std::optional<Work>& work) noexcept {
        if (!this->start()) return wait_for_cancelling_thread();
        // The work is destroyed before the waiters are woken: they find nothing of it left.
        this->evaluate(f, [&] { work.reset(); });
    }
    template <class Work>
    void end_without(std::optional<Work>& work, const std::exception_ptr& error) noexcept {
        if (error && this->claim() == future_state_base::claim_result::mine) {
            work.reset();
            this->error_ = error;
            this->finish(future_state_base::failed);
        } else {
            this->cancel();
            wait_for_cancelling_thread();
        }
    }

private:
    void forget_work() noexcept final {
        const std::shared_ptr<pool_core> pool = hold_pool();
        prepare_to_leave();
        leave(*pool);
        destroy_work();
        pool->job_cancelled();
    }
};

/// One allocation: the result, the callable and the link of the queue.
template <class T, class F>
class job final : public job_state<T> {
public:
    job(pool_core& pool, F f) : job_state<T>(pool), f_(std::move(f)) {}

    void run() noexcept override {
        this->run_once([this]() -> T { return std::invoke(std::move(*f_)); }, f_);
        this->drop();
    }
    void discard(const std::exception_ptr& error) noexcept override {
        this->end_without(f_, error);
        this->drop();
    }

private:
    void destroy_work() noexcept override { f_.reset(); }

    std::optional<F> f_;
};

/// Keeps an admitted place until a job stands there.
class admission {
public:
    explicit admission(pool_core& pool) noexcept : pool_(&pool) {}
    admission(const admission&) = delete;
    admission& operator=(const admission&) = delete;
    ~admission() {
        if (pool_ != nullptr) pool_->withdraw();
    }

    /// A job stands there.
    void done() noexcept { pool_ = nullptr; }

    /// Makes a job of f, a callable without parameters, and queues it.
    template <class F>
    auto submit(F f) && -> future<std::invoke_result_t<F>> {
        using value = std::invoke_result_t<F>;
        auto* const made = new job<value, F>{*pool_, std::move(f)};
        future<value> result = future_access::make<value>(*made);
        if (!pool_->push(*made)) {
            made->discard(nullptr);
            pool_->refuse();
        }
        done();
        return result;
    }

private:
    pool_core* pool_;
};

}  // namespace rondo::detail
