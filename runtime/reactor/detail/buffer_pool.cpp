#include <rondo/runtime/reactor/detail/buffer_pool.hpp>

#include <rondo/runtime/core/detail/core.hpp>
#include <rondo/runtime/core/detail/sanitizers.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <liburing.h>

#include <new>
#include <utility>

#ifdef RONDO_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace rondo::detail {

namespace {

// AddressSanitizer catches who uses a buffer that was given back: what follows the first `spared`
// bytes of it.
void forbid([[maybe_unused]] std::byte* memory, [[maybe_unused]] std::size_t spared = 0) noexcept {
#ifdef RONDO_ADDRESS_SANITIZER
    ASAN_POISON_MEMORY_REGION(memory + spared, buffer_pool::buffer_size - spared);
#endif
}

void allow([[maybe_unused]] std::byte* memory) noexcept {
#ifdef RONDO_ADDRESS_SANITIZER
    ASAN_UNPOISON_MEMORY_REGION(memory, buffer_pool::buffer_size);
#endif
}

}  // namespace

std::uint16_t buffer_pool::take() noexcept {
    if (free_ == nullptr) collect_returned();
    if (free_ == nullptr && !grow()) return none;
    auto* memory = reinterpret_cast<std::byte*>(free_);
    allow(memory);
    const std::uint16_t index = free_->index;
    free_ = free_->next;
    ++lent_;
    return index;
}

void buffer_pool::taken(std::uint16_t index) noexcept {
    allow(at(index));
    ++lent_;
}

bool buffer_pool::replenish() noexcept {
    collect_returned();
    return lent_ != made_ || grow();
}

// Into the ring or the list.
void buffer_pool::put(std::uint16_t index, std::byte* memory) noexcept {
    if (ring_ != nullptr) {
        io_uring_buf_ring_add(ring_, memory, buffer_size, index,
                              io_uring_buf_ring_mask(most_buffers), 0);
        io_uring_buf_ring_advance(ring_, 1);
    } else {
        free_ = new (memory) link{free_, index};
    }
    forbid(memory);
}

void buffer_pool::give_back(std::uint16_t index, std::byte* memory) noexcept {
    if (current_core != nullptr && current_core->io->buffers_if_any() == this) {
        put(index, memory);
        --lent_;
        return;
    }
    auto* mine = new (memory) link{returned_.load(std::memory_order_relaxed), index};
    forbid(memory, sizeof(link));
    // Release: what the buffer holds is seen by the reactor's thread; partner in
    // collect_returned().
    while (!returned_.compare_exchange_weak(mine->next, mine, std::memory_order_release,
                                            std::memory_order_relaxed)) {
    }
    // Acquire and release: all that others did with the pool happens before its end.
    if (balance_.fetch_add(1, std::memory_order_acq_rel) == -1) delete this;
}

void buffer_pool::collect_returned() noexcept {
    if (returned_.load(std::memory_order_relaxed) == nullptr) return;
    link* given = returned_.exchange(nullptr, std::memory_order_acquire);
    while (given != nullptr) {
        link* next = given->next;
        put(given->index, reinterpret_cast<std::byte*>(given));
        given = next;
        --lent_;
        ++collected_;
    }
}

bool buffer_pool::grow() noexcept {
    if (made_ == most_buffers) return false;
    try {
        chunks_.reserve(most_buffers / chunk_buffers);
        chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(chunk_buffers * stride));
    } catch (const std::bad_alloc&) {
        return false;
    }
    for (std::uint16_t i = 0; i < chunk_buffers; ++i) {
        put(made_, at(made_));
        ++made_;
    }
    return true;
}

void buffer_pool::close() noexcept {
    const auto elsewhere = static_cast<std::ptrdiff_t>(lent_ + collected_);
    if (balance_.fetch_sub(elsewhere, std::memory_order_acq_rel) == elsewhere) delete this;
}

}  // namespace rondo::detail
