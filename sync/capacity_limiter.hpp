#pragma once
// So many at a time, and each only once: a semaphore that knows who holds its tokens.
//
//     rondo::capacity_limiter database{10};
//     auto token = co_await database.acquire();       // this task holds one of ten now
//     co_await query();                               // the token goes back when it leaves scope
//     database.set_total(20);                         // the operator has added a replica
//
// That a task which holds a token waits for another one is how such programs lock up once there are
// enough of them; here it is an error at once. The idea is Trio's CapacityLimiter.

#include <rondo/runtime/core/errors.hpp>
#include <rondo/sync/detail/short_lock.hpp>
#include <rondo/sync/detail/wait_list.hpp>

#include <compare>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <source_location>
#include <utility>
#include <vector>

namespace rondo {

namespace detail {

/// What a borrower is known by: its address; of a task its number too, because the next task may be
/// where one was that has ended, while the token of that one lives on.
struct borrower_id {
    const void* address = nullptr;
    std::uint32_t number = 0;

    friend auto operator<=>(const borrower_id&, const borrower_id&) = default;
};

/// A set of borrowers. It makes room when told to, and never otherwise.
class borrower_set {
public:
    bool contains(const borrower_id& one) const noexcept {
        return !places_.empty() && places_[find(one)].address != nullptr;
    }
    /// Room for so many in all.
    void reserve(std::size_t count);
    /// Precondition: there is room, and it is not in the set.
    void insert(const borrower_id& one) noexcept;
    /// Precondition: it is in the set.
    void erase(const borrower_id& one) noexcept;
    std::size_t size() const noexcept { return size_; }

private:
    // Where it is, or where it would go.
    std::size_t find(const borrower_id& one) const noexcept;
    std::size_t home_of(const borrower_id& one) const noexcept;

    // A hash table with linear probing: each borrower is at its home or behind it, with no gap
    // between; an address of null marks a free place. At most half full, and as large as a power of
    // two.
    std::vector<borrower_id> places_;
    std::size_t size_ = 0;
};

}  // namespace detail

/// Unlike a semaphore it notes who has a token. So taking one and giving it back is a look into a
/// hash table under a lock for a few instructions each, also where nobody waits: two atomic
/// exchanges without a system call (none, while the process has one thread). It allocates when
/// there are more borrowers and waiters than ever before.
/// Thread safety: tasks of any scheduler; all that does not wait, from any thread. What was done
/// before a token went back is seen by who gets it.
class capacity_limiter {
public:
    /// Whoever holds a token: anything that has an address. A task, where nothing else is said.
    using borrower = const void*;

    explicit capacity_limiter(std::size_t total) noexcept : total_(total) {}
    capacity_limiter(const capacity_limiter&) = delete;
    capacity_limiter& operator=(const capacity_limiter&) = delete;

    /// Holds a token; gives it back when destroyed. Moves, does not copy. It may end in another
    /// task than it began in; it counts for the one that it was made for.
    class [[nodiscard]] token {
    public:
        token(token&& other) noexcept
            : of_(std::exchange(other.of_, nullptr)), holder_(other.holder_) {}
        token& operator=(token&& other) noexcept {
            if (this != &other) {
                release();
                of_ = std::exchange(other.of_, nullptr);
                holder_ = other.holder_;
            }
            return *this;
        }
        ~token() { release(); }

        /// Gives it back ahead of time.
        void release() noexcept {
            if (of_ != nullptr) std::exchange(of_, nullptr)->release(holder_);
        }

    private:
        friend class capacity_limiter;
        token(capacity_limiter& of, const detail::borrower_id& holder) noexcept
            : of_(&of), holder_(holder) {}
        capacity_limiter* of_;
        detail::borrower_id holder_;
    };

    class [[nodiscard("without co_await nothing happens")]] acquire_awaiter final
        : public detail::task_waiter {
    public:
        acquire_awaiter(capacity_limiter& of, const detail::borrower_id& holder) noexcept
            : limiter_(of), holder_(holder) {}
        bool await_ready() const noexcept { return false; }
        template <detail::rondo_promise Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter,
                           std::source_location where = std::source_location::current()) {
            was_cancelled_ = detail::current_core->current->should_stop();
            if (was_cancelled_ || !limiter_.take_or_join(*this)) {
                return !detail::keeps_turn(waiter.promise(), where, detail::memory_cost);
            }
            detail::block(*this, waiter.promise(), where);
            return true;
        }
        token await_resume() const {
            if (was_cancelled_) throw operation_cancelled{};
            return token{limiter_, holder_};
        }
        bool was_cancelled() const noexcept { return was_cancelled_; }

        void cancel() noexcept override {
            was_cancelled_ = limiter_.leave_line(*this);
            if (was_cancelled_) detail::current_core->wake(*task);
        }
        void describe(std::FILE* out) const override;

    private:
        friend class capacity_limiter;
        capacity_limiter& limiter_;
        detail::borrower_id holder_;
        bool was_cancelled_ = false;
    };

    /// Waits until a token is free and all who came before have theirs, and takes it for this task.
    /// Throws std::logic_error when the task holds one already.
    /// Cancellation: the waiter leaves the queue and takes nothing; one that has been given a token
    /// already keeps it.
    acquire_awaiter acquire();

    /// The same for another borrower than this task, any address but null: a connection, a tenant.
    /// Throws std::logic_error when that one holds a token or waits for one.
    acquire_awaiter acquire_for(borrower holder);

    /// A token if one is free and nobody waits, an empty optional otherwise; for this task, or for
    /// another borrower. Throws as acquire().
    std::optional<token> try_acquire();
    std::optional<token> try_acquire_for(borrower holder);

    /// Changes how many tokens there are. More of them go to those who wait; of fewer, no token is
    /// taken from anybody, but none is given before enough have come back.
    void set_total(std::size_t total) noexcept;

    /// At one moment.
    struct statistics {
        std::size_t total;
        std::size_t borrowed;  // above the total for a while, after that was lowered
        std::size_t waiting;
    };
    statistics current() const noexcept;

private:
    std::optional<token> try_take(const detail::borrower_id& holder);
    void enlist(const detail::borrower_id& holder);
    void release(const detail::borrower_id& holder) noexcept;
    bool take_or_join(acquire_awaiter& one);
    bool leave_line(acquire_awaiter& one) noexcept;
    detail::wake_list serve_line() noexcept;

    mutable detail::short_lock lock_;
    std::size_t total_;
    std::size_t borrowed_ = 0;
    detail::borrower_set known_;  // those who hold a token, and those who wait
    detail::wait_list line_;      // empty, or no token is free
};

}  // namespace rondo
