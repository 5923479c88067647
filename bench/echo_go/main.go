// Echo server in Go, written as its users write it: a goroutine and a buffer for each connection.
// How many threads run them is GOMAXPROCS, from the environment.
//
//	echo_go --port 5566       ends at SIGTERM
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
)

func echo(client net.Conn, size int, discard bool) {
	defer client.Close()
	buffer := make([]byte, size)
	for {
		length, err := client.Read(buffer)
		if err != nil {
			return
		}
		if discard {
			continue
		}
		if _, err := client.Write(buffer[:length]); err != nil {
			return
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "echo_go:", err)
	os.Exit(1)
}

func main() {
	host := flag.String("host", "127.0.0.1", "address to listen on")
	port := flag.String("port", "0", "port, 0 for a free one")
	buffer := flag.Int("buffer", 4096, "bytes read at once")
	discard := flag.Bool("discard", false, "send nothing back")
	flag.Parse()
	listener, err := net.Listen("tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		fail(err)
	}
	fmt.Printf("listening on %s (go)\n", listener.Addr())
	for {
		client, err := listener.Accept() // Go sets TCP_NODELAY itself
		if err != nil {
			fail(err)
		}
		go echo(client, *buffer, *discard)
	}
}
