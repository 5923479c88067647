#include <rondo/io/stream.hpp>

#include <string>

namespace rondo {

const std::error_category& stream_category() noexcept {
    class category final : public std::error_category {
    public:
        const char* name() const noexcept override { return "rondo.stream"; }
        std::string message(int value) const override {
            switch (static_cast<stream_errc>(value)) {
                case stream_errc::unexpected_end: return "the stream ended too early";
                case stream_errc::too_long: return "the delimiter did not come within the limit";
            }
            return "unknown stream error";
        }
    };
    static const category instance;
    return instance;
}

}  // namespace rondo
