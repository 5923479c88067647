# The certificate is made by the case; openssl speaks the TLS that nc cannot.
start_with_tls() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=rondo \
        -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null ||
        fail "openssl made no certificate"
    start asio_interop --certificate cert.pem --key key.pem "$@"
}

connect_tls() {
    attach "$1" openssl s_client -quiet -verify_return_error -CAfile cert.pem \
        -connect "127.0.0.1:$port"
}

each_reactor__names_are_answered_with_addresses() {
    start_with_tls
    connect_tls ann
    say ann '127.0.0.1\n'
    expect ann 127.0.0.1
    say ann 'no.such.host.invalid\n'
    hear ann
    [[ $heard == 'error: '* ]] || fail "ann heard '$heard'"
    connect_tls bob
    say bob '127.0.0.2\n'
    say ann '127.0.0.3\n'
    expect bob 127.0.0.2
    expect ann 127.0.0.3
}

each_reactor__a_silent_client_is_let_go() {
    start_with_tls --idle 1
    connect_tls ann
    say ann '127.0.0.1\n'
    expect ann 127.0.0.1
    expect_end ann
}

each_reactor__a_client_that_never_begins_the_handshake_is_let_go() {
    start_with_tls --step 1
    # With -d it reads no input, and so ends when the server has closed.
    attach ann nc -nd 127.0.0.1 "$port"
    expect_end ann
    connect_tls bob
    say bob '127.0.0.1\n'
    expect bob 127.0.0.1
}

each_reactor__one_that_speaks_no_TLS_is_let_go() {
    start_with_tls
    connect ann
    say ann 'hello, is this TLS?\n'
    hang_up ann
    until ! IFS= read -r -t "$patience" heard <&"${from[ann]}"; do :; done
    connect_tls bob
    say bob '127.0.0.1\n'
    expect bob 127.0.0.1
}

each_reactor__SIGTERM_ends_it_while_clients_are_connected() {
    start_with_tls --reactors 2
    connect_tls ann
    say ann '127.0.0.1\n'
    expect ann 127.0.0.1
    stop TERM
    expect_end ann
}

once__a_certificate_that_is_not_there_is_one_line_and_status_1() {
    refused 1 'No such file' asio_interop --certificate none.pem --key none.pem
}
