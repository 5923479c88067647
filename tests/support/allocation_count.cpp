#include "allocation_count.hpp"

#include <rondo/runtime/core/detail/sanitizers.hpp>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace rondo::test {

namespace {

constinit thread_local unsigned allocations = 0;

}  // namespace

unsigned allocation_count() noexcept { return allocations; }

}  // namespace rondo::test

#if defined(RONDO_ADDRESS_SANITIZER) || defined(RONDO_THREAD_SANITIZER)

// A sanitizer's own operator new finds more than one made here would let it.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void*,
                                                                           std::size_t),
                                                         void (*freed)(const volatile void*));

namespace {

[[maybe_unused]] const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { ++rondo::test::allocations; },
    [](const volatile void*) {});

}  // namespace

#else

// The array and nothrow forms of the standard library call these.
void* operator new(std::size_t size) {
    ++rondo::test::allocations;
    void* const memory = std::malloc(size != 0 ? size : 1);
    if (memory == nullptr) throw std::bad_alloc{};
    return memory;
}

void* operator new(std::size_t size, std::align_val_t alignment) {
    ++rondo::test::allocations;
    const auto align = static_cast<std::size_t>(alignment);
    void* const memory = std::aligned_alloc(align, (size + align - 1) & ~(align - 1));
    if (memory == nullptr) throw std::bad_alloc{};
    return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#endif
