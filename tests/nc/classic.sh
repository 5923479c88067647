# Programs after Python's concurrent.futures, queue and threading: each prints its lines and ends.
# Where threads print at the same time, the order of the lines is theirs.

# lines_of PROGRAM ARGUMENTS...: what it prints, in $lines; it says nothing else, and ends well.
lines_of() {
    [[ -x $examples/$1 ]] || fail "no such program: $examples/$1"
    patience=100 bounded "$examples/$1" "${@:2}" >lines 2>complaints ||
        fail "exit status $?" "$(<complaints)"
    same "standard error of $1" '' "$(<complaints)"
    lines=$(<lines)
}

three_numbers_then_end() {
    lines_of "$@"
    same "the last line" end "${lines##*$'\n'}"
    same "the numbers" $'res: 1346269\nres: 2178309\nres: 832040' \
        "$(sort <<<"${lines%$'\n'end}")"
}

once__map_keeps_the_order_and_two_times_are_printed() {
    lines_of thread_pool_map
    [[ $lines =~ ^'1 1 2 3 5'$'\n'[0-9]+\.[0-9]+$'\n'[0-9]+\.[0-9]+$ ]] || fail "$lines"
}

once__callbacks_print_the_numbers() { three_numbers_then_end future_callbacks; }
once__a_thread_takes_the_numbers_as_they_get_done() { three_numbers_then_end as_completed; }
once__a_task_takes_the_numbers_as_they_get_done() { three_numbers_then_end as_completed task; }

once__an_exception_comes_out_where_the_result_is_asked_for() {
    lines_of future_errors
    same "its lines" $'callback handler\nget RuntimeError' "$lines"
}

once__each_job_of_the_producer_is_done_by_the_consumer() {
    lines_of producer_consumer
    same "its lines" "$(printf '%s\n' 9227465{,,,,})" "$lines"
}

once__a_lock_lets_one_task_after_the_other() {
    lines_of lock
    same "its lines" $'task1 get\ntask2 get\ntask1 get\ntask2 get' "$lines"
}

once__the_holder_of_a_monitor_gets_in_again_and_the_others_wait() {
    lines_of rlock_monitor
    same "its lines" $'1 in foo\n1 in ker\n2 in ker' "$lines"
}

# They come in order, go as they like, and never are there more than three.
once__three_of_five_tasks_have_the_semaphore_at_a_time() {
    lines_of semaphore_of_three
    same "who came" "$(printf '%s acquire sema\n' {0..4})" "$(grep acquire <<<"$lines")"
    same "who went" "$(printf '%s release sema\n' {0..4})" "$(grep release <<<"$lines" | sort)"
    local line inside=0
    while read -r line; do
        if [[ $line == *acquire* ]]; then ((++inside)); else ((--inside)); fi
        ((inside <= 3)) || fail "$lines"
    done <<<"$lines"
}

once__all_who_wait_for_an_event_get_it() {
    lines_of event_wait
    same "its lines" "$(printf '%s wait event\n' 1 2 3 && printf '%s get event set\n' 1 2 3)" \
        "$lines"
}

once__a_deadlock_is_found_and_its_circle_named() {
    lines_of deadlock
    same "what is held" $'get lock1\nget lock2' "$(grep '^get' <<<"$lines")"
    grep -q 'holds mutex M1 (locked at .*deadlock.cpp:.*) and waits for M2' <<<"$lines" ||
        fail "$lines"
    grep -q 'holds mutex M2 (locked at .*deadlock.cpp:.*) and waits for M1' <<<"$lines" ||
        fail "$lines"
}

once__everybody_in_a_room_hears_everybody() {
    lines_of broadcast_chat
    local wanted='' listener speaker word
    for listener in ann bob eve; do
        for speaker in ann bob eve; do
            for word in hello goodbye; do wanted+="$listener hears $speaker: $word"$'\n'; done
        done
    done
    same "all lines" "$(sort <<<"${wanted%$'\n'}")" "$(sort <<<"$lines")"
    same "the order of one speaker" $'ann hears bob: hello\nann hears bob: goodbye' \
        "$(grep '^ann hears bob' <<<"$lines")"
}
