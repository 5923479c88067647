#include <rondo/runtime/core/result.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <concepts>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

using rondo::result;

static_assert(std::is_trivially_copyable_v<result<std::size_t>>);
static_assert(std::is_trivially_copyable_v<result<void>>);
static_assert(sizeof(result<char>) <= sizeof(std::error_code) + 8);
static_assert(sizeof(result<std::string>) <= sizeof(std::string) + 8);
static_assert(sizeof(result<void>) == sizeof(std::error_code));
static_assert(std::is_nothrow_move_constructible_v<result<std::unique_ptr<int>>>);
static_assert(!std::copyable<result<std::unique_ptr<int>>>);
static_assert(!std::convertible_to<result<int>, bool>);
static_assert(!std::constructible_from<result<std::string&>, std::string>);

namespace {

// Accepts anything at all, as std::any does.
struct glutton {
    template <class T>
        requires(!std::same_as<T, glutton>)
    glutton(T) {}
};

result<int> half(int n) {
    if (n % 2 != 0) return std::errc::invalid_argument;
    return n / 2;
}

}  // namespace

TEST_CASE("a result with a value gives it and has no error") {
    result<int> four = half(8);
    CHECK(four.has_value());
    CHECK(static_cast<bool>(four));
    CHECK(*four == 4);
    CHECK(four.value() == 4);
    CHECK(four.error() == std::error_code{});
    CHECK(four.value_or(7) == 4);
    *four = 5;
    CHECK(std::as_const(four).value() == 5);
    CHECK(*std::as_const(four) == 5);
}

TEST_CASE("a result with an error tells it and has no value") {
    const result<int> none = half(3);
    CHECK_FALSE(none.has_value());
    CHECK_FALSE(static_cast<bool>(none));
    CHECK(none.error() == std::errc::invalid_argument);
    CHECK(none.value_or(7) == 7);
}

TEST_CASE("value throws the error as a system_error") {
    const auto code_thrown_by = [](auto&& function) {
        try {
            function();
        } catch (const std::system_error& error) {
            return error.code();
        }
        return std::error_code{};
    };
    result<int> value = std::errc::connection_reset;
    int target = 0;
    result<int&> reference = std::errc::timed_out;
    result<void> nothing = std::errc::broken_pipe;
    CHECK(code_thrown_by([&] { (void)value.value(); }) == std::errc::connection_reset);
    CHECK(code_thrown_by([&] { (void)std::as_const(value).value(); }) ==
          std::errc::connection_reset);
    CHECK(code_thrown_by([&] { (void)std::move(value).value(); }) == std::errc::connection_reset);
    CHECK(code_thrown_by([&] { (void)reference.value(); }) == std::errc::timed_out);
    CHECK(code_thrown_by([&] { nothing.value(); }) == std::errc::broken_pipe);
    reference = target;
    CHECK(code_thrown_by([&] { (void)reference.value(); }) == std::error_code{});
}

TEST_CASE("a result is made from whatever its value is made from, and from error codes") {
    const result<std::string> text = "hello";
    CHECK(text->size() == 5);
    const std::error_code code(EAGAIN, std::system_category());
    const result<std::string> failed = code;
    CHECK(failed.error() == code);
    CHECK(failed.value_or("nothing") == "nothing");
}

TEST_CASE("an error code is an error even where the value could be made from one") {
    const result<glutton> failed = std::errc::timed_out;
    CHECK(failed.error() == std::errc::timed_out);
    const result<glutton> failed_too = std::make_error_code(std::errc::timed_out);
    CHECK(failed_too.error() == std::errc::timed_out);
    CHECK(result<glutton>(1).has_value());
    CHECK(result<bool>(std::errc::timed_out).error() == std::errc::timed_out);
}

TEST_CASE("a result of a move-only value gives it away") {
    result<std::unique_ptr<int>> first = std::make_unique<int>(1);
    result<std::unique_ptr<int>> second = std::move(first);
    std::unique_ptr<int> taken = std::move(second).value();
    REQUIRE(taken);
    CHECK(*taken == 1);

    result<std::unique_ptr<int>> third = std::make_unique<int>(3);
    taken = *std::move(third);
    CHECK(*taken == 3);

    result<std::unique_ptr<int>> failed = std::errc::io_error;
    taken = std::move(failed).value_or(std::make_unique<int>(5));
    CHECK(*taken == 5);
}

TEST_CASE("a result of a reference refers to the object itself") {
    int number = 1;
    int other = 2;
    const result<int&> found = number;
    ++*found;
    CHECK(number == 2);
    CHECK(&found.value() == &number);
    CHECK(&found.value_or(other) == &number);
    const result<int&> lost = std::errc::no_such_file_or_directory;
    CHECK(&lost.value_or(other) == &other);
    CHECK(lost.error() == std::errc::no_such_file_or_directory);

    std::string text = "abc";
    const result<const std::string&> read_only = text;
    CHECK(read_only->size() == 3);
}

TEST_CASE("a result of nothing is success or an error") {
    const result<> done;
    CHECK(done.has_value());
    CHECK_NOTHROW(done.value());
    CHECK_NOTHROW(*done);
    CHECK(done.error() == std::error_code{});
    const result<> failed = std::errc::broken_pipe;
    CHECK_FALSE(failed);
    CHECK(failed.error() == std::errc::broken_pipe);
    const result<> success_code = std::error_code{};
    CHECK(success_code.has_value());
}

TEST_CASE("assignment turns a value into an error and back") {
    result<std::string> text = "a text that is too long to be stored in place";
    text = std::errc::timed_out;
    CHECK(text.error() == std::errc::timed_out);
    text = "again a text that is too long to be stored in place";
    CHECK(text.value().starts_with("again"));
    const result<std::string> copy = text;
    CHECK(*copy == *text);
}

TEST_CASE("a result without a text of its own says what its code says") {
    const result<int> failed = std::errc::connection_refused;
    CHECK(failed.message() == std::make_error_code(std::errc::connection_refused).message());
    const result<int> found = 3;
    CHECK(found.message().empty());
    const result<> done;
    CHECK(done.message().empty());
}

TEST_CASE("a result keeps the text of its error, in its copies too, and value() throws it") {
    const std::error_code code = std::make_error_code(std::errc::connection_refused);
    const std::string text = "connect to 127.0.0.1:1: " + code.message();
    const result<int> failed = rondo::detail::explained_error{code, text};
    const result<int> copy = failed;
    CHECK(failed.error() == code);
    CHECK(copy.message() == text);
    const result<> nothing = rondo::detail::explained_error{code, text};
    CHECK(nothing.message() == text);
    const result<std::string&> reference = rondo::detail::explained_error{code, text};
    CHECK(reference.message() == text);
    CHECK_THROWS_WITH_AS(static_cast<void>(copy.value()), text.c_str(), std::system_error);
    CHECK_THROWS_WITH_AS(nothing.value(), text.c_str(), std::system_error);
}

TEST_CASE("an error whose text is gone, or lies with another thread, says what its code says") {
    const std::error_code code = std::make_error_code(std::errc::broken_pipe);
    const auto explained = [&](int number) {
        return result<int>(rondo::detail::explained_error{code, "error " + std::to_string(number)});
    };
    const result<int> first = explained(0);
    std::string elsewhere;
    std::thread([&] { elsewhere = first.message(); }).join();
    CHECK(elsewhere == code.message());
    for (int i = 1; i < 64; ++i) CHECK(explained(i).message() == "error " + std::to_string(i));
    CHECK(first.message() == "error 0");
    const result<int> last = explained(64);
    CHECK(first.message() == code.message());
    CHECK(last.message() == "error 64");
}
