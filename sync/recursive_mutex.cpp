#include <rondo/sync/recursive_mutex.hpp>

namespace rondo {

const void* recursive_mutex::this_thread() noexcept {
    thread_local const char address = 0;
    return &address;
}

void recursive_mutex::check_owner() const noexcept {
    if (!is_owned_by(self())) {
        detail::misuse(
            "a recursive_mutex is unlocked by another task than the one that has locked it, here",
            locked_at_);
    }
}

}  // namespace rondo
