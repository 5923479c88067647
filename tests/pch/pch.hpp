// Precompiled for every test by g++. No standard header and none of ours: a header of ours that
// forgets an include must still fail to compile.

#include <doctest/doctest.h>
