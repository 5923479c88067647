#pragma once
// Whether a reactor that has nothing to do looks for work for a moment before it sleeps.
//
// Waking an idle core takes longer than many a request. But looking costs the core, so it is done
// only while it has lately been worth it: found something before the time was up, or would have,
// as the sleep that was chosen instead was shorter than that.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::detail {

class spin_policy {
public:
    /// `patience`: nanoseconds to look before a sleep; 0: never.
    explicit spin_policy(std::int64_t patience) noexcept : patience_(patience) {}

    bool enabled() const noexcept { return patience_ > 0; }
    bool worthwhile() const noexcept { return enabled() && credit_ > 0; }
    std::int64_t patience() const noexcept { return patience_; }

    /// After a look, and how long it took: less than `patience` if it found something in time.
    void looked(std::int64_t nanoseconds) noexcept {
        if (nanoseconds < patience_) {
            credit_ = std::min(credit_ + 1, most_credit);
        } else {
            credit_ = std::max(credit_ - 1, 0);
        }
    }
    /// After a sleep that no look came before: with one, the wait was longer than any look.
    void slept(std::int64_t nanoseconds) noexcept {
        if (nanoseconds < patience_) looked(nanoseconds);
    }

private:
    // So many looks in vain and there are no more, until a sleep turns out short.
    static constexpr int most_credit = 8;

    std::int64_t patience_;
    int credit_ = 1;
};

}  // namespace rondo::detail
