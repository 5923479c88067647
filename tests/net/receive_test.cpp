#include <rondo/net/tcp.hpp>

#include <rondo/runtime/core/detail/sanitizers.hpp>
#include <rondo/runtime/resume_on.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/runtime/task_group.hpp>
#include <rondo/runtime/when.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <dlfcn.h>
#include <liburing.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/live_memory.hpp"
#include "support/many_reactors.hpp"
#include "support/net_support.hpp"
#include "support/support.hpp"

#ifdef RONDO_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace {

// Some tests run as on a kernel before 5.19, which does not pick buffers.
std::atomic<bool> rings_denied{false};
std::atomic<int> rings_asked_for{0};

}  // namespace

// As the header declares it: newer ones say noexcept.
extern "C" int io_uring_register_buf_ring(
    io_uring* ring, io_uring_buf_reg* where,
    unsigned flags) noexcept(noexcept(io_uring_register_buf_ring(ring, where, flags))) {
    ++rings_asked_for;
    if (rings_denied) return -EINVAL;
    static const auto real = reinterpret_cast<decltype(&io_uring_register_buf_ring)>(
        ::dlsym(RTLD_NEXT, "io_uring_register_buf_ring"));
    return real(ring, where, flags);
}

namespace rondo::test {

namespace {

/// On each reactor kind, and on io_uring once more without a ring of buffers.
template <class Body>
void on_each_way_to_receive(Body body) {
    on_each_reactor_kind([&](auto run) {
        const int before = rings_asked_for;
        rings_denied = false;
        body(run);
        if (run.kind() != reactor_kind::io_uring) return;
        INFO("without a ring of buffers");
        rings_denied = true;
        body(run);
        rings_denied = false;
        CHECK(rings_asked_for > before);
    });
}

constexpr std::size_t whole = detail::buffer_pool::buffer_size;
constexpr std::size_t most = detail::buffer_pool::most_buffers;

std::size_t lent_here() { return detail::current_core->io->buffers()->lent(); }

/// A buffer for each of `count` messages, all held; message i is i as text.
task<std::vector<buffer>> hold(plain_socket& peer, tcp_stream& stream, std::size_t count) {
    std::vector<buffer> held;
    for (std::size_t i = 0; i < count; ++i) {
        peer.send(std::to_string(i));
        held.push_back(co_await stream.receive());
    }
    co_return held;
}

task<> receive_into(tcp_stream& stream, std::string& text) {
    const buffer got = co_await stream.receive();
    text = got.text();
}

}  // namespace

TEST_CASE("receive gives what has come, and an empty buffer at the end") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            peer.send("hello");
            const buffer hello = co_await stream.receive();
            CHECK(hello.text() == "hello");
            CHECK(hello.size() == 5);
            CHECK(lent_here() == 1);
            const std::string long_text = pattern(2 * whole + 100);
            peer.send(long_text);
            std::string all;
            while (all.size() < long_text.size()) {
                const buffer part = co_await stream.receive();
                CHECK(part.size() <= whole);
                all += part.text();
            }
            CHECK(all == long_text);
            peer.close();
            const buffer end = co_await stream.receive();
            CHECK(end.empty());
            CHECK(end.text().empty());
            const buffer still = co_await stream.receive();
            CHECK(still.empty());
            CHECK(lent_here() == 1);
        });
    });
}

TEST_CASE("a receive that waits is woken by data") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::string text;
            task_group group;
            group.spawn(receive_into(stream, text));
            co_await settle();
            CHECK(text.empty());
            peer.send("at last");
            co_await group.join();
            CHECK(text == "at last");
        });
    });
}

TEST_CASE("connections that wait in receive hold no buffer and little memory") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            constexpr std::size_t count = 300;
            auto listener = tcp_listener::bind(any_port());
            std::vector<plain_socket> peers;
            std::vector<tcp_stream> streams;
            std::vector<std::string> texts(count);
            peers.reserve(count);
            streams.reserve(count);
            for (std::size_t i = 0; i < count; ++i) {
                peers.emplace_back(listener.local_endpoint());
                streams.push_back(co_await listener.accept());
            }
            // The pool itself is no connection's memory.
            peers[0].send("0");
            co_await receive_into(streams[0], texts[0]);

            const std::size_t before = live_bytes();
            task_group group;
            for (std::size_t i = 0; i < count; ++i) {
                group.spawn(receive_into(streams[i], texts[i]));
            }
            co_await settle();
            CHECK(lent_here() == 0);
            CHECK((live_bytes() - before) / count < 1024);
            for (std::size_t i = 0; i < count; ++i) peers[i].send("number " + std::to_string(i));
            co_await group.join();
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(texts[i] == "number " + std::to_string(i));
            }
        });
    });
}

TEST_CASE("buffers that are given back are lent again") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::vector<buffer> held = co_await hold(peer, stream, 10);
            held.clear();
            const std::size_t before = live_bytes();
            for (int i = 0; i < 5000; ++i) {
                peer.send("again");
                const buffer got = co_await stream.receive();
                if (got.text() != "again") CHECK(got.text() == "again");
            }
            CHECK(lent_here() == 0);
            CHECK(live_bytes() == before);
        });
    });
}

TEST_CASE("a buffer that is held stays as it is while others come") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            const std::vector<buffer> held = co_await hold(peer, stream, 200);
            for (std::size_t i = 0; i < held.size(); ++i)
                CHECK(held[i].text() == std::to_string(i));
            CHECK(lent_here() == 200);
        });
    });
}

TEST_CASE("streams still receive when the reactor has lent all its buffers") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::vector<buffer> held = co_await hold(peer, stream, most + 50);
            for (std::size_t i = 0; i < held.size(); ++i) {
                if (held[i].text() != std::to_string(i)) CHECK(held[i].text() == std::to_string(i));
            }
            CHECK(lent_here() == most);

            // One that waits meanwhile holds nothing, and takes memory only when there is data.
            auto [other_peer, other] = co_await accept_peer();
            std::string text;
            const std::size_t before = live_bytes();
            task_group group;
            group.spawn(receive_into(other, text));
            co_await settle();
            CHECK(live_bytes() - before < 4096);
            other_peer.send("data");
            co_await group.join();
            CHECK(text == "data");

            // With buffers free again, those are used.
            held.clear();
            CHECK(lent_here() == 0);
            peer.send("pooled");
            const buffer pooled = co_await stream.receive();
            CHECK(pooled.text() == "pooled");
            CHECK(lent_here() == 1);
        });
    });
}

TEST_CASE(
    "a receive that began to wait when no buffer was free ends by data, end and cancellation") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::vector<buffer> held = co_await hold(peer, stream, most);
            auto [data_peer, data] = co_await accept_peer();
            auto [end_peer, end] = co_await accept_peer();
            auto [quiet_peer, quiet] = co_await accept_peer();
            task_group group;
            std::string data_text;
            std::string end_text = "unchanged";
            std::string quiet_text = "unchanged";
            auto with_data = group.spawn(receive_into(data, data_text));
            auto with_end = group.spawn(receive_into(end, end_text));
            auto waiting = group.spawn(receive_into(quiet, quiet_text));
            co_await settle();
            held.clear();
            data_peer.send("data");
            end_peer.close();
            co_await with_data;
            co_await with_end;
            CHECK(data_text == "data");
            CHECK(end_text.empty());
            CHECK_FALSE(waiting.done());
            waiting.cancel();
            co_await group.join();
            CHECK(quiet_text == "unchanged");
            CHECK(lent_here() == 0);
        });
    });
}

TEST_CASE("a buffer goes to write_all, and outlives its stream") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            peer.send("there and back");
            buffer got = co_await stream.receive();
            co_await stream.write_all(got);
            CHECK(peer.received() == "there and back");
            peer.send("kept");
            got = co_await stream.receive();
            CHECK(lent_here() == 1);
            stream.close();
            peer.close();
            const buffer moved = std::move(got);
            CHECK(moved.text() == "kept");
            CHECK(got.empty());
        });
    });
}

TEST_CASE("a buffer outlives the run it came from") {
    on_each_way_to_receive([](auto run) {
        std::vector<buffer> kept = run([]() -> task<std::vector<buffer>> {
            auto [peer, stream] = co_await accept_peer();
            co_return co_await hold(peer, stream, 100);
        });
        for (std::size_t i = 0; i < kept.size(); ++i) CHECK(kept[i].text() == std::to_string(i));
        std::thread{[half = buffer{std::move(kept[50])}] { CHECK(half.text() == "50"); }}.join();
        // Another run's pool is none of theirs.
        run([&]() -> task<> {
            kept.resize(25);
            CHECK(lent_here() == 0);
            co_return;
        });
    });
}

TEST_CASE("buffers given back on other threads are lent again") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            for (int round = 0; round < 3; ++round) {
                std::vector<buffer> held = co_await hold(peer, stream, most);
                CHECK(lent_here() == most);
                std::vector<buffer> half;
                while (half.size() < most / 2) {
                    half.push_back(std::move(held.back()));
                    held.pop_back();
                }
                std::thread one{[mine = std::move(held)] {}};
                std::thread other{[mine = std::move(half)] {}};
                one.join();
                other.join();
            }
            const std::vector<buffer> held = co_await hold(peer, stream, most);
            CHECK(lent_here() == most);
        });
    });
}

#ifdef RONDO_ADDRESS_SANITIZER
TEST_CASE("AddressSanitizer knows which buffers are lent") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            for (const bool elsewhere : {true, false}) {
                // Those of a whole round, so that the next one gets them again.
                std::vector<buffer> held = co_await hold(peer, stream, most);
                std::vector<const std::byte*> places;
                for (const buffer& each : held) {
                    CHECK(__asan_region_is_poisoned(const_cast<std::byte*>(each.data()), whole) ==
                          nullptr);
                    places.push_back(each.data() + each.size());
                }
                if (elsewhere) {
                    std::thread{[mine = std::move(held)] {}}.join();
                } else {
                    held.clear();
                }
                for (const std::byte* place : places) {
                    CHECK(__asan_address_is_poisoned(place + 16) != 0);
                }
            }
        });
    });
}
#endif

TEST_CASE("a buffer hops to another reactor with its task, and is given back there") {
    on_each_way_to_receive([](auto run) {
        runtime two{{.reactors = 2, .reactor = run.kind()}};
        two.run([&]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            scheduler& home = this_scheduler();
            scheduler& other = &home == &two.scheduler(0) ? two.scheduler(1) : two.scheduler(0);
            for (int i = 0; i < 2000; ++i) {
                peer.send("hop");
                {
                    const buffer got = co_await stream.receive();
                    co_await resume_on(other);
                    if (got.text() != "hop") CHECK(got.text() == "hop");
                }
                co_await resume_on(home);
            }
            CHECK(lent_here() <= most);
        });
    });
}

TEST_CASE("receive tells errors as other reads do") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            for (const form how : both_forms) {
                auto [peer, stream] = co_await accept_peer();
                peer.reset();
                const auto got = co_await outcome_of(stream.receive(), how);
                CHECK(got.error() == std::errc::connection_reset);
                stream.close();
                const auto closed = co_await outcome_of(stream.receive(), how);
                CHECK(closed.error() == std::errc::bad_file_descriptor);
            }
            auto [peer, stream] = co_await accept_peer();
            const std::string name = stream.remote_endpoint().to_string();
            peer.reset();
            const std::string complaint = co_await complaint_of(stream.receive());
            CHECK(complaint == "read from " + name + ": Connection reset by peer");
            CHECK(lent_here() == 0);
        });
    });
}

TEST_CASE("a receive in progress ends when its stream is closed") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            task_group group;
            auto waiting = group.spawn(outcome_of(stream.receive(), form::as_result));
            co_await settle();
            stream.close();
            const auto got = co_await waiting;
            CHECK(got.error() == std::errc::bad_file_descriptor);
            co_await group.join();
        });
    });
}

TEST_CASE("receive works on a socket that is non-blocking already") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            make_non_blocking(stream.native_handle());
            std::string text;
            task_group group;
            group.spawn(receive_into(stream, text));
            co_await settle();
            peer.send("later");
            co_await group.join();
            CHECK(text == "later");
        });
    });
}

TEST_CASE("a receive cancelled around the arrival of data either gives it or leaves it") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            int given = 0;
            int cancelled = 0;
            for (const int moment : moments) {
                for (const bool data_first : {true, false}) {
                    auto [peer, stream] = co_await accept_peer();
                    task_group group;
                    auto waiting = group.spawn(outcome_of(stream.receive(), form::as_result));
                    if (data_first) peer.send("data");
                    co_await yield_times(moment);
                    if (!data_first) peer.send("data");
                    waiting.cancel();
                    const auto got = co_await waiting;
                    co_await group.join();
                    if (got) {
                        ++given;
                        CHECK(got->text() == "data");
                    } else {
                        ++cancelled;
                        CHECK(got.error() == std::errc::operation_canceled);
                        const buffer left = co_await stream.receive();
                        CHECK(left.text() == "data");
                    }
                }
            }
            CHECK(given > 0);
            CHECK(cancelled > 0);
            CHECK(lent_here() == 0);
        });
    });
}

TEST_CASE("receives end with their group, whatever they wait for") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            std::vector<buffer> held = co_await hold(peer, stream, most);
            auto [other_peer, other] = co_await accept_peer();
            std::string text;
            std::string other_text;
            task_group group;
            group.spawn(receive_into(other, other_text));  // waits for data and a buffer
            co_await settle();
            held.clear();
            group.spawn(receive_into(stream, text));
            co_await settle();
            group.cancel();
            co_await group.join();
            CHECK(text.empty());
            CHECK(other_text.empty());
        });
    });
}

TEST_CASE("a receive whose stream was closed reads nothing of what its number's next owner gets") {
    on_each_way_to_receive([](auto run) {
        run([]() -> task<> {
            auto listener = tcp_listener::bind(any_port());
            plain_socket alices{listener.local_endpoint()};
            auto alice = co_await listener.accept();
            auto [other_peer, other] = co_await accept_peer();
            const int number = alice.native_handle();
            task_group group;
            auto waiting = group.spawn(outcome_of(alice.receive(), form::as_result));
            auto other_waiting = group.spawn(outcome_of(other.receive(), form::as_result));
            co_await settle();
            plain_socket bobs{listener.local_endpoint()};
            bobs.send("data for bob");
            bobs.close();
            alices.send("data for alice");
            other.close();  // the kernel is asked meanwhile, and knows of alice's data from here on
            alice.close();
            auto bob = co_await listener.accept();
            REQUIRE(bob.native_handle() == number);
            const buffer bobs_data = co_await bob.receive();
            CHECK(bobs_data.text() == "data for bob");
            const auto alices_data = co_await waiting;
            if (alices_data) {
                CHECK(alices_data->text() == "data for alice");
            } else {
                CHECK(alices_data.error() == std::errc::bad_file_descriptor);
            }
            const auto others_data = co_await other_waiting;
            CHECK(others_data.error() == std::errc::bad_file_descriptor);
            co_await group.join();
        });
    });
}

}  // namespace rondo::test
