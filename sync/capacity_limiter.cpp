#include <rondo/sync/capacity_limiter.hpp>

#include <rondo/runtime/detail/stay.hpp>

#include <bit>
#include <mutex>
#include <stdexcept>

namespace rondo {

namespace detail {

std::size_t borrower_set::home_of(const borrower_id& one) const noexcept {
    // Fibonacci hashing: the high bits of the product depend on all bits of what is multiplied.
    constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(one.address));
    return static_cast<std::size_t>((address + one.number) * golden >> 32) & (places_.size() - 1);
}

std::size_t borrower_set::find(const borrower_id& one) const noexcept {
    std::size_t at = home_of(one);
    while (places_[at].address != nullptr && places_[at] != one)
        at = (at + 1) & (places_.size() - 1);
    return at;
}

void borrower_set::reserve(std::size_t count) {
    if (2 * count <= places_.size()) return;
    std::vector<borrower_id> old(std::bit_ceil(4 * count));
    old.swap(places_);
    for (const borrower_id& one : old) {
        if (one.address != nullptr) places_[find(one)] = one;
    }
}

void borrower_set::insert(const borrower_id& one) noexcept {
    places_[find(one)] = one;
    ++size_;
}

void borrower_set::erase(const borrower_id& one) noexcept {
    const std::size_t mask = places_.size() - 1;
    std::size_t gap = find(one);
    places_[gap] = {};
    --size_;
    // Those behind it move up, where that does not bring them before their home.
    for (std::size_t at = (gap + 1) & mask; places_[at].address != nullptr; at = (at + 1) & mask) {
        const std::size_t distance = (at - home_of(places_[at])) & mask;
        if (distance < ((at - gap) & mask)) continue;
        places_[gap] = std::exchange(places_[at], {});
        gap = at;
    }
}

}  // namespace detail

namespace {

detail::borrower_id this_task() {
    const void* task = detail::task_identity();
    if (task == nullptr) throw std::logic_error("capacity_limiter: no task is running here");
    return {task, detail::current_core->current->id};
}

// Tasks count from 1.
detail::borrower_id other_than_task(capacity_limiter::borrower holder) { return {holder, 0}; }

}  // namespace

capacity_limiter::acquire_awaiter capacity_limiter::acquire() { return {*this, this_task()}; }

capacity_limiter::acquire_awaiter capacity_limiter::acquire_for(borrower holder) {
    return {*this, other_than_task(holder)};
}

std::optional<capacity_limiter::token> capacity_limiter::try_acquire() {
    return try_take(this_task());
}

std::optional<capacity_limiter::token> capacity_limiter::try_acquire_for(borrower holder) {
    return try_take(other_than_task(holder));
}

std::optional<capacity_limiter::token> capacity_limiter::try_take(
    const detail::borrower_id& holder) {
    const std::lock_guard guard(lock_);
    if (borrowed_ >= total_ && !known_.contains(holder)) return std::nullopt;
    enlist(holder);
    ++borrowed_;
    return token{*this, holder};
}

void capacity_limiter::set_total(std::size_t total) noexcept {
    detail::wake_list served;
    {
        const std::lock_guard guard(lock_);
        total_ = total;
        served = serve_line();
    }
    served.wake_all();
}

capacity_limiter::statistics capacity_limiter::current() const noexcept {
    const std::lock_guard guard(lock_);
    return {total_, borrowed_, line_.size()};
}

// Under the lock.
void capacity_limiter::enlist(const detail::borrower_id& holder) {
    if (holder.address == nullptr)
        throw std::logic_error("capacity_limiter: nobody asks for a token");
    if (known_.contains(holder)) {
        throw std::logic_error(
            "capacity_limiter: who holds a token, or waits for one, takes another");
    }
    known_.reserve(known_.size() + 1);
    known_.insert(holder);
}

// Under the lock.
detail::wake_list capacity_limiter::serve_line() noexcept {
    detail::wake_list served;
    while (!line_.empty() && borrowed_ < total_) {
        served.push(line_.pop());
        ++borrowed_;
    }
    return served;
}

void capacity_limiter::release(const detail::borrower_id& holder) noexcept {
    detail::wake_list served;
    {
        const std::lock_guard guard(lock_);
        known_.erase(holder);
        --borrowed_;
        served = serve_line();
    }
    served.wake_all();
}

// False: it has its token.
bool capacity_limiter::take_or_join(acquire_awaiter& one) {
    one.prepare();
    const std::lock_guard guard(lock_);
    enlist(one.holder_);
    if (borrowed_ < total_) {
        ++borrowed_;
        return false;
    }
    line_.push(one);
    return true;
}

// False: it was given its token.
bool capacity_limiter::leave_line(acquire_awaiter& one) noexcept {
    const std::lock_guard guard(lock_);
    if (!one.in_line()) return false;
    line_.remove(one);
    known_.erase(one.holder_);
    return true;
}

void capacity_limiter::acquire_awaiter::describe(std::FILE* out) const {
    const statistics now = limiter_.current();
    std::fprintf(out, "a token of a capacity_limiter, %zu of %zu borrowed", now.borrowed,
                 now.total);
}

}  // namespace rondo
