// A chat room: a line from one client goes to all the others. A client is three tasks: one reads
// what it says, one writes what the others say, one watches whether it falls behind.
//
//     chat_server --port 5566      then, in several terminals:      nc localhost 5566
//
// A slow client does not hold up the rest. What it has not taken yet waits for it, up to 1 MiB; one
// that falls further behind is disconnected. So whoever is in the room has heard every line.

#include "server_options.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr std::size_t longest_line = 4096;
constexpr std::size_t most_unsent = 1024 * 1024;

// How long the last lines may take to leave once a client is going or the server is being stopped.
constexpr auto grace = 1s;

struct client {
    rondo::tcp_stream stream;
    std::string unsent;
    rondo::event has_unsent;
    rondo::event too_slow;

    void tell(std::string_view line) {
        if (unsent.size() + line.size() + 1 > most_unsent) {
            too_slow.set();
            return;
        }
        unsent.append(line).append("\n");
        has_unsent.set();
    }
};

class room {
public:
    void say(const client& speaker, std::string_view line) {
        for (client* each : clients_) {
            if (each != &speaker) each->tell(line);
        }
    }

    /// A client is in the room as long as it has a seat.
    class seat {
    public:
        seat(room& where, client& who) : room_(where), client_(who) {
            room_.clients_.push_back(&client_);
        }
        ~seat() { std::erase(room_.clients_, &client_); }
        seat(const seat&) = delete;
        seat& operator=(const seat&) = delete;

    private:
        room& room_;
        client& client_;
    };

private:
    std::vector<client*> clients_;
};

/// Passes on what the client says, until it has finished or is gone.
rondo::task<> hear(room& others, client& me) {
    const room::seat seat{others, me};
    rondo::buffered_reader reader{me.stream};
    for (;;) {
        const auto line = co_await rondo::as_result(reader.read_until('\n', longest_line));
        if (line.error() == rondo::stream_errc::too_long) {
            me.tell("error: a line of more than " + std::to_string(longest_line) + " bytes");
            co_await reader.discard_line();
            continue;
        }
        const auto text = line.value_or(std::nullopt);
        if (!text) co_return;
        others.say(me, *text);
    }
}

/// Writes what the client is told, until it is gone. All lines that wait leave together. When
/// cancelled it still writes those, if the client takes them in time.
rondo::task<> deliver(client& me) {
    std::string sending;
    for (;;) {
        while (!me.unsent.empty()) {
            sending.clear();
            std::swap(sending, me.unsent);
            const auto sent =
                co_await rondo::as_result(rondo::shield(me.stream.write_all(sending), grace));
            if (!sent) co_return;
        }
        me.has_unsent.clear();
        co_await me.has_unsent.wait();
    }
}

/// The first of the three to end takes the client out: it has left, it is gone, it is too slow.
rondo::task<> chat(room& others, rondo::tcp_stream stream) {
    client me{std::move(stream), {}, {}, {}};
    co_await rondo::when_any(hear(others, me), deliver(me), me.too_slow.wait());
}

}  // namespace

int main(int argc, char** argv) {
    command_line line{"chat_server", "Passes each line on to all other clients."};
    server_options options;
    options.add_to(line);
    // One room is on one reactor: its clients share it without a lock.
    room everybody;
    return run_server(
        line, argc, argv, options,
        [&](rondo::tcp_stream client) { return chat(everybody, std::move(client)); },
        rondo::accept_mode::single);
}
