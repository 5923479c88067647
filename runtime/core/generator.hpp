#pragma once
// A coroutine that computes a sequence one item at a time, only as far as somebody looks.
//
//     rondo::generator<int> fibonacci() {
//         for (int a = 1, b = 1;; a = std::exchange(b, a + b)) co_yield a;
//     }
//
//     for (int n : fibonacci() | std::views::take(7)) std::printf("%d\n", n);
//
// It is synchronous: it may not co_await. `co_yield rondo::elements_of(tree.left())` yields every
// item of another generator or range, at the same cost per item however deep such calls nest.

#include <rondo/runtime/core/detail/frame_recycler.hpp>

#include <cassert>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>

namespace rondo {

/// Wraps a generator or any other input range for `co_yield elements_of(range)`, which yields each
/// of its items in turn. An exception from the range comes out of that co_yield.
/// Keeps a reference: use it only inside the co_yield expression.
template <std::ranges::input_range Range>
class elements_of {
public:
    constexpr explicit elements_of(Range&& range) noexcept : range_(range) {}

    [[nodiscard]] constexpr std::remove_reference_t<Range>& range() const noexcept {
        return range_;
    }

private:
    std::remove_reference_t<Range>& range_;
};

template <class Range>
elements_of(Range&&) -> elements_of<Range>;

/// A sequence computed on demand. An input range and a view: it moves, does not copy, and is
/// iterated once. The coroutine does not start before begin(); destroying the generator destroys
/// it wherever it stopped.
///
/// `generator<T>` yields `T&&`: `co_yield` of an rvalue hands out that very object, of an lvalue a
/// copy of it, so that the reader may always move the item away. `generator<T&>` and
/// `generator<const T&>` hand out what was yielded and never copy.
///
/// An exception that leaves the coroutine comes out of begin() or operator++, and ends the range.
/// Thread safety: one thread at a time.
template <class T>
class [[nodiscard]] generator : public std::ranges::view_interface<generator<T>> {
public:
    using reference = std::conditional_t<std::is_reference_v<T>, T, T&&>;

    class promise_type;
    class iterator;

    generator(generator&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}

    generator& operator=(generator&& other) noexcept {
        generator taken{std::move(other)};
        std::swap(coroutine_, taken.coroutine_);
        return *this;
    }

    ~generator() {
        if (coroutine_) coroutine_.destroy();
    }

    /// Starts the coroutine and runs it to its first item. To be called once.
    [[nodiscard]] iterator begin();

    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

private:
    using handle = std::coroutine_handle<promise_type>;

    explicit generator(handle coroutine) noexcept : coroutine_(coroutine) {}

    handle coroutine_;
};

/// Points at the current item. Valid as long as its generator, also when that is moved.
template <class T>
class generator<T>::iterator {
public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = std::remove_cvref_t<T>;
    using difference_type = std::ptrdiff_t;

    iterator() = default;

    /// The item last yielded; it lives until the next ++.
    reference operator*() const noexcept { return static_cast<reference>(*promise_->item()); }

    /// Runs the coroutine to its next item or its end.
    iterator& operator++() {
        promise_->advance();
        return *this;
    }

    void operator++(int) { ++*this; }

    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept {
        return it.promise_->item() == nullptr;
    }

private:
    friend class generator;
    explicit iterator(promise_type& promise) noexcept : promise_(&promise) {}

    promise_type* promise_ = nullptr;
};

// Nested generators form a chain from the root, which the iterator holds, to the leaf, which
// computes the next item. The leaf puts its items straight into the root, and the root resumes
// the leaf directly: no generator between the two is touched. Handing over to a nested generator,
// or back to its parent, means to change the leaf and return to the loop in advance(): a transfer
// from frame to frame would grow the stack wherever the compiler does not turn it into a jump.
template <class T>
class generator<T>::promise_type {
    using item_pointer = std::add_pointer_t<reference>;
    using value = std::remove_cvref_t<T>;

    // Waits at a co_yield of an lvalue, and holds the copy of it that the reader may move from.
    struct copied_item {
        bool await_ready() const noexcept { return false; }
        void await_suspend(handle at) noexcept { at.promise().root_->item_ = std::addressof(copy); }
        void await_resume() const noexcept {}

        value copy;
    };

    // Waits at a co_yield of elements_of(generator).
    struct nested {
        bool await_ready() const noexcept { return false; }
        void await_suspend(handle at) const noexcept { inner.promise().nest_in(at.promise()); }
        void await_resume() const { inner.promise().rethrow(); }

        handle inner;
    };

    // Waits at a co_yield of elements_of(range), and owns the generator that walks the range.
    struct nested_range {
        bool await_ready() const noexcept { return false; }
        void await_suspend(handle at) const noexcept { nested{walk.coroutine_}.await_suspend(at); }
        void await_resume() const { nested{walk.coroutine_}.await_resume(); }

        generator walk;
    };

    struct back_to_parent {
        bool await_ready() const noexcept { return false; }
        void await_suspend(handle at) const noexcept {
            at.promise().root_->leaf_ = at.promise().parent_;
        }
        void await_resume() const noexcept {}
    };

public:
    generator get_return_object() noexcept {
        if constexpr (!std::is_reference_v<T>) detail::refuse_over_aligned<T>();
        return generator{handle::from_promise(*this)};
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    back_to_parent final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { exception_ = std::current_exception(); }

    template <class Awaitable>
    void await_transform(Awaitable&&) = delete;  // a generator is synchronous: see async_generator

    std::suspend_always yield_value(reference item) noexcept {
        root_->item_ = std::addressof(item);
        return {};
    }

    copied_item yield_value(const std::remove_reference_t<T>& item)
        requires std::is_rvalue_reference_v<reference> &&
                 std::constructible_from<value, const std::remove_reference_t<T>&>
    {
        return {value(item)};
    }

    template <class Range>
        requires std::same_as<std::remove_cvref_t<Range>, generator>
    nested yield_value(elements_of<Range> inner) noexcept {
        assert(inner.range().coroutine_ && "elements_of() of a generator that was moved away");
        return {inner.range().coroutine_};
    }

    template <class Range>
    nested_range yield_value(elements_of<Range> items) {
        return {walk(items.range())};
    }

    item_pointer item() const noexcept { return item_; }

    void start() {
        assert(leaf_ == nullptr && !started() && "a generator can be iterated only once");
        leaf_ = this;
        advance();
    }

    void advance() {
        assert(leaf_ != nullptr && "a generator was advanced past its end");
        item_ = nullptr;
        do {
            handle::from_promise(*leaf_).resume();
        } while (item_ == nullptr && leaf_ != nullptr);
        if (item_ == nullptr) rethrow();
    }

private:
    template <class Range>
    static generator walk(Range& range) {
        for (auto&& item : range) co_yield std::forward<decltype(item)>(item);
    }

    bool started() noexcept { return root_ != this || handle::from_promise(*this).done(); }

    void nest_in(promise_type& parent) noexcept {
        assert(leaf_ == nullptr && !started() && "elements_of() of a generator already begun");
        root_ = parent.root_;
        parent_ = &parent;
        root_->leaf_ = this;
    }

    void rethrow() {
        if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
    }

    promise_type* root_ = this;
    promise_type* parent_ = nullptr;
    std::exception_ptr exception_;

    // Of a root: who computes the next item, null before the first and after the last one; and what
    // the reader sees, null at the end.
    promise_type* leaf_ = nullptr;
    item_pointer item_ = nullptr;
};

template <class T>
auto generator<T>::begin() -> iterator {
    assert(coroutine_ && "begin() of a generator that was moved away");
    coroutine_.promise().start();
    return iterator{coroutine_.promise()};
}

}  // namespace rondo
