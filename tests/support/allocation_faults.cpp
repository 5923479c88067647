#include "allocation_faults.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace rondo::test {

namespace {

// The fault may come on any thread, also while a thread starts or ends.
constinit std::atomic<bool> armed{false};
constinit std::atomic<unsigned> left{0};
constinit std::atomic<bool> has_failed{false};
constinit std::atomic<std::ptrdiff_t> in_use{0};
constinit thread_local bool is_spared = false;

constinit const char* current_work = "";
constinit unsigned current_fault = 0;

constexpr unsigned patience = 60;  // seconds for one round, which takes some milliseconds

void tell(const char* what) noexcept {
    char line[200];
    const int size = std::snprintf(line, sizeof line, "%s: %s, allocation %u fails\n", current_work,
                                   what, current_fault);
    [[maybe_unused]] const auto put = ::write(STDERR_FILENO, line, static_cast<std::size_t>(size));
}

bool fails() noexcept {
    if (!armed.load(std::memory_order_relaxed) || is_spared) return false;
    if (left.load() == 0 || left.fetch_sub(1) != 1) return false;
    has_failed.store(true);
    return true;
}

void* allocate(std::size_t size, std::size_t alignment) {
    if (fails()) throw std::bad_alloc{};
    void* const memory =
        alignment <= alignof(std::max_align_t)
            ? std::malloc(size != 0 ? size : 1)
            : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc{};
    in_use.fetch_add(1, std::memory_order_relaxed);
    return memory;
}

void* allocate_or_null(std::size_t size, std::size_t alignment) noexcept {
    try {
        return allocate(size, alignment);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void give_back(void* memory) noexcept {
    if (memory != nullptr) in_use.fetch_sub(1, std::memory_order_relaxed);
    std::free(memory);
}

}  // namespace

allocation_fault::allocation_fault(const char* what, unsigned which) noexcept {
    current_work = what;
    current_fault = which;
    left.store(which);
    has_failed.store(false);
    std::signal(SIGALRM, [](int) {
        tell("hangs");
        std::abort();
    });
    std::set_terminate([] {
        tell("terminates");
        std::abort();
    });
    ::alarm(patience);
}

allocation_fault::~allocation_fault() {
    disarm();
    is_spared = false;
    ::alarm(0);
}

void allocation_fault::arm() noexcept { armed.store(true); }
void allocation_fault::disarm() noexcept { armed.store(false); }
void allocation_fault::spare_this_thread(bool on) noexcept { is_spared = on; }
bool allocation_fault::reached() const noexcept { return has_failed.load(); }

std::ptrdiff_t blocks_in_use() noexcept { return in_use.load(); }

}  // namespace rondo::test

// The nothrow forms of the standard library call the others, but a sanitizer has its own of each.
void* operator new(std::size_t size) { return rondo::test::allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return rondo::test::allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return rondo::test::allocate_or_null(size, 1);
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return rondo::test::allocate_or_null(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size) { return rondo::test::allocate(size, 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return rondo::test::allocate_or_null(size, 1);
}
void operator delete(void* memory) noexcept { rondo::test::give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { rondo::test::give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { rondo::test::give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    rondo::test::give_back(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
    rondo::test::give_back(memory);
}
void operator delete[](void* memory) noexcept { rondo::test::give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { rondo::test::give_back(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
    rondo::test::give_back(memory);
}
