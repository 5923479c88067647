# What a case can use. A case runs in its own bash, in an empty directory, with $examples (where the
# programs are) and $reactor (empty: the program's choice) set. The first check that does not hold
# ends it with a message.
#
#     start fib_server                       # waits for the ready line, sets $port
#     connect ann                            # nc, connected
#     say ann '20\n'                         # a printf format
#     expect ann 6765                        # ann's next line
#     hang_up ann; expect_end ann            # half-close; the server closes, too
#
# The server is stopped by SIGTERM at the end of every case, and must then exit with status 0.

client=$(dirname "${BASH_SOURCE[0]}")/client.py
patience=30  # seconds, for one line of output; only a broken server takes that long

declare -A pid=() to=() from=()  # of each attached program: process, its stdin and its stdout
launcher=()                      # what the servers are started under
expected_status=0                # of the server, when it is stopped

trap 'leave' EXIT

leave() {
    local status=$?
    # Stopped programs are among them, which only SIGKILL ends.
    ((${#pid[@]} == 0)) || kill -KILL "${pid[@]}" 2>/dev/null
    if ((status != 0)) && [[ -s server.err ]]; then
        echo "standard error of the server:"
        cat server.err
    fi
}

fail() {
    printf '%s\n' "$@"
    exit 1
}

# bounded COMMAND...: ended when it takes too long. In the foreground, so that what ends the whole
# case ends it, too.
bounded() {
    timeout --foreground "$patience" "$@"
}

# same WHAT EXPECTED ACTUAL
same() {
    [[ $2 != "$3" ]] || return 0
    echo "$1:"
    diff -u --label expected --label actual <(printf '%s\n' "$2") <(printf '%s\n' "$3")
    exit 1
}

# ---- programs whose input and output the case holds -----------------------------------------

# attach NAME COMMAND...: starts it. Each end of a pipe must be open in one process only, or its
# other end would not see it close: so a new program inherits none of those that are already open.
attach() {
    local name=$1 fd
    shift
    rm -f "$name.in" "$name.out"
    mkfifo "$name.in" "$name.out"
    (
        for fd in "${to[@]}" "${from[@]}"; do exec {fd}>&-; done
        # bash starts what runs in the background with SIGINT ignored; no server is used to that.
        exec env --default-signal=INT "$@" <"$name.in" >"$name.out" 2>"$name.err"
    ) &
    pid[$name]=$!
    exec {fd}>"$name.in"
    to[$name]=$fd
    exec {fd}<"$name.out"
    from[$name]=$fd
}

# connect NAME: an nc to the server, connected when this returns; it half-closes when hung up.
connect() {
    attach "$1" bash -c 'exec nc -nNv 127.0.0.1 "$0" 2>&1' "$port"
    hear "$1"
    [[ $heard == *succeeded* ]] || fail "$1 cannot connect: $heard"
}

# say NAME FORMAT...: as printf has it.
say() {
    local name=$1
    shift
    # shellcheck disable=SC2059
    printf -- "$@" >&"${to[$name]}"
}

# hear NAME: its next line of output, in $heard.
hear() {
    IFS= read -r -t "$patience" heard <&"${from[$1]}" && return
    if (($? > 128)); then
        fail "$1 heard nothing for $patience seconds"
    else
        fail "$1 reached the end of its output instead of the next line, after '$heard'"
    fi
}

# expect NAME LINE...: its next lines are these.
expect() {
    local name=$1 line
    shift
    for line; do
        hear "$name"
        same "what $name heard" "$line" "$heard"
    done
}

# expect_end NAME: it has no more output.
expect_end() {
    IFS= read -r -t "$patience" heard <&"${from[$1]}"
    [[ $? == 1 && -z $heard ]] || fail "$1 should be at its end, but: '$heard'"
}

# hang_up NAME: its input ends; one of a crowd is closed.
hang_up() {
    local fd=${to[$1]}
    exec {fd}>&-
    unset "to[$1]"
}

# crowd COUNT: as many idle connections without an nc each: crowd1, crowd2, ...
crowd() {
    local i fd
    for ((i = 1; i <= $1; ++i)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port"
        to[crowd$i]=$fd
        from[crowd$i]=$fd
    done
}

# forget NAME: kills it and waits until it has ended.
forget() {
    kill -KILL "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null
    unset "pid[$1]"
}

# ---- servers ----------------------------------------------------------------------------------

# start PROGRAM ARGUMENTS...: on a free port of 127.0.0.1, with the case's reactor.
start() {
    local program=$1
    shift
    start_as_is "$program" --host 127.0.0.1 --port 0 ${reactor:+--reactor "$reactor"} "$@"
}

# start_as_is PROGRAM ARGUMENTS...: with these arguments alone. Sets $ready and $port.
start_as_is() {
    local program=$1 what=${reactor:-'(io_uring|epoll)'} reactors='1 reactor'
    shift
    [[ -x $examples/$program ]] || fail "no such program: $examples/$program"
    [[ "$*" != *'--reactors 0'* ]] || reactors='(1 reactor|[1-9][0-9]* reactors)'
    [[ ! "$*" =~ --reactors\ ([2-9]|[1-9][0-9]+) ]] || reactors="${BASH_REMATCH[1]} reactors"
    what+=", $reactors"
    [[ $program != select_scheduler ]] || what=select
    attach server "${launcher[@]}" "$examples/$program" "$@"
    hear server
    ready=$heard
    [[ $ready =~ ^listening\ on\ 127\.0\.0\.1:([1-9][0-9]*)\ \(($what)\)$ ]] ||
        fail "the ready line is: $ready"
    port=${BASH_REMATCH[1]}
}

# stop [SIGNAL]: the server ends as it should, and has written nothing but its ready line.
stop() {
    local status=0
    kill -"${1-TERM}" "${pid[server]}"
    wait "${pid[server]}" 2>/dev/null || status=$?
    unset "pid[server]"
    same "exit status of the server after SIG${1-TERM}" "$expected_status" "$status"
    expect_end server
}

# The end of every case.
finish() {
    [[ -z ${pid[server]-} ]] || stop
}

# refused STATUS PATTERN PROGRAM ARGUMENTS...: the program ends by itself with that status (a|b: one
# of them), prints nothing, and says why in one line of standard error that matches the pattern.
refused() {
    local expected=$1 pattern=$2 program=$3 status=0
    shift 3
    bounded "$examples/$program" "$@" >refused.out 2>refused.err </dev/null || status=$?
    [[ $status =~ ^($expected)$ ]] ||
        fail "exit status of $program $* is $status, not $expected" "$(<refused.err)"
    same "standard output of $program $*" '' "$(<refused.out)"
    [[ $(wc -l <refused.err) == 1 && $(<refused.err) =~ $pattern ]] ||
        fail "standard error of $program $* should be one line that matches '$pattern':" \
            "$(<refused.err)"
}

# session FORMAT LINE...: nc sends what the printf format says and half-closes; what it receives
# until the server closes are these lines.
session() {
    local format=$1
    shift
    # shellcheck disable=SC2059
    printf -- "$format" | bounded nc -nN 127.0.0.1 "$port" >session.out ||
        fail "nc ended with an error or did not end within $patience seconds"
    printf '%s' "${@/%/$'\n'}" >session.expected
    diff -au session.expected session.out || exit 1
}

# eventually COMMAND...: for what a busy machine may spoil now and then: it has to hold once in ten
# times.
eventually() {
    local i
    for ((i = 1; i < 10; ++i)); do
        ("$@") >eventually.out && return
    done
    "$@"
}

# processor_time: how much of it the server has used so far, in clock ticks, in $ticks.
processor_time() {
    local stat
    read -ra stat <"/proc/${pid[server]}/stat"
    [[ ${stat[2]} != Z ]] || fail "the server has ended"
    ticks=$((stat[13] + stat[14]))
}

# refuses_bad_arguments PROGRAM: those that all servers on rondo have in common.
refuses_bad_arguments() {
    refused 2 port "$1" --port 70000
    refused 2 port "$1" --port -1
    refused 2 port "$1" --port letters
    refused 2 kqueue "$1" --reactor kqueue
    refused 2 reactors "$1" --reactors 1025
    refused 2 reactors "$1" --reactors 10000
    refused 2 reactors "$1" --reactors -1
    refused 2 reactors "$1" --reactors many
    refused 2 reactors "$1" --reactors 2x
    refused 2 reactors "$1" --reactors ''
    refused 2 colour "$1" --colour
    refused 1 'no\.such\.host\.invalid' "$1" --host no.such.host.invalid --port 0
}

# takes_reactors PROGRAM: its ready line tells how many there are.
takes_reactors() {
    start "$1" --reactors 0
    stop
    start "$1" --reactors 2
    stop
}

# refuses_a_taken_port PROGRAM
refuses_a_taken_port() {
    start "$1"
    refused 1 "listen on 127\.0\.0\.1:$port: Address already in use" \
        "$1" --host 127.0.0.1 --port "$port"
}

# rests LIMIT: the server stops using processor time, before it has used more than so many clock
# ticks.
rests() {
    processor_time
    local limit=$((ticks + $1)) before=$ticks still=0
    while ((still < 15)); do
        sleep 0.02
        processor_time
        ((ticks <= limit)) || fail "the server is still at work after $1 clock ticks"
        ((ticks == before ? ++still : (still = 0)))
        before=$ticks
    done
}

# computes NAME N: the client asks for fib(N), and the server is at work on it when this returns.
computes() {
    processor_time
    local before=$ticks
    say "$1" '%d\n' "$2"
    until ((ticks > before + 2)); do
        sleep 0.01  # the pool's threads run only where nobody else wants the processor
        processor_time
    done
}
