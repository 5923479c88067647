#pragma once
// Sees whether the stack grows: a loop of awaits must come back to the same place each time round.
//
//     stack_depth stack;
//     for (...) {
//         co_await work();
//         stack.look();
//     }
//     CHECK(stack.grown() < stack_depth::harmless);

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace rondo::test {

class stack_depth {
public:
    /// A few calls more or less.
    static constexpr std::size_t harmless = std::size_t{16} * 1024;

    [[gnu::noinline]] void look() noexcept {
        const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        lowest_ = std::min(lowest_, here);
        highest_ = std::max(highest_, here);
    }

    /// Bytes between the deepest and the shallowest look.
    std::size_t grown() const noexcept { return highest_ - lowest_; }

private:
    std::uintptr_t lowest_ = UINTPTR_MAX;
    std::uintptr_t highest_ = 0;
};

}  // namespace rondo::test
