#include <rondo/runtime/threads/future.hpp>

#include <rondo/runtime/core/unheard_error.hpp>

#include <climits>
#include <cstdio>
#include <utility>

namespace rondo::detail {

namespace {

bool holds_cancellation(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const operation_cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
}

}  // namespace

future_state_base::~future_state_base() {
    // relaxed: the last reference is gone, and release() has ordered everything before this
    if ((status_.load(std::memory_order_relaxed) & abandoned) == 0) report_if_unheard();
    waiter_node* node = waiters_.load(std::memory_order_relaxed);
    if (node == closed()) node = notified_;
    while (node != nullptr) {
        waiter_node* const next = node->next_.load(std::memory_order_relaxed);
        if (node != &first_) delete node;
        node = next;
    }
}

bool future_state_base::cancel() noexcept {
    std::uint32_t status = status_.load(std::memory_order_acquire);
    do {
        const std::uint32_t now = status & phase_bits;
        if (now == was_cancelled || now == cancelling) return true;
        if (now != pending) {
            status_.fetch_or(heard, std::memory_order_relaxed);
            return false;
        }
    } while (!status_.compare_exchange_weak(status, cancelling | (status & ~phase_bits)));
    // The work, or a callback, may own the handle that this is called through.
    add_reference(other);
    forget_work();
    finish(was_cancelled);
    release();
    return true;
}

bool future_state_base::start() noexcept {
    std::uint32_t status = status_.load(std::memory_order_relaxed);
    do {
        const std::uint32_t now = status & phase_bits;
        if (now != pending) return now != was_cancelled && now != cancelling;
    } while (!status_.compare_exchange_weak(status, began | (status & ~phase_bits)));
    return true;
}

future_state_base::claim_result future_state_base::claim() noexcept {
    std::uint32_t status = status_.load(std::memory_order_relaxed);
    do {
        const std::uint32_t now = status & phase_bits;
        if (now == was_cancelled || now == cancelling) return claim_result::cancelled;
        if (now != pending && now != began) return claim_result::too_late;
    } while (!status_.compare_exchange_weak(status, completing | (status & ~phase_bits)));
    return claim_result::mine;
}

bool future_state_base::fail(std::exception_ptr error) noexcept {
    const claim_result claimed = claim();
    if (claimed == claim_result::mine) {
        error_ = std::move(error);
        add_reference(other);  // as in complete()
        finish(failed);
        release();
    }
    return claimed != claim_result::too_late;
}

void future_state_base::break_promise() noexcept {
    if (done()) return;
    status_.fetch_or(heard, std::memory_order_relaxed);  // nothing was thrown that could be lost
    fail(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise)));
}

// The last handle says `abandoned` and looks whether the result is there; this writes that it is
// and looks whether the handles are gone. So exactly one of the two destroys the result.
void future_state_base::finish(std::uint32_t outcome) noexcept {
    std::uint32_t before = status_.load(std::memory_order_relaxed);
    while (!status_.compare_exchange_weak(before, outcome | (before & (heard | abandoned)))) {
    }
    if ((before & thread_waits) != 0) futex_wake(&status_, INT_MAX);
    notify();
    if ((before & abandoned) != 0) drop_result();
}

void future_state_base::release_one_handle_of_several_references() noexcept {
    std::uint64_t now = references_.load(std::memory_order_acquire);
    for (;;) {
        if (now == handle) {
            delete this;
            return;
        }
        const bool last_handle = now >> 32 == 1;
        // The last one keeps the state until the result is gone. acq_rel: as in release()
        const std::uint64_t left = now - (last_handle ? handle - other : handle);
        if (!references_.compare_exchange_weak(now, left, std::memory_order_acq_rel,
                                               std::memory_order_acquire)) {
            continue;
        }
        if (!last_handle) return;
        if ((status_.fetch_or(abandoned) & phase_bits) >= has_value) drop_result();
        release();
        return;
    }
}

void future_state_base::drop_result() noexcept {
    switch (phase()) {
        case has_value: destroy_value(); break;
        case failed:
            report_if_unheard();
            error_ = nullptr;
            break;
        default: break;
    }
}

void future_state_base::report_if_unheard() noexcept {
    // relaxed: nobody else looks at the result any more
    if ((status_.load(std::memory_order_relaxed) & (phase_bits | heard)) != failed) return;
    if (holds_cancellation(error_)) return;
    report_unheard(std::move(error_), "a future that nobody asked");
}

// A waiter stands in the line before this exchange, and is woken, or finds the line closed, and
// does not wait. Nodes live as long as the state, so one that gives up while this walks by is safe.
void future_state_base::notify() noexcept {
    // acq_rel: the nodes' contents are seen, and who finds the line closed sees the status
    waiter_node* newest = waiters_.exchange(closed(), std::memory_order_acq_rel);
    waiter_node* oldest = nullptr;
    // The links are atomic, and no more than relaxed, for add_waiter() may be looking for a free
    // place; wherever they lead it, it finds nodes of this state or null.
    while (newest != nullptr) {
        waiter_node* const next = newest->next_.load(std::memory_order_relaxed);
        newest->next_.store(oldest, std::memory_order_relaxed);
        oldest = newest;
        newest = next;
    }
    notified_ = oldest;
    for (waiter_node* node = oldest; node != nullptr;
         node = node->next_.load(std::memory_order_relaxed)) {
        // acq_rel: what the waiter wrote before it stood there is seen by wake(), in which a reused
        // place is no different; a waiter that fails to withdraw needs nothing of this thread's
        wakeable* const who = node->target_.exchange(taken(), std::memory_order_acq_rel);
        if (who != nullptr) who->wake();
    }
}

waiter_node* future_state_base::add_waiter(wakeable& who) {
    // A place that somebody gave up: waits with a time limit, again and again, must not grow the
    // line. A place that the completion has passed is not free, so its exchange finds who stands
    // here. relaxed: the count only says that a search is worth while.
    if (free_places_.load(std::memory_order_relaxed) > 0) {
        waiter_node* node = waiters_.load(std::memory_order_acquire);
        while (node != nullptr && node != closed()) {
            wakeable* nobody = nullptr;
            // release: with the exchange in notify()
            if (node->target_.load(std::memory_order_relaxed) == nullptr &&
                node->target_.compare_exchange_strong(nobody, &who, std::memory_order_release,
                                                      std::memory_order_relaxed)) {
                free_places_.fetch_sub(1, std::memory_order_relaxed);
                return node;
            }
            node = node->next_.load(std::memory_order_relaxed);
        }
    }
    // relaxed: it only says whose the inline node is
    const bool inline_used = first_used_.exchange(true, std::memory_order_relaxed);
    waiter_node* const fresh = inline_used ? new waiter_node : &first_;
    if (add_own_waiter(*fresh, who)) return fresh;
    if (fresh != &first_) delete fresh;
    return nullptr;
}

bool future_state_base::add_own_waiter(waiter_node& node, wakeable& who) noexcept {
    node.target_.store(&who, std::memory_order_relaxed);  // published by the exchange below
    waiter_node* newest = waiters_.load(std::memory_order_acquire);
    do {
        // acquire, here and in the exchange: a thread that finds the list closed sees the result
        if (newest == closed()) return false;
        node.next_.store(newest, std::memory_order_relaxed);
    } while (!waiters_.compare_exchange_weak(newest, &node, std::memory_order_release,
                                             std::memory_order_acquire));
    return true;
}

bool future_state_base::withdraw(waiter_node& place, wakeable& who) noexcept {
    wakeable* expected = &who;
    // relaxed: the waiter that takes the place next needs nothing of this one's
    if (!place.target_.compare_exchange_strong(expected, nullptr, std::memory_order_relaxed)) {
        return false;
    }
    free_places_.fetch_add(1, std::memory_order_relaxed);
    return true;
}

void future_state_base::wait() const noexcept {
    auto& word = const_cast<std::atomic<std::uint32_t>&>(status_);
    for (;;) {
        // Either the completion's exchange sees the bit and wakes, or this sees the completion. The
        // kernel compares the word again before it sleeps.
        const std::uint32_t status = word.fetch_or(thread_waits) | thread_waits;
        if ((status & phase_bits) >= has_value) return;
        futex_wait(word, status);
    }
}

bool future_state_base::wait_until(std::int64_t deadline) const noexcept {
    auto& word = const_cast<std::atomic<std::uint32_t>&>(status_);
    for (;;) {
        const std::uint32_t status = word.fetch_or(thread_waits) | thread_waits;
        if ((status & phase_bits) >= has_value) return true;
        if (!futex_wait_until(word, status, deadline)) return done();
    }
}

void future_state_base::check_value(bool last) {
    switch (phase()) {
        case failed:
            // relaxed: the last handle to go comes after this one's end
            status_.fetch_or(heard, std::memory_order_relaxed);
            // The exception then ends where it is caught, not with the state, which whoever
            // completed it may be the last to let go of.
            if (last) {
                take_out();
                std::rethrow_exception(std::exchange(error_, nullptr));
            }
            // relaxed: as for a value in take()
            if ((status_.load(std::memory_order_relaxed) & taken_out) != 0) take_out();
            std::rethrow_exception(error_);
        case was_cancelled: throw operation_cancelled{};
        default: break;
    }
}

void future_state_base::take_out() {
    // relaxed: of those who ask, one gets the right; the value was published by the status before
    if ((status_.fetch_or(taken_out, std::memory_order_relaxed) & taken_out) != 0) {
        throw std::future_error(std::future_errc::future_already_retrieved);
    }
}

bool future_wait::start(promise_base& waiter, std::source_location where) {
    if constexpr (debug_checks) {
        if (state_ == nullptr) misuse("a future is awaited that stands for nothing", where);
    }
    was_cancelled_ = current_core->current->should_stop();
    if (was_cancelled_) return !keeps_turn(waiter, where);
    if (!state_->done()) {
        prepare();
        place_ = state_->add_waiter(*this);
    }
    if (place_ == nullptr) {
        if (keeps_turn(waiter, where)) return false;
        hold();
        return true;
    }
    hold();
    block(*this, waiter, where);
    return true;
}

void future_wait::cancel() noexcept {
    if (!state_->withdraw(*place_, *this)) return;  // the result is here, and its message coming
    was_cancelled_ = true;
    let_go();
    current_core->wake(*task);
}

void future_wait::describe(std::FILE* out) const { std::fputs("a future", out); }

void report_callback_error() noexcept {
    report_unheard(std::current_exception(), "a done callback of a future");
}

}  // namespace rondo::detail
