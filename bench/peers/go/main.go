// Command go-peers is a few small SSE servers as people write them with Go's libraries, for
// comparison: go-peers KIND PORT. It is a module of its own, so that their libraries are not Penstock's.
//
// All speak alike: GET /events?topic=T (repeatable) streams, POST /publish/T publishes the body.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"sort"
	"strings"
)

var kinds = map[string]func(net.Listener) error{
	"nethttp":      serveNetHTTP,
	"fasthttp":     serveFasthttp,
	"r3labs":       serveR3labs,
	"tmaxmax":      serveTmaxmax,
	"bare-net":     serveBareNet,
	"bare-netpoll": serveBareNetpoll,
}

func main() {
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	sort.Strings(names)
	if len(os.Args) != 3 || kinds[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: go-peers KIND PORT, where KIND is %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(kinds[os.Args[1]](l))
}
