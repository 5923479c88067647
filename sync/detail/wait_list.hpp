#pragma once
// The line of tasks that wait for something, first come first served. Waiters are awaiters: nothing
// allocates.

#include <rondo/runtime/detail/core.hpp>

namespace rondo::detail {

class waiter : public suspension {
protected:
    ~waiter() = default;

private:
    friend class wait_list;
    waiter* next_ = nullptr;
    waiter* previous_ = nullptr;
};

class wait_list {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    void push(waiter& last) noexcept {
        last.next_ = nullptr;
        last.previous_ = last_;
        (last_ == nullptr ? first_ : last_->next_) = &last;
        last_ = &last;
    }

    void remove(waiter& one) noexcept {
        (one.previous_ == nullptr ? first_ : one.previous_->next_) = one.next_;
        (one.next_ == nullptr ? last_ : one.next_->previous_) = one.previous_;
    }

    void wake_all() noexcept {
        for (waiter* one = first_; one != nullptr;) {
            waiter* next = one->next_;
            current_core->wake(*one->task);
            one = next;
        }
        first_ = last_ = nullptr;
    }

private:
    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
};

}  // namespace rondo::detail
