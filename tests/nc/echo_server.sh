each_reactor__lines_come_back() {
    start echo_server
    connect ann
    say ann 'hello\n'
    expect ann hello
    say ann 'one\ntwo\n\nthree\n'
    expect ann one two '' three
}

each_reactor__what_has_no_newline_comes_back_without_one() {
    start echo_server
    connect ann
    say ann 'half a'
    say ann ' line\n'
    expect ann 'half a line'
    printf 'no newline' >sent
    bounded nc -nN 127.0.0.1 "$port" <sent >received || fail "nc did not end"
    cmp sent received || exit 1
}

each_reactor__two_clients_each_get_their_own() {
    start echo_server
    connect ann
    connect bob
    say ann 'from ann\n'
    say bob 'from bob\n'
    expect bob 'from bob'
    expect ann 'from ann'
}

each_reactor__clients_on_several_reactors_each_get_their_own() {
    start echo_server --reactors 3
    crowd 10
    local i
    for i in {1..10}; do say "crowd$i" 'I am %d\n' "$i"; done
    for i in {10..1}; do expect "crowd$i" "I am $i"; done
    hang_up crowd1
    say crowd2 'bye\n'
    expect crowd2 bye
}

each_reactor__a_mebibyte_of_random_bytes_comes_back_unchanged() {
    start echo_server
    head -c 1048576 /dev/urandom >sent
    bounded nc -nN 127.0.0.1 "$port" <sent >received || fail "nc did not end"
    cmp sent received || exit 1
}

each_reactor__a_client_that_resets_does_not_disturb_the_others() {
    start echo_server
    connect ann
    attach bob "$client" reset "$port"
    say bob 'hello\n\n'
    expect bob reset
    say ann 'hello\n'
    expect ann hello
}

each_reactor__SIGTERM_ends_it_while_clients_are_connected() {
    start echo_server
    connect ann
    say ann 'hello\n'
    expect ann hello
    stop TERM
    hang_up ann
    expect_end ann
}

each_reactor__SIGINT_ends_it() {
    start echo_server
    stop INT
}

once__any_number_of_reactors_up_to_1024() { takes_reactors echo_server; }
once__bad_arguments_are_one_line_and_status_2() { refuses_bad_arguments echo_server; }
once__a_taken_port_is_one_line_and_status_1() { refuses_a_taken_port echo_server; }
