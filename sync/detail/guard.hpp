#pragma once
// What a primitive gives to who has locked or acquired it.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <memory>
#include <utility>

namespace rondo::detail {

/// Gives back when destroyed, by calling GiveBack with the primitive. Moves, does not copy.
template <class Of, class GiveBack>
class [[nodiscard]] basic_guard {
public:
    /// Unlocks ahead of time.
    void unlock() noexcept { of_.reset(); }
    bool owns_lock() const noexcept { return of_ != nullptr; }

protected:
    friend Of;
    explicit basic_guard(Of& of, GiveBack give_back = {}) noexcept : of_(&of, give_back) {}

    std::unique_ptr<Of, GiveBack> of_;
};

}  // namespace rondo::detail
