#!/usr/bin/env bash
# Drives the example programs with the real nc, as a person at the terminal would.
#
#     tests/nc/run.sh build/debug/examples             every case
#     tests/nc/run.sh build/debug/examples SIGTERM     the cases whose name matches
#
# The cases are functions in the files beside this one, one file per program; those that print and
# end are in classic.sh. Their names are sentences: each_reactor__two_clients_... is run with
# --reactor io_uring and with --reactor epoll, once__a_taken_port_... one time. Every case is a
# process of its own, in a directory of its own, ended by timeout(1) if it hangs; what it can use is
# in lib.sh.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case_limit=${RONDO_NC_CASE_LIMIT:-120}  # seconds; sanitizer builds on a busy machine are slow

if [[ $# -lt 1 || $# -gt 2 || ! -d $1 ]]; then
    echo "usage: run.sh EXAMPLES_DIR [PATTERN]" >&2
    exit 2
fi
if [[ $(nc -h 2>&1) != OpenBSD* ]]; then
    echo "run.sh: the tests need OpenBSD's nc (Debian package netcat-openbsd)" >&2
    exit 2
fi
examples=$(cd "$1" && pwd)
pattern=${2-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
unset RONDO_REACTOR

passed=0
failed=0

# run_case FILE FUNCTION [REACTOR]
run_case() {
    local file=$1 function=$2 reactor=${3-}
    local sentence=${function#*__}
    local name="$file${reactor:+, $reactor}: ${sentence//_/ }"
    [[ $name =~ $pattern ]] || return
    rm -rf "${scratch:?}/case"
    mkdir "$scratch/case"
    local status=0
    examples=$examples reactor=$reactor timeout -k 5 "$case_limit" bash -uc '
        cd "$1" && . "$2/lib.sh" && . "$2/$3.sh" && "$4" && finish
    ' "$function" "$scratch/case" "$here" "$file" "$function" \
        </dev/null >"$scratch/output" 2>&1 || status=$?
    if ((status == 0)); then
        echo "ok - $name"
        ((++passed))
    else
        echo "FAILED - $name"
        ((++failed))
        ((status != 124)) || echo "not finished within $case_limit seconds" >>"$scratch/output"
        sed 's/^/    /' "$scratch/output"
    fi
}

if python3 "$here/client.py" kernel_has_io_uring; then
    reactors=(io_uring epoll)
else
    reactors=(epoll)
    echo "io_uring is denied here: its cases are left out"
fi

files=(round_robin classic select_scheduler fib_server echo_server chat_server)
[[ ! -x $examples/asio_interop ]] || files+=(asio_interop)  # it needs Asio and OpenSSL
for file in "${files[@]}"; do
    for function in $(grep -oE '^(once|each_reactor)__\w+' "$here/$file.sh"); do
        if [[ $function == once__* ]]; then
            run_case "$file" "$function"
        else
            for reactor in "${reactors[@]}"; do run_case "$file" "$function" "$reactor"; done
        fi
    done
done

echo "nc: $passed passed, $failed failed"
((failed == 0 && passed > 0))
