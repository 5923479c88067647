#include <rondo/runtime/reactor/detail/owned_descriptor.hpp>

#include <rondo/runtime/reactor/detail/reactor.hpp>
#include <rondo/runtime/reactor/detail/system_calls.hpp>

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <new>

namespace rondo::detail {

// An owner's generation is 0 with the first, and a descriptor's number with the second.
constinit descriptor_record closed_record{.generation = UINT32_MAX};
constinit descriptor_record missing_record{.generation = UINT32_MAX};

namespace {

// Records stay where they are, so they are made in blocks, each of which doubles their number: the
// block b holds those of [first_block << b, first_block << (b + 1)), less first_block.
constexpr unsigned first_block = 64;
constexpr unsigned first_block_bits = std::bit_width(first_block);
constinit std::array<std::atomic<descriptor_record*>, 26> blocks{};

struct position {
    explicit position(int fd) noexcept
        : block(static_cast<unsigned>(std::bit_width(first_block + static_cast<unsigned>(fd))) -
                first_block_bits),
          offset(first_block + static_cast<unsigned>(fd) - size()) {}

    unsigned size() const noexcept { return first_block << block; }

    unsigned block;
    unsigned offset;
};

// Null where there is no memory.
descriptor_record* make_record(position at) noexcept {
    std::atomic<descriptor_record*>& block = blocks[at.block];
    // Acquire: the new records are seen; partner of the release below.
    descriptor_record* there = block.load(std::memory_order_acquire);
    if (there == nullptr) {
        std::unique_ptr<descriptor_record[]> made{new (std::nothrow) descriptor_record[at.size()]};
        if (made == nullptr) return nullptr;
        if (block.compare_exchange_strong(there, made.get(), std::memory_order_release,
                                          std::memory_order_acquire)) {
            there = made.release();
        }
    }
    return there + at.offset;
}

}  // namespace

descriptor_record* find_record(int fd) noexcept {
    const position at{fd};
    descriptor_record* const block = blocks[at.block].load(std::memory_order_acquire);
    return block == nullptr ? nullptr : block + at.offset;
}

void owned_descriptor::take(int fd) noexcept {
    record_ = make_record(position{fd});
    if (record_ == nullptr) {
        record_ = &missing_record;
        generation_ = static_cast<std::uint32_t>(fd);
        return;
    }
    generation_ = record_->generation.load(std::memory_order_acquire);
    record_->owner = this;
    record_->number = fd;
    record_->broken = 0;
    record_->has_more = record_->write_ended = record_->zero_copy = false;
    record_->never_blocks = record_->has_none = false;
}

void owned_descriptor::end_generation() noexcept {
    record_->owner = nullptr;
    record_->reactor.store(0, std::memory_order_relaxed);
    record_->generation.store(generation_ + 1, std::memory_order_release);
}

void owned_descriptor::close_now_or_soon(int fd) noexcept {
    if (current_core != nullptr) {
        current_core->io->close(fd);
    } else {
        real_calls.close(fd);
    }
}

int why_not_open(const descriptor_record& record) noexcept {
    return &record == &missing_record ? -ENOMEM : -EBADF;
}

void settle_here(descriptor_record& record) noexcept {
    current_core->io->arrived(record.number);
    record.reactor.store(current_core->reactor_id, std::memory_order_relaxed);
}

}  // namespace rondo::detail
