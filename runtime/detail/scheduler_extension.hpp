#pragma once
// What a part further up keeps for one scheduler, for as long as that runs, without the scheduler
// knowing it: asio/executor.hpp has its handlers' home here.

#include <rondo/runtime/core/detail/core.hpp>

#include <atomic>
#include <cstdint>

namespace rondo::detail {

class scheduler_extension {
public:
    /// Two extensions of the same kind have the same address here.
    explicit scheduler_extension(const void* kind) noexcept : kind_(kind) {}
    scheduler_extension(const scheduler_extension&) = delete;
    scheduler_extension& operator=(const scheduler_extension&) = delete;

    /// On the scheduler's thread: no task is left, and no message is taken any more. What is made
    /// later is told at once, where it is made.
    virtual void scheduler_leaves() noexcept = 0;

    /// The scheduler is destroyed, and forgets this; after scheduler_leaves().
    virtual void drop() noexcept = 0;

    /// The scheduler's own, made by make() when there is none yet. Any thread, while the scheduler
    /// exists, which is as long as the reference holds.
    template <class Extension, class Make>
    static Extension& of(scheduler_core& core, const void* kind, Make make) {
        std::uintptr_t list = core.extensions.load();
        if (scheduler_extension* known = find(list, kind)) return static_cast<Extension&>(*known);
        scheduler_extension* const made = make();
        do {
            if (scheduler_extension* known = find(list, kind)) {
                made->scheduler_leaves();
                made->drop();
                return static_cast<Extension&>(*known);
            }
            made->next_ = first_of(list);
        } while (!core.extensions.compare_exchange_weak(
            list, reinterpret_cast<std::uintptr_t>(made) | (list & has_left)));
        if ((list & has_left) != 0) made->scheduler_leaves();
        return static_cast<Extension&>(*made);
    }

    /// The scheduler's two last words to all of them.
    static void leave(scheduler_core& core) noexcept {
        for_each(core.extensions.fetch_or(has_left), &scheduler_extension::scheduler_leaves);
    }
    static void drop_all(scheduler_core& core) noexcept {
        for_each(core.extensions.exchange(has_left), &scheduler_extension::drop);
    }

protected:
    ~scheduler_extension() = default;

private:
    // The lowest bit of scheduler_core::extensions; the others are the first of the list.
    static constexpr std::uintptr_t has_left = 1;

    static scheduler_extension* first_of(std::uintptr_t list) noexcept {
        return reinterpret_cast<scheduler_extension*>(list & ~has_left);
    }
    static scheduler_extension* find(std::uintptr_t list, const void* kind) noexcept {
        scheduler_extension* each = first_of(list);
        while (each != nullptr && each->kind_ != kind) each = each->next_;
        return each;
    }
    static void for_each(std::uintptr_t list,
                         void (scheduler_extension::*tell)() noexcept) noexcept {
        scheduler_extension* each = first_of(list);
        while (each != nullptr) {
            scheduler_extension* const next = each->next_;
            (each->*tell)();
            each = next;
        }
    }

    const void* const kind_;
    scheduler_extension* next_ = nullptr;  // what is in the list, stays there
};

}  // namespace rondo::detail
