#include <rondo/runtime/scheduler.hpp>

#include <rondo/runtime/detail/misuse.hpp>
#include <rondo/runtime/detail/promise_base.hpp>
#include <rondo/runtime/detail/reactor.hpp>

#include <cstddef>
#include <utility>

namespace rondo {

namespace detail {

constinit thread_local scheduler_core* current_core = nullptr;

// No wake-up is lost. The poster pushes its message and then reads `asleep`; the sleeper writes
// `asleep` and then reads the inbox. All four are sequentially consistent, so in their one total
// order either the sleeper's read comes after the push and finds the message, or the poster's read
// comes after the write and finds the sleeper. Who turns `asleep` off writes the wake-up: at most
// one a sleep.
void scheduler_core::post(inbox_message& message) noexcept {
    inbox_message* newest = inbox.load(std::memory_order_relaxed);
    do {
        message.next = newest;
    } while (!inbox.compare_exchange_weak(newest, &message));
    if (asleep.exchange(false)) io->wake();
}

}  // namespace detail

scheduler::scheduler(reactor_kind kind)
    : core_(detail::now_ns()), reactor_(detail::make_reactor(kind)) {
    core_.io = reactor_.get();
    core_.owner = this;
    detail::current_core = &core_;
}

scheduler::~scheduler() {
    reactor_.reset();
    detail::current_core = nullptr;
}

reactor_kind scheduler::reactor() const noexcept { return reactor_->kind(); }

scheduler& this_scheduler() noexcept {
    if (detail::current_core == nullptr) {
        detail::misuse("this_scheduler() is called outside of run()");
    }
    return *detail::current_core->owner;
}

void scheduler::run_until_ended(const std::size_t& tasks) noexcept {
    for (;;) {
        run_ready();
        if (tasks == 0) return;
        if (core_.inbox.load(std::memory_order_relaxed) != nullptr) take_messages();
        if (!core_.timers.empty()) fire_timers();
        if (!core_.ready.empty() || !core_.next_turn.empty()) {
            reactor_->wait(detail::reactor::no_wait);
            core_.ready.append(core_.next_turn);
            continue;
        }
        if (!core_.settlers.empty()) {
            reactor_->wait(detail::reactor::no_wait);
            if (core_.ready.empty()) core_.ready.push(core_.settlers.pop());
            continue;
        }
        sleep();
    }
}

void scheduler::run_ready() noexcept {
    for (unsigned left = turn_tasks; left != 0 && !core_.ready.empty(); --left) {
        detail::task_state& task = core_.ready.pop();
        core_.current = &task;
        core_.immediate_left = immediate_operations;
        detail::handle_of(*task.leaf).resume();
        while (core_.next_frame != nullptr) {
            std::coroutine_handle<>::from_address(std::exchange(core_.next_frame, nullptr))
                .resume();
        }
    }
    core_.current = nullptr;
}

void scheduler::fire_timers() noexcept {
    const std::int64_t now = detail::now_ns();
    while (detail::timer_node* due = core_.timers.expire(now)) {
        static_cast<detail::timer*>(due)->expired();
    }
}

void scheduler::take_messages() noexcept {
    detail::inbox_message* newest = core_.inbox.exchange(nullptr);
    detail::inbox_message* oldest = nullptr;
    while (newest != nullptr) {
        detail::inbox_message* next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != nullptr) {
        detail::inbox_message* next = oldest->next;
        oldest->run(*oldest);
        oldest = next;
    }
}

void scheduler::sleep() noexcept {
    core_.asleep.store(true);
    const bool message_came = core_.inbox.load() != nullptr;
    reactor_->wait(message_came ? detail::reactor::no_wait : core_.timers.next_deadline());
    core_.asleep.store(false);
}

}  // namespace rondo
