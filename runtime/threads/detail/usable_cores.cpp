#include <rondo/runtime/threads/detail/usable_cores.hpp>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace rondo::detail {

namespace {

// One line of /proc/self/cgroup. `version` is 2 for the unified tree and 1 for the tree that
// carries the cpu controller; the other trees of v1 set no CPU quota and are left out.
struct membership {
    int version;
    std::filesystem::path group;
};

// One mounted tree of groups. `group` is the group that appears at `point`: "/" on a plain machine,
// the container's own group where only that has been mounted.
struct group_mount {
    int version;
    std::filesystem::path group;
    std::filesystem::path point;
};

bool names_cpu(std::string_view comma_separated) {
    while (!comma_separated.empty()) {
        const std::size_t comma = comma_separated.find(',');
        if (comma_separated.substr(0, comma) == "cpu") return true;
        if (comma == std::string_view::npos) break;
        comma_separated.remove_prefix(comma + 1);
    }
    return false;
}

std::vector<membership> read_memberships(const std::filesystem::path& file) {
    std::vector<membership> found;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        // hierarchy-id:controllers:path, and only the path may hold a colon.
        const std::size_t first = line.find(':');
        if (first == std::string::npos) continue;
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (controllers.empty()) {
            found.push_back({2, line.substr(second + 1)});
        } else if (names_cpu(controllers)) {
            found.push_back({1, line.substr(second + 1)});
        }
    }
    return found;
}

// The kernel writes space, tab, newline and backslash in mountinfo's paths as \ooo.
std::string unescaped(std::string_view field) {
    const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
    std::string plain;
    for (std::size_t i = 0; i < field.size(); ++i) {
        if (field[i] == '\\' && i + 3 < field.size() && is_octal(field[i + 1]) &&
            is_octal(field[i + 2]) && is_octal(field[i + 3])) {
            plain += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                       (field[i + 3] - '0'));
            i += 3;
        } else {
            plain += field[i];
        }
    }
    return plain;
}

std::vector<group_mount> read_mounts(const std::filesystem::path& file) {
    std::vector<group_mount> found;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        // id parent major:minor root mount-point options [tag...] - type source super-options
        std::istringstream fields(line);
        std::string skipped, group, point, separator, type, source, options;
        fields >> skipped >> skipped >> skipped >> group >> point >> skipped;
        while (fields >> separator && separator != "-") {
        }
        if (!(fields >> type >> source >> options)) continue;
        if (type == "cgroup2") {
            found.push_back({2, unescaped(group), unescaped(point)});
        } else if (type == "cgroup" && names_cpu(options)) {
            found.push_back({1, unescaped(group), unescaped(point)});
        }
    }
    return found;
}

std::optional<std::int64_t> positive_number(std::string_view text) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number <= 0) return {};
    return number;
}

std::optional<unsigned> cores_of(std::string_view quota, std::string_view period) {
    const std::optional<std::int64_t> numerator = positive_number(quota);
    const std::optional<std::int64_t> denominator = positive_number(period);
    if (!numerator || !denominator) return {};
    const std::int64_t cores = *numerator / *denominator + (*numerator % *denominator != 0);
    return static_cast<unsigned>(
        std::min<std::int64_t>(cores, std::numeric_limits<unsigned>::max()));
}

std::string first_word(const std::filesystem::path& file) {
    std::string word;
    std::ifstream(file) >> word;
    return word;
}

std::optional<unsigned> limit_of_group(int version, const std::filesystem::path& folder) {
    if (version == 1) {
        return cores_of(first_word(folder / "cpu.cfs_quota_us"),
                        first_word(folder / "cpu.cfs_period_us"));
    }
    std::string quota, period;
    std::ifstream(folder / "cpu.max") >> quota >> period;
    return cores_of(quota, period);
}

std::optional<unsigned> lesser(std::optional<unsigned> a, std::optional<unsigned> b) {
    if (!a) return b;
    if (!b) return a;
    return std::min(*a, *b);
}

// Where `group` lies below the group that is mounted; empty when it does not lie there, as when the
// process has been moved out of its cgroup namespace and the path begins with "..".
std::optional<std::filesystem::path> below(const std::filesystem::path& mounted,
                                           const std::filesystem::path& group) {
    const std::filesystem::path rest = group.lexically_relative(mounted);
    if (rest.empty()) return {};
    for (const std::filesystem::path& name : rest) {
        if (name == "..") return {};
    }
    return rest == "." ? std::filesystem::path() : rest;
}

// The limits of a mount point and of every folder on the way from it down to `rest`.
std::optional<unsigned> limit_along(int version, std::filesystem::path folder,
                                    const std::filesystem::path& rest) {
    std::optional<unsigned> least = limit_of_group(version, folder);
    for (const std::filesystem::path& name : rest) {
        folder /= name;
        least = lesser(least, limit_of_group(version, folder));
    }
    return least;
}

}  // namespace

std::optional<unsigned> cgroup_cpu_limit(const std::filesystem::path& proc,
                                         const std::filesystem::path& root) {
    const std::vector<group_mount> mounts = read_mounts(proc / "mountinfo");
    std::optional<unsigned> least;
    for (const membership& mine : read_memberships(proc / "cgroup")) {
        bool seen = false;
        for (const group_mount& mount : mounts) {
            if (mount.version != mine.version) continue;
            const std::optional<std::filesystem::path> rest = below(mount.group, mine.group);
            if (!rest) continue;
            seen = true;
            const std::filesystem::path folder = root / mount.point.relative_path();
            least = lesser(least, limit_along(mount.version, folder, *rest));
        }
        if (seen) continue;
        // No mount shows this group under the name the process knows it by: a container that sees
        // its own group as the root. What is mounted then is the best that can be known.
        for (const group_mount& mount : mounts) {
            if (mount.version != mine.version) continue;
            const std::filesystem::path folder = root / mount.point.relative_path();
            least = lesser(least, limit_of_group(mount.version, folder));
        }
    }
    return least;
}

std::vector<int> allowed_cores() {
    // The kernel refuses a mask smaller than its own with EINVAL and does not say how large its
    // own is.
    constexpr std::size_t largest = (std::size_t{1} << 20) / CPU_SETSIZE;
    std::vector<int> cores;
    for (std::size_t sets = 1; sets <= largest; sets *= 2) {
        std::vector<cpu_set_t> mask(sets);
        const std::size_t bytes = sets * sizeof(cpu_set_t);
        if (::sched_getaffinity(0, bytes, mask.data()) == 0) {
            for (std::size_t core = 0; core < sets * CPU_SETSIZE; ++core) {
                if (CPU_ISSET_S(core, bytes, mask.data())) cores.push_back(static_cast<int>(core));
            }
            break;
        }
        if (errno != EINVAL) break;
    }
    // A sandbox may deny the call: then nothing is known of a mask, and every online core counts.
    if (cores.empty()) {
        const long online = std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN));
        for (int core = 0; core < online; ++core) cores.push_back(core);
    }
    return cores;
}

void run_on_cores(std::span<const int> cores) {
    const auto past_last = static_cast<std::size_t>(std::ranges::max(cores)) + 1;
    std::vector<cpu_set_t> mask((past_last + CPU_SETSIZE - 1) / CPU_SETSIZE);
    const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
    for (const int core : cores) CPU_SET_S(static_cast<std::size_t>(core), bytes, mask.data());
    ::sched_setaffinity(0, bytes, mask.data());
}

unsigned usable_cores() {
    const auto allowed = static_cast<unsigned>(allowed_cores().size());
    return std::max(1U, std::min(allowed, cgroup_cpu_limit().value_or(allowed)));
}

}  // namespace rondo::detail
