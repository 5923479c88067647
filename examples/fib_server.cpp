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
using rondo::task;

constexpr std::size_t longest_line = 1024;

// Answers are gathered while more requests are here already, up to so many bytes.
constexpr std::size_t most_gathered = 512;

// How long an answer may take to leave once the server is being stopped.
constexpr auto grace = 2s;

// A client that has sent its last request may still wait for the answers, or be gone: TCP does not
// tell. So much longer is computed for it.
constexpr auto patience = 75ms;

struct fib_options {
    unsigned max_n = 60;

    // Handing a request to the pool and taking its result back costs 3 microseconds while both are
    // busy, and up to 20 where a sleeping core must wake. fib(22) takes 22.
    unsigned offload_above = 22;
};

// A long fib is computed in pieces of at most this n, of some 0.7 ms.
constexpr unsigned largest_piece = 29;

/// fib(n), away from the reactor. The pieces stand in the pool's line one at a time, so all the
/// long requests take turns, however many there are, and each ends soon after it is cancelled.
task<unsigned long long> long_fib(unsigned n) {
    if (n <= largest_piece) co_return co_await rondo::offload([n] { return fib(n); });
    const auto one = co_await long_fib(n - 1);
    const auto other = co_await long_fib(n - 2);
    co_return one + other;
}

class client_connection {
public:
    client_connection(rondo::tcp_stream stream, const fib_options& options)
        : stream_(std::move(stream)), options_(options) {}

    rondo::tcp_stream& stream() { return stream_; }
    std::string& answers() { return answers_; }

    /// Appends the answer to the request. Before a long one what is there is sent: it need not
    /// wait. False: the client has gone meanwhile.
    task<bool> answer(const fib_request& request) {
        if (const auto* error = std::get_if<std::string>(&request)) {
            append(*error);
            co_return true;
        }
        const unsigned n = std::get<unsigned>(request);
        if (n <= options_.offload_above) {
            append(fib(n));
            co_return true;
        }
        const bool sent = co_await send();
        if (!sent) co_return false;
        const auto outcome = co_await rondo::when_any(long_fib(n), absence());
        if (outcome.index() != 0) co_return false;
        append(std::get<0>(outcome));
        co_return true;
    }

    /// Sends the answers gathered so far. Stopping the server does not cut that short. False: the
    /// client has gone.
    task<bool> send() {
        if (answers_.empty()) co_return true;
        const auto sent =
            co_await rondo::as_result(rondo::shield(stream_.write_all(answers_), grace));
        answers_.clear();
        co_return sent.has_value();
    }

private:
    void append(std::string_view text) {
        answers_ += text;
        answers_ += '\n';
    }
    void append(unsigned long long value) {
        std::array<char, std::numeric_limits<unsigned long long>::digits10 + 1> digits;
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
        append(std::string_view(digits.data(), end));
    }

    /// Completes when the client will not wait for an answer any more.
    task<> absence() {
        const auto hangup = co_await rondo::as_result(stream_.wait_hangup());
        if (!hangup || *hangup == rondo::hangup::broken) co_return;
        if (!gone_at_) gone_at_ = rondo::now();
        co_await rondo::sleep_until(*gone_at_ + patience);
    }

    rondo::tcp_stream stream_;
    const fib_options& options_;
    std::string answers_;
    std::optional<std::chrono::steady_clock::time_point> gone_at_;  // it has sent its last request
};

bool holds_line(std::span<const std::byte> bytes) {
    return std::ranges::find(bytes, std::byte{'\n'}) != bytes.end();
}

/// Each line is a request. The answers to requests that came together leave together. When the
/// server is being stopped, short requests that were read are still answered: taking a line out of
/// the reader's buffer is no cancel point.
task<> answer_lines(rondo::tcp_stream stream, const fib_options& options) {
    client_connection client{std::move(stream), options};
    rondo::buffered_reader reader{client.stream()};
    for (;;) {
        const auto line = co_await rondo::as_result(reader.read_line(longest_line));
        if (line.error() == rondo::stream_errc::too_long) {
            client.answers() +=
                "error: a line of more than " + std::to_string(longest_line) + " bytes\n";
            const bool sent = co_await client.send();
            if (!sent) co_return;
            const auto discarded = co_await rondo::as_result(reader.discard_line());
            if (!discarded) co_return;
            continue;
        }
        const auto text = line.value_or(std::nullopt);
        if (!text) co_return;  // finished, gone, or the server is being stopped

        const fib_request request = parse_request(*text, options.max_n);
        const bool answered = co_await client.answer(request);
        if (!answered) co_return;
        if (!holds_line(reader.buffered()) || client.answers().size() >= most_gathered) {
            const bool sent = co_await client.send();
            if (!sent) co_return;
        } else {
            // Others are served between two requests that came together. A server that is being
            // stopped answers the second one all the same.
            (void)co_await rondo::as_result(rondo::yield());
        }
    }
}

/// Each chunk is a request, newline or not, as the talk's own clients expect.
task<> answer_chunks(rondo::tcp_stream stream, const fib_options& options) {
    client_connection client{std::move(stream), options};
    std::array<char, longest_line> chunk;
    for (;;) {
        const auto space = std::as_writable_bytes(std::span(chunk));
        const auto size = co_await rondo::as_result(client.stream().read_some(space));
        if (!size || *size == 0) co_return;
        const fib_request request =
            parse_request(std::string_view{chunk.data(), *size}, options.max_n);
        const bool answered = co_await client.answer(request);
        if (!answered) co_return;
        const bool sent = co_await client.send();
        if (!sent) co_return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    command_line line{"fib_server", "Answers a decimal n by fib(n)."};
    server_options options;
    std::string framing = "line";
    fib_options fib;
    options.add_to(line);
    line.add_choice("--framing", framing, {"line", "chunk"},
                    "what a request is: a line, or a received chunk");
    line.add_number("--max-n", fib.max_n, 1, largest_fib_n, "the largest n that is answered");
    line.add_number(
        "--offload-above", fib.offload_above, 0, largest_fib_n,
        "a larger n is computed by a pool of threads, so that nobody waits behind it; up "
        "to here that would cost about as much as computing (measured: fib(22) takes 22 "
        "microseconds, a hand-over and back 3 to 20)");
    return run_server(line, argc, argv, options, [&](rondo::tcp_stream client) {
        return framing == "line" ? answer_lines(std::move(client), fib)
                                 : answer_chunks(std::move(client), fib);
    });
}
