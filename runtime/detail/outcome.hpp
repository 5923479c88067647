#pragma once
// How a coroutine ended: with a value, with an exception, or not yet.

#include <rondo/runtime/detail/misuse.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace rondo::detail {

template <class T>
class outcome {
public:
    outcome() noexcept {}
    outcome(const outcome&) = delete;
    outcome& operator=(const outcome&) = delete;
    ~outcome() {
        if (state_ == state::value) {
            std::destroy_at(&value_);
        } else if (state_ == state::error) {
            std::destroy_at(&error_);
        }
    }

    template <class... Args>
    void emplace(Args&&... args) {
        ::new (static_cast<void*>(std::addressof(value_))) stored(std::forward<Args>(args)...);
        state_ = state::value;
    }
    void fail(std::exception_ptr error) noexcept {
        // A coroutine may throw after `co_return value`: from the destructor of one of its locals.
        if (state_ == state::value) std::destroy_at(&value_);
        ::new (static_cast<void*>(&error_)) std::exception_ptr(std::move(error));
        state_ = state::error;
    }

    std::exception_ptr* error() noexcept { return state_ == state::error ? &error_ : nullptr; }

    /// Moves the value out, or throws the exception.
    T take() {
        if (state_ == state::error) std::rethrow_exception(error_);
        if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*value_);
        } else {
            return std::move(value_);
        }
    }

private:
    using stored = std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*,
                                      std::remove_cv_t<T>>;
    enum class state : std::uint8_t { none, value, error };

    union {
        stored value_;
        std::exception_ptr error_;
    };
    state state_ = state::none;
};

template <>
class outcome<void> {
public:
    void emplace() noexcept {}
    void fail(std::exception_ptr error) noexcept { error_ = std::move(error); }
    std::exception_ptr* error() noexcept { return error_ ? &error_ : nullptr; }
    void take() {
        if (error_) std::rethrow_exception(error_);
    }

private:
    std::exception_ptr error_;
};

}  // namespace rondo::detail
