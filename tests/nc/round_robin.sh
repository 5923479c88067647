once__two_generators_take_turns() {
    [[ -x $examples/round_robin ]] || fail "no such program: $examples/round_robin"
    bounded "$examples/round_robin" >lines || fail "exit status $?"
    printf '%s\n' 1 1 1 1 2 2 3 done 5 done >expected
    diff -u expected lines || exit 1
}
