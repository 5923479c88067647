#pragma once
// The door to the kernel: what the scheduler asks of io_uring or epoll.

#include <rondo/runtime/core/detail/clock_source.hpp>
#include <rondo/runtime/reactor/reactor_kind.hpp>

#include <cstdint>
#include <memory>

namespace rondo::detail {

class blocking_operation;
class buffer_pool;
class call_threads;
class operation;
struct system_calls;

enum class submission : bool {
    pending,   // complete() will be called
    finished,  // operation::result is there already; complete() is not called
};

/// Submits operations, reports their completions by complete(), and sleeps. Used by its scheduler's
/// thread only, but for wake(). Behaves the same whatever the kernel's interface, to the last error
/// code. Its clock is the one that its scheduler goes by.
class reactor : public clock_source {
public:
    /// What an io_uring request names to have the kernel pick one of buffers().
    static constexpr std::uint16_t buffer_group = 0;

    /// wait() with this deadline does not sleep.
    static constexpr std::int64_t no_wait = INT64_MIN;
    /// ... and with this one sleeps until something happens.
    static constexpr std::int64_t forever = INT64_MAX;

    reactor() noexcept;
    ~reactor() override;

    virtual reactor_kind kind() const noexcept = 0;

    /// Whether it calls attempt() without knowing that the call would not wait: a descriptor that
    /// such a call would wait for must be non-blocking. The others take a descriptor that is
    /// non-blocking for a wish to fail rather than wait.
    virtual bool needs_nonblocking() const noexcept { return false; }

    /// Whether it takes requests to send memory without copying it, and tells whether it could.
    virtual bool sends_without_copy() const noexcept { return false; }

    /// Whether an accept may be told to wait for a connection before it looks for one, and tells
    /// whether more are waiting.
    virtual bool polls_before_accept() const noexcept { return false; }

    /// The system calls for what is not an operation, and for operations that try.
    virtual const system_calls& calls() const noexcept;

    /// Another number for each reactor that the process makes; never 0.
    std::uint32_t id() const noexcept { return id_; }

    /// Starts an operation of the task that is running now. The operation then belongs to the
    /// kernel until its last completion.
    virtual submission submit(operation& op) noexcept = 0;

    /// The same for one that readiness does not help. Where the kernel cannot be asked for it, a
    /// thread calls attempt().
    virtual submission submit_blocking(blocking_operation& op) noexcept;

    /// The threads for that. They outlive the last task.
    void use_threads(call_threads& threads) noexcept { threads_ = &threads; }

    /// Asks for the early end of a pending operation, which then completes with -ECANCELED, or with
    /// the result that it had already. Never lost, whatever the state of the queues.
    virtual void cancel(operation& op) noexcept = 0;

    /// Sends everything submitted to the kernel, collects completions, and sleeps until there is
    /// one, until `deadline` (nanoseconds of now()) or until wake().
    virtual void wait(std::int64_t deadline) noexcept = 0;

    /// Ends a wait() in progress, or the next one. Any thread.
    virtual void wake() noexcept = 0;

    /// Tells that a new descriptor carries this number: nothing known of an older one counts any
    /// more.
    virtual void opened(int fd) noexcept = 0;

    /// Tells that a descriptor is about to be used here that is new, or that another reactor has
    /// used so far. What waits for its readiness already goes on.
    virtual void arrived(int fd) noexcept = 0;

    /// Sees to it that the kernel has what was submitted on this descriptor, before a call that
    /// does not go through the reactor.
    virtual void hand_over(int fd) noexcept = 0;

    /// The pending operations of this descriptor, through operation::next_on_fd.
    virtual const operation* first_pending(int fd) const noexcept = 0;

    /// Lets go of a descriptor that is about to be closed. Operations still pending on it end with
    /// -EBADF. Not for one that blocking operations use: see close().
    virtual void release(int fd) noexcept = 0;

    /// Releases and closes a descriptor, at the latest when the reactor next waits; but while a
    /// thread is in a call on it, when that call has ended.
    virtual void close(int fd) noexcept = 0;

    /// The buffers that operations receive into when they have brought no space of their own. Made
    /// at the first call; null when there is no memory for it.
    buffer_pool* buffers() noexcept { return buffers_ != nullptr ? buffers_ : make_buffers(); }
    /// For a look from another pool's point of view: does not make them.
    const buffer_pool* buffers_if_any() const noexcept { return buffers_; }

    /// Carries out at once what may otherwise wait: afterwards closed descriptors are free.
    virtual void flush() noexcept = 0;

protected:
    /// Where the kernel picks buffers by itself, tells it where they are.
    virtual void prepare_buffers(buffer_pool&) noexcept {}

    /// Asks a thread for the call.
    submission submit_to_thread(blocking_operation& op) noexcept;

    /// For close(): ends the calls that have not begun. True: one has, and its end closes the
    /// descriptor.
    bool is_used_on_thread(int fd) noexcept { return on_threads_ != nullptr && end_calls_on(fd); }

private:
    friend class blocking_operation;

    buffer_pool* make_buffers() noexcept;
    bool start_on_thread(blocking_operation& op) noexcept;
    void withdraw(blocking_operation& op) noexcept;
    void ended_on_thread(blocking_operation& op) noexcept;
    void leave_threads(blocking_operation& op) noexcept;
    bool end_calls_on(int fd) noexcept;

    const std::uint32_t id_;
    buffer_pool* buffers_ = nullptr;
    call_threads* threads_ = nullptr;
    blocking_operation* on_threads_ = nullptr;
};

/// Makes reactors that are not the kernel's, one for each scheduler of a runtime.
class reactor_factory {
public:
    /// Called on the scheduler's own thread. `kind` is what the runtime's options ask for, which
    /// the reactor may play.
    virtual std::unique_ptr<reactor> make(reactor_kind kind) = 0;

protected:
    reactor_factory() = default;
    reactor_factory(const reactor_factory&) = default;
    reactor_factory& operator=(const reactor_factory&) = default;
    ~reactor_factory() = default;
};

/// What `factory` makes. Without one, the kernel's reactor that is asked for; see reactor_kind for
/// what `automatic` and RONDO_REACTOR mean. Throws std::system_error, or std::invalid_argument for
/// an unknown name in RONDO_REACTOR.
std::unique_ptr<reactor> make_reactor(reactor_kind kind, reactor_factory* factory = nullptr);

std::unique_ptr<reactor> make_io_uring_reactor();
std::unique_ptr<reactor> make_epoll_reactor();

}  // namespace rondo::detail
