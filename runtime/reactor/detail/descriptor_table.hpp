#pragma once
// What a reactor knows of each descriptor, by its number.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

namespace rondo::detail {

template <class Entry>
class descriptor_table {
public:
    /// The descriptor's entry; made when this is the first that is asked of it. Null when there is
    /// no memory for it, and for the number -1.
    Entry* of(int fd) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        if (index >= entries_.size() && (fd < 0 || !make_room_for(index))) [[unlikely]]
            return nullptr;
        return &entries_[index];
    }

    /// The same where it has been made already, which is the precondition.
    Entry& operator[](int fd) noexcept { return entries_[static_cast<std::size_t>(fd)]; }

    /// Null where there is none, as for the number -1.
    Entry* find(int fd) noexcept {
        return static_cast<std::size_t>(fd) < entries_.size() ? &(*this)[fd] : nullptr;
    }
    const Entry* find(int fd) const noexcept {
        const auto index = static_cast<std::size_t>(fd);
        return index < entries_.size() ? &entries_[index] : nullptr;
    }

    /// The entries made so far are those of the numbers below.
    int size() const noexcept { return static_cast<int>(entries_.size()); }

private:
    [[gnu::noinline]] bool make_room_for(std::size_t index) noexcept {
        try {
            entries_.resize(std::max(index + 1, 2 * entries_.size()));
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    std::vector<Entry> entries_;
};

}  // namespace rondo::detail
