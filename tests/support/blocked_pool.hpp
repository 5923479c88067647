#pragma once
// A pool whose threads are all busy, so that what is submitted waits.
//
//     thread_pool pool{2};
//     blocked_pool blocked{pool};
//     auto waiting = pool.submit(work);
//     blocked.open();

#include <rondo/runtime/threads/future.hpp>
#include <rondo/runtime/threads/thread_pool.hpp>

#include <cstddef>
#include <latch>
#include <utility>
#include <vector>

namespace rondo::test {

/// Keeps every worker of a pool busy until opened.
class blocked_pool {
public:
    explicit blocked_pool(thread_pool& pool)
        : busy_(static_cast<std::ptrdiff_t>(pool.size())), size_(pool.size()) {
        for (std::size_t i = 0; i < size_; ++i) {
            blockers_.push_back(detail::submit_job(pool, [this] {
                busy_.count_down();
                gate_.wait();
            }));
        }
        busy_.wait();
    }
    blocked_pool(const blocked_pool&) = delete;
    blocked_pool& operator=(const blocked_pool&) = delete;
    ~blocked_pool() { open(); }

    void open() {
        if (std::exchange(opened_, true)) return;
        gate_.count_down();
        for (const future<>& one : blockers_) one.wait();
    }
    /// The same from a thread that must not block.
    void open_without_waiting() {
        if (!std::exchange(opened_, true)) gate_.count_down();
    }

private:
    std::latch busy_;
    std::size_t size_;
    std::latch gate_{1};
    bool opened_ = false;
    std::vector<future<>> blockers_;
};

}  // namespace rondo::test
