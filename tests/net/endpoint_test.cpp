#include <rondo/net/endpoint.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

using rondo::endpoint;
using rondo::ip_address;
using namespace std::string_view_literals;

static_assert(endpoint() == endpoint(ip_address::any_v4(), 0));

TEST_CASE("an endpoint is an address and a port, and prints as both") {
    const endpoint v4{ip_address::loopback_v4(), 5566};
    CHECK(v4.address() == ip_address::loopback_v4());
    CHECK(v4.port() == 5566);
    CHECK(v4.to_string() == "127.0.0.1:5566");
    CHECK(endpoint(ip_address::loopback_v6(), 5566).to_string() == "[::1]:5566");
    CHECK(endpoint().to_string() == "0.0.0.0:0");
}

TEST_CASE("an endpoint parses what it prints") {
    for (const char* text : {"127.0.0.1:5566", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:5566",
                             "[::]:0", "[2001:db8::7]:80", "[fe80::1%2]:443"}) {
        CAPTURE(text);
        CHECK(endpoint::parse(text).to_string() == text);
        CHECK(endpoint::try_parse(text) == endpoint::parse(text));
    }
}

TEST_CASE("what is not an endpoint is refused with the reason") {
    const std::pair<std::string_view, const char*> cases[] = {
        {"", R"("" is not an endpoint: "" is not an IP address)"},
        {"127.0.0.1",
         R"("127.0.0.1" is not an endpoint: the port is missing, as in 127.0.0.1:5566)"},
        {"127.0.0.1:",
         R"("127.0.0.1:" is not an endpoint: the port is missing, as in 127.0.0.1:5566)"},
        {"[::1]", R"("[::1]" is not an endpoint: the port is missing, as in 127.0.0.1:5566)"},
        {":80", R"(":80" is not an endpoint: "" is not an IP address)"},
        {"localhost:80", R"("localhost:80" is not an endpoint: "localhost" is not an IP address)"},
        {"300.1.2.3:80", R"("300.1.2.3:80" is not an endpoint: "300.1.2.3" is not an IP address)"},
        {"1.2.3.4:65536",
         R"("1.2.3.4:65536" is not an endpoint: "65536" is not a port from 0 to 65535)"},
        {"[::1]:99999999999999999999", R"("[::1]:99999999999999999999" is not an endpoint: )"
                                       R"("99999999999999999999" is not a port from 0 to 65535)"},
        {"1.2.3.4:http",
         R"("1.2.3.4:http" is not an endpoint: "http" is not a port from 0 to 65535)"},
        {"1.2.3.4:80\0"sv,
         R"("1.2.3.4:80\x00" is not an endpoint: "80\x00" is not a port from 0 to 65535)"},
        {"::1:5566",
         R"("::1:5566" is not an endpoint: an IPv6 address stands in brackets, as in [::1]:5566)"},
        {"[::1:5566",
         R"("[::1:5566" is not an endpoint: the closing bracket is missing, as in [::1]:5566)"},
        {"[::1]5566",
         R"("[::1]5566" is not an endpoint: a colon must follow the bracket, not "5566")"},
        {"[127.0.0.1]:80",
         R"("[127.0.0.1]:80" is not an endpoint: "127.0.0.1" in brackets is not an IPv6 address)"},
    };
    for (const auto& [text, message] : cases) {
        CAPTURE(std::string(text));
        CHECK_FALSE(endpoint::try_parse(text));
        CHECK_THROWS_WITH_AS((void)endpoint::parse(text), message, std::invalid_argument);
    }
}

TEST_CASE("an endpoint with anything before, within or behind it is refused") {
    // clang-format off
    const std::string_view refused[] = {
        "1.2.3.4:-1", "1.2.3.4:+1", "1.2.3.4:080", "1.2.3.4:00", "1.2.3.4: 80", "1.2.3.4:80 ",
        " 1.2.3.4:80", "1.2.3.4 :80", "1.2.3.4:8 0", "1.2.3.4:0x50", "1.2.3.4:80\n", "1.2.3.4:8.0",
        "1.2.3.4\0:80"sv, "01.2.3.4:80", "1.2.3.4:80:90", "[::1]:080", "[::1] :80", "[]:80", "[:80",
        "]:80", ":", "[::1]]:80", "[[::1]]:80", "[::1", "[", "\0"sv};
    // clang-format on
    for (const auto text : refused) {
        CAPTURE(std::string(text));
        CHECK_FALSE(endpoint::try_parse(text));
        CHECK_THROWS_AS((void)endpoint::parse(text), std::invalid_argument);
    }
    CHECK_FALSE(endpoint::try_parse("1.2.3.4:" + std::string(100'000, '1')));
    CHECK_FALSE(endpoint::try_parse(std::string(100'000, '[')));
}

TEST_CASE("an endpoint survives the way to the kernel's form and back") {
    for (const char* text : {"127.0.0.1:5566", "[2001:db8::7]:80", "[fe80::1%3]:65535"}) {
        CAPTURE(text);
        const auto before = endpoint::parse(text);
        sockaddr_storage storage;
        std::memset(&storage, 0xee, sizeof storage);
        const socklen_t size = before.to_sockaddr(storage);
        const bool v4 = before.address().is_v4();
        CHECK(size == (v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
        CHECK(storage.ss_family == (v4 ? AF_INET : AF_INET6));
        CHECK(endpoint::from_sockaddr(storage) == before);
    }
}

TEST_CASE("the kernel understands an endpoint, and an endpoint what the kernel says") {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    sockaddr_storage storage;
    const socklen_t size = endpoint(ip_address::loopback_v4(), 0).to_sockaddr(storage);
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&storage), size) == 0);
    socklen_t got = sizeof storage;
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &got) == 0);
    close(fd);
    const auto bound = endpoint::from_sockaddr(storage);
    CHECK(bound.address() == ip_address::loopback_v4());
    CHECK(bound.port() != 0);
}

TEST_CASE("a socket address that is neither IPv4 nor IPv6 is refused") {
    sockaddr_storage storage{};
    storage.ss_family = AF_UNIX;
    CHECK_THROWS_WITH_AS((void)endpoint::from_sockaddr(storage),
                         "a socket address of family 1 is neither IPv4 nor IPv6",
                         std::invalid_argument);
}

TEST_CASE("endpoints are ordered by address and then by port, and hashed by both") {
    std::vector<endpoint> all;
    for (const char* text : {"[::1]:1", "2.0.0.1:1", "1.0.0.1:9", "1.0.0.1:80"}) {
        all.push_back(endpoint::parse(text));
    }
    std::ranges::sort(all);
    std::vector<std::string> sorted;
    for (const auto& one : all) sorted.push_back(one.to_string());
    CHECK(sorted == std::vector<std::string>{"1.0.0.1:9", "1.0.0.1:80", "2.0.0.1:1", "[::1]:1"});

    const std::unordered_set<endpoint> table(all.begin(), all.end());
    CHECK(table.contains(endpoint::parse("1.0.0.1:80")));
    CHECK_FALSE(table.contains(endpoint::parse("1.0.0.1:81")));
    const std::hash<endpoint> hash;
    CHECK(hash(all[0]) != hash(all[1]));
    CHECK(hash(all[0]) == hash(endpoint::parse("1.0.0.1:9")));
}
