#include <rondo/runtime/core/result.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

namespace rondo::detail {

namespace {

struct error_text {
    std::uint32_t number = 0;
    std::string text;
};

/// The latest texts of a thread, the oldest of which is overwritten next.
struct error_texts {
    std::array<error_text, 64> all;
    std::size_t oldest = 0;
};

error_texts& texts_of_this_thread() noexcept {
    static thread_local error_texts texts;
    return texts;
}

// Numbers are the process's: an error that comes from another thread finds no text of this one's.
std::uint32_t next_number() noexcept {
    static std::atomic<std::uint32_t> last{0};
    for (;;) {
        // relaxed: nothing is read because of a number
        const std::uint32_t number = last.fetch_add(1, std::memory_order_relaxed) + 1;
        if (number != 0) return number;
    }
}

}  // namespace

explained_error::explained_error(std::error_code code, std::string_view text) noexcept
    : explained_error(code) {
    error_texts& texts = texts_of_this_thread();
    error_text& place = texts.all[texts.oldest];
    texts.oldest = (texts.oldest + 1) % texts.all.size();
    place.number = 0;
    try {
        place.text = text;
        text_ = place.number = next_number();
    } catch (...) {  // Without memory the code must do.
    }
}

std::string explained_error::message() const {
    if (text_ != 0) {
        const auto& all = texts_of_this_thread().all;
        const auto place = std::find_if(
            all.begin(), all.end(), [this](const error_text& one) { return one.number == text_; });
        if (place != all.end()) return place->text;
    }
    return code().message();
}

void explained_error::raise() const {
    std::string text = message();
    const std::string end = ": " + code().message();  // which std::system_error adds by itself
    if (!text.ends_with(end)) throw std::system_error(code());
    text.resize(text.size() - end.size());
    throw std::system_error(code(), text);
}

}  // namespace rondo::detail
