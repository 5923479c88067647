#include <rondo/sync/errors.hpp>

#include <string>

namespace rondo {

closed_error::closed_error() : std::system_error(make_error_code(sync_errc::closed)) {}

const std::error_category& sync_category() noexcept {
    class category final : public std::error_category {
    public:
        const char* name() const noexcept override { return "rondo.sync"; }
        std::string message(int value) const override {
            switch (static_cast<sync_errc>(value)) {
                case sync_errc::closed: return "it is closed";
            }
            return "unknown error";
        }
    };
    static const category instance;
    return instance;
}

}  // namespace rondo
