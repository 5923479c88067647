#pragma once
// Python's next(): takes a generator one item at a time. A generator is a range, made to be walked
// in one loop; a scheduler wants one item now and the next when its turn comes round again.
//
//     stepwise<int> task{numbers()};
//     while (auto item = task.next()) use(*item);   // empty: the generator has ended

#include <rondo/runtime/core/generator.hpp>

#include <iterator>
#include <optional>
#include <ranges>
#include <utility>

template <class T>
class stepwise {
public:
    explicit stepwise(rondo::generator<T> items) : items_(std::move(items)) {}

    /// Runs the generator up to its next co_yield; empty when it has ended, after which it is not
    /// to be called again. What the generator throws comes out of here.
    std::optional<T> next() {
        if (!at_) {
            at_.emplace(items_.begin());
        } else {
            ++*at_;
        }
        if (*at_ == std::default_sentinel) return std::nullopt;
        return **at_;
    }

private:
    rondo::generator<T> items_;
    std::optional<std::ranges::iterator_t<rondo::generator<T>>> at_;  // empty: not started
};
