#include <rondo/runtime/core/detail/timer_wheel.hpp>

#include <algorithm>
#include <utility>

namespace rondo::detail {

namespace {

timer_node* next_of(timer_node* node) noexcept { return static_cast<timer_node*>(node->next); }

// Merges two sorted chains that end in nullptr. Of equal deadlines, those of `first` come first.
timer_node* merge(timer_node* first, timer_node* second) noexcept {
    timer_link before;
    timer_link* last = &before;
    while (first && second) {
        timer_node*& smaller = second->deadline < first->deadline ? second : first;
        last->next = smaller;
        last = smaller;
        smaller = next_of(smaller);
    }
    last->next = first ? first : second;
    return static_cast<timer_node*>(before.next);
}

}  // namespace

void timer_list::append(timer_list& other) noexcept {
    if (other.empty()) return;
    other.head_.next->prev = head_.prev;
    other.head_.prev->next = &head_;
    head_.prev->next = other.head_.next;
    head_.prev = other.head_.prev;
    other.head_.next = other.head_.prev = &other.head_;
}

// A bottom-up merge sort: runs[i] is empty or holds 2^i timers, all of them armed before those of
// the runs below it.
void timer_list::sort() noexcept {
    const auto in_order = [this] {
        for (timer_node* node = &front(); node != &back(); node = next_of(node)) {
            if (next_of(node)->deadline < node->deadline) return false;
        }
        return true;
    };
    if (empty() || in_order()) return;

    std::array<timer_node*, 64> runs{};
    back().next = nullptr;
    for (timer_node* node = &front(); node;) {
        timer_node* run = node;
        node = next_of(node);
        run->next = nullptr;
        std::size_t i = 0;
        for (; runs[i]; ++i) run = merge(std::exchange(runs[i], nullptr), run);
        runs[i] = run;
    }
    timer_node* sorted = nullptr;
    for (timer_node* run : runs) {
        if (run) sorted = merge(run, sorted);
    }

    head_.next = head_.prev = &head_;
    while (sorted) {
        timer_node* node = sorted;
        sorted = next_of(sorted);
        push_back(*node);
    }
}

timer_node* timer_wheel::expire(std::int64_t now_ns) noexcept {
    while (true) {
        sort_due();
        if (!due_.empty()) {
            timer_node& first = due_.front();
            if (first.deadline > now_ns) break;
            take(first);
            return &first;
        }
        if (!advance(tick_of(now_ns))) break;
    }
    // The start of a slot may have been promised; the next promise must lie ahead.
    if (earliest_ <= now_ns) earliest_ = unknown;
    return nullptr;
}

// Brings the timers of fresh_ to their places in due_.
void timer_wheel::sort_due() noexcept {
    if (fresh_.empty()) return;
    fresh_.sort();
    timer_link* place = due_.end();
    if (!due_.empty() && fresh_.front().deadline < due_.back().deadline) place = &due_.front();
    while (place != due_.end() && !fresh_.empty()) {
        timer_node& node = fresh_.front();
        if (node.deadline < static_cast<timer_node*>(place)->deadline) {
            timer_list::remove(node);
            timer_list::insert_before(*place, node);
        } else {
            place = place->next;
        }
    }
    due_.append(fresh_);
}

// Moves on to the next tick that has timers, if there is one up to `target`, else to `target`.
// It goes no further than that one tick, so that timers armed while it is worked off still find a
// slot of their own. Returns whether any timers have become fresh. Precondition: none is due.
bool timer_wheel::advance(std::int64_t target) noexcept {
    if (target <= tick_) return false;
    position at{};
    while (find_first(at)) {
        const std::int64_t start = start_of(at);
        if (start > target) break;
        enter(at, start);
        if (!fresh_.empty()) return true;
    }
    tick_ = target;
    return false;
}

// Makes the start of a slot the current tick and deals its timers out to the levels below.
// Precondition: it is the first slot with timers, so that all others keep their places.
void timer_wheel::enter(position at, std::int64_t start) noexcept {
    timer_list moving;
    moving.append(slots_[at.level][at.slot]);
    tick_ = start;
    if (at.level == 0) return fresh_.append(moving);
    while (!moving.empty()) {
        timer_node& node = moving.front();
        timer_list::remove(node);
        place(node);
    }
}

// Finds the slot with the earliest timers: a level has only timers earlier than those of the
// levels above it, and its slots are in order, since all of them lie ahead of the current tick.
bool timer_wheel::find_first(position& at) noexcept {
    for (int level = 0; level < levels; ++level) {
        while (occupied_[level] != 0) {
            const int slot = std::countr_zero(occupied_[level]);
            if (!slots_[level][slot].empty()) {
                at = {level, slot};
                return true;
            }
            occupied_[level] &= occupied_[level] - 1;
        }
    }
    return false;
}

std::int64_t timer_wheel::start_of(position at) const noexcept {
    const int shift = slot_bits * at.level;
    const std::int64_t above = tick_ >> (shift + slot_bits) << slot_bits;
    return (above | at.slot) << shift;
}

std::int64_t timer_wheel::find_earliest() noexcept {
    sort_due();
    if (!due_.empty()) return due_.front().deadline;
    position at{};
    if (!find_first(at)) return never;
    timer_list& slot = slots_[at.level][at.slot];
    std::int64_t earliest = never;
    int seen = 0;
    for (timer_link* link = &slot.front(); link != slot.end(); link = link->next) {
        if (++seen > scan_limit) return start_of(at) << tick_bits;
        earliest = std::min(earliest, static_cast<timer_node*>(link)->deadline);
    }
    return earliest;
}

}  // namespace rondo::detail
