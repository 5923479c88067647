#include <rondo/runtime/core/detail/misuse.hpp>

#include <cstdio>
#include <cstdlib>

namespace rondo::detail {

void misuse(const char* sentence, std::source_location where) noexcept {
    std::fprintf(stderr, "rondo: %s (%s:%u, %s)\n", sentence, where.file_name(),
                 static_cast<unsigned>(where.line()), where.function_name());
    std::abort();
}

}  // namespace rondo::detail
