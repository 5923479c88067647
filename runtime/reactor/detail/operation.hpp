#pragma once
// One request to the kernel, in both of the shapes that reactors need: a submission queue entry,
// and a call to try.
//
//     class recv_operation final : public io_operation<recv_operation, std::size_t> {
//         void prepare(io_uring_sqe& sqe) noexcept override;      // io_uring
//         int attempt() noexcept override;                        // epoll
//         ...
//     };
//
// An operation lives in the awaiter, in the frame of the coroutine that waits. It may be made long
// before it starts, and takes the number of its descriptor only then. Once submitted it is finished
// only by its last completion; until then it stays where it is, and so do its buffers and its
// descriptor.
//
// A new kind of operation is a new class of one of these shapes, and touches neither scheduler nor
// reactors:
//  - one that waits for a descriptor, as above;
//  - one that needs none: fd stays -1;
//  - one that readiness does not help, since its call blocks: see blocking_operation.hpp;
//  - one with many results: prepare() asks for a multishot request, attempt() gives the next
//    result, and finish() takes each of them and says false until the operation has enough, or gets
//    an error. Until then the operation is pending, and cancelled like any other.
// The rule for all of them: the kernel is reached in prepare() and attempt(), and nowhere else.
// What an operation needs besides that, to open a socket for example, goes through kernel()
// (system_calls.hpp), as the calls in attempt() do; time comes from now_ns(). So a reactor that
// plays a kernel of its own can run every operation.

#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/result.hpp>
#include <rondo/runtime/reactor/detail/owned_descriptor.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <source_location>
#include <system_error>
#include <type_traits>
#include <utility>

struct io_uring_sqe;

namespace rondo::detail {

/// What an operation waits for when the kernel says EAGAIN.
enum class readiness : std::uint8_t { read, write, any };

class operation;

/// What an operation and its reactor tell each other. Plain data, so that an operation that has not
/// started is copied in one piece.
struct operation_data {
    operation* next_on_fd = nullptr;   // reactor: the pending operations of one descriptor
    operation* next_queued = nullptr;  // reactor: those that wait for a free queue entry
    int fd = -1;                       // from begin() on; stays -1 where there is none
    int result = 0;                    // of the last completion: a value, or minus an errno
    readiness direction : 2 = readiness::read;
    // the task was cancelled while this was pending, and the descriptor was not closed before
    bool cancel_wanted : 1 = false;
    bool fd_closed : 1 = false;      // the descriptor was closed while this was pending
    bool fd_is_foreign : 1 = false;  // the descriptor may be closed without the reactor being told
    bool takes_turns : 1 = false;    // no two of these may be pending in the same direction
    // The descriptor has more, as far as is known, and a call would not wait. The operation says so
    // before submit(), io_uring with each completion, before finish().
    bool has_more : 1 = false;
    // after finish(): it took all that there was; more will make the descriptor ready anew
    bool took_all : 1 = false;
    std::uint8_t reactor_state = 0;  // belongs to the reactor
    // before finish(): the buffer that the kernel picked for what it received, lent to the
    // operation, or buffer_pool::none; of a send without copy, `copied` where there was one after
    // all
    std::uint16_t buffer = 0xffff;
};

class operation : public suspension, public operation_data {
public:
    static constexpr std::uint16_t copied = 0xfffe;  // see buffer

    /// Fills in the request. Called at each submission, so also after a result that finish() did
    /// not accept.
    virtual void prepare(io_uring_sqe& sqe) noexcept = 0;

    /// Tries the call without waiting. Gives its result, or minus an errno; -EAGAIN means: again
    /// when ready.
    virtual int attempt() noexcept = 0;

    /// Takes a result. False: not there yet (a short write), submit again; or go on, where the
    /// kernel has more results for the same request. -EOPNOTSUPP stands for a request that the
    /// kernel does not know.
    virtual bool finish(int value) noexcept {
        result = value;
        return true;
    }

    void cancel() noexcept override;

protected:
    explicit operation(readiness wanted) noexcept : operation_data{.direction = wanted} {}
    operation(const operation&) = default;
    operation& operator=(const operation&) = default;
    ~operation() = default;
};

/// Tries until the operation has its result, or would block: false.
inline bool try_to_finish(operation& op) noexcept {
    for (;;) {
        const int value = op.attempt();
        if (value == -EAGAIN) return false;
        if (op.finish(value)) return true;
    }
}

/// Ends the program where a task reads while another one does, or writes while another one does.
void check_turn(const operation& op, std::source_location where) noexcept;

/// Gives a finished operation back to its task.
inline void complete(operation& op) noexcept {
    if (op.fd_closed) [[unlikely]] {
        const bool was_ended = op.result == -ECANCELED || op.result == -EINTR;
        if (was_ended && !op.cancel_wanted) op.result = -EBADF;
    }
    --current_core->operations;
    current_core->wake(*op.task);
}

/// The awaiter half of an operation. Derived has:
///   Value value()                what a result >= 0 means
///   std::string tried()          what it was to do, on what, for the text of an error
///   int begin()                  what must be done first: sets fd; minus an errno ends it there
///   void abandon()               optional: cleans up after a failure or cancellation
///   std::error_code code()       optional: the meaning of a result < 0 that is no errno
/// Base is operation, or blocking_operation.
template <class Derived, class Value, class Base = operation>
class [[nodiscard("without co_await nothing happens")]] io_operation : public Base {
public:
    bool await_ready() const noexcept { return false; }

    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       std::source_location where = std::source_location::current()) noexcept {
        return start(waiter.promise(), where) == submission::pending ||
               !keeps_turn(waiter.promise(), where);
    }

    Value await_resume() {
        if (Base::result < 0) [[unlikely]] {
            const std::error_code code = error();
            if (code == std::errc::operation_canceled) throw operation_cancelled{};
            throw std::system_error(code, static_cast<Derived&>(*this).tried());
        }
        return static_cast<Derived&>(*this).value();
    }

    rondo::result<Value> resume_result() {
        if (Base::result < 0) [[unlikely]]
            return explain(error(), [this] { return static_cast<Derived&>(*this).tried(); });
        if constexpr (std::is_void_v<Value>) {
            return {};
        } else {
            return static_cast<Derived&>(*this).value();
        }
    }

protected:
    using Base::Base;
    ~io_operation() = default;

private:
    submission start(promise_base& waiter, std::source_location where) noexcept {
        scheduler_core& core = *current_core;
        if (core.current->should_stop()) {
            this->cancel_wanted = true;
            Base::result = -ECANCELED;
            return submission::finished;
        }
        Base::result = static_cast<Derived&>(*this).begin();
        if (Base::result < 0) [[unlikely]]
            return submission::finished;
        if constexpr (debug_checks) check_turn(*this, where);
        block(*this, waiter, where);
        const submission state = begin_in(*core.io);
        if (state == submission::finished) {
            core.current->flags &= ~scope_node::blocked;
        } else {
            ++core.operations;
        }
        return state;
    }

    submission begin_in(reactor& io) noexcept {
        if constexpr (std::is_same_v<Base, operation>) {
            return io.submit(*this);
        } else {
            return io.submit_blocking(*this);
        }
    }

    std::error_code error() noexcept {
        auto& self = static_cast<Derived&>(*this);
        if constexpr (requires { self.abandon(); }) self.abandon();
        if (this->cancel_wanted && (Base::result == -ECANCELED || Base::result == -EINTR)) {
            return std::make_error_code(std::errc::operation_canceled);
        }
        if constexpr (requires { self.code(); }) return self.code();
        return {-Base::result, std::system_category()};
    }
};

/// An operation on an owned descriptor. It may be made long before it starts: in between the owner
/// may have moved, which makes no difference, or have closed the descriptor, which is EBADF.
/// Neither does it matter where the owner moves while the operation is pending.
template <class Derived, class Value, class Base = operation>
class descriptor_operation : public io_operation<Derived, Value, Base> {
public:
    int begin() noexcept {
        if (!is_open()) [[unlikely]]
            return why_not_open(*record_);
        if (record_->reactor.load(std::memory_order_relaxed) != current_core->reactor_id)
            [[unlikely]]
            settle_here(*record_);
        this->fd = record_->number;
        return 0;
    }

protected:
    descriptor_operation(const owned_descriptor& descriptor, readiness direction) noexcept
        : io_operation<Derived, Value, Base>(direction),
          generation_(descriptor.generation_),
          record_(descriptor.record_) {}
    ~descriptor_operation() = default;

    /// False once the descriptor was closed, whatever has its number now.
    bool is_open() const noexcept {
        // Relaxed: the task that asks and the one that closed it are on one scheduler, or one after
        // the other.
        return record_->generation.load(std::memory_order_relaxed) == generation_;
    }

    /// Precondition: the descriptor is open, as it is from begin() on while fd_closed is false.
    descriptor_record& record() const noexcept { return *record_; }

    /// Null once the descriptor was closed.
    const owned_descriptor* owner() const noexcept { return is_open() ? record_->owner : nullptr; }

private:
    std::uint32_t generation_;  // first: it fits in behind what the base ends with
    descriptor_record* record_;
};

}  // namespace rondo::detail
