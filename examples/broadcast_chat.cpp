// A chat room is a broadcast: what one member says, all hear, each on a reactor of its own.
// Prints `ann hears bob: hello` and so on, every line of everybody for each member, in any order.

#include <rondo/runtime/run.hpp>
#include <rondo/runtime/runtime.hpp>
#include <rondo/sync/barrier.hpp>
#include <rondo/sync/broadcast.hpp>

#include <array>
#include <cstddef>
#include <iostream>
#include <string>

namespace {

constexpr std::array<const char*, 3> members{"ann", "bob", "eve"};
constexpr std::array<const char*, 2> words{"hello", "goodbye"};

/// Comes in, waits until everybody is there, says its words, and listens.
rondo::task<> chat(rondo::broadcast<std::string>& room, rondo::barrier& all_here,
                   std::size_t index) {
    const std::string name = members.at(index);
    auto ears = room.subscribe();
    co_await all_here.arrive_and_wait();
    for (const char* word : words) room.send(name + ": " + word);
    for (std::size_t heard = 0; heard < members.size() * words.size(); ++heard) {
        const auto said = co_await ears.receive();
        if (!said) co_return;
        std::cout << (name + " hears " + said->item + "\n") << std::flush;
    }
}

rondo::task<> everybody() {
    rondo::broadcast<std::string> room{16};
    rondo::barrier all_here{members.size()};
    co_await rondo::on_each_reactor([&](std::size_t index) { return chat(room, all_here, index); });
}

}  // namespace

int main() { rondo::run(everybody, {.reactors = members.size()}); }
