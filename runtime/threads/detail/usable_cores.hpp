#pragma once
// How many cores this program may keep busy: what the machine has, less what its owner withholds.
//
//     const unsigned threads = rondo::detail::usable_cores();

#include <rondo/runtime/core/detail/compiler.hpp>

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace rondo::detail {

/// The cores of the calling thread's affinity mask, limited by the CPU quota of the process' cgroup
/// rounded up; at least 1. Reads a few files at each call: not for a fast path.
/// Thread safety: any thread.
unsigned usable_cores();

/// The numbers of the cores in the calling thread's affinity mask, ascending, never empty.
/// Thread safety: any thread. Source: sched_setaffinity(2).
std::vector<int> allowed_cores();

/// Keeps the calling thread on these cores; no effect where that is denied.
/// Source: sched_setaffinity(2).
void run_on_cores(std::span<const int> cores);

/// Gives the thread that made it back its affinity mask.
class affinity_keeper {
public:
    affinity_keeper() = default;
    affinity_keeper(const affinity_keeper&) = delete;
    affinity_keeper& operator=(const affinity_keeper&) = delete;
    ~affinity_keeper() { run_on_cores(before_); }

private:
    std::vector<int> before_ = allowed_cores();
};

/// The least CPU quota of the process' cgroups and all their ancestors, in cores rounded up; empty
/// when there is none. `proc` is the folder with `cgroup` and `mountinfo` of the process; `root` is
/// put before every mount point named there, so that a made-up tree can be read. A file that is
/// missing, unreadable or not understood sets no limit.
/// Sources: cgroups(7), proc_pid_mountinfo(5), the kernel's cgroup-v2.rst ("CPU Interface Files")
/// and, for cgroup v1, its scheduler/sched-bwc.rst.
std::optional<unsigned> cgroup_cpu_limit(const std::filesystem::path& proc = "/proc/self",
                                         const std::filesystem::path& root = "/");

}  // namespace rondo::detail
