each_reactor__two_clients_at_the_same_time() {
    start fib_server
    connect one
    connect two
    say one '20\n'
    expect one 6765
    say two '10\n'
    expect two 55
    say one '10\n'
    expect one 55
}

# ---- requests and answers ---------------------------------------------------------------------

each_reactor__several_requests_in_one_segment_are_answered_in_order() {
    start fib_server
    connect ann
    say ann '1\n2\n3\n10\n20\n'
    expect ann 1 1 2 55 6765
}

each_reactor__a_thousand_requests_at_once_are_answered_in_order() {
    start fib_server
    local i requests='' answers=()
    for ((i = 0; i < 250; ++i)); do
        requests+='20\n1\nx\n10\n'
        answers+=(6765 1 'error: "x" is not a decimal number: n must be 1 to 60' 55)
    done
    session "$requests" "${answers[@]}"
}

each_reactor__a_request_split_byte_by_byte_is_one_request() {
    start fib_server
    attach ann "$client" byte_by_byte "$port"
    expect ann 6765
    expect_end ann
}

each_reactor__a_client_that_half_closes_still_gets_all_answers() {
    start fib_server
    session '1\n2\n3\n' 1 1 2
    session '22\n20\n10\n' 17711 6765 55
}

# The pool's threads may have to wait for a processor longer than the server waits for the client.
each_reactor__a_client_that_half_closes_gets_the_answers_that_take_less_than_75_ms() {
    start fib_server
    eventually session '1\n25\n2\n' 1 75025 1
    eventually session '26\n27' 121393 196418
}

each_reactor__a_client_that_half_closes_is_given_up_after_that() {
    start fib_server
    session '3\n20\n50\n20\n' 2 6765
    rests 5
}

each_reactor__a_last_request_without_a_newline_counts() {
    start fib_server
    session '20' 6765
    session '10\n20' 55 6765
}

each_reactor__a_client_that_sends_nothing_gets_nothing() {
    start fib_server
    session ''
}

each_reactor__lines_may_end_as_telnet_ends_them() {
    start fib_server
    session '20\r\n 10 \r\n' 6765 55
}

# ---- bad requests -----------------------------------------------------------------------------

# complains REQUEST: a printf format. It gets one printable line that begins with "error: ", and
# the connection goes on, whether the next request comes with it or afterwards.
complains() {
    start fib_server
    # shellcheck disable=SC2059
    printf -- "$1\n20\n" | bounded nc -nN 127.0.0.1 "$port" >answers
    local lines
    mapfile -t lines <answers
    [[ ${#lines[@]} == 2 && ${lines[0]} == 'error: '?* && ${lines[1]} == 6765 ]] ||
        fail "not one error line and 6765:" "$(cat -v answers)"
    ! LC_ALL=C grep -aq '[^ -~]' answers || fail "not printable:" "$(cat -v answers)"

    connect ann
    say ann "$1\n"
    hear ann
    [[ $heard == 'error: '* ]] || fail "no error line: $heard"
    say ann '20\n'
    expect ann 6765
    hang_up ann
    expect_end ann
}

each_reactor__letters_get_an_error_line() { complains 'twenty'; }
each_reactor__a_negative_number_gets_an_error_line() { complains '-3'; }
each_reactor__zero_gets_an_error_line() { complains '0'; }
each_reactor__an_exponent_gets_an_error_line() { complains '1e3'; }
each_reactor__more_than_64_bits_get_an_error_line() { complains '99999999999999999999'; }
each_reactor__an_empty_line_gets_an_error_line() { complains ''; }
each_reactor__NUL_bytes_get_an_error_line() { complains '2\0000\000'; }
each_reactor__bytes_that_are_not_text_get_an_error_line() { complains '\377\376\033[2J'; }
each_reactor__5000_letters_get_one_error_line() { complains "$(printf 'x%.0s' {1..5000})"; }
each_reactor__5000_digits_get_one_error_line() { complains "$(printf '7%.0s' {1..5000})"; }
each_reactor__a_mebibyte_gets_one_error_line() {
    local line
    printf -v line '%01048576d' 0
    complains "$line"
}
each_reactor__a_number_out_of_range_is_told_the_range() {
    complains '61'
    session '61\n60x\n' 'error: 61 is out of range: n must be 1 to 60' \
        'error: "60x" is not a decimal number: n must be 1 to 60'
}

each_reactor__a_long_line_that_never_ends_gets_one_error_line() {
    start fib_server
    head -c 5000 /dev/zero | tr '\0' x | bounded nc -nN 127.0.0.1 "$port" >answers
    [[ $(wc -l <answers) == 1 && $(<answers) == 'error: '* ]] || fail "$(cat -v answers)"
}

# ---- options ----------------------------------------------------------------------------------

each_reactor__chunk_framing_takes_each_chunk_as_a_request() {
    start fib_server --framing chunk
    connect ann
    say ann '20'
    expect ann 6765
    say ann '10\n'
    expect ann 55
    say ann 'x'
    hear ann
    [[ $heard == 'error: '* ]] || fail "no error line: $heard"
    say ann '1'
    expect ann 1
}

each_reactor__chunk_framing_offloads_too() {
    start fib_server --framing chunk --reactors 2
    connect ann
    connect bob
    computes bob 50
    say ann '30'
    expect ann 832040
    say ann '20\n'
    expect ann 6765
    forget bob
    rests 50
}

each_reactor__max_n_sets_the_range() {
    start fib_server --max-n 10
    session '10\n11\n' 55 'error: 11 is out of range: n must be 1 to 10'
}

each_reactor__the_environment_names_the_reactor() {
    launcher=(env "RONDO_REACTOR=$reactor")
    start_as_is fib_server --host 127.0.0.1 --port 0
    session '20\n' 6765
}

once__a_reactor_unknown_in_the_environment_is_one_line() {
    RONDO_REACTOR=kqueue refused '1|2' kqueue fib_server --host 127.0.0.1 --port 0
}

once__without_host_and_reactor_it_listens_on_localhost() {
    start_as_is fib_server --port 0
    printf '20\n' | bounded nc -N localhost "$port" >answers || fail "nc cannot connect"
    same "the answer" 6765 "$(<answers)"
}

# right_with ARGUMENTS...: all kinds of requests are answered as they should be.
right_with() {
    start fib_server "$@"
    connect ann
    connect bob
    say ann '1\n20\n25\nx\n23\n'
    say bob '22\n0\n28\n3\n'
    expect bob 17711 'error: 0 is out of range: n must be 1 to 60' 317811 2
    expect ann 1 6765 75025 'error: "x" is not a decimal number: n must be 1 to 60' 28657
    eventually session '2\n10\n20' 1 55 6765
    stop
}

each_reactor__1_reactor_answers_right() { right_with --reactors 1; }
each_reactor__2_reactors_answer_right() { right_with --reactors 2; }
each_reactor__3_reactors_answer_right() { right_with --reactors 3; }
once__any_number_of_reactors_up_to_1024() { takes_reactors fib_server; }

each_reactor__offloading_everything_answers_right() { right_with --offload-above 0; }
each_reactor__offloading_above_1_answers_right() { right_with --offload-above 1; }
each_reactor__offloading_above_22_answers_right() { right_with --offload-above 22; }
each_reactor__offloading_nothing_answers_right() { right_with --offload-above 93; }

once__the_reactor_may_be_left_to_the_program() {
    start fib_server --reactor automatic --reactors 1
    session '20\n' 6765
}

once__bad_arguments_are_one_line_and_status_2() {
    refuses_bad_arguments fib_server
    refused 2 offload-above fib_server --offload-above 94
    refused 2 offload-above fib_server --offload-above -1
    refused 2 offload-above fib_server --offload-above all
    refused 2 framing fib_server --framing words
    refused 2 max-n fib_server --max-n 0
    refused 2 max-n fib_server --max-n 94  # fib(94) has more than 64 bits
}

once__a_taken_port_is_one_line_and_status_1() { refuses_a_taken_port fib_server; }

# ---- the end of the server --------------------------------------------------------------------

ends_while_clients_are_connected() {
    start fib_server
    connect idle
    connect ann
    connect bob
    say ann '20\n'
    expect ann 6765
    say bob '2'  # half a request: there is nothing to finish
    stop "$1"
    hang_up idle
    expect_end idle
    hang_up ann
    expect_end ann
}

each_reactor__SIGTERM_ends_it_while_clients_are_connected() {
    ends_while_clients_are_connected TERM
}

each_reactor__SIGINT_ends_it_while_clients_are_connected() { ends_while_clients_are_connected INT; }

each_reactor__SIGTERM_lets_a_reactor_finish_the_answer_in_progress() {
    start fib_server --offload-above 93
    connect idle
    connect ann
    computes ann 42
    stop TERM
    expect ann 267914296
    hang_up ann
    expect_end ann
}

each_reactor__SIGTERM_does_not_wait_for_long_requests() {
    start fib_server --reactors 2
    connect ann
    connect bob
    computes ann 50
    computes bob 50
    local before=$EPOCHREALTIME
    stop TERM
    local took=$(((${EPOCHREALTIME/./} - ${before/./}) / 1000))
    ((took < 5000)) || fail "it took $took ms"
    hang_up ann
    expect_end ann
}

# ---- many clients -----------------------------------------------------------------------------

each_reactor__short_requests_are_answered_at_once_while_the_pool_is_busy() {
    start fib_server
    connect ann
    local i
    crowd 6
    for i in {2..6}; do say "crowd$i" '45\n'; done
    computes crowd1 45
    for i in {1..5}; do
        say ann '20\n'
        patience=1 expect ann 6765
    done
    connect bob
    say bob '10\nx\n'
    patience=1 expect bob 55 'error: "x" is not a decimal number: n must be 1 to 60'
    for i in {1..6}; do
        ! read -r -t 0 <&"${from[crowd$i]}" || fail "fib(45) was ready before the short requests"
    done
}

each_reactor__six_long_requests_take_turns() {
    start fib_server
    six_take_turns() {
        attach six "$client" shares "$port" 6 38
        patience=100 expect six 39088169 39088169 39088169 39088169 39088169 39088169 together
        expect_end six
    }
    eventually six_take_turns
}

each_reactor__20_clients_with_all_kinds_of_requests_on_2_reactors() {
    start fib_server --reactors 2
    crowd 20
    local i
    for i in {1..20}; do
        case $((i % 4)) in
            0) say "crowd$i" '20\n10\n' ;;
            1) say "crowd$i" '28\n' ;;
            2) say "crowd$i" '3\ntwenty\n24\n2\n' ;;
            3) say "crowd$i" '61' ;;
        esac
    done
    for i in {3..20..4}; do say "crowd$i" '\n'; done
    for i in {20..1}; do
        case $((i % 4)) in
            0) expect "crowd$i" 6765 55 ;;
            1) expect "crowd$i" 317811 ;;
            2) expect "crowd$i" 2 'error: "twenty" is not a decimal number: n must be 1 to 60' \
                46368 1 ;;
            3) expect "crowd$i" 'error: 61 is out of range: n must be 1 to 60' ;;
        esac
    done
}

# ---- faults -----------------------------------------------------------------------------------

# Computing goes on for 75 ms, and then to the end of a piece, which is 1 ms: the rest is slack.
each_reactor__a_long_request_ends_when_its_client_leaves() {
    start fib_server
    connect ann
    connect bob
    computes bob 50
    forget bob
    rests 30
    attach cid "$client" reset "$port"
    computes cid 50
    say cid '\n'
    expect cid reset
    rests 30
    say ann '20\n'
    expect ann 6765
}

each_reactor__a_long_request_goes_on_while_another_client_leaves() {
    start fib_server
    connect ann
    connect bob
    computes ann 38
    computes bob 50
    forget bob
    expect ann 39088169
    rests 30
}

each_reactor__a_client_killed_in_mid_answer_does_not_disturb_the_others() {
    start fib_server
    connect ann
    connect bob
    computes bob 42
    forget bob
    say ann '20\n'
    expect ann 6765
    session '10\n' 55
}

each_reactor__a_client_that_resets_in_mid_answer_does_not_disturb_the_others() {
    start fib_server
    connect ann
    attach bob "$client" reset "$port"
    computes bob 42
    say bob '\n'
    expect bob reset
    say ann '20\n'
    expect ann 6765
    session '10\n' 55
}

each_reactor__without_descriptors_left_it_goes_on_and_accepts_when_some_are_free() {
    launcher=(prlimit --nofile=20)
    start fib_server
    crowd 40
    say crowd1 '1\n'
    expect crowd1 1
    local i
    for i in {2..35}; do hang_up "crowd$i"; done
    for i in 1 {36..40}; do
        say "crowd$i" '20\n'
        expect "crowd$i" 6765
    done
    session '10\n' 55
}
