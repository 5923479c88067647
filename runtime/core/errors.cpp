#include <rondo/runtime/core/errors.hpp>

namespace rondo {

timeout_error::timeout_error()
    : std::system_error(std::make_error_code(std::errc::timed_out), "the time is up") {}

const std::error_category& runtime_category() noexcept {
    class category final : public std::error_category {
    public:
        const char* name() const noexcept override { return "rondo.runtime"; }
        std::string message(int value) const override {
            switch (static_cast<runtime_errc>(value)) {
                case runtime_errc::scheduler_stopped: return "the scheduler has stopped";
            }
            return "unknown error";
        }
    };
    static const category instance;
    return instance;
}

namespace detail {

void throw_error(std::error_code code, const std::string& what) {
    if (code == std::errc::operation_canceled) throw operation_cancelled{};
    throw std::system_error(code, what);
}

}  // namespace detail
}  // namespace rondo
