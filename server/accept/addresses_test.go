package accept

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// dialFrom dials from another of this machine's addresses.
func (s *server) dialFrom(t testing.TB, from string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{conn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

// One address has its number of connections, streams and idle ones among them. One more is told
// so in its way and nobody is thrown out for it; others come in; health is served; and when one
// has left, by whatever way, there is room again.
func TestMaxPerAddress(t *testing.T) {
	addresses := NewAddresses()
	s := start(t, func(o *Options) { o.MaxPerAddress, o.Addresses = 4, addresses })
	short := s.dial(t)
	short.send(get + "\r\n")
	short.stream("a.b")
	long := ways[2].open(t, s)
	long.send(get + "\r\n")
	long.stream("a.b")
	idle := ways[2].open(t, s)
	waiting := s.dial(t)
	waiting.send("GET ")
	eventually(t, "the half head to wait", func() bool { return s.Stats().Waiting == 1 })

	refused := func() {
		t.Helper()
		c := s.dial(t)
		c.send(get + "Accept: text/event-stream\r\n\r\n")
		if got := c.all(); !strings.Contains(got, "200 OK") || !strings.Contains(got, "retry: 4000") {
			t.Errorf("an EventSource got %q", got)
		}
		c.Close()
		c = s.dial(t)
		c.send(post("/echo", 5, ""))
		c.send("hello")
		if a := c.answer(); a.status != 429 || a.header.Get("Retry-After") == "" || !a.close {
			t.Errorf("a publisher got %+v", a)
		}
		c.all()
		c.Close()
	}
	refused()
	c := s.dial(t)
	c.send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if a := c.answer(); a.status != 200 {
		t.Errorf("health got %+v", a)
	}
	c.all()
	c.Close()
	other := s.dialFrom(t, "127.0.0.2")
	other.send(get + "\r\n")
	other.stream("a.b")
	if n := addresses.Len(); n != 2 {
		t.Errorf("%d networks, want 2", n)
	}

	room := func(what string) {
		t.Helper()
		eventually(t, what+" to make room", func() bool {
			c := s.dial(t)
			defer c.Close()
			c.send(get + "Connection: close\r\n\r\n")
			got := make([]byte, len(streamHead))
			n, _ := c.Read(got)
			return strings.HasPrefix(string(got[:n]), "HTTP/1.1 200 OK")
		})
		// The kit's shards never let a stream go by themselves.
		s.shards.mu.Lock()
		last := s.shards.tickets[len(s.shards.tickets)-1]
		s.shards.mu.Unlock()
		addresses.Leave(last)
	}
	waiting.reset()
	room("a half head")
	idle.Close()
	room("an idle connection")
	for range 2 {
		ways[2].open(t, s)
	}
	refused()
	s.shards.mu.Lock()
	tickets := append([]uint32(nil), s.shards.tickets[:2]...)
	s.shards.mu.Unlock()
	for i, what := range []string{"a stream of the short way", "one of the long way"} {
		addresses.Leave(tickets[i])
		room(what)
	}
}

// Far over the limit nobody waits to be heard: what has come is answered, and the connection
// closed.
func TestFarOverMaxPerAddress(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxPerAddress = 2 })
	for range 2 + heard(2) {
		s.dial(t).send("G")
	}
	eventually(t, "all to wait", func() bool { return s.Stats().Waiting == int64(2+heard(2)) })
	for range 3 {
		c := s.dial(t)
		c.send(post("/echo", 0, ""))
		if a := c.answer(); a.status != 429 {
			t.Errorf("%+v", a)
		}
	}
	c := s.dialFrom(t, "127.0.0.2")
	c.send(post("/echo", 0, ""))
	if a := c.answer(); a.status != 200 {
		t.Errorf("another address: %+v", a)
	}
}

// A limit that is set, changed and taken away while connections come and go counts right.
func TestAddressesAreCountedThroughChanges(t *testing.T) {
	a := NewAddresses()
	one, same := netip.MustParseAddr("2001:db8:1:2::1"), netip.MustParseAddr("2001:db8:1:2:ffff::9")
	other := netip.MustParseAddr("2001:db8:1:3::1")
	a.enter(1, one, 0)
	a.leave(1)
	a.enter(2, one, 1)
	a.enter(3, same, 1)
	a.enter(4, other, 1)
	for fd, over := range map[int32]bool{1: false, 2: false, 3: true, 4: false, 99: false} {
		if a.over(fd) != over {
			t.Errorf("%d: over is %v", fd, !over)
		}
	}
	ticket := a.lift(2)
	a.enter(2, other, 1) // the number is another connection's now
	if !a.over(2) {
		t.Error("the second connection of a network is let in")
	}
	a.leave(3)
	a.enter(3, one, 1)
	if !a.over(3) {
		t.Error("a stream is not counted")
	}
	a.enter(3, one, 0) // without a limit it is not counted, and what the number stood for is gone
	a.Leave(ticket)
	a.enter(5, same, 1)
	if a.over(5) {
		t.Error("a stream that has ended is counted")
	}
	for fd := range int32(10) {
		a.leave(fd)
	}
	if n := a.Len(); n != 0 {
		t.Errorf("%d networks are left", n)
	}
	for i := range 100_000 {
		a.enter(1, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)), 1)
	}
	if n := len(a.holders); n > 4 {
		t.Errorf("%d holders after as many networks, one at a time", n)
	}
}

// Over --accept-rate connections wait in the kernel's queue: all are served, at the rate.
func TestAcceptRateLeavesConnectionsInTheQueue(t *testing.T) {
	const rate, many = 200, 60
	s := start(t, func(o *Options) { o.AcceptRate = rate })
	began := time.Now()
	var all []*client
	for range many {
		c := s.dial(t)
		c.send(post("/echo", 2, "") + "hi")
		all = append(all, c)
	}
	for _, c := range all {
		if a := c.answer(); a.body != "POST /echo hi" {
			t.Errorf("%+v", a)
		}
	}
	took := time.Since(began)
	if least := time.Second*many/rate - 120*time.Millisecond; took < least {
		t.Errorf("%d connections within %s, at %d a second they take %s", many, took, rate, least)
	}
	if st := s.Stats(); st.Slowed == 0 || st.Refused != 0 || st.Accepted != many {
		t.Errorf("%+v", st)
	}
	s.Limit(Limits{})
	began = time.Now()
	for range many {
		c := s.dial(t)
		c.send(post("/echo", 2, "") + "hi")
		c.answer()
	}
	t.Logf("at %d a second: %s; without a limit: %s", rate, took, time.Since(began))
}
