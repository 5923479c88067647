#pragma once
// Bytes that have been received, in memory lent by the reactor.
//
//     rondo::buffer request = co_await peer.receive();
//     if (request.empty()) co_return;                  // the peer has finished
//     co_await peer.write_all(request);                // the memory goes back when it leaves scope

#include <rondo/runtime/reactor/detail/buffer_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace rondo {

/// A lease on a buffer; gives it back when destroyed. Moves, not copies. It may outlive the stream
/// it came from, and the whole run(), and be read, passed on and destroyed on any thread. A reactor
/// lends up to 1024 buffers of 16 KiB at once; while that many are out, its streams receive into
/// memory of their own.
class buffer {
public:
    /// Empty.
    buffer() noexcept = default;

    buffer(buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          index_(other.index_),
          pool_(other.pool_) {}

    buffer& operator=(buffer&& other) noexcept {
        buffer incoming{std::move(other)};
        std::swap(data_, incoming.data_);
        std::swap(size_, incoming.size_);
        std::swap(index_, incoming.index_);
        std::swap(pool_, incoming.pool_);
        return *this;
    }

    ~buffer() { give_back(); }

    /// Takes over `size` bytes at `data`: a pool's buffer, or, without a pool, memory that
    /// std::free is to end.
    buffer(std::byte* data, std::size_t size, detail::buffer_pool* pool,
           std::uint16_t index) noexcept
        : data_(data), size_(static_cast<std::uint32_t>(size)), index_(index), pool_(pool) {}

    std::byte* data() noexcept { return data_; }
    const std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

    /// True at the end of a stream: a buffer that was received otherwise holds at least one byte.
    bool empty() const noexcept { return size_ == 0; }

    std::byte* begin() noexcept { return data_; }
    std::byte* end() noexcept { return data_ + size_; }
    const std::byte* begin() const noexcept { return data_; }
    const std::byte* end() const noexcept { return data_ + size_; }

    /// The bytes as characters; valid as long as the buffer is not given back.
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

private:
    void give_back() noexcept {
        if (data_ == nullptr) return;
        if (pool_ != nullptr) {
            pool_->give_back(index_, data_);
        } else {
            std::free(data_);
        }
    }

    std::byte* data_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint16_t index_ = detail::buffer_pool::none;  // in the pool
    detail::buffer_pool* pool_ = nullptr;
};

}  // namespace rondo
