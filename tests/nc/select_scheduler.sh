# The seed's scheduler has no signal handling: SIGTERM ends it with 128 + 15.
expected_status=143

once__two_clients_at_the_same_time() {
    start select_scheduler
    connect one
    connect two
    say one '20\n'
    expect one 6765
    say two '10\n'
    expect two 55
    say one '10\n'
    expect one 55
}

once__each_received_chunk_is_a_request_with_or_without_a_newline() {
    start select_scheduler
    connect ann
    say ann '20'
    expect ann 6765
    say ann '10\r\n'
    expect ann 55
}

once__what_is_no_number_ends_that_connection_alone() {
    start select_scheduler
    connect ann
    local requests=('letters\n' '0\n' '-3\n' '1e3\n' '9999999999999999\n' '61\n' '\n' '1\0002\n')
    crowd "${#requests[@]}"
    local i
    for i in "${!requests[@]}"; do
        say "crowd$((i + 1))" "${requests[i]}"
        expect_end "crowd$((i + 1))"
    done
    say ann '20\n'
    expect ann 6765
}

once__a_client_that_resets_does_not_disturb_the_others() {
    start select_scheduler
    connect ann
    attach bob "$client" reset "$port"
    say bob '42\n\n'
    expect bob reset
    say ann '20\n'
    expect ann 6765
}

once__clients_beyond_its_descriptors_are_refused_and_the_others_served() {
    launcher=(prlimit --nofile=10)
    start select_scheduler
    connect ann
    crowd 20
    expect_end crowd20
    say ann '20\n'
    expect ann 6765
}

once__a_taken_port_is_one_line_and_status_1() {
    refuses_a_taken_port select_scheduler
}

once__bad_arguments_are_one_line_and_status_2() {
    refused 2 port select_scheduler --port 70000
    refused 2 port select_scheduler --port x
    refused 2 colour select_scheduler --colour
}
