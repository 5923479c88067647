#pragma once
// Values that belong to what a task is doing, where handing them down through every call would be a
// burden: the request's number for the log, the user, a trace.
//
//     inline task_local<std::string> request_id;
//
//     task<> answer(tcp_stream client) {
//         const auto bound = request_id.bind(next_id());     // until the end of this block
//         co_await talk(client);                             // sees it: request_id.get()
//     }
//
//     co_await request_id.with("7f3a", talk(client));        // the same for one await
//
// A value follows the tree of scopes, as cancellation does: whatever is awaited while it is bound
// sees it, and so do the tasks of every group that was made meanwhile, wherever they run, and what
// they offload. All of that ends before the binding does, so nothing is copied and nothing
// outlives it. A task that is spawned into a group from further out sees what that group sees.

#include <rondo/runtime/core/detail/awaitable.hpp>
#include <rondo/runtime/core/detail/task_state.hpp>
#include <rondo/runtime/core/task.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <utility>

namespace rondo {

namespace detail {

/// A node of the tree below which a value is bound. The running task is inside it while it lives.
class task_binding final : public scope_state {
public:
    /// Misuse outside of a task.
    task_binding(const void* key, const void* value, std::source_location where) noexcept;
    task_binding(const task_binding&) = delete;
    task_binding& operator=(const task_binding&) = delete;
    ~task_binding();

    /// The innermost one that holds at `node` of this thread's tree; null where there is none.
    static const task_binding* at(const scope_node& node) noexcept;

    /// The same where the caller is: in the running task, or in what was offloaded.
    static const task_binding* here() noexcept;

    /// What is bound to the key here; null where nothing is.
    static const void* find(const void* key) noexcept;

    std::source_location made_at() const noexcept { return where_; }

private:
    // Constants, which other threads may read as long as the binding lives.
    const void* const key_;
    const void* const value_;
    const task_binding* outer_;  // the next one further out
    std::source_location where_;
};

/// Of what runs on a pool's thread for a task: what is bound for it.
class inherited_bindings {
public:
    explicit inherited_bindings(const task_binding* innermost) noexcept
        : before_(std::exchange(current, innermost)) {}
    inherited_bindings(const inherited_bindings&) = delete;
    inherited_bindings& operator=(const inherited_bindings&) = delete;
    ~inherited_bindings() { current = before_; }

    static constinit thread_local const task_binding* current;

private:
    const task_binding* before_;
};

/// A callable for a pool's thread that sees what the running task sees. The task waits for it.
template <class F>
class inheriting_call {
public:
    explicit inheriting_call(F f) : f_(std::move(f)), bindings_(task_binding::here()) {}
    decltype(auto) operator()() {
        const inherited_bindings inherited{bindings_};
        return std::invoke(f_);
    }

private:
    F f_;
    const task_binding* bindings_;
};

}  // namespace detail

/// A name for a value that each task may have its own of. It must outlive all its bindings; most
/// are global.
/// Thread safety: any task, anywhere; so are the values, which are const: tasks on several reactors
/// may read the same one.
template <class T>
class task_local {
public:
    constexpr task_local() noexcept = default;

    /// With a value for where none is bound.
    explicit constexpr task_local(T fallback) : fallback_(std::move(fallback)) {}

    task_local(const task_local&) = delete;
    task_local& operator=(const task_local&) = delete;

    /// The value that is bound where the caller is, in a task or in what a task offloaded; else the
    /// fallback; null where there is none. It is valid until the binding ends.
    const T* find() const noexcept {
        if (const void* bound = detail::task_binding::find(this)) {
            return static_cast<const T*>(bound);
        }
        return fallback_ ? std::addressof(*fallback_) : nullptr;
    }

    /// The same; throws std::logic_error where there is none.
    const T& get() const {
        if (const T* found = find()) return *found;
        throw std::logic_error("task_local: no value is bound here, and there is no fallback");
    }

    class [[nodiscard]] binding {
    public:
        binding(const task_local& name, T value, std::source_location where)
            : value_(std::move(value)), node_(&name, std::addressof(value_), where) {}

    private:
        const T value_;
        detail::task_binding node_;
    };

    /// Binds `value` in the running task until the result is destroyed, in the reverse order of
    /// other bindings and scopes: keep it in a local variable. An earlier binding holds again then.
    /// In an async_generator it must not be held across a co_yield.
    binding bind(T value, std::source_location where = std::source_location::current()) const {
        return binding{*this, std::move(value), where};
    }

    /// Completes with the result of `work`, in which `value` is bound.
    /// Cancellation: that of `work`.
    template <detail::awaitable Awaitable>
    auto with(T value, Awaitable work) const -> task<detail::await_result_t<Awaitable>> {
        return await_bound(*this, std::move(value), std::move(work));
    }

private:
    template <class Awaitable>
    static auto await_bound(const task_local& name, T value, Awaitable work)
        -> task<detail::await_result_t<Awaitable>> {
        const binding bound{name, std::move(value), std::source_location::current()};
        co_return co_await std::move(work);
    }

    std::optional<T> fallback_;
};

}  // namespace rondo
