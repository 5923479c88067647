#include <rondo/runtime/call_later.hpp>

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>

#include <exception>

namespace rondo::detail {

void scheduled_call::start(std::int64_t at) noexcept {
    if (current_core == nullptr) misuse("call_later() is called outside of run()");
    home_ = current_core->owner;
    next_ = home_->calls_;
    if (next_ != nullptr) next_->previous_ = this;
    home_->calls_ = this;
    home_->core_.timers.arm(*this, at);
}

// Whoever is the last to let go deletes it.
void scheduled_call::leave_scheduler() noexcept {
    (previous_ == nullptr ? home_->calls_ : previous_->next_) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
    home_ = nullptr;
    if (!has_handle_) delete this;
}

bool scheduled_call::cancel_call() noexcept {
    if (!armed()) return false;
    home_->core_.timers.cancel(*this);
    leave_scheduler();
    return true;
}

void scheduled_call::drop_handle() noexcept {
    has_handle_ = false;
    if (home_ == nullptr) delete this;
}

void scheduled_call::expired() noexcept {
    try {
        call();
    } catch (...) {
        home_->threads_.fail(std::current_exception());
    }
    leave_scheduler();
}

}  // namespace rondo::detail
