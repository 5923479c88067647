#pragma once
// What a task is called, in dumps and logs.
//
//     group.spawn(task_name{"fetch the weather"}, fetch("weather"));
//     group.spawn(task_name{"worker " + std::to_string(i)}, work, std::ref(jobs));
//
//     task 7 "worker 3", waits for an item from a queue

#include <rondo/runtime/core/detail/compiler.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace rondo {

/// The first argument of task_group::spawn, or the second of spawn_on. Tasks that have no name cost
/// nothing for it.
class task_name {
public:
    explicit task_name(std::string text) noexcept : text_(std::move(text)) {}

    const std::string& text() const& noexcept { return text_; }
    std::string&& text() && noexcept { return std::move(text_); }

private:
    std::string text_;
};

/// The name that the running task was spawned with, wherever it runs; empty where it has none, and
/// outside of tasks. Valid until the task has ended.
std::string_view this_task_name() noexcept;

}  // namespace rondo
