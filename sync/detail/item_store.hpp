#pragma once
// Where the items of a queue or channel are kept, and in which order they come out.
//
// A store has size(); make_room(), which may throw, and comes before a push() that makes the store
// larger than it was a moment ago; push(item), and take(place), which constructs the next item at
// `place`. These two and the destructor do not throw.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::detail {

/// What a T is kept as: itself, or in a box where its move could throw half-way.
template <class T, bool NeedsAssignment = false>
using kept_item = std::conditional_t<std::is_nothrow_move_constructible_v<T> &&
                                         (!NeedsAssignment || std::is_nothrow_move_assignable_v<T>),
                                     T, std::unique_ptr<T>>;

template <class Item, class T>
Item keep_item(T&& value) {
    if constexpr (std::is_same_v<Item, std::remove_cvref_t<T>>) {
        return std::forward<T>(value);
    } else {
        return std::make_unique<std::remove_cvref_t<T>>(std::forward<T>(value));
    }
}

template <class T, class Item>
decltype(auto) value_of(Item& item) noexcept {
    if constexpr (std::is_same_v<std::remove_const_t<Item>, T>) {
        return (item);
    } else {
        return (*item);
    }
}

/// First in, first out: a ring that grows when it is full.
template <class T>
class fifo_store {
public:
    using item_type = kept_item<T>;

    fifo_store() noexcept = default;
    explicit fifo_store(std::size_t capacity) { grow(capacity); }
    fifo_store(const fifo_store&) = delete;
    fifo_store& operator=(const fifo_store&) = delete;
    ~fifo_store() {
        while (size_ != 0) drop_first();
        if (slots_ != nullptr) std::allocator<item_type>{}.deallocate(slots_, capacity_);
    }

    std::size_t size() const noexcept { return size_; }

    void make_room() {
        if (size_ == capacity_) grow(capacity_ < 8 ? 8 : 2 * capacity_);
    }
    void push(item_type&& item) noexcept {
        std::construct_at(slots_ + place_of(size_), std::move(item));
        ++size_;
    }
    void take(item_type* place) noexcept {
        std::construct_at(place, std::move(slots_[first_]));
        drop_first();
    }

private:
    std::size_t place_of(std::size_t index) const noexcept {
        const std::size_t place = first_ + index;
        return place < capacity_ ? place : place - capacity_;
    }
    void drop_first() noexcept {
        std::destroy_at(slots_ + first_);
        first_ = place_of(1);
        --size_;
    }
    void grow(std::size_t capacity) {
        if (capacity == 0) return;
        item_type* slots = std::allocator<item_type>{}.allocate(capacity);
        const std::size_t count = size_;
        for (std::size_t i = 0; i < count; ++i) take(slots + i);
        if (slots_ != nullptr) std::allocator<item_type>{}.deallocate(slots_, capacity_);
        slots_ = slots;
        capacity_ = capacity;
        first_ = 0;
        size_ = count;
    }

    item_type* slots_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

/// Last in, first out.
template <class T>
class lifo_store {
public:
    using item_type = kept_item<T>;

    std::size_t size() const noexcept { return items_.size(); }
    void make_room() {
        if (items_.size() == items_.capacity()) {
            items_.reserve(items_.empty() ? 8 : 2 * items_.size());
        }
    }
    void push(item_type&& item) noexcept { items_.push_back(std::move(item)); }
    void take(item_type* place) noexcept {
        std::construct_at(place, std::move(items_.back()));
        items_.pop_back();
    }

private:
    std::vector<item_type> items_;
};

/// The smallest first; of equal ones, the one that has been here longest.
template <class T, class Compare>
class priority_store {
public:
    using item_type = kept_item<T, true>;

    explicit priority_store(Compare compare) : compare_(std::move(compare)) {}

    std::size_t size() const noexcept { return heap_.size(); }
    void make_room() {
        if (heap_.size() == heap_.capacity()) heap_.reserve(heap_.empty() ? 8 : 2 * heap_.size());
    }
    void push(item_type&& item) noexcept {
        heap_.push_back(entry{std::move(item), next_number_++});
        std::push_heap(heap_.begin(), heap_.end(), comes_later());
    }
    void take(item_type* place) noexcept {
        std::pop_heap(heap_.begin(), heap_.end(), comes_later());
        std::construct_at(place, std::move(heap_.back().item));
        heap_.pop_back();
    }

private:
    struct entry {
        item_type item;
        std::uint64_t number;
    };

    auto comes_later() noexcept {
        return [this](const entry& a, const entry& b) noexcept {
            const T& one = value_of<T>(a.item);
            const T& other = value_of<T>(b.item);
            if (compare_(other, one)) return true;
            return a.number > b.number && !compare_(one, other);
        };
    }

    [[no_unique_address]] Compare compare_;
    std::uint64_t next_number_ = 0;
    std::vector<entry> heap_;
};

}  // namespace rondo::detail
