// Precompiled for every test where compiling takes long. That each of our headers includes what it
// needs is checked by the other configurations.

#include <rondo/rondo.hpp>

#include <doctest/doctest.h>
