#include <rondo/runtime/core/unheard_error.hpp>

#include <rondo/runtime/core/detail/error_lines.hpp>

#include <atomic>
#include <exception>
#include <utility>

namespace rondo {

namespace {

constinit detail::error_lines unheard_lines{"unheard errors"};

void write_line(const unheard_error& lost) {
    unheard_lines.write("rondo: %s failed unheard: %s", lost.origin,
                        detail::text_of(lost.error).c_str());
}

constinit std::atomic<unheard_error_hook> current_hook{write_line};

}  // namespace

unheard_error_hook set_unheard_error_hook(unheard_error_hook hook) noexcept {
    return current_hook.exchange(hook != nullptr ? hook : write_line);
}

void detail::report_unheard(std::exception_ptr error, const char* origin) noexcept {
    const unheard_error lost{std::move(error), origin};
    try {
        current_hook.load()(lost);
    } catch (...) {
        try {
            write_line(lost);
            write_line({std::current_exception(), "the hook for unheard errors"});
        } catch (...) {
            // There is no memory for the text.
            unheard_lines.write("rondo: %s failed unheard", origin);
        }
    }
}

}  // namespace rondo
