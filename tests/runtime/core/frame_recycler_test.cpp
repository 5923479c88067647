#include <rondo/runtime/core/detail/frame_recycler.hpp>

#include <doctest/doctest.h>

#include "support/live_memory.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::test {

namespace {

using detail::frame_recycler;

constexpr std::size_t slack = 16 * 1024;

// A block with its size, filled to its last byte: a sanitizer sees when it is too small.
struct block {
    void* memory;
    std::size_t size;
};

block take(frame_recycler& recycler, std::size_t size) {
    void* const memory = recycler.allocate(size);
    std::memset(memory, 0xA5, size);
    return {memory, size};
}

}  // namespace

TEST_CASE("a freed block is given to the next that asks for its size") {
    frame_recycler recycler;
    for (const std::size_t size : {1u, 8u, 9u, 24u, 100u, 500u, 1'016u}) {
        CAPTURE(size);
        void* const first = recycler.allocate(size);
        recycler.deallocate(first, size);
        void* const second = recycler.allocate(size);
        CHECK(second == first);
        recycler.deallocate(second, size);
    }
}

TEST_CASE("the block freed last is given first: it is the warm one") {
    frame_recycler recycler;
    std::vector<void*> blocks;
    for (int i = 0; i < 10; ++i) blocks.push_back(recycler.allocate(200));
    for (void* each : blocks) recycler.deallocate(each, 200);
    for (auto each = blocks.rbegin(); each != blocks.rend(); ++each) {
        CHECK(recycler.allocate(200) == *each);
    }
    for (void* each : blocks) recycler.deallocate(each, 200);
}

TEST_CASE("every size gets a block of its own that is large enough and aligned for a frame") {
    frame_recycler recycler;
    for (int round = 0; round < 2; ++round) {  // new blocks, then recycled ones
        std::vector<block> blocks;
        for (std::size_t size = 1; size <= 3'000; ++size) blocks.push_back(take(recycler, size));
        std::vector<std::pair<std::uintptr_t, std::uintptr_t>> places;
        for (const block& each : blocks) {
            const auto start = reinterpret_cast<std::uintptr_t>(each.memory);
            REQUIRE(start % __STDCPP_DEFAULT_NEW_ALIGNMENT__ == 0);
            places.emplace_back(start, start + each.size);
        }
        std::ranges::sort(places);
        for (std::size_t i = 1; i < places.size(); ++i) {
            REQUIRE(places[i - 1].second <= places[i].first);
        }
        for (const block& each : blocks) recycler.deallocate(each.memory, each.size);
    }
}

TEST_CASE("a recycler keeps no more than its bound of each size") {
    frame_recycler recycler;
    constexpr std::size_t size = 1'000;
    constexpr std::size_t count = 3 * frame_recycler::bytes_kept_per_class / size;
    const std::size_t before = live_bytes();
    std::vector<void*> blocks(count);
    const std::size_t of_the_list = live_bytes() - before;
    for (void*& each : blocks) each = recycler.allocate(size);
    CHECK(live_bytes() >= before + count * size);
    for (void* each : blocks) recycler.deallocate(each, size);
    const std::size_t kept = live_bytes() - before - of_the_list;
    CHECK(kept >= frame_recycler::bytes_kept_per_class / 2);
    CHECK(kept <= frame_recycler::bytes_kept_per_class * 17 / 16 + slack);
}

TEST_CASE("blocks too large to be kept go straight back") {
    frame_recycler recycler;
    const std::size_t before = live_bytes();
    for (int i = 0; i < 1'000; ++i) {
        const std::size_t size = frame_recycler::largest + 1 + static_cast<std::size_t>(i) * 16;
        const block one = take(recycler, size);
        recycler.deallocate(one.memory, one.size);
    }
    CHECK(live_bytes() <= before + slack);
}

TEST_CASE("a recycler gives everything back when it is destroyed") {
    const auto use = [] {
        const auto recycler = std::make_unique<frame_recycler>();
        std::vector<block> blocks;
        for (std::size_t size = 8; size <= frame_recycler::largest; size += 8) {
            for (int i = 0; i < 20; ++i) blocks.push_back(take(*recycler, size));
        }
        for (const block& each : blocks) recycler->deallocate(each.memory, each.size);
    };
    use();
    const std::size_t before = live_bytes();
    for (int i = 0; i < 10; ++i) use();
    CHECK(live_bytes() <= before + slack);
}

TEST_CASE("a block may be freed into another recycler, or where there is none") {
    const auto exchange = [] {
        frame_recycler first;
        frame_recycler second;
        for (const std::size_t size : {10u, 100u, 1'000u, 5'000u}) {
            const block one = take(first, size);
            const block two = take(first, size);
            const block three = take(second, size);
            void* const four = frame_recycler::allocate_unpooled(size);
            std::memset(four, 0xA5, size);
            second.deallocate(one.memory, size);
            std::thread([&] {
                frame_recycler::deallocate_unpooled(two.memory, size);
                frame_recycler of_the_thread;
                of_the_thread.deallocate(three.memory, size);
            }).join();
            first.deallocate(four, size);
            if (size <= frame_recycler::largest) {
                const block again = take(first, size);
                CHECK(again.memory == four);
                first.deallocate(again.memory, size);
            }
        }
    };
    exchange();
    const std::size_t before = live_bytes();
    for (int i = 0; i < 20; ++i) exchange();
    CHECK(live_bytes() <= before + slack);
}

}  // namespace rondo::test
