// The fib server of David Beazley's PyCon 2015 talk: a line with a decimal n is answered by fib(n)
// and a newline. Straight-line code, one task per client. To be read beside select_scheduler.cpp,
// the same server on generators and select(2).
//
//     fib_server --port 5566      then, elsewhere:      nc localhost 5566
//     20                          answers 6765
//     twenty                      answers error: "twenty" is not a decimal number: ...

#include "fib.hpp"
#include "server_options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace {

using namespace std::chrono_literals;

constexpr std::size_t longest_line = 1024;

// Answers are gathered while more requests are here already, up to so many bytes.
constexpr std::size_t most_gathered = 512;

// From here on fib takes long enough, some 20 microseconds, for others to notice.
constexpr unsigned first_slow_n = 21;

// How long an answer may take to leave once the server is being stopped.
constexpr auto grace = 2s;

void append_answer(std::string& answers, const fib_request& request) {
    if (const auto* error = std::get_if<std::string>(&request)) {
        answers += *error;
    } else {
        std::array<char, std::numeric_limits<unsigned long long>::digits10 + 1> digits;
        const auto value = fib(std::get<unsigned>(request));
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
        answers.append(digits.data(), end);
    }
    answers += '\n';
}

bool is_slow(const fib_request& request) {
    const auto* n = std::get_if<unsigned>(&request);
    return n != nullptr && *n >= first_slow_n;
}

bool holds_line(std::span<const std::byte> bytes) {
    return std::ranges::find(bytes, std::byte{'\n'}) != bytes.end();
}

/// Sends the answers and empties the string. Stopping the server does not cut it short.
rondo::task<> send(rondo::tcp_stream& client, std::string& answers) {
    if (answers.empty()) co_return;
    co_await rondo::shield(client.write_all(answers), grace);
    answers.clear();
}

/// Gives everybody else a turn. A yield gives one to the tasks that are ready; a sleep, however
/// short, also has the scheduler look at the sockets first.
rondo::task<> let_others_go_first() { co_await rondo::shield(rondo::sleep_for(0s)); }

/// Each line is a request. The answers to requests that came together leave together, but none
/// waits while a slow one is computed. When the server is being stopped, lines that were read
/// are still answered: taking a line out of the reader's buffer is no cancel point.
rondo::task<> answer_lines(rondo::tcp_stream client, unsigned max_n) {
    rondo::buffered_reader reader{client};
    std::string answers;
    for (;;) {
        const auto line = co_await rondo::as_result(reader.read_line(longest_line));
        if (line.error() == rondo::stream_errc::too_long) {
            answers += "error: a line of more than " + std::to_string(longest_line) + " bytes\n";
            co_await send(client, answers);
            co_await reader.discard_line();
            continue;
        }
        const auto text = line.value_or(std::nullopt);
        if (!text) co_return;  // finished, gone, or the server is being stopped

        const fib_request request = parse_request(*text, max_n);
        if (is_slow(request)) {
            co_await send(client, answers);
            co_await let_others_go_first();
        }
        append_answer(answers, request);
        if (!holds_line(reader.buffered()) || answers.size() >= most_gathered) {
            co_await send(client, answers);
        }
    }
}

/// Each chunk is a request, newline or not, as the talk's own clients expect.
rondo::task<> answer_chunks(rondo::tcp_stream client, unsigned max_n) {
    std::array<char, longest_line> chunk;
    std::string answer;
    for (;;) {
        const auto space = std::as_writable_bytes(std::span(chunk));
        const auto size = co_await rondo::as_result(client.read_some(space));
        if (!size || *size == 0) co_return;
        const fib_request request = parse_request(std::string_view{chunk.data(), *size}, max_n);
        if (is_slow(request)) co_await let_others_go_first();
        append_answer(answer, request);
        co_await send(client, answer);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App cli{"Answers a decimal n by fib(n).", "fib_server"};
    server_options options;
    std::string framing = "line";
    unsigned max_n = 60;
    options.add_to(cli);
    cli.add_option("--framing", framing, "what a request is: a line, or a received chunk")
        ->check(CLI::IsMember({"line", "chunk"}))
        ->capture_default_str();
    cli.add_option("--max-n", max_n, "the largest n that is answered")
        ->check(CLI::Range(1u, largest_fib_n))
        ->capture_default_str();
    return run_server(cli, argc, argv, options, [&](rondo::tcp_stream client) {
        return framing == "line" ? answer_lines(std::move(client), max_n)
                                 : answer_chunks(std::move(client), max_n);
    });
}
