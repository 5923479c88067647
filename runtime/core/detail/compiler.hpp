#pragma once
// Says at once, and once, that a compiler is too old. Headers that include nothing else of the
// library include this first.

#if defined(__clang__)
#if __clang_major__ < 19
// A warning that is made fatal ends the compilation; after an #error it would go on, through pages
// of what this compiler does not know.
#pragma clang diagnostic fatal "-W#warnings"
#warning rondo needs g++ 12, clang++ 19, or a newer one of them; this clang is older
#error rondo needs g++ 12, clang++ 19, or a newer one of them; this clang is older
#endif
#elif defined(__GNUC__) && __GNUC__ < 12
#error rondo needs g++ 12, clang++ 19, or a newer one of them; this g++ is older
#endif
