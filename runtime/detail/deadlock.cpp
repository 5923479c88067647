#include <rondo/runtime/detail/deadlock.hpp>

#include <rondo/runtime/core/detail/dump_writer.hpp>
#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/core/detail/sanitizers.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/runtime/scheduler.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace rondo::detail {

namespace {

struct blocked_task {
    std::uint32_t id;
    std::string_view name;
    suspension::obstacle obstacle;
};

// By identity, those that wait for something that one other task holds.
using blocked_tasks = std::unordered_map<const task_state*, blocked_task>;

void collect(const scheduler_core& core, blocked_tasks& all) {
    scope_node& root = const_cast<scope_node&>(core.root);
    for (scope_node* node = next_below(root, root); node != nullptr;
         node = next_below(root, *node)) {
        if ((node->flags & scope_node::is_task) == 0 || (node->flags & scope_node::blocked) == 0) {
            continue;
        }
        const auto& task = static_cast<const task_state&>(*node);
        const suspension::obstacle obstacle = task.waiting_on->waits_for();
        if (obstacle.holder == nullptr) continue;
        const bool visits = (task.flags & scope_node::visiting) != 0;
        const task_state* identity =
            visits ? static_cast<const visitor_state&>(task).original : &task;
        all.emplace(identity, blocked_task{task.id, name_of(task), obstacle});
    }
}

// The tasks of a circle, each waiting for what the next one holds; empty when there is none.
std::vector<const task_state*> find_circle(const blocked_tasks& all) {
    std::unordered_set<const task_state*> done;
    for (const auto& [start, ignored] : all) {
        std::vector<const task_state*> path;
        std::unordered_set<const task_state*> on_path;
        const task_state* at = start;
        while (all.contains(at) && done.insert(at).second) {
            path.push_back(at);
            on_path.insert(at);
            at = all.at(at).obstacle.holder;
        }
        if (!on_path.contains(at)) continue;
        while (path.front() != at) path.erase(path.begin());
        return path;
    }
    return {};
}

void write_circle(std::FILE* out, const blocked_tasks& all,
                  const std::vector<const task_state*>& circle) {
    // Task i waits for what task i + 1 holds: mutex i + 1.
    const std::size_t count = circle.size();
    for (std::size_t i = 0; i < count; ++i) {
        const blocked_task& task = all.at(circle[i]);
        const std::source_location held = all.at(circle[(i + count - 1) % count]).obstacle.held_at;
        std::fprintf(out, "task %u", static_cast<unsigned>(task.id));
        if (!task.name.empty()) {
            std::fprintf(out, " \"%.*s\"", static_cast<int>(task.name.size()), task.name.data());
        }
        std::fprintf(out, " holds mutex M%zu (locked at %s:%u) and waits for M%zu\n", i + 1,
                     held.file_name(), static_cast<unsigned>(held.line()), (i + 1) % count + 1);
    }
}

}  // namespace

std::string describe_deadlock(std::span<const scheduler_core* const> schedulers) {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* out = ::open_memstream(&text, &size);
    if (out == nullptr) return "deadlock";
    std::fputs("deadlock: tasks are left that nothing can wake\n", out);
    blocked_tasks all;
    for (const scheduler_core* core : schedulers) collect(*core, all);
    const auto circle = find_circle(all);
    if (!circle.empty()) write_circle(out, all, circle);
    for (const scheduler_core* core : schedulers) {
        if (schedulers.size() > 1) std::fprintf(out, "reactor %zu\n", core->owner->index());
        write_tasks(out, *core);
    }
    std::fclose(out);
    const std::unique_ptr<char, void (*)(void*)> owner(text, &std::free);
    return std::string(text, size);
}

void write_report(std::string_view text) noexcept {
    constexpr std::size_t most = 4096;  // what a pipe takes whole or not at all
    for (std::string_view rest = text; !rest.empty();) {
        std::string_view part = rest.substr(0, most);
        if (part.size() < rest.size()) {
            // npos + 1 is 0: a line that long is cut
            if (const std::size_t lines = part.rfind('\n') + 1; lines != 0)
                part = rest.substr(0, lines);
        }
        if (!write_without_waiting(part.data(), part.size())) return;
        rest.remove_prefix(part.size());
    }
}

std::size_t threads_of_process() {
    std::ifstream status("/proc/self/status");
    constexpr std::string_view key = "Threads:";
    for (std::string line; std::getline(status, line);) {
        if (!line.starts_with(key)) continue;
        std::size_t count = std::strtoul(line.c_str() + key.size(), nullptr, 10);
// ThreadSanitizer starts a thread of its own together with the first other one.
#ifdef RONDO_THREAD_SANITIZER
        if (count > 1) --count;
#endif
        return count;
    }
    return 0;
}

}  // namespace rondo::detail
