#!/usr/bin/env bash
# Builds the program beside this file in the ways a user would, and runs it.
#
#     run.sh <source root> <build directory>

set -euo pipefail

source_root=$1
build=$2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

expect_42() {
    local said
    said=$("${@:2}") || true
    [[ $said == 42 ]] || { echo "$1: expected 42, got '$said'"; exit 1; }
    echo "$1: ok"
}

echo "as a subproject"
cp -r "$here" "$scratch/parent"
mkdir "$scratch/parent/subprojects"
ln -s "$source_root" "$scratch/parent/subprojects/rondo"
meson setup "$scratch/parent/build" "$scratch/parent" --wrap-mode=forcefallback -Drondo:joined=true
meson compile -C "$scratch/parent/build"
expect_42 "subproject" "$scratch/parent/build/consumer"

echo "where it is installed, without dpkg-dev"
printf '#!/bin/sh\nexit 1\n' >"$scratch/dpkg-architecture"
chmod +x "$scratch/dpkg-architecture"
PATH=$scratch:$PATH meson setup "$scratch/bare" "$source_root" >/dev/null
pc=$(meson introspect "$scratch/bare" --installed | grep -o '"[^"]*/rondo\.pc"' | tail -n 1)
pc=${pc//\"/}
[[ :$(pkg-config --variable=pc_path pkg-config): == *:${pc%/*}:* ]] ||
    { echo "pkg-config does not look for $pc"; exit 1; }
echo "where it is installed: ok"

echo "installed, through pkg-config"
meson install -C "$build" --no-rebuild --quiet --destdir "$scratch/root"
PKG_CONFIG_PATH=$(dirname "$(find "$scratch/root" -name rondo.pc)")
export PKG_CONFIG_PATH
prefix=$scratch/root$(pkg-config --variable=prefix rondo)
flags() { pkg-config --define-variable=prefix="$prefix" "$@" rondo; }
libraries=$(flags --variable=libdir)
compile=($CXX -std=c++20 "$here/main.cpp" $(flags --cflags))

"${compile[@]}" -M > "$scratch/includes"
if grep liburing "$scratch/includes"; then echo "a public header includes liburing's"; exit 1; fi

"${compile[@]}" $(flags --libs) -o "$scratch/shared"
expect_42 "shared library" env LD_LIBRARY_PATH="$libraries" "$scratch/shared"

static_libraries=$(flags --libs --static)
"${compile[@]}" ${static_libraries/-lrondo/-l:librondo.a} -o "$scratch/static"
expect_42 "static library" "$scratch/static"

if command -v cmake >/dev/null; then
    echo "installed, through find_package"
    # In a folder without the file of meson's, and with the prefix moved.
    mkdir "$scratch/cmake"
    cp "$here/main.cpp" "$here/CMakeLists.txt" "$scratch/cmake"
    read -ra compiler <<<"${CXX#ccache }"  # a name alone is what CMake takes
    cmake -S "$scratch/cmake" -B "$scratch/cmake/build" -DCMAKE_CXX_COMPILER="${compiler[0]}" \
        -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_FLAGS="-Werror" >/dev/null
    cmake --build "$scratch/cmake/build" --verbose >"$scratch/cmake/log" ||
        { cat "$scratch/cmake/log"; exit 1; }
    grep -q -- -DRONDO_SIBLING_CALLS "$scratch/cmake/log" ||
        { echo "CMake's target has not the options that an await needs"; exit 1; }
    expect_42 "find_package, shared" "$scratch/cmake/build/shared"
    expect_42 "find_package, static" "$scratch/cmake/build/static"
fi
