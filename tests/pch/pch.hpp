// Precompiled for every test where one develops. No standard header and none of ours: a header of
// ours that forgets an include must still fail to compile.

#include <doctest/doctest.h>
