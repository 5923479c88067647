#include <rondo/runtime/scheduler.hpp>

#include <rondo/runtime/call_later.hpp>
#include <rondo/runtime/core/detail/misuse.hpp>
#include <rondo/runtime/core/detail/promise_base.hpp>
#include <rondo/runtime/core/errors.hpp>
#include <rondo/runtime/core/unheard_error.hpp>
#include <rondo/runtime/detail/runtime_threads.hpp>
#include <rondo/runtime/detail/scheduler_extension.hpp>
#include <rondo/runtime/reactor/detail/reactor.hpp>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <thread>
#include <utility>

namespace rondo {

namespace detail {

constinit thread_local scheduler_core* current_core = nullptr;

bool scheduler_core::post(inbox_message& message) noexcept {
    // Relaxed: whoever takes the message sees this too, for it comes before the push.
    posting.fetch_add(1, std::memory_order_relaxed);
    const posted how = messages.post(message);
    if (how == posted::must_wake) io->wake();
    // Release: nothing of the scheduler is touched after this; partner of the load in
    // close_inbox().
    posting.fetch_sub(1, std::memory_order_release);
    return how != posted::refused;
}

inbox_message* scheduler_core::close_inbox() noexcept {
    inbox_message* left = messages.close();
    while (posting.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    return left;
}

scheduler_core& core_of(scheduler& of) noexcept { return of.core_; }

posted_call::posted_call() noexcept {
    run = [](inbox_message& message) noexcept {
        const std::unique_ptr<posted_call> self{&static_cast<posted_call&>(message)};
        try {
            self->call();
        } catch (...) {
            failed();
        }
    };
}

void posted_call::failed() noexcept { this_scheduler().threads_.fail(std::current_exception()); }

submission_ticket::submission_ticket(scheduler& target) : threads_(&target.threads_) {
    if (!threads_->hold()) throw std::system_error(runtime_errc::scheduler_stopped, "submit");
}

submission_ticket::~submission_ticket() {
    if (threads_ != nullptr) threads_->release();
}

}  // namespace detail

scheduler::scheduler(const runtime_options& options, detail::runtime_threads& threads,
                     std::size_t index)
    : threads_(threads),
      index_(index),
      reactor_(threads.make_reactor()),
      kind_(reactor_->kind()),
      core_(reactor_->now()),
      tasks_(core_.root, std::source_location::current()),
      spin_policy_(detail::saturated_ns(options.spin)) {
    core_.io = reactor_.get();
    core_.clock = reactor_.get();
    core_.kernel = &reactor_->calls();
    reactor_->use_threads(threads);
    core_.reactor_id = reactor_->id();
    core_.owner = this;
    tasks_.home_ = &core_;
    cancel_message_.run = [](detail::inbox_message&) noexcept {
        this_scheduler().cancel_everything();
    };
    open_shields_message_.run = [](detail::inbox_message&) noexcept {
        this_scheduler().open_shields();
    };
    halt_message_.run = [](detail::inbox_message&) noexcept { this_scheduler().halting_ = true; };
    detail::current_core = &core_;
}

scheduler::~scheduler() {
    detail::scheduler_extension::drop_all(core_);
    tasks_.joined_ = true;
    tasks_.error_ = nullptr;
}

void scheduler::leave() noexcept {
    detail::scheduler_extension::leave(core_);
    while (calls_ != nullptr) calls_->cancel_call();
    // The only task of these that may have failed is the one that run() was given, and run() throws
    // one error.
    if (tasks_.error_ && threads_.failure()) {
        detail::report_unheard(std::exchange(tasks_.error_, nullptr),
                               "the task that run() was given");
    }
    reactor_.reset();
    detail::current_core = nullptr;
}

scheduler& this_scheduler() noexcept {
    if (detail::current_core == nullptr) {
        detail::misuse("this_scheduler() is called outside of run()");
    }
    return *detail::current_core->owner;
}

bool scheduler::post(std::unique_ptr<detail::posted_call> call) {
    if (threads_.stopping() || !core_.post(*call)) return false;
    call.release();
    return true;
}

void scheduler::start(task<> work, std::source_location where) {
    if (detail::current_core == &core_) {
        tasks_.spawn(std::move(work), where);
        return;
    }
    // All memory is had here, where its want can be thrown.
    constexpr std::size_t state_size = sizeof(detail::task_state);
    struct submission : detail::inbox_message {
        submission(task<> submitted, std::source_location place)
            : work(std::move(submitted)), where(place) {}
        submission(const submission&) = delete;
        submission& operator=(const submission&) = delete;
        ~submission() {
            if (state != nullptr) detail::promise_base::operator delete(state, state_size);
        }
        void* state = detail::promise_base::operator new(state_size);
        task<> work;
        std::source_location where;
    };
    auto* message = new submission{std::move(work), where};
    message->run = [](detail::inbox_message& arrived) noexcept {
        const std::unique_ptr<submission> self{&static_cast<submission&>(arrived)};
        this_scheduler().tasks_.spawn_in(std::exchange(self->state, nullptr), std::move(self->work),
                                         self->where);
    };
    core_.post(*message);  // not refused: the work's ticket keeps the scheduler
}

void scheduler::cancel_everything() noexcept {
    tasks_.cancel();
    core_.visitors.flags |= detail::scope_node::cancelled;
    detail::spread_cancellation(core_.visitors);
}

template <class Condition>
void scheduler::run_until(Condition done) noexcept {
    for (;;) {
        run_ready();
        if (done()) return;
        if (!core_.messages.empty()) run_messages(core_.messages.take_all());
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
        if (done()) return;
        idle();
    }
}

void scheduler::run_until_done(const detail::task_state& task) noexcept {
    run_until([&task] { return (task.flags & detail::scope_node::ended) != 0; });
}

void scheduler::run_until_halted() noexcept {
    const auto without_tasks = [this] {
        return halting_ && tasks_.running_ == 0 && core_.stays == 0;
    };
    run_until(without_tasks);
    // What has been submitted so far still runs. What that submits does not: functions that submit
    // one another would keep the inbox open for ever.
    run_messages(core_.messages.take_all());
    core_.drops_calls = true;
    // Without tasks nothing but calls comes, and threads that post them need not ever pause. So the
    // inbox is closed without waiting for it to be empty.
    run_until(without_tasks);
    run_messages(core_.close_inbox());
}

void scheduler::run_ready() noexcept {
    for (unsigned left = turn_tasks; left != 0 && !core_.ready.empty(); --left) {
        detail::task_state& task = core_.ready.pop();
        core_.current = &task;
        core_.allowance = immediate_operations * detail::operation_cost;
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

void scheduler::run_messages(detail::inbox_message* message) noexcept {
    while (message != nullptr) {
        detail::inbox_message* next = message->next;
        message->run(*message);
        message = next;
    }
}

// There is nothing to do: looks for work, for a while if that has lately been worth it, and sleeps
// if it finds none.
void scheduler::idle() noexcept {
    if (!spin_policy_.enabled()) return sleep();
    const std::int64_t due = core_.timers.next_deadline();
    std::int64_t now = 0;
    const auto look = [&] {
        reactor_->wait(detail::reactor::no_wait);
        now = detail::now_ns();
        return !core_.ready.empty() || !core_.messages.empty() || now >= due;
    };
    // The first look finds what has come already, and what completes as it is submitted, as most
    // sends do: that needs no patience, and speaks for none.
    if (look()) return;
    const std::int64_t began = now;
    if (spin_policy_.worthwhile()) {
        bool found = false;
        while (!found && now - began < spin_policy_.patience()) found = look();
        spin_policy_.looked(now - began);
        if (!found) sleep();
    } else {
        sleep();
        spin_policy_.slept(detail::now_ns() - began);
    }
}

void scheduler::sleep() noexcept {
    const bool may_sleep = core_.messages.announce_sleep();
    if (!may_sleep) {
        reactor_->wait(detail::reactor::no_wait);
    } else if (core_.timers.empty() && core_.operations == 0) {
        sleep_until_message();
    } else {
        reactor_->wait(core_.timers.next_deadline());
    }
    core_.messages.end_sleep();
}

// Only a message can help now. Where tasks wait for one and none comes for a while, looks whether
// one still can; and again, more and more rarely. Until there is a message it stays in here, also
// when a wake-up that was written late ends a wait: another scheduler that has found a deadlock may
// be reading all that this one owns.
void scheduler::sleep_until_message() noexcept {
    constexpr std::int64_t first_look = 20'000'000;
    constexpr std::int64_t most_patience = 10'000'000'000;
    const bool has_tasks = tasks_.running_ != 0 || core_.stays != 0;
    sleeps_.begin();
    for (std::int64_t patience = first_look;; patience = std::min(2 * patience, most_patience)) {
        const std::int64_t until =
            has_tasks ? detail::now_ns() + patience : detail::reactor::forever;
        bool is_empty = false;
        do {
            reactor_->wait(until);
            // Announced for each wait: a wake-up that was written late has cleared the flag.
            is_empty = core_.messages.announce_sleep();
        } while (is_empty && (!has_tasks || detail::now_ns() < until));
        if (!is_empty) return sleeps_.end();
        if (threads_.end_deadlock(*this)) return;
    }
}

void scheduler::open_shields() noexcept { detail::open_shields(core_.root); }

}  // namespace rondo
