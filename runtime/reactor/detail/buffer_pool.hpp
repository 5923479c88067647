#pragma once
// Buffers that belong to a reactor and are lent to whoever has received something.
//
// A free buffer is in one of three places: in the ring that the kernel picks from (io_uring), else
// in a list of this pool's, or, given back on another thread, in the list `returned_` until the
// reactor's thread next looks.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

struct io_uring_buf_ring;

namespace rondo::detail {

/// Used by its reactor's thread only, but for give_back().
class buffer_pool {
public:
    static constexpr std::size_t buffer_size = 16 * 1024;
    /// A reactor that needs more at once, 16 MiB of them, sees `none`.
    static constexpr std::uint16_t most_buffers = 1024;
    static constexpr std::uint16_t none = 0xffff;

    buffer_pool() = default;
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;

    /// From now on free buffers go to `ring`, which has room for `most_buffers` and outlives the
    /// pool's use by its reactor.
    void feed(io_uring_buf_ring* ring) noexcept { ring_ = ring; }
    bool feeds_ring() const noexcept { return ring_ != nullptr; }

    /// A free buffer, or `none`. Not for a pool that feeds a ring: there the kernel takes.
    std::uint16_t take() noexcept;

    /// Notes that the kernel has taken this one from the ring.
    void taken(std::uint16_t index) noexcept;

    /// Sees to it that the ring has buffers that the kernel has not taken, as far as is known.
    /// False when all `most_buffers` are lent, or there is no memory for more.
    bool replenish() noexcept;

    std::byte* at(std::uint16_t index) const noexcept {
        return chunks_[index / chunk_buffers].get() + index % chunk_buffers * stride;
    }

    /// Takes a buffer back. Any thread, and after close() too.
    void give_back(std::uint16_t index, std::byte* memory) noexcept;

    /// The reactor is gone: the pool ends itself with the last buffer that is lent.
    void close() noexcept;

    /// Buffers that are lent, including those in `returned_`.
    std::size_t lent() const noexcept { return lent_; }

private:
    static constexpr std::uint16_t chunk_buffers = 64;
    // A line more than a power of two, so that the beginnings of buffers, all that small messages
    // ever touch, do not share one set of the cache.
    static constexpr std::size_t stride = buffer_size + 64;

    // What a free buffer holds.
    struct link {
        link* next;
        std::uint16_t index;
    };

    ~buffer_pool() = default;
    void put(std::uint16_t index, std::byte* memory) noexcept;
    void collect_returned() noexcept;
    bool grow() noexcept;

    std::vector<std::unique_ptr<std::byte[]>> chunks_;
    link* free_ = nullptr;  // last in, first out: warm ones first
    io_uring_buf_ring* ring_ = nullptr;
    std::uint16_t made_ = 0;
    std::size_t lent_ = 0;       // less those given back on this thread or collected
    std::size_t collected_ = 0;  // ever

    alignas(64) std::atomic<link*> returned_{nullptr};
    // How many were ever given back by other threads. close() subtracts how many had to be: whoever
    // brings it to 0 then is the last to touch the pool, and ends it.
    std::atomic<std::ptrdiff_t> balance_{0};
};

}  // namespace rondo::detail
