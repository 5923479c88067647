#include <rondo/net/ip_address.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <net/if.h>

using rondo::ip_address;
using namespace std::string_view_literals;

static_assert(sizeof(ip_address) <= 24);
static_assert(ip_address::loopback_v6().is_loopback());
static_assert(ip_address() == ip_address::any_v4());

TEST_CASE("an IPv4 address is parsed and printed") {
    for (const char* text : {"0.0.0.0", "127.0.0.1", "192.0.2.17", "255.255.255.255"}) {
        CAPTURE(text);
        const auto address = ip_address::parse(text);
        CHECK(address.is_v4());
        CHECK_FALSE(address.is_v6());
        CHECK(address.bytes().size() == 4);
        CHECK(address.to_string() == text);
    }
    const auto address = ip_address::parse("1.2.3.4");
    CHECK(std::ranges::equal(address.bytes(), std::vector{1, 2, 3, 4}));
    CHECK(address == ip_address(ip_address::v4_bytes{1, 2, 3, 4}));
}

TEST_CASE("an IPv6 address is parsed and printed as RFC 5952 wants it") {
    const std::pair<const char*, const char*> cases[] = {
        {"::", "::"},
        {"::1", "::1"},
        {"2001:DB8::0007", "2001:db8::7"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"1:0:0:2:0:0:0:3", "1:0:0:2::3"},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    };
    for (const auto& [text, canonical] : cases) {
        CAPTURE(text);
        const auto address = ip_address::parse(text);
        CHECK(address.is_v6());
        CHECK(address.bytes().size() == 16);
        CHECK(address.to_string() == canonical);
        CHECK(ip_address::parse(canonical) == address);
    }
}

TEST_CASE("what is not an IP address is refused") {
    // clang-format off
    const std::string_view refused[] = {
        "", " ", "localhost", "300.1.2.3", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3",
        "01.2.3.4", "1.2.3.04", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "-1.2.3.4", "0x1.2.3.4",
        "1.2.3.4\0"sv, "1.2.3.4\0.5"sv, "\0"sv, "1.2.3.4:80", "1.2.3.4%1", "[::1]", ":", ":::",
        "1::2::3", "::12345", "::g", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1 ", "::1\0"sv,
        "::1%", "::1%1", "2001:db8::1%1", "fe80::1%", "fe80::1%0", "fe80::1%01", "fe80::1%1\0"sv,
        "fe80::1%1%1", "fe80::1%99999999999", "fe80::1%no-such-interface", "%1",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
    // clang-format on
    for (const auto text : refused) {
        CAPTURE(std::string(text));
        CHECK_FALSE(ip_address::try_parse(text));
        CHECK_THROWS_AS((void)ip_address::parse(text), std::invalid_argument);
    }
    CHECK_FALSE(ip_address::try_parse(std::string(100'000, '1')));
}

TEST_CASE("the error of parse names the text, on one line") {
    CHECK_THROWS_WITH_AS((void)ip_address::parse("300.1.2.3"), "\"300.1.2.3\" is not an IP address",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)ip_address::parse("a\n\"\\\0\xff"sv),
                         R"("a\x0a\"\\\x00\xff" is not an IP address)", std::invalid_argument);
    const std::string longer(5'000, 'x');
    CHECK_THROWS_WITH_AS((void)ip_address::parse(longer),
                         ("\"" + std::string(80, 'x') + "...\" is not an IP address").c_str(),
                         std::invalid_argument);
}

TEST_CASE("an IPv6 link-local address has a scope") {
    const auto address = ip_address::parse("fe80::1%7");
    CHECK(address.is_v6());
    CHECK(address.scope_id() == 7);
    CHECK(address.to_string() == "fe80::1%7");
    CHECK(address != ip_address::parse("fe80::1"));
    CHECK(address != ip_address::parse("fe80::1%8"));
    CHECK(ip_address::parse("ff02::1%4294967295").scope_id() == 4294967295);
    CHECK(ip_address::parse("fe80::1").scope_id() == 0);

    const unsigned index = if_nametoindex("lo");
    const auto named = ip_address::try_parse("fe80::1%lo");
    CHECK(named.has_value() == (index != 0));
    if (named) CHECK(named->scope_id() == index);
}

TEST_CASE("an IP address knows the special ones") {
    CHECK(ip_address::loopback_v4().to_string() == "127.0.0.1");
    CHECK(ip_address::loopback_v6().to_string() == "::1");
    CHECK(ip_address::any_v4().to_string() == "0.0.0.0");
    CHECK(ip_address::any_v6().to_string() == "::");
    for (const char* text : {"127.0.0.1", "127.255.0.3", "::1"}) {
        CHECK(ip_address::parse(text).is_loopback());
    }
    for (const char* text : {"0.0.0.0", "128.0.0.1", "::", "::2", "7f00::1"}) {
        CHECK_FALSE(ip_address::parse(text).is_loopback());
    }
    CHECK(ip_address::any_v4().is_any());
    CHECK(ip_address::any_v6().is_any());
    CHECK_FALSE(ip_address::loopback_v4().is_any());
    CHECK_FALSE(ip_address::loopback_v6().is_any());
    for (const char* text : {"fe80::1", "febf::", "ff01::1", "ff02::1", "ff12::1"}) {
        CHECK(ip_address::parse(text).is_link_local_v6());
    }
    for (const char* text : {"fec0::1", "ff05::2", "254.128.0.1", "::1"}) {
        CHECK_FALSE(ip_address::parse(text).is_link_local_v6());
    }
}

TEST_CASE("IP addresses are in numeric order, IPv4 before IPv6") {
    std::vector<ip_address> addresses;
    for (const char* text : {"::1", "10.0.0.2", "fe80::1%2", "9.255.0.1", "::", "fe80::1%1",
                             "10.0.0.1", "255.0.0.0"}) {
        addresses.push_back(ip_address::parse(text));
    }
    std::ranges::sort(addresses);
    std::vector<std::string> sorted;
    for (const auto& address : addresses) sorted.push_back(address.to_string());
    CHECK(sorted == std::vector<std::string>{"9.255.0.1", "10.0.0.1", "10.0.0.2", "255.0.0.0",
                                             "::", "::1", "fe80::1%1", "fe80::1%2"});
    CHECK(ip_address::any_v4() != ip_address::any_v6());
}

TEST_CASE("IP addresses can be kept in a hash table") {
    std::unordered_set<ip_address> seen;
    for (int i = 0; i < 1'000; ++i) {
        const auto high = static_cast<std::uint8_t>(i / 256);
        const auto low = static_cast<std::uint8_t>(i % 256);
        CHECK(seen.insert(ip_address(ip_address::v4_bytes{10, 0, high, low})).second);
    }
    CHECK(seen.contains(ip_address::parse("10.0.3.231")));
    CHECK_FALSE(seen.contains(ip_address::parse("10.0.3.232")));
    const std::hash<ip_address> hash;
    CHECK(hash(ip_address::parse("::1")) == hash(ip_address::loopback_v6()));
    CHECK(hash(ip_address::any_v4()) != hash(ip_address::any_v6()));
    CHECK(hash(ip_address::parse("fe80::1%1")) != hash(ip_address::parse("fe80::1%2")));
}
