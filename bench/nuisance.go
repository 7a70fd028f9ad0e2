package main

// The nuisance of a soak: one who connects more often than allowed, sends halves, nothing, too much and
// nonsense, holds streams without reading them, and hangs up in the middle.

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// A nuisance comes from an address of its own (127.0.0.2), so that limits of an address are its own.
type nuisance struct {
	to   string
	done chan struct{}
	once sync.Once
	rand *rand.Rand
	held []net.Conn
}

const nuisanceMost = 1_200 // more than --max-connections-per-ip lets in

func newNuisance(to string) *nuisance {
	return &nuisance{to: to, done: make(chan struct{}), rand: rand.New(rand.NewPCG(7, 7))}
}

// stop ends it. Any goroutine, any number of times.
func (n *nuisance) stop() { n.once.Do(func() { close(n.done) }) }

// run goes on until it is stopped, and lets go of everything.
func (n *nuisance) run(ctx context.Context) {
	defer func() {
		for _, c := range n.held {
			c.Close()
		}
	}()
	for {
		select {
		case <-n.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
			n.act()
		}
	}
}

// act opens a connection and does something bad, or lets many go.
func (n *nuisance) act() {
	if len(n.held) >= nuisanceMost {
		for _, c := range n.held {
			if n.rand.IntN(2) == 0 {
				_ = c.(*net.TCPConn).SetLinger(0) // a reset
			}
			c.Close()
		}
		n.held = n.held[:0]
	}
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.Dial("tcp", n.to)
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = c.Write([]byte(n.words()))
	if n.rand.IntN(20) == 0 {
		c.Close()
		return
	}
	n.held = append(n.held, c)
}

// flood has two addresses take all the connections that there may be, for a moment: while nobody else
// is there, whom that would cost their streams' return.
func flood(to string) {
	var all []net.Conn
	for i := range 2_000 {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(3+i%2))}}
		if c, err := d.Dial("tcp", to); err == nil {
			_, _ = c.Write([]byte("GET /events/soak.flood HTTP/1.1\r\nHost: x\r\n\r\n"))
			all = append(all, c)
		}
	}
	for _, c := range all {
		c.Close()
	}
}

// words are what it says on a connection.
func (n *nuisance) words() string {
	get := "GET /events/soak.nuisance HTTP/1.1\r\nHost: x\r\n\r\n"
	post := "POST /publish/soak.nuisance HTTP/1.1\r\nHost: x\r\nContent-Length: "
	switch n.rand.IntN(10) {
	case 0:
		return ""
	case 1:
		return get[:n.rand.IntN(len(get))]
	case 2:
		return post + "100000\r\n\r\n" + strings.Repeat("x", 60_000) // stops short
	case 3:
		return post + "70000\r\n\r\n" + strings.Repeat("x", 70_000) // over --max-event-size
	case 4:
		return post + "3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	case 5:
		return "GET /events/a..b HTTP/1.1\r\nHost: x\r\n\r\n"
	case 6:
		return "GET /events/soak." + strings.Repeat("z", n.rand.IntN(200)) + " HTTP/1.1\r\nHost: x\r\nLast-Event-ID: nonsense\r\n\r\n"
	default:
		return get // a stream that it does not read
	}
}
