#pragma once
// The timers of one scheduler: any number of deadlines, armed and cancelled in constant time.
//
//     timer_wheel wheel{now_ns()};
//     timer_node node;                                     // lives in whoever waits
//     wheel.arm(node, now_ns() + 1'000'000);
//     sleep_until(wheel.next_deadline());
//     while (timer_node* due = wheel.expire(now_ns())) wake(*due);
//
// A hierarchical timing wheel: G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels",
// SOSP 1987. Unlike most, it is exact: the slots are only the place where timers wait cheaply, and
// those of the current tick are sorted before they fire.

#include <rondo/runtime/core/detail/compiler.hpp>

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace rondo::detail {

struct timer_link {
    timer_link* next = nullptr;
    timer_link* prev = nullptr;
};

/// A timer. Lives in the awaiter of whoever waits, and stays where it is while it is armed.
struct timer_node : timer_link {
    /// Nanoseconds of std::chrono::steady_clock. Belongs to the wheel while the timer is armed.
    std::int64_t deadline = 0;

    [[nodiscard]] bool armed() const noexcept { return next != nullptr; }
};

static_assert(sizeof(void*) != 8 || sizeof(timer_node) == 24);

// A circular list of timers around a link of its own, so that a timer leaves it without having to
// know which list it is in.
class timer_list {
public:
    timer_list() noexcept = default;
    timer_list(const timer_list&) = delete;
    timer_list& operator=(const timer_list&) = delete;

    [[nodiscard]] bool empty() const noexcept { return head_.next == &head_; }
    [[nodiscard]] timer_node& front() noexcept { return static_cast<timer_node&>(*head_.next); }
    [[nodiscard]] timer_node& back() noexcept { return static_cast<timer_node&>(*head_.prev); }
    [[nodiscard]] timer_link* end() noexcept { return &head_; }

    void push_back(timer_node& node) noexcept { insert_before(head_, node); }

    static void insert_before(timer_link& place, timer_node& node) noexcept {
        node.next = &place;
        node.prev = place.prev;
        place.prev->next = &node;
        place.prev = &node;
    }

    static void remove(timer_node& node) noexcept {
        node.prev->next = node.next;
        node.next->prev = node.prev;
        node.next = nullptr;
    }

    /// Moves all timers of `other` behind those of this list.
    void append(timer_list& other) noexcept;

    /// Sorts by deadline; timers with the same deadline keep their order. Linear when in order.
    void sort() noexcept;

private:
    timer_link head_{&head_, &head_};
};

/// The timers of one scheduler, which is the only thread that may touch them.
/// Timers fire in the order of their deadlines, those of the same deadline in the order armed,
/// and never early. Nothing allocates; the wheel takes 8 KiB whatever it holds.
class timer_wheel {
public:
    /// What next_deadline() says when nothing is armed.
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

    explicit timer_wheel(std::int64_t now_ns) noexcept : tick_(now_ns > 0 ? tick_of(now_ns) : 0) {}

    timer_wheel(const timer_wheel&) = delete;
    timer_wheel& operator=(const timer_wheel&) = delete;

    /// Arms a timer. One whose deadline has passed is due at the next expire().
    /// Precondition: the timer is not armed.
    void arm(timer_node& node, std::int64_t deadline_ns) noexcept {
        assert(!node.armed() && "a timer was armed twice");
        node.deadline = deadline_ns;
        ++size_;
        if (deadline_ns < earliest_) earliest_ = deadline_ns;
        place(node);
    }

    /// Disarms a timer. Does nothing when it is not armed: it fired, or never was.
    void cancel(timer_node& node) noexcept {
        if (node.armed()) take(node);
    }

    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// When to call expire() next: never later than the earliest deadline, and after an expire(now)
    /// that returned nullptr always later than that now. It is the earliest deadline itself, unless
    /// the timers next in line are both many and far away: then it is the time at which they come
    /// near enough to be told apart (a timer can cause at most eight such calls).
    [[nodiscard]] std::int64_t next_deadline() noexcept {
        if (earliest_ == unknown) earliest_ = find_earliest();
        return earliest_;
    }

    /// Takes out the earliest timer that is due at `now_ns`, or returns nullptr when none is.
    /// To be called until it returns nullptr; other timers, also due ones, may be armed and
    /// cancelled between the calls.
    [[nodiscard]] timer_node* expire(std::int64_t now_ns) noexcept;

private:
    static constexpr int tick_bits = 16;  // a tick is 65.5 microseconds
    static constexpr int slot_bits = 6;
    static constexpr int slots_per_level = 1 << slot_bits;
    static constexpr int levels = 8;
    static_assert(tick_bits + slot_bits * levels >= 63, "every deadline must have a slot");

    static constexpr std::int64_t unknown = std::numeric_limits<std::int64_t>::min();

    // How many timers next_deadline() looks at to find the earliest of a slot.
    static constexpr int scan_limit = 16;

    struct position {
        int level;
        int slot;
    };

    static constexpr std::int64_t tick_of(std::int64_t ns) noexcept { return ns >> tick_bits; }

    static constexpr int slot_of(std::int64_t tick, int level) noexcept {
        return static_cast<int>(tick >> (slot_bits * level)) & (slots_per_level - 1);
    }

    void place(timer_node& node) noexcept {
        const std::int64_t tick = tick_of(node.deadline);
        if (tick <= tick_) return fresh_.push_back(node);
        const auto difference = static_cast<std::uint64_t>(tick ^ tick_);
        const int level = (std::bit_width(difference) - 1) / slot_bits;
        const int slot = slot_of(tick, level);
        occupied_[level] |= std::uint64_t{1} << slot;
        slots_[level][slot].push_back(node);
    }

    void take(timer_node& node) noexcept {
        timer_list::remove(node);
        --size_;
        if (node.deadline == earliest_) earliest_ = unknown;
    }

    void sort_due() noexcept;
    bool advance(std::int64_t target) noexcept;
    void enter(position at, std::int64_t start) noexcept;
    bool find_first(position& at) noexcept;
    std::int64_t start_of(position at) const noexcept;
    std::int64_t find_earliest() noexcept;

    // Never ahead of the last now. Where a timer waits depends only on its deadline and on tick_:
    // up to tick_, in due_ or fresh_; later, on the level of the highest group of six bits in which
    // its tick differs from tick_, in the slot that this group of its own tick names. Timers with
    // the same deadline are therefore always in the same list, in the order armed.
    std::int64_t tick_;

    // What next_deadline() answers; `unknown` when it has to look.
    std::int64_t earliest_ = never;

    std::size_t size_ = 0;
    timer_list due_;    // sorted
    timer_list fresh_;  // not sorted yet; of equal deadlines, those in due_ were armed earlier

    // A bit is set for each slot that holds timers, and maybe for some whose timers were cancelled.
    std::array<std::uint64_t, levels> occupied_{};
    std::array<std::array<timer_list, slots_per_level>, levels> slots_;
};

}  // namespace rondo::detail
