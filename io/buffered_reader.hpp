#pragma once
// Lines and records out of a byte stream.
//
//     rondo::buffered_reader reader{peer};
//     while (auto line = co_await reader.read_line(4096)) answer(*line);
//
// What it gives are views into its buffer, valid until the next call.

#include <rondo/io/stream.hpp>
#include <rondo/runtime/core/as_result.hpp>
#include <rondo/runtime/core/task.hpp>

#include <algorithm>
#include <coroutine>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <utility>

namespace rondo {

namespace detail {

/// A read that may find what it wants in the buffer, and starts a coroutine only where it must wait
/// for more.
template <class Reader, class T>
class [[nodiscard("without co_await nothing happens")]] buffered_read {
public:
    using take = std::optional<result<T>> (Reader::*)(char delimiter, std::size_t amount);

    buffered_read(Reader& reader, take take_one, char delimiter, std::size_t amount,
                  const char* what) noexcept
        : reader_(&reader),
          take_(take_one),
          delimiter_(delimiter),
          // Sums of it and a few bytes must not overflow; nothing larger fits into memory anyway.
          amount_(std::min(amount, std::numeric_limits<std::size_t>::max() / 2)),
          what_(what) {}

    bool await_ready() {
        // An earlier read that gave up may have searched for another delimiter.
        reader_->searched_ = 0;
        found_ = (reader_->*take_)(delimiter_, amount_);
        return found_.has_value() && spend_allowance(memory_cost);
    }
    template <rondo_promise Promise>
    std::coroutine_handle<> await_suspend(
        std::coroutine_handle<Promise> waiter,
        std::source_location where = std::source_location::current()) {
        if (found_) {
            give_way(waiter.promise(), where);
            return std::noop_coroutine();
        }
        auto& more = more_.emplace(reader_->template read_more<T>(take_, delimiter_, amount_));
        return more.operator co_await().await_suspend(waiter, where);
    }
    result<T> resume_result() {
        if (found_ && *found_) [[likely]]
            return *std::move(found_);
        // Without a find in the buffer await_suspend has started the coroutine.
        result<T> outcome =
            found_
                ? *std::move(found_)
                : more_->operator co_await().await_resume();  // NOLINT(*-unchecked-optional-access)
        if (!outcome) return explain(outcome.error(), [this] { return std::string(what_); });
        return outcome;
    }
    T await_resume() {
        result<T> outcome = resume_result();
        if (!outcome) throw_error(outcome.error(), what_);
        return *std::move(outcome);
    }

private:
    Reader* reader_;
    take take_;
    char delimiter_;
    std::size_t amount_;
    const char* what_;
    std::optional<result<T>> found_;
    std::optional<task<result<T>>> more_;
};

}  // namespace detail

/// Reads from a stream that it refers to and that must outlive it. It reads ahead, so nobody else
/// may read from the stream meanwhile. Its buffer begins small and grows with what is asked for;
/// steady state does not allocate.
/// Cancellation of a read loses nothing: what has come stays in the buffer for the next one. A read
/// that finds what it wants in the buffer completes at once, cancelled or not.
/// Thread safety: one task at a time.
template <readable_stream Stream>
class buffered_reader {
public:
    static constexpr std::size_t default_limit = 64 * 1024;

    using line_read = detail::buffered_read<buffered_reader, std::optional<std::string_view>>;
    using bytes_read = detail::buffered_read<buffered_reader, std::span<const std::byte>>;
    using skip_read = detail::buffered_read<buffered_reader, bool>;

    explicit buffered_reader(Stream& stream) noexcept : stream_(&stream) {}

    /// Completes with the next line, without its "\n" or "\r\n"; with an empty optional at the end
    /// of the stream. A last line that lacks its newline counts. A line of more than `limit` bytes
    /// is stream_errc::too_long; nothing of it is taken out then, see discard_line.
    line_read read_line(std::size_t limit = default_limit) noexcept {
        return {*this, &buffered_reader::take_line, '\n', limit, "read a line"};
    }

    /// Completes with what comes before the next `delimiter`, which is taken out too; the rest as
    /// read_line.
    line_read read_until(char delimiter, std::size_t limit = default_limit) noexcept {
        return {*this, &buffered_reader::take_until, delimiter, limit, "read up to a delimiter"};
    }

    /// Completes with exactly `size` bytes; an earlier end is stream_errc::unexpected_end, and what
    /// came stays.
    bytes_read read_exactly(std::size_t size) noexcept {
        return {*this, &buffered_reader::take_exactly, '\0', size, "read"};
    }

    /// Throws the rest of the current line away, newline included, in constant memory; false where
    /// the stream ended first.
    skip_read discard_line() noexcept {
        return {*this, &buffered_reader::skip_line, '\n', 0, "skip a line"};
    }

    /// What was read from the stream and not yet taken out.
    std::span<const std::byte> buffered() const noexcept {
        return {reinterpret_cast<const std::byte*>(begin()), size()};
    }

private:
    template <class Reader, class T>
    friend class detail::buffered_read;

    using line = std::optional<std::string_view>;

    // The take_ functions give an empty optional while more must be read.

    std::optional<result<line>> take_line(char delimiter, std::size_t limit) {
        return take_delimited(delimiter, limit, true);
    }
    std::optional<result<line>> take_until(char delimiter, std::size_t limit) {
        return take_delimited(delimiter, limit, false);
    }

    std::optional<result<line>> take_delimited(char delimiter, std::size_t limit,
                                               bool strip_return) {
        const void* at = size() == searched_
                             ? nullptr
                             : std::memchr(begin() + searched_, delimiter, size() - searched_);
        if (at == nullptr) searched_ = size();
        if (at == nullptr && !ended_) {
            // One byte more may be the carriage return of a line, which is no part of it.
            const bool ends_in_return = strip_return && size() != 0 && begin()[size() - 1] == '\r';
            if (size() <= limit + (ends_in_return ? 1 : 0)) return std::nullopt;
        }
        if (at == nullptr && size() == 0) return line{};
        const std::size_t length =
            at == nullptr ? size()
                          : static_cast<std::size_t>(static_cast<const char*>(at) - begin());
        std::string_view text{begin(), length};
        if (strip_return && at != nullptr && text.ends_with('\r')) text.remove_suffix(1);
        if (text.size() > limit) return result<line>{stream_errc::too_long};
        consume(length + (at == nullptr ? 0 : 1));
        return result<line>{line{text}};
    }

    std::optional<result<std::span<const std::byte>>> take_exactly(char, std::size_t wanted) {
        if (size() < wanted) {
            if (ended_) return result<std::span<const std::byte>>{stream_errc::unexpected_end};
            return std::nullopt;
        }
        const auto bytes = buffered().first(wanted);
        consume(wanted);
        return result<std::span<const std::byte>>{bytes};
    }

    std::optional<result<bool>> skip_line(char delimiter, std::size_t) {
        const void* at = size() == 0 ? nullptr : std::memchr(begin(), delimiter, size());
        if (at != nullptr) {
            consume(static_cast<std::size_t>(static_cast<const char*>(at) - begin()) + 1);
            return result<bool>{true};
        }
        consume(size());
        if (ended_) return result<bool>{false};
        return std::nullopt;
    }

    template <class T>
    task<result<T>> read_more(typename detail::buffered_read<buffered_reader, T>::take take_one,
                              char delimiter, std::size_t amount) {
        for (;;) {
            make_room(amount);
            const std::span<char> room{buffer_.get() + last_, capacity_ - last_};
            auto got = co_await as_result(stream_->read_some(std::as_writable_bytes(room)));
            if (!got) co_return got.error();
            last_ += *got;
            ended_ = *got == 0;
            if (auto found = (this->*take_one)(delimiter, amount)) co_return *std::move(found);
        }
    }

    // Leaves room to read into: moves what there is to the front, or doubles the buffer while less
    // than `wanted` and a delimiter would fit.
    void make_room(std::size_t wanted) {
        if (first_ != 0) {
            std::memmove(buffer_.get(), begin(), size());
            last_ -= std::exchange(first_, 0);
        }
        if (last_ != capacity_) return;
        const std::size_t larger = std::max(first_capacity, std::min(2 * capacity_, wanted + 2));
        auto grown = std::make_unique<char[]>(std::max(larger, capacity_ + 1));
        if (last_ != 0) std::memcpy(grown.get(), buffer_.get(), last_);
        buffer_ = std::move(grown);
        capacity_ = std::max(larger, capacity_ + 1);
    }

    void consume(std::size_t count) noexcept {
        first_ += count;
        searched_ = 0;
        if (first_ == last_) first_ = last_ = 0;
    }

    const char* begin() const noexcept { return buffer_.get() + first_; }
    std::size_t size() const noexcept { return last_ - first_; }

    static constexpr std::size_t first_capacity = 512;

    Stream* stream_;
    std::unique_ptr<char[]> buffer_;
    std::size_t capacity_ = 0;
    std::size_t first_ = 0;  // [first_, last_) was read from the stream and not yet taken out
    std::size_t last_ = 0;
    // the first so many of these hold no delimiter of the read in progress
    std::size_t searched_ = 0;
    bool ended_ = false;
};

}  // namespace rondo
