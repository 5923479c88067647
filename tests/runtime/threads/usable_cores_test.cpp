#include <rondo/runtime/threads/detail/usable_cores.hpp>

#include <doctest/doctest.h>

#include <sched.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace fs = std::filesystem;

using rondo::detail::allowed_cores;
using rondo::detail::cgroup_cpu_limit;
using rondo::detail::usable_cores;

namespace {

constexpr auto no_limit = std::nullopt;

// A made-up machine in a temporary folder: what /proc/self says, and the trees mounted below.
class machine {
public:
    machine() {
        std::string name = (fs::temp_directory_path() / "rondo_cores_XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        folder_ = name;
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    ~machine() {
        std::error_code ignored;
        fs::remove_all(folder_, ignored);
    }

    machine& member(std::string_view lines) { return write("proc/cgroup", lines); }

    machine& mounted(std::string_view lines) { return write("proc/mountinfo", lines); }

    machine& write(const fs::path& file, std::string_view text) {
        fs::create_directories((folder_ / file).parent_path());
        std::ofstream(folder_ / file, std::ios::app) << text;
        return *this;
    }

    machine& make_folder(const fs::path& name) {
        fs::create_directories(folder_ / name);
        return *this;
    }

    std::optional<unsigned> limit() const { return cgroup_cpu_limit(folder_ / "proc", folder_); }

private:
    fs::path folder_;
};

constexpr std::string_view v2_mount =
    "25 1 0:22 / / rw shared:1 - ext4 /dev/sda1 rw\n"
    "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";

constexpr std::string_view v1_mount =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";

std::optional<unsigned> limit_of_cpu_max(std::string_view text) {
    machine m;
    m.member("0::/a\n").mounted(v2_mount).write("sys/fs/cgroup/a/cpu.max", text);
    return m.limit();
}

std::optional<unsigned> limit_of_cfs(std::string_view quota, std::string_view period) {
    machine m;
    m.member("4:cpu,cpuacct:/a\n0::/\n").mounted(v1_mount);
    m.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", quota);
    m.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", period);
    return m.limit();
}

}  // namespace

TEST_CASE("a quota in cpu.max is rounded up to whole cores") {
    CHECK(limit_of_cpu_max("200000 100000\n") == 2);
    CHECK(limit_of_cpu_max("200001 100000\n") == 3);
    CHECK(limit_of_cpu_max("50000 100000\n") == 1);
    CHECK(limit_of_cpu_max("1000 1000000\n") == 1);
    CHECK(limit_of_cpu_max("30000 20000") == 2);
    CHECK(limit_of_cpu_max("max 100000\n") == no_limit);
}

TEST_CASE("the least quota on the way from the root to the group counts") {
    machine m;
    m.member("0::/system.slice/web.service/worker\n").mounted(v2_mount);
    m.write("sys/fs/cgroup/system.slice/cpu.max", "800000 100000\n");
    CHECK(m.limit() == 8);
    m.write("sys/fs/cgroup/system.slice/web.service/worker/cpu.max", "max 100000\n");
    CHECK(m.limit() == 8);
    m.write("sys/fs/cgroup/system.slice/web.service/cpu.max", "150000 50000\n");
    CHECK(m.limit() == 3);
    m.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
    CHECK(m.limit() == 2);
}

TEST_CASE("the quota of a neighbour or of a group inside does not count") {
    machine m;
    m.member("0::/mine\n").mounted(v2_mount);
    m.write("sys/fs/cgroup/mine/cpu.max", "400000 100000\n");
    m.write("sys/fs/cgroup/mine/inner/cpu.max", "100000 100000\n");
    m.write("sys/fs/cgroup/other/cpu.max", "100000 100000\n");
    CHECK(m.limit() == 4);
}

TEST_CASE("a container's own group mounted as the root is found under its name outside") {
    machine m;
    m.member("0::/kubepods/pod1/box\n");
    m.mounted("30 25 0:26 /kubepods/pod1/box /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    m.write("sys/fs/cgroup/cpu.max", "250000 100000\n");
    CHECK(m.limit() == 3);
}

TEST_CASE("below a group mounted as the root only the rest of the path is walked") {
    machine m;
    m.member("0::/pod1/box/inner\n");
    m.mounted("30 25 0:26 /pod1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    m.write("sys/fs/cgroup/cpu.max", "900000 100000\n");
    m.write("sys/fs/cgroup/box/inner/cpu.max", "200000 100000\n");
    m.write("sys/fs/cgroup/pod1/box/inner/cpu.max", "100000 100000\n");
    CHECK(m.limit() == 2);
}

TEST_CASE("a mount whose name merely begins alike does not show the group") {
    machine m;
    m.member("0::/pod12\n");
    m.mounted(
        "30 25 0:26 /pod1 /one ro - cgroup2 cgroup rw\n"
        "31 25 0:26 /pod12 /twelve ro - cgroup2 cgroup rw\n");
    m.write("one/cpu.max", "100000 100000\n");
    m.write("twelve/cpu.max", "500000 100000\n");
    CHECK(m.limit() == 5);
}

TEST_CASE("a group that no mount shows is taken for the one that is mounted") {
    SUBCASE("the process sees a path of another namespace") {
        machine m;
        m.member("0::/\n");
        m.mounted("30 25 0:26 /docker/box /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
        m.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
        CHECK(m.limit() == 2);
    }
    SUBCASE("the process was moved out of its namespace: never look above the mount") {
        machine m;
        m.member("0::/../other\n").mounted(v2_mount);
        m.write("sys/fs/cgroup/cpu.max", "600000 100000\n");
        m.write("sys/fs/other/cpu.max", "100000 100000\n");
        CHECK(m.limit() == 6);
    }
    SUBCASE("the folder of the group is not there") {
        machine m;
        m.member("0::/docker/box (deleted)\n").mounted(v2_mount);
        m.write("sys/fs/cgroup/cpu.max", "700000 100000\n");
        CHECK(m.limit() == 7);
    }
}

TEST_CASE("the quota of cgroup v1 is read from the tree of the cpu controller") {
    CHECK(limit_of_cfs("200000\n", "100000\n") == 2);
    CHECK(limit_of_cfs("150000\n", "100000\n") == 2);
    CHECK(limit_of_cfs("1000\n", "100000\n") == 1);
    CHECK(limit_of_cfs("-1\n", "100000\n") == no_limit);

    machine m;
    m.member("5:cpuset:/a/b\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n").mounted(v1_mount);
    m.write("sys/fs/cgroup/cpuset/a/cpu.cfs_quota_us", "100000\n");
    m.write("sys/fs/cgroup/cpuset/a/cpu.cfs_period_us", "100000\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    CHECK(m.limit() == 3);
}

TEST_CASE("a controller whose name merely begins with cpu is not the cpu controller") {
    machine m;
    m.member("5:cpuset:/\n4:cpuacct:/\n").mounted(v1_mount);
    m.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    CHECK(m.limit() == no_limit);
}

TEST_CASE("on a hybrid machine the quota counts in whichever tree it is") {
    machine m;
    m.member("4:cpu,cpuacct:/box\n0::/user.slice\n").mounted(v1_mount);
    m.mounted("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    m.make_folder("sys/fs/cgroup/unified/user.slice");
    CHECK(m.limit() == no_limit);
    m.write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "400000\n");
    m.write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    CHECK(m.limit() == 4);
    m.write("sys/fs/cgroup/unified/user.slice/cpu.max", "100000 100000\n");
    CHECK(m.limit() == 1);
}

TEST_CASE("a mount point with a space in its name is read") {
    machine m;
    m.member("0::/a b\n");
    m.mounted("30 25 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
    m.write("my groups/a b/cpu.max", "300000 100000\n");
    CHECK(m.limit() == 3);
}

TEST_CASE("missing files set no limit") {
    CHECK(machine().limit() == no_limit);
    CHECK(machine().member("0::/a\n").limit() == no_limit);
    CHECK(machine().mounted(v2_mount).limit() == no_limit);
    CHECK(machine().member("0::/a\n").mounted(v2_mount).limit() == no_limit);
    CHECK(cgroup_cpu_limit("/nowhere/at/all", "/nowhere") == no_limit);

    machine without_period;
    without_period.member("4:cpu:/\n").mounted(v1_mount);
    without_period.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
    CHECK(without_period.limit() == no_limit);
}

TEST_CASE("a folder where a file should be sets no limit") {
    machine m;
    m.member("0::/a\n").mounted(v2_mount).make_folder("sys/fs/cgroup/a/cpu.max");
    CHECK(m.limit() == no_limit);
    CHECK(machine().make_folder("proc/cgroup").make_folder("proc/mountinfo").limit() == no_limit);
}

TEST_CASE("nonsense in a file sets no limit") {
    for (const char* text :
         {"", "\n", "max", "200000", "200000 0", "0 100000", "-1 100000", "200000 -100000",
          "many few", "200000x 100000", "0x10 100000", "2e5 1e5", "1.5 1", "+200000 100000",
          "200000, 100000", "\xff\xfe\n"}) {
        CAPTURE(text);
        CHECK(limit_of_cpu_max(text) == no_limit);
    }
    CHECK(limit_of_cpu_max(std::string_view("2\0 1\0", 5)) == no_limit);
    CHECK(limit_of_cfs("lots", "100000") == no_limit);
    CHECK(limit_of_cfs("100000", "0") == no_limit);
    CHECK(limit_of_cfs("0", "100000") == no_limit);
}

TEST_CASE("nonsense in /proc sets no limit and hides nothing that makes sense") {
    for (const char* lines : {"", "\n\n", "::", ":", "0:/", "0::", "cpu", "4:,,,:/", ":::::::"}) {
        CAPTURE(lines);
        CHECK(machine().member(lines).mounted(v2_mount).limit() == no_limit);
    }
    for (const char* lines :
         {"", "\n", "- - - -", "30 25 0:26 / /sys", "1 2 3 / /x rw shared:1",
          "30 25 0:26 / /sys rw - cgroup2", "30 25 0:26 \\0 \\ rw - cgroup2 c rw"}) {
        CAPTURE(lines);
        CHECK(machine().member("0::/\n").mounted(lines).limit() == no_limit);
    }
    machine m;
    m.member("garbage\n0::/a\n:\n").mounted("garbage\n").mounted(v2_mount).mounted("- -\n");
    m.write("sys/fs/cgroup/a/cpu.max", "200000 100000\n");
    CHECK(m.limit() == 2);
}

TEST_CASE("huge quotas do not wrap round") {
    constexpr unsigned most = std::numeric_limits<unsigned>::max();
    CHECK(limit_of_cpu_max("9223372036854775807 1\n") == most);
    CHECK(limit_of_cpu_max("9223372036854775807 9223372036854775806\n") == 2);
    CHECK(limit_of_cpu_max("4294967296 1\n") == most);
    CHECK(limit_of_cpu_max("9223372036854775808 100000\n") == no_limit);
    CHECK(limit_of_cpu_max("99999999999999999999999999 100000\n") == no_limit);
    CHECK(limit_of_cpu_max("100000 99999999999999999999999999\n") == no_limit);
    CHECK(limit_of_cfs("18446744073709551615\n", "100000\n") == no_limit);
}

TEST_CASE("a very deep path is walked to its end") {
    std::string group;
    for (int depth = 0; depth < 60; ++depth) group += "/g";
    machine m;
    m.member("0::" + group + "\n").mounted(v2_mount);
    m.write("sys/fs/cgroup" + group + "/cpu.max", "200000 100000\n");
    CHECK(m.limit() == 2);
}

TEST_CASE("the allowed cores are those of the calling thread's affinity mask") {
    const std::vector<int> all = allowed_cores();
    REQUIRE_FALSE(all.empty());
    CHECK(std::is_sorted(all.begin(), all.end()));
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());

    std::thread([&] {
        for (const int core : all) {
            std::vector<cpu_set_t> mask(static_cast<std::size_t>(core) / CPU_SETSIZE + 1);
            const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
            CPU_SET_S(static_cast<std::size_t>(core), bytes, mask.data());
            CHECK(::sched_setaffinity(0, bytes, mask.data()) == 0);
            CHECK(allowed_cores() == std::vector<int>{core});
            CHECK(usable_cores() == 1);
        }
    }).join();
    CHECK(allowed_cores() == all);
}

TEST_CASE("the usable cores are at least one and no more than the allowed ones") {
    CHECK(usable_cores() >= 1);
    CHECK(usable_cores() <= allowed_cores().size());
}
