#pragma once
// Lines on standard error that never hold up the thread that writes them.
//
//     constinit detail::error_lines errors{"errors of connections"};
//
//     errors.write("rondo: connection of %s: %s", peer, text);
//
// Standard error may be a pipe that nobody reads, or a terminal that was stopped. A line that does
// not fit there at once is left out, and so is one that comes too soon after many others. What was
// left out is counted, and told with the next line that is written, or when the process ends.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <string>

namespace rondo::detail {

/// Lines of one kind, which share a limit of twenty at once and ten a second.
/// Thread safety: any thread. An object must have static storage duration.
class error_lines {
public:
    /// `kind` names what is left out, in the plural: "errors of connections".
    explicit constexpr error_lines(const char* kind) noexcept : kind_(kind) {}
    error_lines(const error_lines&) = delete;
    error_lines& operator=(const error_lines&) = delete;

    /// Writes one line, as printf would and without its newline; all of it within 4 KiB. Whatever
    /// fails is counted as left out. Never waits, and raises no signal.
    [[gnu::format(printf, 2, 3)]] void write(const char* format, ...) noexcept;

private:
    bool admit() noexcept;
    void leave_out(std::uint64_t lines) noexcept;
    static void tell_at_exit() noexcept;

    const char* kind_;
    // The time at which the lines written so far have been paid for, one each 100 ms.
    std::atomic<std::int64_t> paid_until_ns_{0};
    std::atomic<std::uint64_t> left_out_{0};  // since a line was written last
    std::atomic<bool> listed_{false};         // whether tell_at_exit() knows this object
    error_lines* next_listed_ = nullptr;
};

/// Puts `size` bytes on standard error, if that takes them at once. No signal comes of it, and the
/// flags of standard error, which other processes may share, stay as they are.
bool write_without_waiting(const char* text, std::size_t size) noexcept;

/// What an exception says of itself: its what(), or the name of its type where it has none.
std::string text_of(const std::exception_ptr& error);

}  // namespace rondo::detail
