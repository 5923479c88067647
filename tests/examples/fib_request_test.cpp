#include "../../examples/fib.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <variant>

using namespace std::string_view_literals;

namespace {

unsigned number(std::string_view line, unsigned max_n = 60) {
    const auto request = parse_request(line, max_n);
    REQUIRE_MESSAGE(std::holds_alternative<unsigned>(request), std::get<std::string>(request));
    return std::get<unsigned>(request);
}

std::string complaint(std::string_view line, unsigned max_n = 60) {
    const auto request = parse_request(line, max_n);
    REQUIRE_MESSAGE(std::holds_alternative<std::string>(request),
                    "accepted: " << std::string(line));
    return std::get<std::string>(request);
}

}  // namespace

TEST_CASE("fib starts with 1 1 and each further number is the sum of the two before it") {
    CHECK(fib(1) == 1);
    CHECK(fib(2) == 1);
    for (unsigned n = 3; n <= 20; ++n) CHECK(fib(n) == fib(n - 1) + fib(n - 2));
    CHECK(fib(10) == 55);
    CHECK(fib(20) == 6765);
}

TEST_CASE("largest_fib_n is the last one that 64 bits can hold") {
    unsigned long long previous = 1;
    unsigned long long current = 1;
    unsigned n = 2;
    for (unsigned long long next = 0; !__builtin_add_overflow(previous, current, &next); ++n) {
        previous = current;
        current = next;
    }
    CHECK(n == largest_fib_n);
}

TEST_CASE("a fib request is a decimal number from 1 to the limit") {
    CHECK(number("1") == 1);
    CHECK(number("20") == 20);
    CHECK(number("60") == 60);
    CHECK(number("007") == 7);
    CHECK(number(std::string(500, '0') + "7") == 7);
    CHECK(number("10", 10) == 10);
}

TEST_CASE("a fib request may have white space around it, as telnet and nc -C send") {
    CHECK(number("20\r") == 20);
    CHECK(number("20\r\n") == 20);
    CHECK(number(" \t20 \t") == 20);
    CHECK(number(" 20 \r") == 20);
}

TEST_CASE("a fib request out of range is told the range") {
    CHECK(complaint("0") == "error: 0 is out of range: n must be 1 to 60");
    CHECK(complaint("000") == "error: 000 is out of range: n must be 1 to 60");
    CHECK(complaint("61") == "error: 61 is out of range: n must be 1 to 60");
    CHECK(complaint("11", 10) == "error: 11 is out of range: n must be 1 to 10");
    CHECK(complaint("-3") == "error: -3 is out of range: n must be 1 to 60");
    // 2^32 + 20: would be 20 if it were cut to 32 bits.
    CHECK(complaint("4294967316") == "error: 4294967316 is out of range: n must be 1 to 60");
    CHECK(complaint("99999999999999999999") ==
          "error: 99999999999999999999 is out of range: n must be 1 to 60");
}

TEST_CASE("a fib request that is no number is told so and quoted") {
    CHECK(complaint("abc") == "error: \"abc\" is not a decimal number: n must be 1 to 60");
    CHECK(complaint("1e3") == "error: \"1e3\" is not a decimal number: n must be 1 to 60");
    for (const auto text :
         {"+5"sv, "-"sv, "--3"sv, "- 3"sv, "1 2"sv, "20."sv, "0x14"sv, "20\n10\n"sv, "\xd9\xa2"sv})
        CHECK(complaint(text).find("is not a decimal number") != std::string::npos);
}

TEST_CASE("an empty fib request is told that it is empty") {
    CHECK(complaint("") == "error: empty request: n must be 1 to 60");
    CHECK(complaint(" \t\r\n") == "error: empty request: n must be 1 to 60");
}

TEST_CASE("a fib request is quoted escaped: no byte of it can break the answer's line") {
    CHECK(complaint("1\0002"sv) == "error: \"1\\x002\" is not a decimal number: n must be 1 to 60");
    CHECK(complaint("a\"b\\c"sv) ==
          "error: \"a\\\"b\\\\c\" is not a decimal number: n must be 1 to 60");
    for (int byte = 0; byte < 256; ++byte) {
        const std::string line{'x', static_cast<char>(byte), 'x'};
        const std::string answer = complaint(line);
        CHECK(answer.starts_with("error: "));
        CHECK(
            std::all_of(answer.begin(), answer.end(), [](char c) { return c >= ' ' && c <= '~'; }));
    }
}

TEST_CASE("a long fib request is quoted by its first forty bytes") {
    CHECK(complaint(std::string(5000, 'x')) ==
          "error: \"" + std::string(40, 'x') + "...\" is not a decimal number: n must be 1 to 60");
    CHECK(complaint(std::string(5000, '7')) ==
          "error: " + std::string(40, '7') + "... is out of range: n must be 1 to 60");
    CHECK(complaint(std::string(40, 'x')) ==
          "error: \"" + std::string(40, 'x') + "\" is not a decimal number: n must be 1 to 60");
}
