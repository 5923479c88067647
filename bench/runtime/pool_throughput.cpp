// How many empty jobs a second go through thread_pool, and through the simplest pool there is: one
// queue, one mutex, one condition variable.
//
//     pool_throughput [JOBS]
//
//     workers  submitters    rondo jobs/s   simple jobs/s    ratio
//           1           1         3000000         1500000     2.00
//
// Each submitter keeps at most `window` futures and waits for the oldest when it has that many.
// Medians of `repetitions`. Times are of a release build or they mean nothing.

#include <rondo/runtime/threads/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int repetitions = 5;
constexpr std::size_t window = 1'024;

class simple_pool {
public:
    explicit simple_pool(unsigned threads) {
        for (unsigned i = 0; i < threads; ++i) {
            threads_.emplace_back([this] { work(); });
        }
    }
    ~simple_pool() {
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
        }
        changed_.notify_all();
        for (std::thread& one : threads_) one.join();
    }
    simple_pool(const simple_pool&) = delete;
    simple_pool& operator=(const simple_pool&) = delete;

    template <class F>
    std::future<void> submit(F f) {
        std::packaged_task<void()> job{std::move(f)};
        std::future<void> result = job.get_future();
        {
            const std::lock_guard lock{mutex_};
            jobs_.push_back(std::move(job));
        }
        changed_.notify_one();
        return result;
    }

private:
    void work() {
        for (;;) {
            std::packaged_task<void()> job;
            {
                std::unique_lock lock{mutex_};
                changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
                if (jobs_.empty()) return;
                job = std::move(jobs_.front());
                jobs_.pop_front();
            }
            job();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::packaged_task<void()>> jobs_;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

template <class Pool>
void submit_all(Pool& pool, std::size_t jobs) {
    using result = decltype(pool.submit([] {}));
    std::vector<result> futures(window);
    for (std::size_t i = 0; i < jobs; ++i) {
        result& slot = futures[i % window];
        if (slot.valid()) slot.wait();
        slot = pool.submit([] {});
    }
    for (result& one : futures) {
        if (one.valid()) one.wait();
    }
}

template <class Pool>
double jobs_per_second(unsigned workers, unsigned submitters, std::size_t jobs) {
    std::array<double, repetitions> rates{};
    for (double& rate : rates) {
        Pool pool{workers};
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < submitters; ++i) {
            threads.emplace_back([&] { submit_all(pool, jobs / submitters); });
        }
        for (std::thread& one : threads) one.join();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        rate = static_cast<double>(jobs) / took.count();
    }
    std::nth_element(rates.begin(), rates.begin() + repetitions / 2, rates.end());
    return rates[repetitions / 2];
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t jobs = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
    std::printf("workers  submitters    rondo jobs/s   simple jobs/s    ratio\n");
    for (const unsigned workers : {1u, 2u, 4u}) {
        for (const unsigned submitters : {1u, workers}) {
            const double ours = jobs_per_second<rondo::thread_pool>(workers, submitters, jobs);
            const double theirs = jobs_per_second<simple_pool>(workers, submitters, jobs);
            std::printf("%7u  %10u  %14.0f  %14.0f  %7.2f\n", workers, submitters, ours, theirs,
                        ours / theirs);
            std::fflush(stdout);
            if (workers == 1) break;
        }
    }
}
