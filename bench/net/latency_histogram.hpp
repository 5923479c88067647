#pragma once
// Latencies counted in buckets that are 1.6 % wide or less: constant memory and a few nanoseconds a
// sample, so that measuring does not disturb what is measured.
//
//     bench::latency_histogram latencies;
//     latencies.add(finished - started);
//     latencies.quantile(0.99);            // a std::chrono::nanoseconds

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace bench {

class latency_histogram {
public:
    void add(std::chrono::nanoseconds latency) noexcept {
        const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(latency.count(), 0));
        ++buckets_[index_of(value)];
        ++count_;
        maximum_ = std::max(maximum_, value);
    }

    std::uint64_t count() const noexcept { return count_; }

    std::chrono::nanoseconds maximum() const noexcept { return to_duration(maximum_); }

    /// The latency that `share` (0 to 1) of the samples do not exceed; 0 when there are none.
    std::chrono::nanoseconds quantile(double share) const noexcept {
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets_.size(); ++i) {
            seen += buckets_[i];
            if (seen > wanted) {
                return to_duration(std::min(last_value_of(i), maximum_));
            }
        }
        return maximum();
    }

private:
    // Values below 2 * steps have a bucket each; above, every power of two is cut into `steps`
    // equal buckets.
    static constexpr unsigned steps = 64;

    static std::size_t index_of(std::uint64_t value) noexcept {
        const unsigned width = static_cast<unsigned>(std::bit_width(value | 1));
        const unsigned shift = width > 7 ? width - 7 : 0;
        return shift * steps + static_cast<std::size_t>(value >> shift);
    }

    static std::uint64_t last_value_of(std::size_t index) noexcept {
        if (index < std::size_t{2} * steps) {
            return index;
        }
        const auto shift = index / steps - 1;
        return ((static_cast<std::uint64_t>(index % steps + steps) + 1) << shift) - 1;
    }

    static std::chrono::nanoseconds to_duration(std::uint64_t value) noexcept {
        return std::chrono::nanoseconds{static_cast<std::int64_t>(value)};
    }

    std::array<std::uint64_t, std::size_t{64} * steps> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t maximum_ = 0;
};

}  // namespace bench
