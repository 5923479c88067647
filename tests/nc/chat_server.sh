# enter NAME: a client that is in the room when this returns: only there is it told of its mistake.
enter() {
    connect "$1"
    say "$1" '%05000d\n' 0
    expect "$1" 'error: a line of more than 4096 bytes'
}

# Ann, Bob and Cid, all in the room when this returns.
three_in_the_room() {
    start chat_server "$@"
    enter ann
    enter bob
    say bob 'bob is here\n'
    expect ann 'bob is here'
    enter cid
    say cid 'cid is here\n'
    expect ann 'cid is here'
    expect bob 'cid is here'
}

# That a line does not come back shows in the line heard next.
each_reactor__lines_go_to_all_the_others_and_not_back() {
    three_in_the_room
    say ann 'hello\nI am ann\n'
    expect bob hello 'I am ann'
    expect cid hello 'I am ann'
    say bob 'hello ann\n'
    expect ann 'hello ann'
    expect cid 'hello ann'
    say cid 'bye\n'
    expect ann bye
    expect bob bye
}

each_reactor__with_several_reactors_there_is_still_one_room() {
    three_in_the_room --reactors 3
    say ann 'hello\n'
    expect bob hello
    expect cid hello
    forget bob
    say cid 'bob is gone\n'
    expect ann 'bob is gone'
    attach storm "$client" chat_storm "$port" 2048
    expect storm 'every line arrived'
    stop TERM
}

each_reactor__a_line_in_pieces_arrives_whole() {
    three_in_the_room
    say ann 'half a '
    say bob 'something else\n'
    expect cid 'something else'
    say ann 'line\n'
    expect cid 'half a line'
    expect bob 'half a line'
}

each_reactor__a_client_that_leaves_does_not_disturb() {
    three_in_the_room
    hang_up bob
    expect_end bob
    say ann 'bob is gone\n'
    expect cid 'bob is gone'
    forget ann
    connect dora
    say dora 'dora is here\n'
    expect cid 'dora is here'
}

each_reactor__a_client_that_resets_does_not_disturb() {
    three_in_the_room
    attach dora "$client" reset "$port"
    say dora 'dora is here\n'
    expect ann 'dora is here'
    say dora '\n'
    expect dora reset
    say ann 'dora is gone\n'
    expect bob 'dora is here' 'dora is gone'
    expect cid 'dora is here' 'dora is gone'
}

# 16 MiB are more than the kernel buffers for one connection: the server has to hold or drop what
# Cid does not take.
each_reactor__a_client_that_never_reads_does_not_block_the_others() {
    three_in_the_room
    kill -STOP "${pid[cid]}"
    forget ann
    forget bob
    attach storm "$client" chat_storm "$port" 16384
    expect storm 'every line arrived'
    forget cid
}

each_reactor__SIGTERM_ends_it_while_clients_are_connected() {
    three_in_the_room
    stop TERM
    local who
    for who in ann bob cid; do
        hang_up "$who"
        expect_end "$who"
    done
}

each_reactor__SIGINT_ends_it() {
    start chat_server
    stop INT
}

once__any_number_of_reactors_up_to_1024() { takes_reactors chat_server; }
once__bad_arguments_are_one_line_and_status_2() { refuses_bad_arguments chat_server; }
once__a_taken_port_is_one_line_and_status_1() { refuses_a_taken_port chat_server; }
