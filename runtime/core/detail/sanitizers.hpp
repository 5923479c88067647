#pragma once
// Which sanitizers this is compiled for: g++ tells by macros, clang by features.

#if defined(__SANITIZE_ADDRESS__)
#define RONDO_ADDRESS_SANITIZER
#endif
#if defined(__SANITIZE_THREAD__)
#define RONDO_THREAD_SANITIZER
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RONDO_ADDRESS_SANITIZER
#endif
#if __has_feature(thread_sanitizer)
#define RONDO_THREAD_SANITIZER
#endif
#endif
