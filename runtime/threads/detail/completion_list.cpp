#include <rondo/runtime/threads/detail/completion_list.hpp>

#include <cstdio>

namespace rondo::detail {

completion_list::completion_list(std::size_t size)
    : size_(size), entries_(std::make_unique<entry[]>(size)) {}

void completion_list::watch(std::size_t index, future_state_base& state) {
    entry& one = entries_[index];
    one.list = this;
    one.state = &state;
    one.index = index;
    if (state.done()) {
        append(one);
        return;
    }
    references_.fetch_add(1, std::memory_order_relaxed);  // the consumer's own keeps the list
    try {
        one.place = state.add_waiter(one);
    } catch (...) {
        release(1);
        throw;
    }
    if (one.place == nullptr) {
        release(1);
        append(one);
    }
}

void completion_list::append(entry& one) noexcept {
    one.next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = &one;
    last_ = &one;
}

bool completion_list::ready() noexcept {
    if (first_ != nullptr) return true;
    // acquire, with the push: the entry, and the future's result, are seen
    if (pushed_.load(std::memory_order_relaxed) == nullptr) return false;
    entry* newest = pushed_.exchange(nullptr, std::memory_order_acquire);
    last_ = newest;
    while (newest != nullptr) {
        entry* const next = newest->next;
        newest->next = first_;
        first_ = newest;
        newest = next;
    }
    return true;
}

std::size_t completion_list::next() noexcept {
    ready();  // the wake-up may have come in the place of the look
    entry& one = *first_;
    first_ = one.next;
    one.place = nullptr;  // its future may go before the consumer leaves
    return one.index;
}

void completion_list::wait() noexcept {
    while (!ready()) {
        thread_wait here;
        if (arm(here)) here.wait();
    }
}

bool completion_list::arm(wakeable& consumer) noexcept {
    consumer_.store(&consumer);
    if (pushed_.load() == nullptr) return true;
    // Something came. Whoever takes consumer_ first decides whether a wake-up comes too.
    return consumer_.exchange(nullptr) != &consumer;
}

bool completion_list::disarm(wakeable& consumer) noexcept {
    wakeable* expected = &consumer;
    return consumer_.compare_exchange_strong(expected, nullptr);
}

void completion_list::completed(entry& one) noexcept {
    // The consumer may drop the list as soon as it sees the entry: the entry's own reference keeps
    // it until the end of this.
    entry* newest = pushed_.load(std::memory_order_relaxed);
    do {
        one.next = newest;
    } while (!pushed_.compare_exchange_weak(newest, &one));
    if (wakeable* const consumer = consumer_.exchange(nullptr)) consumer->wake();
    release(1);
}

void completion_list::leave() noexcept {
    std::size_t mine = 1;
    for (std::size_t i = 0; i < size_; ++i) {
        entry& one = entries_[i];
        if (one.place != nullptr && one.state->withdraw(*one.place, one)) ++mine;
    }
    release(mine);
}

void completion_list::release(std::size_t count) noexcept {
    // acq_rel: what each holder did comes before the end
    if (references_.fetch_sub(count, std::memory_order_acq_rel) == count) delete this;
}

bool completion_wait::start(promise_base& waiter, std::source_location where) noexcept {
    was_cancelled_ = current_core->current->should_stop();
    if (was_cancelled_ || list_ == nullptr || list_->ready()) return !keeps_turn(waiter, where);
    prepare();
    if (!list_->arm(*this)) return !keeps_turn(waiter, where);
    block(*this, waiter, where);
    return true;
}

void completion_wait::woken() noexcept {
    if (!list_->ready()) {
        was_cancelled_ = give_up_;
        // A completion whose entry an earlier call took has woken this one.
        if (!give_up_ && list_->arm(*this)) return;
    }
    current_core->wake(*task);
}

void completion_wait::cancel() noexcept {
    if (list_->disarm(*this)) {
        was_cancelled_ = true;
        current_core->wake(*task);
    } else {
        give_up_ = true;
    }
}

void completion_wait::describe(std::FILE* out) const {
    std::fputs("the first of some futures", out);
}

}  // namespace rondo::detail
