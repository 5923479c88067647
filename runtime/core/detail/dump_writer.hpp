#pragma once
// The text of dump_tasks, of a scheduler that need not be this thread's.

#include <rondo/runtime/core/detail/core.hpp>

#include <cstdio>
#include <source_location>

namespace rondo::detail {

/// Writes all its tasks and visitors. `here` is where its running task stands, if one runs.
void write_tasks(std::FILE* out, const scheduler_core& of, std::source_location here = {});

}  // namespace rondo::detail
