#include <rondo/net/resolve.hpp>

#include <rondo/net/tcp.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/timeout.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

namespace {

// What the look-ups of this file find. A look-up of slow.test waits until it is let go.
std::atomic<int> all_lookups{0};
std::atomic<int> slow_lookups{0};
std::atomic<bool> slow_may_end{false};

/// An entry as getaddrinfo makes them: one piece of memory, for freeaddrinfo(3).
addrinfo* new_entry(const endpoint& where, addrinfo* next) {
    auto* memory = static_cast<char*>(std::calloc(1, sizeof(addrinfo) + sizeof(sockaddr_in6)));
    auto* entry = ::new (memory) addrinfo{};
    sockaddr_storage address{};
    entry->ai_addrlen = where.to_sockaddr(address);
    entry->ai_family = address.ss_family;
    entry->ai_socktype = SOCK_STREAM;
    entry->ai_addr = reinterpret_cast<sockaddr*>(memory + sizeof(addrinfo));
    std::memcpy(entry->ai_addr, &address, entry->ai_addrlen);
    entry->ai_next = next;
    return entry;
}

}  // namespace

}  // namespace rondo::test

// Answers for the names of this file in place of the system's resolver: no test asks the network.
extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** found) {
    using namespace rondo::test;
    using rondo::endpoint;
    using rondo::ip_address;
    const std::string_view host = name == nullptr ? "" : name;
    const endpoint v6{ip_address::loopback_v6(), 0};
    const endpoint v4{ip_address::loopback_v4(), 0};
    ++all_lookups;
    if (host == "none.test") return EAI_NONAME;
    if (host.find("localhost") != host.npos) return EAI_NONAME;  // the look-alikes
    if (host == "later.test") return EAI_AGAIN;
    if (host == "broken.test") {
        errno = EMFILE;
        return EAI_SYSTEM;
    }
    if (host == "slow.test") {
        ++slow_lookups;
        slow_may_end.wait(false);
        *found = new_entry(v4, nullptr);
        return 0;
    }
    if (host == "both.test") {
        *found = new_entry(v6, new_entry(v4, nullptr));
        return 0;
    }
    using function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    static const auto system = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    return system(name, service, hints, found);
}

namespace rondo::test {

namespace {

/// What resolve gives, as one text.
task<std::string> names_of(std::string host, std::uint16_t port) {
    std::string names;
    for (const endpoint& one : co_await resolve(std::move(host), port)) {
        names += (names.empty() ? "" : " ") + one.to_string();
    }
    co_return names;
}

task<> note(bool& had_a_turn) {
    had_a_turn = true;
    co_return;
}

// Lets a slow look-up begin, runs the rest meanwhile, and lets it end.
struct slow_lookup {
    slow_lookup() {
        slow_lookups = 0;
        slow_may_end = false;
    }
    ~slow_lookup() { end(); }
    task<> begun(int count = 1) const {
        while (slow_lookups < count) co_await yield();
    }
    void end() const {
        slow_may_end = true;
        slow_may_end.notify_all();
    }
};

}  // namespace

TEST_CASE("a numeric address resolves to itself, without a look-up") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK(co_await names_of("127.0.0.1", 80) == "127.0.0.1:80");
            CHECK(co_await names_of("::1", 0) == "[::1]:0");
            CHECK(co_await names_of("192.0.2.7", 65'535) == "192.0.2.7:65535");
        });
    });
}

TEST_CASE("a name resolves to its addresses in the resolver's order, each with the port") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK(co_await names_of("both.test", 80) == "[::1]:80 127.0.0.1:80");
            // Of the system's own resolver, which knows this way to write an address too.
            CHECK(co_await names_of("127.1", 80) == "127.0.0.1:80");
        });
    });
}

TEST_CASE("localhost and names below it are this machine, without a look-up") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const int before = all_lookups;
            task_group group;
            bool others_had_a_turn = false;
            group.spawn(note(others_had_a_turn));
            for (const char* name : {"localhost", "LOCALHOST.", "LocalHost", "a.localhost",
                                     "B.a.localhost.", "localhost.localhost"}) {
                CAPTURE(name);
                const std::string found = co_await names_of(name, 80);
                CHECK(found == "[::1]:80 127.0.0.1:80");
            }
            CHECK(all_lookups == before);
            CHECK_FALSE(others_had_a_turn);
            co_await group.join();
        });
    });
}

TEST_CASE("a name that only looks like localhost is looked up like any other") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            for (const char* name :
                 {"notlocalhost", "localhost.evil", "localhost.evil.", "localhost..", ".localhost",
                  "a..localhost", "..localhost", "localhosts", "a.localhost.b"}) {
                CAPTURE(name);
                const int before = all_lookups;
                const auto found = co_await as_result(resolve(name, 80));
                CHECK(found.error() == std::error_code(EAI_NONAME, resolver_category()));
                CHECK(all_lookups == before + 1);
            }
        });
    });
}

TEST_CASE("connecting to localhost reaches a listener of either address") {
    on_each_reactor_kind([](auto run) {
        for (const ip_address address : {ip_address::loopback_v6(), ip_address::loopback_v4()}) {
            CAPTURE(address.to_string());
            run([=]() -> task<> {
                auto listener = tcp_listener::bind(any_port(address));
                const std::uint16_t port = listener.local_endpoint().port();
                const auto client = co_await tcp_stream::connect("localhost", port);
                CHECK(client.remote_endpoint() == listener.local_endpoint());
            });
        }
    });
}

TEST_CASE("a name that does not resolve is an error that says which and why") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            CHECK(co_await complaint_of(resolve("none.test", 80)) ==
                  "resolve none.test: Name or service not known");
            const auto none = co_await as_result(resolve("none.test", 80));
            CHECK(none.error() == std::error_code(EAI_NONAME, resolver_category()));
            const auto later = co_await as_result(resolve("later.test", 80));
            CHECK(later.error() == std::error_code(EAI_AGAIN, resolver_category()));
            const auto broken = co_await as_result(resolve("broken.test", 80));
            CHECK(broken.error() == std::errc::too_many_files_open);
        });
    });
}

TEST_CASE("a name that contains a NUL is refused without a look-up, and shown in full") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            const int before = all_lookups;
            const std::string cut_address("127.0.0.1\0.example.com", 22);
            const std::string cut_name("both.test\0", 10);
            const std::string cut_localhost("localhost\0.localhost", 20);
            for (const std::string& name : {cut_address, cut_name, cut_localhost}) {
                CAPTURE(name);
                const auto found = co_await as_result(resolve(name, 80));
                CHECK(found.error() == std::error_code(EAI_NONAME, resolver_category()));
                const auto stream = co_await as_result(tcp_stream::connect(name, 80));
                CHECK(stream.error() == std::error_code(EAI_NONAME, resolver_category()));
            }
            CHECK(all_lookups == before);
            CHECK(co_await complaint_of(resolve(cut_address, 80)) ==
                  "resolve \"127.0.0.1\\x00.example.com\": Name or service not known");
            CHECK(co_await complaint_of(tcp_stream::connect(cut_address, 80)) ==
                  "connect to \"127.0.0.1\\x00.example.com\":80: Name or service not known");
        });
    });
}

TEST_CASE(
    "a look-up for which no thread can be started says which and why, and the next one works") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            pthread_attr_t usual;
            pthread_attr_t huge;
            REQUIRE(::pthread_getattr_default_np(&usual) == 0);
            REQUIRE(::pthread_attr_init(&huge) == 0);
            REQUIRE(::pthread_attr_setstacksize(&huge, std::size_t{1} << 60) == 0);
            REQUIRE(::pthread_setattr_default_np(&huge) == 0);
            const std::string thrown = co_await complaint_of(resolve("both.test", 80));
            const auto refused = co_await as_result(resolve("both.test", 80));
            REQUIRE(::pthread_setattr_default_np(&usual) == 0);
            CHECK(thrown == "resolve both.test: start a thread: Resource temporarily unavailable");
            CHECK(refused.error() == std::errc::resource_unavailable_try_again);
            CHECK(co_await names_of("both.test", 80) == "[::1]:80 127.0.0.1:80");
            ::pthread_attr_destroy(&usual);
            ::pthread_attr_destroy(&huge);
        });
    });
}

TEST_CASE("other tasks go on while a name is looked up") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            slow_lookup lookup;
            task_group group;
            auto one = group.spawn(names_of("slow.test", 1));
            auto two = group.spawn(names_of("slow.test", 2));
            co_await lookup.begun(2);
            auto [client, server] = co_await connected_pair();
            co_await client.write_all("meanwhile");
            CHECK(co_await read_text(server, 9) == "meanwhile");
            CHECK_FALSE(one.done());
            CHECK_FALSE(two.done());
            lookup.end();
            CHECK(co_await one == "127.0.0.1:1");
            CHECK(co_await two == "127.0.0.1:2");
            co_await group.join();
        });
    });
}

TEST_CASE("a look-up is cancelled before it begins; one in progress is waited for") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                slow_lookup lookup;
                task_group group;
                auto before = group.spawn(outcome_of(resolve("slow.test", 1), how));
                before.cancel();
                const auto first = co_await before;
                CHECK(first.error() == std::errc::operation_canceled);
                CHECK(slow_lookups == 0);

                auto during = group.spawn(outcome_of(resolve("slow.test", 1), how));
                co_await lookup.begun();
                during.cancel();
                co_await settle();
                CHECK_FALSE(during.done());
                lookup.end();
                const auto second = co_await during;
                CHECK(second.error() == std::errc::operation_canceled);
                co_await group.join();
            });
        }
    });
}

TEST_CASE("a hundred names are looked up at the same time") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            task_group group;
            std::vector<task_handle<std::string>> all;
            for (std::uint16_t port = 1; port <= 100; ++port) {
                all.push_back(group.spawn(names_of("both.test", port)));
            }
            co_await group.join();
            for (std::size_t i = 0; i < all.size(); ++i) {
                const std::string port = std::to_string(i + 1);
                CHECK(co_await all[i] == "[::1]:" + port + " 127.0.0.1:" + port);
            }
        });
    });
}

TEST_CASE("connecting by name tries each address until one answers") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            for (const ip_address address :
                 {ip_address::loopback_v6(), ip_address::loopback_v4()}) {
                CAPTURE(address.to_string());
                run([=]() -> task<> {
                    // Nobody listens on this port of the other address.
                    auto listener = tcp_listener::bind(any_port(address));
                    const std::uint16_t port = listener.local_endpoint().port();
                    const std::size_t before = open_descriptors();
                    {
                        auto client =
                            co_await outcome_of(tcp_stream::connect("both.test", port), how);
                        REQUIRE(client);
                        CHECK(client->remote_endpoint() == listener.local_endpoint());
                        auto server = co_await listener.accept();
                        co_await client->write_all("hello");
                        CHECK(co_await read_text(server, 5) == "hello");
                    }
                    co_await settle();
                    CHECK(open_descriptors() == before);
                });
            }
        }
    });
}

TEST_CASE("connecting by name fails with the last address's error, or the resolver's") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            std::uint16_t port = 0;
            {
                auto listener = tcp_listener::bind(any_port());
                port = listener.local_endpoint().port();
            }
            const std::string where = "both.test:" + std::to_string(port);
            const auto text = co_await complaint_of(tcp_stream::connect("both.test", port));
            CHECK(text == "connect to " + where + ": Connection refused");
            const auto refused = co_await as_result(tcp_stream::connect("both.test", port));
            CHECK(refused.error() == std::errc::connection_refused);
            CHECK(co_await complaint_of(tcp_stream::connect("none.test", 80)) ==
                  "connect to none.test:80: Name or service not known");
            const auto none = co_await as_result(tcp_stream::connect("none.test", 80));
            CHECK(none.error() == std::error_code(EAI_NONAME, resolver_category()));
        });
    });
}

TEST_CASE("connecting by name is cancelled, and runs out of time, like any operation") {
    on_each_reactor_kind([](auto run) {
        for (const form how : both_forms) {
            run([=]() -> task<> {
                slow_lookup lookup;
                task_group group;
                auto connect = group.spawn(outcome_of(tcp_stream::connect("slow.test", 1), how));
                auto late = group.spawn(outcome_of(
                    with_timeout(std::chrono::milliseconds(1), tcp_stream::connect("slow.test", 1)),
                    how));
                // The time may be up before the second has begun.
                while (slow_lookups < 2 && !late.done()) co_await yield();
                connect.cancel();
                co_await sleep_until(std::chrono::steady_clock::now() +
                                     std::chrono::milliseconds(1));
                lookup.end();
                const auto client = co_await connect;
                CHECK(client.error() == std::errc::operation_canceled);
                const auto in_time = co_await late;
                CHECK(in_time.error() == std::errc::timed_out);
                co_await group.join();
            });
        }
    });
}

}  // namespace rondo::test
