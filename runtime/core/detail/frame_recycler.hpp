#pragma once
// Keeps the memory of finished coroutine frames for the next ones, so that steady state never calls
// malloc.
//
//     void* frame = recycler.allocate(size);
//     recycler.deallocate(frame, size);
//
// One recycler belongs to one scheduler and is used by its thread only. Every block comes from
// ::operator new in the full size of its class, so a frame may be freed on another thread than the
// one that made it: it joins that thread's recycler, or goes back to ::operator delete where there
// is none.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

namespace rondo::detail {

/// What coroutine frames are aligned to, and so whatever lies in one.
inline constexpr std::size_t frame_alignment = 2 * sizeof(void*);

/// Does not compile for a T that cannot lie in a frame. Whatever puts one there calls it.
template <class T>
constexpr void refuse_over_aligned() noexcept {
    static_assert(alignof(T) <= frame_alignment,
                  "what tasks hand on lies in coroutine frames, which are aligned to 16 bytes and "
                  "no more: hand on a pointer to it");
}

class frame_recycler {
public:
    /// The largest block that is kept; larger ones go straight to ::operator new and delete.
    static constexpr std::size_t largest = 1016;

    /// A class keeps at most this many bytes of free blocks.
    static constexpr std::size_t bytes_kept_per_class = std::size_t{256} << 10;

    frame_recycler() = default;
    frame_recycler(const frame_recycler&) = delete;
    frame_recycler& operator=(const frame_recycler&) = delete;
    ~frame_recycler() {
        for (std::size_t index = 0; index < class_count; ++index) {
            while (free_block* block = classes_[index].first) {
                classes_[index].first = block->next;
                release(block, class_size(index));
            }
        }
    }

    [[nodiscard]] void* allocate(std::size_t size) {
        const std::size_t index = class_of(size);
        if (index >= class_count) return acquire(size);
        size_class& blocks = classes_[index];
        if (free_block* block = blocks.first) {
            blocks.first = block->next;
            --blocks.count;
            return block;
        }
        return acquire(class_size(index));
    }

    void deallocate(void* memory, std::size_t size) noexcept {
        const std::size_t index = class_of(size);
        if (index >= class_count) return release(memory, size);
        size_class& blocks = classes_[index];
        if (blocks.count >= bytes_kept_per_class / class_size(index)) {
            return release(memory, class_size(index));
        }
        blocks.first = ::new (memory) free_block{blocks.first};
        ++blocks.count;
    }

    /// For threads that have no recycler; interchangeable with the members above.
    [[nodiscard]] static void* allocate_unpooled(std::size_t size) {
        const std::size_t index = class_of(size);
        return acquire(index < class_count ? class_size(index) : size);
    }
    static void deallocate_unpooled(void* memory, std::size_t size) noexcept {
        const std::size_t index = class_of(size);
        release(memory, index < class_count ? class_size(index) : size);
    }

private:
    struct free_block {
        free_block* next;
    };
    struct size_class {
        free_block* first = nullptr;
        std::size_t count = 0;
    };

    // Classes hold 8, 24, 40 ... 1016 bytes: what is left of glibc's 16-byte chunks after their
    // 8-byte header.
    static constexpr std::size_t class_of(std::size_t size) noexcept { return (size + 7) / 16; }
    static constexpr std::size_t class_size(std::size_t index) noexcept { return index * 16 + 8; }
    static constexpr std::size_t class_count = (largest + 7) / 16 + 1;

    static void* acquire(std::size_t size) { return ::operator new(size); }
    static void release(void* memory, std::size_t size) noexcept {
        ::operator delete(memory, size);
    }

    std::array<size_class, class_count> classes_{};
};

}  // namespace rondo::detail
