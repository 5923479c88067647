#pragma once
// The plain thread's way through a sequence whose items come one by one: a range-for.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <source_location>
#include <utility>

namespace rondo::detail {

/// Gives Sequence begin() and end(); it has next_blocking(where) -> std::optional<Item>.
template <class Sequence, class Item>
class blocking_items {
public:
    class iterator {
    public:
        using value_type = Item;
        using difference_type = std::ptrdiff_t;
        using iterator_concept = std::input_iterator_tag;

        iterator() noexcept = default;
        explicit iterator(blocking_items& items, std::source_location where)
            : items_(&items), where_(where) {
            items_->advance(where_);
        }
        Item& operator*() const noexcept { return *items_->current_; }
        Item* operator->() const noexcept { return std::addressof(*items_->current_); }
        iterator& operator++() {
            items_->advance(where_);
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const noexcept {
            return !items_->current_.has_value();
        }

    private:
        blocking_items* items_ = nullptr;
        std::source_location where_{};
    };

    /// Blocks the calling thread, not a task's, until there is an item; so does each ++.
    iterator begin(std::source_location where = std::source_location::current()) {
        return iterator{*this, where};
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    void advance(std::source_location where) {
        current_.reset();
        std::optional<Item> item = static_cast<Sequence&>(*this).next_blocking(where);
        if (item) current_.emplace(std::move(*item));
    }

    std::optional<Item> current_;
};

}  // namespace rondo::detail
