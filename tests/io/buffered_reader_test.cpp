#include <rondo/io/buffered_reader.hpp>

#include <rondo/runtime/task_group.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/testing/testing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "support/net_support.hpp"
#include "support/support.hpp"

namespace rondo::test {

using namespace std::string_literals;

namespace {

/// A stream of chunks; a read gives at most one. After them it is at its end or waits for more.
class chunked_stream {
public:
    explicit chunked_stream(std::deque<std::string> chunks, bool ended = true)
        : chunks_(std::move(chunks)), ended_(ended) {}

    task<std::size_t> read_some(std::span<std::byte> space) {
        REQUIRE_FALSE(space.empty());
        ++reads;
        while (chunks_.empty() && !ended_) {
            changed_.clear();
            co_await changed_.wait();
        }
        if (chunks_.empty()) co_return 0;
        std::string& chunk = chunks_.front();
        const std::size_t count = std::min(chunk.size(), space.size());
        std::memcpy(space.data(), chunk.data(), count);
        chunk.erase(0, count);
        if (chunk.empty()) chunks_.pop_front();
        co_return count;
    }

    void add(std::string chunk) {
        chunks_.push_back(std::move(chunk));
        changed_.set();
    }
    void end() {
        ended_ = true;
        changed_.set();
    }

    int reads = 0;

private:
    std::deque<std::string> chunks_;
    bool ended_;
    event changed_;
};

/// What a read of a line or field gave, as text: the views do not outlive the next read.
task<std::string> shown(
    detail::buffered_read<buffered_reader<chunked_stream>, std::optional<std::string_view>> read) {
    const auto got = co_await as_result(std::move(read));
    if (!got) {
        if (got.error() == stream_errc::too_long) co_return "(too long)";
        if (got.error() == std::errc::operation_canceled) co_return "(cancelled)";
        co_return got.error().message();
    }
    co_return *got ? std::string(**got) : "(end)";
}

std::deque<std::string> cut(std::string_view text, std::size_t size) {
    std::deque<std::string> chunks;
    for (; !text.empty(); text.remove_prefix(std::min(size, text.size()))) {
        chunks.emplace_back(text.substr(0, size));
    }
    return chunks;
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

using lines = std::vector<std::string>;

task<lines> all_lines(std::deque<std::string> chunks, std::size_t limit = 1'000) {
    chunked_stream stream{std::move(chunks)};
    buffered_reader reader{stream};
    lines all;
    for (;;) {
        all.push_back(co_await shown(reader.read_line(limit)));
        if (all.back() == "(too long)") {
            const bool more = co_await reader.discard_line();
            if (!more) all.push_back("(discarded to the end)");
        }
        if (all.back() == "(end)" || all.size() > 50) co_return all;
    }
}

}  // namespace

static_assert(readable_stream<chunked_stream>);

TEST_CASE("lines are the same however the stream was cut") {
    const std::string text = "one\r\n\n two \n\r\n\rfour\r\r\nfi\0ve\nsix"s + std::string(1, '\0');
    const lines expected = run(all_lines({text}));
    for (std::size_t size = 1; size < text.size(); ++size) {
        CAPTURE(size);
        CHECK(run(all_lines(cut(text, size))) == expected);
    }
    const lines by_hand{"one", "", " two ", "", "\rfour\r"};
    CHECK(lines(expected.begin(), expected.begin() + 5) == by_hand);
    CHECK(expected.back() == "(end)");
}

TEST_CASE("a carriage return is taken off only before the newline, though it came a read earlier") {
    CHECK(run(all_lines({"a\r", "\nb\r", "c\n"})) == lines{"a", "b\rc", "(end)"});
    CHECK(run(all_lines({"last\r"})) == lines{"last\r", "(end)"});
}

TEST_CASE("a last line without its newline counts, and the end is given as often as asked") {
    run([]() -> task<> {
        chunked_stream stream{{"one\ntw", "o"}};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_line()) == "one");
        CHECK(co_await shown(reader.read_line()) == "two");
        const int reads = stream.reads;
        for (int i = 0; i < 3; ++i) CHECK(co_await shown(reader.read_line()) == "(end)");
        CHECK(co_await shown(reader.read_until(';')) == "(end)");
        const auto exact = co_await as_result(reader.read_exactly(1));
        CHECK(exact.error() == stream_errc::unexpected_end);
        const bool more = co_await reader.discard_line();
        CHECK_FALSE(more);
        CHECK(stream.reads == reads);  // an end is not asked for twice
    });
}

TEST_CASE("an empty stream has no line") { CHECK(run(all_lines({})) == lines{"(end)"}); }

TEST_CASE("a line of just the limit is given, one byte more is too long, in any cut") {
    for (const std::string end : {"\n", "\r\n"}) {
        for (std::size_t size = 1; size <= 10; ++size) {
            CAPTURE(size);
            CHECK(run(all_lines(cut("12345" + end + "x" + end, size), 5)) ==
                  lines{"12345", "x", "(end)"});
            CHECK(run(all_lines(cut("123456" + end + "x" + end, size), 5)) ==
                  lines{"(too long)", "x", "(end)"});
        }
    }
    CHECK(run(all_lines({"12345"}, 5)) == lines{"12345", "(end)"});
    CHECK(run(all_lines({"123456"}, 5)) == lines{"(too long)", "(discarded to the end)", "(end)"});
    CHECK(run(all_lines({"\n\r\nx\n"}, 0)) == lines{"", "", "(too long)", "(end)"});
}

TEST_CASE("a line that is too long is reported before it has all come, and stays to be looked at") {
    run([]() -> task<> {
        chunked_stream stream{{"GET /very-long"}, false};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_line(5)) == "(too long)");
        CHECK(text_of(reader.buffered()) == "GET /very-long");
        CHECK(co_await shown(reader.read_line(5)) == "(too long)");
        const auto begin = co_await reader.read_exactly(4);
        CHECK(text_of(begin) == "GET ");
        stream.add(" and longer\nnext\n");
        const bool more = co_await reader.discard_line();
        CHECK(more);
        CHECK(co_await shown(reader.read_line(5)) == "next");
    });
}

TEST_CASE(
    "one byte more than the limit is too long at once, unless it may be the end of the line") {
    run([]() -> task<> {
        chunked_stream stream{{"123456"}, false};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_line(5)) == "(too long)");
        CHECK(co_await shown(reader.read_until(';', 5)) == "(too long)");
        stream.add("\n12345\r");
        const bool more = co_await reader.discard_line();
        CHECK(more);
        task_group group;
        auto line = group.spawn(shown(reader.read_line(5)));
        co_await settle();
        CHECK_FALSE(line.done());
        stream.add("\n12345\r");
        CHECK(co_await line == "12345");
        auto other = group.spawn(shown(reader.read_line(5)));
        co_await settle();
        CHECK_FALSE(other.done());
        stream.add("\r");
        CHECK(co_await other == "(too long)");
        CHECK(co_await shown(reader.read_until(';', 5)) == "(too long)");
        co_await group.join();
    });
}

TEST_CASE("a megabyte of a line is thrown away without being kept") {
    run([]() -> task<> {
        std::deque<std::string> chunks(1'000, std::string(1'000, 'x'));
        chunks.push_back("\nnext\n");
        chunked_stream stream{std::move(chunks)};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_line(100)) == "(too long)");
        const bool more = co_await reader.discard_line();
        CHECK(more);
        CHECK(co_await shown(reader.read_line(100)) == "next");
        CHECK(stream.reads > 1'000'000 / 2'000);  // small reads all along
    });
}

TEST_CASE("a limit may be as large as a number can be") {
    run([]() -> task<> {
        chunked_stream stream{cut(std::string(100'000, 'x') + "\nend", 999)};
        buffered_reader reader{stream};
        constexpr auto most = std::numeric_limits<std::size_t>::max();
        const std::string line = co_await shown(reader.read_line(most));
        CHECK((line == std::string(100'000, 'x')));
        CHECK(co_await shown(reader.read_until('\n', most)) == "end");
        const auto exact = co_await as_result(reader.read_exactly(most));
        CHECK(exact.error() == stream_errc::unexpected_end);
    });
}

TEST_CASE("read_until takes any delimiter and keeps carriage returns") {
    run([]() -> task<> {
        chunked_stream stream{{"key\r=", "val", "ue;;\n;", "rest"}};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_until('=')) == "key\r");
        CHECK(co_await shown(reader.read_until(';', 5)) == "value");
        CHECK(co_await shown(reader.read_until(';', 0)) == "");
        CHECK(co_await shown(reader.read_until(';')) == "\n");
        CHECK(co_await shown(reader.read_until('\0', 3)) == "(too long)");
        CHECK(co_await shown(reader.read_until('\0', 4)) == "rest");
        CHECK(co_await shown(reader.read_until('\0')) == "(end)");
    });
}

TEST_CASE("what one delimiter was looked for in is still searched for the next one") {
    run([]() -> task<> {
        chunked_stream stream{{"a;b=c"}, false};
        buffered_reader reader{stream};
        task_group group;
        auto line = group.spawn(shown(reader.read_line()));
        co_await settle();
        line.cancel();
        CHECK(co_await line == "(cancelled)");
        CHECK(co_await shown(reader.read_until(';')) == "a");
        CHECK(co_await shown(reader.read_until('\n', 2)) == "(too long)");
        CHECK(co_await shown(reader.read_until('=', 2)) == "b");
        stream.end();
        CHECK(co_await shown(reader.read_line()) == "c");
        co_await group.join();
    });
}

TEST_CASE("read_exactly gathers from many reads, and what came stays when the end comes first") {
    run([]() -> task<> {
        const std::string text = pattern(100'000);
        chunked_stream stream{cut(text, 777)};
        buffered_reader reader{stream};
        const auto nothing = co_await reader.read_exactly(0);
        CHECK(nothing.empty());
        CHECK(stream.reads == 0);
        const auto first = co_await reader.read_exactly(10);
        CHECK(text_of(first) == text.substr(0, 10));
        const auto most = co_await reader.read_exactly(99'000);
        CHECK((text_of(most) == text.substr(10, 99'000)));
        const auto over = co_await as_result(reader.read_exactly(991));
        CHECK(over.error() == stream_errc::unexpected_end);
        const auto rest = co_await reader.read_exactly(990);
        CHECK((text_of(rest) == text.substr(99'010)));
    });
}

TEST_CASE("errors are thrown with what was tried, too") {
    run([]() -> task<> {
        chunked_stream stream{{"12345"}};
        buffered_reader reader{stream};
        CHECK(co_await complaint_of(reader.read_line(4)) ==
              "read a line: the delimiter did not come within the limit");
        CHECK(co_await complaint_of(reader.read_exactly(6)) == "read: the stream ended too early");
        CHECK(co_await complaint_of(reader.read_until(';', 4)) ==
              "read up to a delimiter: the delimiter did not come within the limit");
    });
}

TEST_CASE("a read that is cancelled loses nothing of what had come") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            buffered_reader reader{stream};
            const auto line = [&]() -> task<std::string> {
                const auto got = co_await as_result(reader.read_line());
                if (!got) co_return got.error().message();
                co_return *got ? std::string(**got) : "(end)";
            };
            int given = 0;
            for (const int moment : moments) {
                CAPTURE(moment);
                task_group group;
                peer.send("first half, ");
                auto impatient = group.spawn(line());
                co_await settle();
                CHECK_FALSE(impatient.done());
                peer.send("second half\n");
                co_await yield_times(moment);
                impatient.cancel();
                std::string text = co_await impatient;
                if (text == "Operation canceled") {
                    text = co_await line();
                } else {
                    ++given;
                }
                CHECK(text == "first half, second half");
                co_await group.join();
            }
            CHECK(given > 0);
            peer.close();
            CHECK(co_await line() == "(end)");
        });
    });
}

TEST_CASE("a read that finds what it wants in the buffer completes though its task is cancelled") {
    run([]() -> task<> {
        chunked_stream stream{{"one\ntwo\nthr"}, false};
        buffered_reader reader{stream};
        CHECK(co_await shown(reader.read_line()) == "one");
        task_group group;
        auto rest = group.spawn([&]() -> task<lines> {
            lines got;
            for (int i = 0; i < 3; ++i) got.push_back(co_await shown(reader.read_line()));
            co_return got;
        });
        rest.cancel();
        const lines got = co_await rest;
        CHECK(got == lines{"two", "(cancelled)", "(cancelled)"});
        stream.add("ee\n");
        CHECK(co_await shown(reader.read_line()) == "three");
        co_await group.join();
    });
}

TEST_CASE("lines come over TCP, byte by byte or many at once") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [client, server] = co_await connected_pair();
            buffered_reader reader{server};
            task_group group;
            std::string text;
            for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i) + "\r\n";
            auto writer = group.spawn([&]() -> task<> {
                for (const char one : std::string_view("slow\n")) {
                    co_await client.write_all(std::string_view(&one, 1));
                    co_await settle();
                }
                co_await client.write_all(text);
                client.close();
            });
            const auto slow = co_await reader.read_line(100);
            CHECK(slow == "slow");
            int count = 0;
            while (auto line = co_await reader.read_line(100)) {
                REQUIRE(*line == "line " + std::to_string(count));
                ++count;
            }
            CHECK(count == 20'000);
            co_await group.join();
        });
    });
}

TEST_CASE("a peer's reset is an error of the line that it cuts short") {
    on_each_reactor_kind([](auto run) {
        run([]() -> task<> {
            auto [peer, stream] = co_await accept_peer();
            buffered_reader reader{stream};
            peer.send("whole\nhal");
            const auto whole = co_await reader.read_line();
            CHECK(whole == "whole");
            peer.reset();
            CHECK(co_await complaint_of(reader.read_line()) ==
                  "read a line: Connection reset by peer");
        });
    });
}

}  // namespace rondo::test
