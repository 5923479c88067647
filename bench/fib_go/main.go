// The fib server in Go, written as its users write it: a goroutine a connection, and the Go
// scheduler takes care of the rest. Each received chunk is a request.
//
//	fib_go --port 5566        ends at SIGTERM
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

const maxN = 60

func fib(n uint) uint64 {
	if n <= 2 {
		return 1
	}
	return fib(n-1) + fib(n-2)
}

func answer(request string) string {
	n, err := strconv.ParseUint(strings.TrimSpace(request), 10, 32)
	if err != nil || n < 1 || n > maxN {
		return "error: n must be 1 to " + strconv.Itoa(maxN) + "\n"
	}
	return strconv.FormatUint(fib(uint(n)), 10) + "\n"
}

func answerChunks(client net.Conn) {
	defer client.Close()
	chunk := make([]byte, 1024)
	for {
		size, err := client.Read(chunk)
		if err != nil {
			return
		}
		if _, err := client.Write([]byte(answer(string(chunk[:size])))); err != nil {
			return
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "fib_go:", err)
	os.Exit(1)
}

func main() {
	host := flag.String("host", "127.0.0.1", "address to listen on")
	port := flag.String("port", "0", "port, 0 for a free one")
	flag.Parse()
	listener, err := net.Listen("tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		fail(err)
	}
	fmt.Printf("listening on %s (go)\n", listener.Addr())
	for {
		client, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go answerChunks(client)
	}
}
