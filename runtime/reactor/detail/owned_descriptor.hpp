#pragma once
// Who owns a descriptor, and which descriptor an operation was made for.
//
// The kernel gives the number of a closed descriptor to the next one that is opened. An operation
// may be made long before it starts, so it does not remember the number of its descriptor but a
// record, and the generation of that: a descriptor that was closed has ended its generation. Where
// the owner has moved to meanwhile makes no difference.

#include <rondo/runtime/core/detail/core.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

namespace rondo::detail {

class owned_descriptor;

/// What is known of the descriptor that carries a number now. A number has one record for as long
/// as the process lives. Belongs to the scheduler that uses the descriptor, but for the atomics.
struct descriptor_record {
    // How many owned descriptors with this number have been closed. The release at a close and the
    // acquire at the next opening order the one owner's last use of the record before the next
    // one's first.
    std::atomic<std::uint32_t> generation{1};
    // The id() of the reactor that used the descriptor last; 0: of none so far. Another reactor
    // that still hears of it reads this.
    std::atomic<std::uint32_t> reactor{0};
    owned_descriptor* owner = nullptr;
    int number = -1;

    // What operations on the descriptor tell each other.
    std::int16_t broken = 0;    // the errno that has ended its connection
    bool has_more = false;      // the last read was filled, and the kernel had more
    bool write_ended = false;   // nothing more is to be written
    bool zero_copy = false;     // large writes may hand their memory to the network card
    bool never_blocks = false;  // O_NONBLOCK is set: see reactor::needs_nonblocking()
    bool has_none = false;      // io_uring: the last accept left no connection behind
};

/// The record of an open or closed number; null where there has never been need of one. Any thread.
descriptor_record* find_record(int fd) noexcept;

// These stand for a descriptor that is closed, and for one that no memory could be had for a record
// of. Written by nobody; nobody has their generations.
extern constinit descriptor_record closed_record;
extern constinit descriptor_record missing_record;

/// Owns a descriptor. It belongs to the reactor that used it last, and is closed by the one of the
/// scheduler that it is closed on.
class owned_descriptor {
public:
    explicit owned_descriptor(int fd = -1) noexcept {
        if (fd >= 0) take(fd);
    }
    owned_descriptor(owned_descriptor&& other) noexcept { take_from(other); }
    owned_descriptor& operator=(owned_descriptor&& other) noexcept {
        if (this != &other) {
            close();
            take_from(other);
        }
        return *this;
    }
    ~owned_descriptor() { close(); }

    /// -1: closed.
    int get() const noexcept {
        return record_ == &missing_record ? static_cast<int>(generation_) : record_->number;
    }

    /// Gives the number up: from now on it is the caller's, and no operation finds it any more.
    int release() noexcept {
        const int fd = get();
        if (recorded()) end_generation();
        record_ = &closed_record;
        return fd;
    }

    void close() noexcept {
        if (record_ != &closed_record) close_now_or_soon(release());
    }

    /// The record; null where the descriptor is closed, or has none.
    descriptor_record* record() const noexcept { return recorded() ? record_ : nullptr; }

private:
    template <class, class, class>
    friend class descriptor_operation;

    bool recorded() const noexcept {
        return record_ != &closed_record && record_ != &missing_record;
    }
    void take(int fd) noexcept;
    void take_from(owned_descriptor& other) noexcept {
        generation_ = other.generation_;
        record_ = std::exchange(other.record_, &closed_record);
        if (recorded()) record_->owner = this;
    }
    void end_generation() noexcept;
    static void close_now_or_soon(int fd) noexcept;

    descriptor_record* record_ = &closed_record;
    std::uint32_t generation_ = 0;  // where the record is missing: the descriptor's number
};

/// What is wrong with a descriptor that is not open, as minus an errno.
int why_not_open(const descriptor_record& record) noexcept;

/// The descriptor is about to be used by this scheduler, for the first time or after another one.
void settle_here(descriptor_record& record) noexcept;

}  // namespace rondo::detail
