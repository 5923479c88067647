#pragma once
// What an operation gave: its value, or the std::error_code that says why there is none.
// For the places where an error is an everyday event and an exception would cost too much.
//
//     rondo::result<std::size_t> got = co_await rondo::as_result(stream.read_some(space));
//     if (!got) co_return log("client left: {}", got.message());  // read from 127.0.0.1:4031: ...
//     use(space.first(*got));

#include <rondo/runtime/core/detail/compiler.hpp>

#include <cassert>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace rondo {

namespace detail {

/// An error code together with the text that an exception for it would have had. It is as large as
/// a code and as cheap to copy: the text lies with the thread, which keeps those of its latest
/// errors.
class explained_error {
public:
    explained_error(std::error_code code = {}) noexcept
        : value_(code.value()), category_(&code.category()) {}

    /// `text` is the whole text. Where there is no memory for it, there is none.
    explained_error(std::error_code code, std::string_view text) noexcept;

    std::error_code code() const noexcept { return {value_, *category_}; }
    bool succeeded() const noexcept { return value_ == 0; }

    /// The text; the message of the code alone where there is none, or none any more.
    std::string message() const;

    /// Throws what the text comes from.
    [[noreturn]] void raise() const;

private:
    int value_;
    std::uint32_t text_ = 0;  // the number of the text; 0: there is none
    const std::error_category* category_;
};

/// The error of an operation that was to do what tried() says: `read from 127.0.0.1:5566`.
template <class Tried>
explained_error explain(std::error_code code, Tried tried) noexcept {
    if (code == std::errc::operation_canceled) return code;
    try {
        return {code, tried() + ": " + code.message()};
    } catch (...) {
        return code;  // for want of memory
    }
}

// What can be turned into the value of a result<T>. Error codes are left out, so that a T that
// could be made from an int, a bool or from anything at all never swallows one.
template <class From, class T>
concept result_value_from =
    std::convertible_to<From, T> && !std::same_as<std::remove_cvref_t<From>, std::error_code> &&
    !std::same_as<std::remove_cvref_t<From>, explained_error> &&
    !std::same_as<std::remove_cvref_t<From>, std::errc>;

}  // namespace detail

/// A T or an error. T is a value, maybe move-only, a reference, or void.
template <class T = void>
class [[nodiscard]] result {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && !std::is_array_v<T>);
    static_assert(!std::same_as<T, std::error_code> && !std::same_as<T, std::errc>,
                  "a result<std::error_code> could not tell its value from its error");

public:
    /// Holds a value.
    template <class From = T>
        requires detail::result_value_from<From, T> &&
                 (!std::same_as<std::remove_cvref_t<From>, result>)
    result(From&& value) noexcept(std::is_nothrow_constructible_v<T, From>)
        : held_(std::in_place_index<1>, std::forward<From>(value)) {}

    /// Holds an error. Precondition: `error` is one, not the empty code.
    result(std::error_code error) noexcept : held_(std::in_place_index<0>, error) {
        assert(error && "a result was given an error code that says success");
    }
    result(std::errc error) noexcept : result(std::make_error_code(error)) {}
    result(detail::explained_error error) noexcept : held_(std::in_place_index<0>, error) {}

    [[nodiscard]] bool has_value() const noexcept { return held_.index() == 1; }
    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// The value. Throws std::system_error with error() and message() when there is none.
    [[nodiscard]] T& value() & { return check(), **this; }
    [[nodiscard]] const T& value() const& { return check(), **this; }
    [[nodiscard]] T&& value() && { return check(), *std::move(*this); }

    /// The error; the empty code when there is a value.
    [[nodiscard]] std::error_code error() const noexcept {
        const auto* error = std::get_if<0>(&held_);
        return error ? error->code() : std::error_code{};
    }

    /// What the exception would have said: `connect to 127.0.0.1:1: Connection refused`; empty when
    /// there is a value. Each thread keeps the texts of its latest 64 errors; of an earlier one, or
    /// one of another thread, and of a cancellation it is the message of error() alone.
    [[nodiscard]] std::string message() const {
        return has_value() ? std::string() : std::get_if<0>(&held_)->message();
    }

    /// The value. Precondition: has_value().
    [[nodiscard]] T& operator*() & noexcept { return *pointer(); }
    [[nodiscard]] const T& operator*() const& noexcept { return *pointer(); }
    [[nodiscard]] T&& operator*() && noexcept { return std::move(*pointer()); }
    [[nodiscard]] T* operator->() noexcept { return pointer(); }
    [[nodiscard]] const T* operator->() const noexcept { return pointer(); }

    /// The value, or `other` when there is none.
    template <std::convertible_to<T> Other>
    [[nodiscard]] T value_or(Other&& other) const& {
        return has_value() ? **this : static_cast<T>(std::forward<Other>(other));
    }
    template <std::convertible_to<T> Other>
    [[nodiscard]] T value_or(Other&& other) && {
        return has_value() ? *std::move(*this) : static_cast<T>(std::forward<Other>(other));
    }

private:
    void check() const {
        if (!has_value()) [[unlikely]]
            std::get_if<0>(&held_)->raise();
    }

    T* pointer() noexcept {
        assert(has_value() && "the value of a result that holds an error");
        return std::get_if<1>(&held_);
    }
    const T* pointer() const noexcept { return const_cast<result*>(this)->pointer(); }

    std::variant<detail::explained_error, T> held_;
};

/// A reference or an error. The reference is not owned, and const results give it unchanged.
template <class T>
class [[nodiscard]] result<T&> {
public:
    result(T& value) noexcept : value_(std::addressof(value)) {}

    /// Holds an error. Precondition: `error` is one, not the empty code.
    result(std::error_code error) noexcept : error_(error) {
        assert(error && "a result was given an error code that says success");
    }
    result(std::errc error) noexcept : result(std::make_error_code(error)) {}
    result(detail::explained_error error) noexcept : error_(error) {}

    [[nodiscard]] bool has_value() const noexcept { return value_ != nullptr; }
    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// What it refers to. Throws std::system_error with error() and message() when it holds an
    /// error.
    [[nodiscard]] T& value() const {
        if (!has_value()) error_.raise();
        return *value_;
    }

    /// The error; the empty code when there is a value.
    [[nodiscard]] std::error_code error() const noexcept { return error_.code(); }

    /// What the exception would have said: `connect to 127.0.0.1:1: Connection refused`; empty when
    /// there is a value. Each thread keeps the texts of its latest 64 errors; of an earlier one, or
    /// one of another thread, and of a cancellation it is the message of error() alone.
    [[nodiscard]] std::string message() const {
        return has_value() ? std::string() : error_.message();
    }

    /// What it refers to. Precondition: has_value().
    [[nodiscard]] T& operator*() const noexcept { return *operator->(); }
    [[nodiscard]] T* operator->() const noexcept {
        assert(has_value() && "the value of a result that holds an error");
        return value_;
    }

    /// What it refers to, or `other` when it holds an error.
    [[nodiscard]] T& value_or(T& other) const noexcept { return has_value() ? *value_ : other; }

private:
    T* value_ = nullptr;
    detail::explained_error error_;
};

/// Success or an error.
template <>
class [[nodiscard]] result<void> {
public:
    /// Success.
    result() noexcept = default;

    /// An error; the empty code is success.
    result(std::error_code error) noexcept : error_(error) {}
    result(std::errc error) noexcept : result(std::make_error_code(error)) {}
    result(detail::explained_error error) noexcept : error_(error) {}

    [[nodiscard]] bool has_value() const noexcept { return error_.succeeded(); }
    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// Throws std::system_error with error() and message() when it holds an error.
    void value() const {
        if (!has_value()) error_.raise();
    }

    /// The error; the empty code on success.
    [[nodiscard]] std::error_code error() const noexcept { return error_.code(); }

    /// What the exception would have said: `connect to 127.0.0.1:1: Connection refused`; empty when
    /// there is a value. Each thread keeps the texts of its latest 64 errors; of an earlier one, or
    /// one of another thread, and of a cancellation it is the message of error() alone.
    [[nodiscard]] std::string message() const {
        return has_value() ? std::string() : error_.message();
    }

    /// Precondition: has_value().
    void operator*() const noexcept {
        assert(has_value() && "the value of a result that holds an error");
    }

private:
    detail::explained_error error_;
};

}  // namespace rondo
