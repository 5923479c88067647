#include <rondo/runtime/run.hpp>

#include <stdexcept>

namespace rondo::detail {

namespace {

reactor_kind checked_kind(const runtime_options& options) {
    if (current_core != nullptr) {
        throw std::logic_error("run() is called from inside a task; co_await the work instead");
    }
    if (options.reactors != 1) {
        throw std::invalid_argument("runtime_options::reactors: this version runs one reactor");
    }
    return options.reactor;
}

}  // namespace

local_run::local_run(const runtime_options& options, std::source_location where)
    : scheduler_(checked_kind(options)), root_(current_core->root, where) {}

local_run::~local_run() { root_.joined_ = true; }

void local_run::loop() noexcept {
    scheduler_.run_until_ended(root_.running_);
    // What the main task ended with is in its handle.
    root_.error_ = nullptr;
}

}  // namespace rondo::detail
