#include <rondo/runtime/dump.hpp>

#include <rondo/runtime/core/detail/dump_writer.hpp>
#include <rondo/runtime/detail/stay.hpp>
#include <rondo/runtime/scheduler.hpp>
#include <rondo/runtime/task_group.hpp>

#include <string_view>

namespace rondo {

namespace {

void indent(std::FILE* out, int depth) { std::fprintf(out, "%*s", 2 * depth, ""); }

// g++ names a coroutine's code `void NAME(NAME(PARAMETERS)::_Z...Frame*)`: gives NAME, or an empty
// view.
std::string_view name_in_gcc_form(std::string_view pretty) {
    if (!pretty.ends_with(".Frame*)")) return {};
    for (std::size_t open = pretty.find('('); open != pretty.npos;
         open = pretty.find('(', open + 1)) {
        const std::string_view before = pretty.substr(0, open);
        // Before the name stands the type that the code returns, which is void.
        const std::string_view name = before.substr(before.find(' ') + 1);
        if (!name.empty() && pretty.substr(open + 1).starts_with(name)) return name;
    }
    return {};
}

// clang++ gives the signature as it was written, g++ does for some lambdas: cuts the parameters
// off, and what stands before the name.
std::string_view name_in_signature(std::string_view pretty) {
    if (pretty.ends_with(" const")) pretty.remove_suffix(6);
    if (!pretty.ends_with(')')) return pretty;
    std::size_t end = pretty.size() - 1;
    int nested = 0;
    do {
        if (pretty[end] == ')') ++nested;
        if (pretty[end] == '(') --nested;
    } while (nested != 0 && end-- != 0);
    if (nested != 0) return pretty;
    std::size_t begin = end;
    for (; begin != 0; --begin) {
        const char before = pretty[begin - 1];
        if (before == '>' || before == ')') ++nested;
        if (before == '<' || before == '(') --nested;
        if (before == ' ' && nested == 0) break;
    }
    return pretty.substr(begin, end - begin);
}

std::string_view function_name(std::string_view pretty) {
    // What the template's parameters are: g++ `[with T = int]`, clang++ `[T = int]`.
    if (pretty.ends_with(']')) pretty = pretty.substr(0, pretty.find(" ["));
    const std::string_view name = name_in_gcc_form(pretty);
    return name.empty() ? name_in_signature(pretty) : name;
}

}  // namespace

namespace detail {

class task_dump {
public:
    task_dump(std::FILE* out, const task_state* running, std::source_location here) noexcept
        : out_(out), running_(running), here_(here) {}

    void write_children(const scope_node& parent, int depth) {
        // The newest child is the first; a reader expects the oldest.
        const scope_node* last = parent.first_child;
        while (last != nullptr && last->next != nullptr) last = last->next;
        for (const scope_node* child = last; child != nullptr; child = child->previous) {
            write(*child, depth);
        }
    }

private:
    void write(const scope_node& node, int depth) {
        if ((node.flags & scope_node::is_task) != 0) {
            write_task(static_cast<const task_state&>(node), depth);
            write_children(node, depth + 1);
        } else if ((node.flags & scope_node::is_group) != 0) {
            write_group(static_cast<const task_group&>(node), depth);
            write_children(node, depth + 1);
        } else {
            write_children(node, depth);
        }
    }

    void write_group(const task_group& group, int depth) {
        indent(out_, depth);
        std::fprintf(out_, "group made at %s:%u%s\n", group.where_.file_name(),
                     static_cast<unsigned>(group.where_.line()),
                     group.is_cancelled() ? ", cancelled" : "");
    }

    void write_task(const task_state& task, int depth) {
        indent(out_, depth);
        std::fprintf(out_, "task %u", static_cast<unsigned>(task.id));
        const std::string_view name = name_of(task);
        if (!name.empty()) {
            std::fprintf(out_, " \"%.*s\"", static_cast<int>(name.size()), name.data());
        }
        if ((task.flags & scope_node::visiting) != 0) {
            const stay& visit = static_cast<const visitor_state&>(task).of;
            std::fprintf(out_, " of reactor %zu", visit.home().owner->index());
        }
        std::fputs(", ", out_);
        if (&task == running_) {
            std::fputs("running", out_);
        } else if ((task.flags & scope_node::blocked) != 0) {
            std::fputs("waits for ", out_);
            task.waiting_on->describe(out_);
        } else {
            std::fputs("ready", out_);
        }
        std::fputs(task.should_stop() ? ", cancelled\n" : "\n", out_);
        // Which frame of the running task runs is known to nobody; it is the one that asks.
        if (&task == running_) return write_place(here_, depth);
        for (const promise_base* frame = task.leaf; frame != nullptr; frame = frame->parent()) {
            write_place(frame->where, depth);
        }
    }

    void write_place(const std::source_location& place, int depth) {
        indent(out_, depth + 2);
        const std::string_view name = function_name(place.function_name());
        std::fprintf(out_, "%s:%u %.*s\n", place.file_name(), static_cast<unsigned>(place.line()),
                     static_cast<int>(name.size()), name.data());
    }

    std::FILE* out_;
    const task_state* running_;
    std::source_location here_;
};

// What nobody there has spawned hangs below the scheduler's own group, and visitors below theirs;
// neither is shown.
void write_tasks(std::FILE* out, const scheduler_core& of, std::source_location here) {
    task_dump dump{out, of.current, here};
    for (const scope_node* node = of.root.first_child; node != nullptr; node = node->next) {
        dump.write_children(*node, 0);
    }
}

}  // namespace detail

void dump_tasks(std::FILE* out, std::source_location where) {
    if (detail::current_core == nullptr) return;
    detail::write_tasks(out, *detail::current_core, where);
    std::fflush(out);
}

}  // namespace rondo
