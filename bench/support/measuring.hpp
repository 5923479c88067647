#pragma once
// What the programs that measure single operations share: a line of output for each is its name,
// two spaces or more, a value and its unit.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <vector>

namespace bench {

inline double median(std::vector<double> samples) {
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
    std::nth_element(samples.begin(), middle, samples.end());
    return *middle;
}

inline void print(const char* name, double value, const char* unit) {
    std::printf("%-50s  %9.2f %s\n", name, value, unit);
    std::fflush(stdout);
}

/// Keeps the compiler from dropping what computed `value`.
template <class T>
void keep(const T& value) {
    asm volatile("" : : "r"(&value) : "memory");
}

/// Memory that the process has and that is there.
inline double resident_bytes() {
    std::size_t size = 0;
    std::size_t resident = 0;
    std::ifstream{"/proc/self/statm"} >> size >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace bench
