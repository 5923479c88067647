#pragma once
// How thread_pool::map makes its jobs and queues them as room comes.

#include <rondo/runtime/detail/pool_core.hpp>

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
    /// for, at least one; each that ends queues the next.
    static std::vector<future<value>> start(pool_core& pool, F f, std::vector<Args> args) {
        const auto plan = std::make_shared<map_plan>(pool, std::move(f));
        std::vector<future<value>> results;
        results.reserve(args.size());
        plan->jobs_.reserve(args.size());
        try {
            for (Args& one : args) {
                map_job* const made = new map_job(plan, std::move(one));
                plan->jobs_.push_back(made);
                results.push_back(future_access::make<value>(*made));
            }
            if (!results.empty()) plan->queue_first();
        } catch (...) {
            for (map_job* one : plan->jobs_) one->abandon();
            throw;
        }
        return results;
    }

    map_plan(pool_core& pool, F f) : pool_(pool), f_(std::move(f)) {}

private:
    class map_job final : public job_state<value> {
    public:
        map_job(std::shared_ptr<map_plan> plan, Args args)
            : job_state<value>(plan->pool_), plan_(std::move(plan)), args_(std::move(args)) {}

        void run() noexcept override {
            const std::shared_ptr<map_plan> plan = std::move(plan_);
            this->run_once([&]() -> value { return map_plan::call(plan->f_, *args_); }, args_);
            end(*plan);
        }
        void discard(const std::exception_ptr& error) noexcept override {
            const std::shared_ptr<map_plan> plan = std::move(plan_);
            this->end_without(args_, error);
            end(*plan);
        }
        /// It will never be queued.
        void abandon() noexcept {
            plan_.reset();
            this->end_without(args_, nullptr);
            this->drop();
        }

    private:
        void destroy_work() noexcept override { args_.reset(); }

        void end(map_plan& plan) noexcept {
            plan.queue_next();
            this->drop();
        }

        std::shared_ptr<map_plan> plan_;
        std::optional<Args> args_;
    };

    void queue_first() {
        pool_.force_admit();
        admission first{pool_};
        if (!pool_.push(*jobs_[0])) pool_.refuse();
        first.done();
        while (pool_.take_room()) {
            const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= jobs_.size()) return pool_.withdraw();
            if (!pool_.push(*jobs_[index])) {
                pool_.withdraw();
                jobs_[index]->abandon();
            }
        }
    }

    void queue_next() noexcept {
        // relaxed, all of next_: it deals out indices; the jobs were written before the first push
        while (next_.load(std::memory_order_relaxed) < jobs_.size()) {
            const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= jobs_.size()) return;
            if (!jobs_[index]->cancelled() && pool_.push_follower(*jobs_[index])) return;
            jobs_[index]->abandon();
        }
    }

    pool_core& pool_;
    F f_;
    std::vector<map_job*> jobs_;  // each holds its own reference until it was queued and has ended
    std::atomic<std::size_t> next_{1};
};

}  // namespace rondo::detail
