#pragma once
// How thread_pool::map makes its jobs and queues them as room comes.

#include <rondo/runtime/threads/detail/pool_core.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::detail {

/// What the jobs of one map share. Args is the tuple of one call's arguments.
template <class F, class Args>
class map_plan {
    template <class... Arg>
    static auto call(F& f, std::tuple<Arg...>& args) -> std::invoke_result_t<F&, Arg...> {
        return std::apply(
            [&](Arg&... arg) -> std::invoke_result_t<F&, Arg...> {
                return std::invoke(f, std::move(arg)...);
            },
            args);
    }

public:
    using value = decltype(call(std::declval<F&>(), std::declval<Args&>()));

    /// Makes a job of each element of `args`, in order, and queues as many as the pool has room
    /// for, at least one. Each that ends queues the next. Each that starts queues another one in
    /// the place that it has left, until as many are on their way as the pool has threads: so a map
    /// that found the pool full gets the threads that become free.
    static std::vector<future<value>> start(pool_core& pool, F f, std::vector<Args> args) {
        const auto plan = std::make_shared<map_plan>(pool, std::move(f), args.size());
        std::vector<future<value>> results;
        results.reserve(args.size());
        try {
            for (Args& one : args) {
                map_job* const made = new map_job(plan, results.size(), std::move(one));
                plan->jobs_[results.size()].store(made, std::memory_order_relaxed);
                results.push_back(future_access::make<value>(*made));
            }
            if (!results.empty()) plan->queue_first();
        } catch (...) {
            for (std::size_t i = 0; i < results.size(); ++i) {
                if (map_job* const one = plan->take(i)) one->abandon();
            }
            throw;
        }
        return results;
    }

    map_plan(pool_core& pool, F f, std::size_t size) : pool_(pool), f_(std::move(f)), jobs_(size) {}

private:
    class map_job final : public job_state<value> {
    public:
        map_job(std::shared_ptr<map_plan> plan, std::size_t index, Args args)
            : job_state<value>(plan->pool_),
              plan_(std::move(plan)),
              index_(index),
              args_(std::move(args)) {}

        // A thread that cancels it may use the plan until start() or discarding it has said who it
        // belongs to.
        void run() noexcept override {
            plan_->widen();
            this->run_once([this]() -> value { return map_plan::call(plan_->f_, *args_); }, args_);
            end();
        }
        void discard(const std::exception_ptr& error) noexcept override {
            this->end_without(args_, error);
            end();
        }
        /// It will never be queued.
        void abandon() noexcept {
            this->end_without(args_, nullptr);
            plan_.reset();
            this->drop();
        }

    private:
        // While it was not queued it belongs to the plan, which then need not know it any more.
        void prepare_to_leave() noexcept override {
            if (plan_->take(index_) == nullptr) return;
            plan_.reset();
            this->drop();  // whoever cancels it keeps it
        }
        void destroy_work() noexcept override { args_.reset(); }

        void end() noexcept {
            const std::shared_ptr<map_plan> plan = std::move(plan_);
            plan->queue_next();
            this->drop();
        }

        std::shared_ptr<map_plan> plan_;
        const std::size_t index_;
        std::optional<Args> args_;
    };

    /// The job, for one caller: to queue it, to abandon it, or because it was cancelled.
    map_job* take(std::size_t index) noexcept { return jobs_[index].exchange(nullptr); }

    void queue_first() {
        pool_.force_admit();
        admission first{pool_};
        map_job* const job = take(0);
        if (!pool_.push(*job)) {
            job->abandon();
            pool_.refuse();
        }
        first.done();
        while (pool_.take_room()) {
            map_job* const next = take_next();
            if (next == nullptr) return pool_.withdraw();
            width_.fetch_add(1, std::memory_order_relaxed);
            if (!pool_.push(*next)) {
                pool_.withdraw();
                next->abandon();
            }
        }
    }

    void widen() noexcept {
        if (next_.load(std::memory_order_relaxed) >= jobs_.size()) return;
        // relaxed, all of width_: it guards nothing
        std::size_t width = width_.load(std::memory_order_relaxed);
        do {
            if (width >= pool_.size()) return;
        } while (!width_.compare_exchange_weak(width, width + 1, std::memory_order_relaxed));
        queue_next();
    }

    void queue_next() noexcept {
        while (map_job* const next = take_next()) {
            if (pool_.push_follower(*next)) return;
            next->abandon();
        }
    }

    /// The next that was not cancelled; null: there is none.
    map_job* take_next() noexcept {
        // relaxed, all of next_: it deals out indices; the jobs were written before the first push
        while (next_.load(std::memory_order_relaxed) < jobs_.size()) {
            const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= jobs_.size()) break;
            if (map_job* const job = take(index)) return job;
        }
        return nullptr;
    }

    pool_core& pool_;
    F f_;
    // Those that were not queued, nor cancelled before that. Each holds a reference to itself until
    // it has left this, or was queued and has ended.
    std::vector<std::atomic<map_job*>> jobs_;
    std::atomic<std::size_t> next_{1};
    // How many were queued and have not ended, while some are left to queue.
    std::atomic<std::size_t> width_{1};
};

}  // namespace rondo::detail
