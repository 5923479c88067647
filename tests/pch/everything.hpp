// Precompiled for every test under a sanitizer, which takes long to build. That each of our headers
// includes what it needs is checked by the other configurations.

#include <rondo/rondo.hpp>

#include <doctest/doctest.h>
