#pragma once
// The errors that the hook for unheard errors is told of, in place of standard error.
//
//     const unheard_errors heard;
//     ...
//     CHECK(heard.all() == std::vector<std::string>{"roll-back failed"});

#include <rondo/runtime/core/detail/error_lines.hpp>
#include <rondo/runtime/core/unheard_error.hpp>

#include <mutex>
#include <string>
#include <vector>

namespace rondo::test {

/// One at a time. The hook may be told by any thread.
class unheard_errors {
public:
    unheard_errors() : before_(set_unheard_error_hook(remember)) {
        texts_.clear();
        origin_.clear();
    }
    unheard_errors(const unheard_errors&) = delete;
    unheard_errors& operator=(const unheard_errors&) = delete;
    ~unheard_errors() { set_unheard_error_hook(before_); }

    std::vector<std::string> all() const {
        const std::lock_guard lock(changing_);
        return texts_;
    }
    std::string last_origin() const {
        const std::lock_guard lock(changing_);
        return origin_;
    }

private:
    static void remember(const unheard_error& lost) {
        const std::lock_guard lock(changing_);
        texts_.push_back(detail::text_of(lost.error));
        origin_ = lost.origin;
    }

    static inline std::mutex changing_;
    static inline std::vector<std::string> texts_;
    static inline std::string origin_;
    unheard_error_hook before_;
};

}  // namespace rondo::test
