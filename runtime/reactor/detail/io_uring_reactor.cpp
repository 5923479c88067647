#include <rondo/runtime/reactor/detail/io_uring_reactor.hpp>

#include <rondo/runtime/reactor/detail/blocking_operation.hpp>
#include <rondo/runtime/reactor/detail/buffer_pool.hpp>
#include <rondo/runtime/reactor/detail/operation.hpp>
#include <rondo/runtime/reactor/detail/pending_list.hpp>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

namespace rondo::detail {

namespace {

constexpr unsigned submission_entries = 256;
constexpr unsigned completion_entries = 4096;

// Newer than the headers of liburing 2.3.
constexpr unsigned feature_reg_reg_ring = 1u << 13;  // Linux 6.3
// Linux 6.10, which also brought the flags of accept
constexpr unsigned feature_recvsend_bundle = 1u << 14;
// Linux 6.12, which also brought absolute deadlines
constexpr unsigned feature_min_timeout = 1u << 15;
constexpr unsigned feature_no_iowait = 1u << 17;  // Linux 6.15
constexpr std::uint32_t notification_copied = 1u << 31;
constexpr unsigned enter_abs_timer = 1u << 5;
constexpr unsigned enter_no_iowait = 1u << 7;

// What a completion belongs to, where it is no operation's address.
constexpr std::uint64_t nobody = 0;
constexpr std::uint64_t wake_up = 1;

// Orders the last use of a ring before its successor at the same addresses, maybe on another
// thread. The kernel does so anyway; this is for ThreadSanitizer, which does not see liburing map
// memory.
constinit std::atomic<unsigned> rings_left{0};

[[noreturn]] void throw_unavailable(int error, const char* step) {
    throw std::system_error(error, std::system_category(),
                            std::string("the io_uring reactor is not available: ") + step);
}

short poll_events(readiness wanted) noexcept {
    switch (wanted) {
        case readiness::read: return POLLIN;
        case readiness::write: return POLLOUT;
        case readiness::any: break;
    }
    return POLLIN | POLLOUT | POLLPRI;
}

}  // namespace

void io_uring_reactor::op_queue::push(operation& op) noexcept {
    op.next_queued = nullptr;
    (first == nullptr ? first : last->next_queued) = &op;
    last = &op;
}

operation& io_uring_reactor::op_queue::pop() noexcept {
    operation& op = *first;
    first = op.next_queued;
    return op;
}

void io_uring_reactor::op_queue::remove(operation& op) noexcept {
    operation* before = nullptr;
    for (operation* at = first; at != &op; at = at->next_queued) before = at;
    (before == nullptr ? first : before->next_queued) = op.next_queued;
    if (last == &op) last = before;
}

io_uring_reactor::io_uring_reactor() {
    set_up();
    try {
        check_operations();
        wake_fd_ = ::eventfd(0, EFD_CLOEXEC);  // no O_NONBLOCK: a read of it is to wait
        if (wake_fd_ < 0) throw_unavailable(errno, "eventfd");
    } catch (...) {
        leave_ring();
        throw;
    }
}

io_uring_reactor::~io_uring_reactor() {
    flush();
    leave_ring();
    ::close(wake_fd_);
}

void io_uring_reactor::leave_ring() noexcept {
    rings_left.fetch_add(1, std::memory_order_release);  // with the acquire in set_up()
    io_uring_queue_exit(&ring_);
}

void io_uring_reactor::set_up() {
    // From what Linux 6.1 offers down to what 5.15 does.
    constexpr unsigned basic = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    constexpr unsigned cooperative =
        basic | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    constexpr std::array<unsigned, 5> ladder{
        basic | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
        cooperative | IORING_SETUP_SINGLE_ISSUER,
        cooperative,
        basic | IORING_SETUP_SUBMIT_ALL,
        basic,
    };
    int error = 0;
    for (const unsigned flags : ladder) {
        io_uring_params params{};
        params.flags = flags;
        params.cq_entries = completion_entries;
        error = -io_uring_queue_init_params(submission_entries, &ring_, &params);
        if (error == 0) {
            // Partner of the release in leave_ring().
            (void)rings_left.load(std::memory_order_acquire);
            features_ = params.features;
            io_uring_ring_dontfork(&ring_);
            // saves a descriptor look-up an enter, where there is room for it
            io_uring_register_ring_fd(&ring_);
            return;
        }
        if (error != EINVAL) break;
    }
    throw_unavailable(error, "io_uring_setup");
}

void io_uring_reactor::check_operations() {
    if ((features_ & IORING_FEAT_NODROP) == 0 || (features_ & IORING_FEAT_EXT_ARG) == 0) {
        throw_unavailable(ENOSYS, "the kernel is older than Linux 5.15");
    }
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) throw_unavailable(ENOSYS, "io_uring_register");
    for (unsigned opcode = 0; opcode < opcodes_.size(); ++opcode) {
        opcodes_[opcode] = io_uring_opcode_supported(probe, static_cast<int>(opcode)) != 0;
    }
    // Linux 6.0; telling whether it was of use came with 6.2, which nothing else tells apart.
    sends_without_copy_ = opcodes_[IORING_OP_SEND_ZC] && (features_ & feature_reg_reg_ring) != 0;
    io_uring_free_probe(probe);
    for (const unsigned own :
         {IORING_OP_READ, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE}) {
        if (!opcodes_[own]) throw_unavailable(EOPNOTSUPP, "the kernel lacks a request");
    }
    // A sandbox may allow the setup and deny the rest.
    io_uring_prep_nop(io_uring_get_sqe(&ring_));
    const int entered = io_uring_submit_and_wait(&ring_, 1);
    if (entered < 0) throw_unavailable(-entered, "io_uring_enter");
    io_uring_cq_advance(&ring_, 1);
}

bool io_uring_reactor::polls_before_accept() const noexcept {
    return (features_ & feature_recvsend_bundle) != 0;
}

submission io_uring_reactor::submit(operation& op) noexcept {
    // A bulk transfer's next read, whose data is there. Without a request for each, and in larger
    // pieces, streams over loopback are twice as fast.
    if (op.has_more && try_to_finish(op)) [[unlikely]]
        return submission::finished;
    entry* const known = entries_.of(op.fd);
    if (known != nullptr) [[likely]] {
        op.reactor_state = listed;
        append_pending(known->pending, op);
    } else if (op.fd < 0) {
        op.reactor_state = 0;
    } else {
        op.result = -ENOMEM;
        return submission::finished;
    }
    send(op);
    return submission::pending;
}

submission io_uring_reactor::submit_blocking(blocking_operation& op) noexcept {
    return knows_request_of(op) ? submit(op) : submit_to_thread(op);
}

bool io_uring_reactor::knows_request_of(operation& op) const noexcept {
    io_uring_sqe request{};
    op.prepare(request);
    return opcodes_[request.opcode];
}

// Puts the operation into the ring, or into the backlog when there is no room.
void io_uring_reactor::send(operation& op) noexcept {
    io_uring_sqe* sqe = backlog_.empty() ? free_entry() : nullptr;
    if (sqe == nullptr) {
        op.reactor_state &= static_cast<std::uint8_t>(~in_kernel);
        backlog_.push(op);
        return;
    }
    op.reactor_state |= in_kernel;
    if ((op.reactor_state & polling) != 0) {
        io_uring_prep_poll_add(sqe, op.fd, static_cast<unsigned>(poll_events(op.direction)));
    } else {
        op.prepare(*sqe);
        if (sqe->opcode == IORING_OP_SEND_ZC) op.reactor_state |= without_copy;
    }
    io_uring_sqe_set_data(sqe, &op);
}

io_uring_sqe* io_uring_reactor::free_entry() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
        enter(publish(), 0, no_wait);
        sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
}

// For a request that nobody waits for.
void io_uring_reactor::mark_unawaited(io_uring_sqe& sqe) const noexcept {
    io_uring_sqe_set_data64(&sqe, nobody);
    if ((features_ & IORING_FEAT_CQE_SKIP) != 0) sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void io_uring_reactor::cancel(operation& op) noexcept {
    if ((op.reactor_state & in_kernel) == 0) {
        backlog_.remove(op);
        op.result = -ECANCELED;
        retire(op);
    } else {
        // Once: by the second time the descriptor may be closed, and its number another's.
        if ((op.reactor_state & (without_copy | recalled)) == without_copy) recall_memory(op);
        if ((op.reactor_state & (cancel_queued | has_result)) == 0) send_cancel(op);
    }
}

// The kernel keeps memory that is sent in place until the peer has acknowledged it, however long
// that takes. Only a connection that is broken off gives it back at once: connect(2), AF_UNSPEC.
void io_uring_reactor::recall_memory(operation& op) noexcept {
    op.reactor_state |= recalled;
    const sockaddr nobody_else{AF_UNSPEC, {}};
    ::connect(op.fd, &nobody_else, sizeof nobody_else);
}

void io_uring_reactor::send_cancel(operation& op) noexcept {
    io_uring_sqe* sqe = free_entry();
    if (sqe == nullptr) {
        op.reactor_state |= cancel_queued;
        cancels_.push(op);
        return;
    }
    io_uring_prep_cancel(sqe, &op, 0);
    mark_unawaited(*sqe);
}

void io_uring_reactor::send_backlog() noexcept {
    op_queue cancels = std::exchange(cancels_, {});
    while (!cancels.empty()) {
        operation& op = cancels.pop();
        op.reactor_state &= static_cast<std::uint8_t>(~cancel_queued);
        send_cancel(op);
    }
    op_queue waiting = std::exchange(backlog_, {});
    while (!waiting.empty()) send(waiting.pop());
}

// Makes the filled entries visible to the kernel; gives the number that it has not taken yet.
unsigned io_uring_reactor::publish() noexcept {
    io_uring_sq& queue = ring_.sq;
    if (queue.sqe_head != queue.sqe_tail) {
        queue.sqe_head = queue.sqe_tail;
        // Release: the kernel reads the entries after it has seen the tail.
        io_uring_smp_store_release(queue.ktail, queue.sqe_tail);
    }
    return queue.sqe_tail - io_uring_smp_load_acquire(queue.khead);
}

int io_uring_reactor::enter(unsigned to_submit, unsigned wait_for, std::int64_t deadline) noexcept {
    unsigned flags = IORING_ENTER_GETEVENTS;
    if ((ring_.int_flags & 1) != 0) flags |= IORING_ENTER_REGISTERED_RING;
    if (wait_for == 0 || deadline == forever) {
        if (wait_for != 0 && (features_ & feature_no_iowait) != 0) flags |= enter_no_iowait;
        return io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), to_submit, wait_for,
                               flags, nullptr, _NSIG / 8);
    }
    if ((features_ & feature_no_iowait) != 0) flags |= enter_no_iowait;
    std::int64_t until = deadline;
    if ((features_ & feature_min_timeout) != 0) {
        flags |= enter_abs_timer;
    } else {
        until = deadline - now();
    }
    until = std::max<std::int64_t>(until, 0);
    __kernel_timespec timeout{until / 1'000'000'000, until % 1'000'000'000};
    io_uring_getevents_arg argument{};
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = reinterpret_cast<std::uint64_t>(&timeout);
    return io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), to_submit, wait_for,
                           flags | IORING_ENTER_EXT_ARG, reinterpret_cast<sigset_t*>(&argument),
                           sizeof argument);
}

void io_uring_reactor::wait(std::int64_t deadline) noexcept {
    if (!cancels_.empty() || !backlog_.empty()) send_backlog();
    const bool stuck = !cancels_.empty() || !backlog_.empty();
    const bool sleep = deadline != no_wait && !stuck && io_uring_cq_ready(&ring_) == 0;
    if (sleep && !wake_armed_) arm_wake();
    const unsigned to_submit = publish();
    const unsigned kernel_flags = IO_URING_READ_ONCE(*ring_.sq.kflags);
    const bool kernel_has_more = (kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    if (sleep || to_submit != 0 || kernel_has_more) {
        // EINTR and ETIME end the sleep; EAGAIN and EBUSY ask to collect first and come again, as
        // the next turn does.
        enter(to_submit, sleep && wake_armed_ ? 1 : 0, deadline);
    }
    collect();
}

void io_uring_reactor::arm_wake() noexcept {
    io_uring_sqe* sqe = free_entry();
    if (sqe == nullptr) return;
    io_uring_prep_read(sqe, wake_fd_, &wake_ups_, sizeof wake_ups_, 0);
    io_uring_sqe_set_data64(sqe, wake_up);
    wake_armed_ = true;
}

void io_uring_reactor::collect() noexcept {
    unsigned head;
    unsigned count = 0;
    io_uring_cqe* cqe;
    io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        if (cqe->user_data == nobody) continue;
        if (cqe->user_data == wake_up) {
            wake_armed_ = false;
            continue;
        }
        completed(*reinterpret_cast<operation*>(cqe->user_data), *cqe);
    }
    io_uring_cq_advance(&ring_, count);
}

void io_uring_reactor::take_flags(operation& op, const io_uring_cqe& completion) noexcept {
    op.buffer = buffer_pool::none;
    op.has_more = (completion.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if ((completion.flags & IORING_CQE_F_BUFFER) != 0) {
        const auto index = static_cast<std::uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
        buffers()->taken(index);
        if (completion.res > 0) {
            op.buffer = index;
        } else {
            // Linux 6.1 spends one on an error, on EAGAIN too, which the operation is not told of.
            buffers()->give_back(index, buffers()->at(index));
        }
    }
}

// The request goes on.
void io_uring_reactor::completed_with_more(operation& op, const io_uring_cqe& completion) noexcept {
    if ((op.reactor_state & without_copy) != 0) {
        // A send without copy has two completions: its result, and that the memory is free again.
        op.result = completion.res;
        op.reactor_state |= has_result;
        return;
    }
    take_flags(op, completion);
    const int result = op.result;
    if (!op.finish(completion.res)) return;
    if ((op.reactor_state & has_result) != 0) {
        op.result = result;
        return;
    }
    // It has enough. What comes until the request has ended is given to it all the same.
    op.reactor_state |= has_result;
    if (!op.cancel_wanted && !op.fd_closed) send_cancel(op);
}

void io_uring_reactor::completed(operation& op, const io_uring_cqe& completion) noexcept {
    if ((completion.flags & IORING_CQE_F_MORE) != 0) return completed_with_more(op, completion);
    int value = completion.res;
    take_flags(op, completion);
    const auto asked_to_end = [&op] { return op.cancel_wanted || op.fd_closed; };
    if ((op.reactor_state & has_result) != 0) {
        if ((op.reactor_state & without_copy) == 0) {
            const int result = op.result;
            if (value >= 0) op.finish(value);
            op.result = result;
            return retire(op);
        }
        if ((static_cast<std::uint32_t>(value) & notification_copied) != 0) {
            op.buffer = operation::copied;
        }
        value = op.result;
    }
    if ((op.reactor_state & without_copy) != 0) {
        op.reactor_state &= static_cast<std::uint8_t>(~(has_result | without_copy));
        if (asked_to_end()) value = -ECANCELED;  // whatever it says, its connection is no more
    }
    if ((op.reactor_state & polling) != 0) {
        op.reactor_state &= static_cast<std::uint8_t>(~polling);
        if (value >= 0 && !asked_to_end()) return send(op);
        op.result = value >= 0 ? -ECANCELED : value;
        return retire(op);
    }
    if (value < 0) {
        if (value == -EAGAIN) {
            // The descriptor is non-blocking, and the kernel takes that as a wish not to wait.
            if (!asked_to_end()) {
                op.reactor_state |= polling;
                return send(op);
            }
            value = -ECANCELED;
        } else if (value == -EINVAL && !asked_to_end() && !knows_request_of(op)) {
            value = -EOPNOTSUPP;
        }
    }
    if (!op.finish(value)) {
        if (!asked_to_end()) return send(op);
        op.result = -ECANCELED;
    }
    retire(op);
}

void io_uring_reactor::retire(operation& op) noexcept {
    if ((op.reactor_state & cancel_queued) != 0) cancels_.remove(op);
    // After a close the number may belong to a new descriptor, whose list this operation is not in.
    if ((op.reactor_state & listed) != 0) remove_pending(entries_[op.fd].pending, op);
    complete(op);
}

void io_uring_reactor::prepare_buffers(buffer_pool& pool) noexcept {
    constexpr std::size_t page = 4096;
    void* memory = std::aligned_alloc(page, buffer_pool::most_buffers * sizeof(io_uring_buf));
    if (memory == nullptr) return;
    buffer_ring_.reset(static_cast<io_uring_buf_ring*>(memory));
    io_uring_buf_ring_init(buffer_ring_.get());
    io_uring_buf_reg where{};
    where.ring_addr = reinterpret_cast<std::uint64_t>(memory);
    where.ring_entries = buffer_pool::most_buffers;
    where.bgid = buffer_group;
    // Linux 5.19 and later
    if (io_uring_register_buf_ring(&ring_, &where, 0) == 0) {
        pool.feed(buffer_ring_.get());
    } else {
        buffer_ring_.reset();
    }
}

void io_uring_reactor::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto put = ::write(wake_fd_, &one, sizeof one);
}

void io_uring_reactor::opened(int fd) noexcept { release(fd); }

void io_uring_reactor::arrived(int fd) noexcept {
    entry* const at = entries_.find(fd);
    if (at != nullptr && at->pending != nullptr) end_pending(*at, false);
}

void io_uring_reactor::hand_over(int fd) noexcept {
    if (first_pending(fd) != nullptr) flush();
}

const operation* io_uring_reactor::first_pending(int fd) const noexcept {
    const entry* const at = entries_.find(fd);
    return at != nullptr ? at->pending : nullptr;
}

void io_uring_reactor::release(int fd) noexcept {
    entry* const at = entries_.find(fd);
    if (at != nullptr && at->pending != nullptr) end_pending(*at, true);
}

// Ends what is pending with -EBADF, as far as it was not cancelled before.
void io_uring_reactor::end_pending(entry& at, bool foreign_too) noexcept {
    operation** link = &at.pending;
    while (operation* const op = *link) {
        if (op->fd_is_foreign && !foreign_too) {
            link = &op->next_on_fd;
            continue;
        }
        *link = op->next_on_fd;
        op->reactor_state &= static_cast<std::uint8_t>(~listed);
        op->fd_closed = true;
        cancel(*op);
    }
    // The cancelled requests hold the file open: let them go before the caller closes its number
    // for it.
    flush();
}

void io_uring_reactor::flush() noexcept {
    // The kernel may take some only, or none for the moment, until completions are collected.
    constexpr int most_tries = 1000;
    for (int tries = 0; tries < most_tries; ++tries) {
        send_backlog();
        const unsigned to_submit = publish();
        if (to_submit == 0) return;
        if (enter(to_submit, 0, no_wait) < 0) collect();
    }
}

void io_uring_reactor::close(int fd) noexcept {
    release(fd);
    if (is_used_on_thread(fd)) return;
    io_uring_sqe* sqe = free_entry();
    if (sqe == nullptr) {
        ::close(fd);
        return;
    }
    io_uring_prep_close(sqe, fd);
    mark_unawaited(*sqe);
}

std::unique_ptr<reactor> make_io_uring_reactor() { return std::make_unique<io_uring_reactor>(); }

}  // namespace rondo::detail
