package accept

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Idle keep-alive connections hold no goroutine.
func TestIdleConnectionsHoldNoGoroutines(t *testing.T) {
	s := start(t)
	var idle []*client
	open := func(n int) {
		for range n {
			c := s.dial(t)
			c.send(post("/echo", 2, "") + "hi")
			if a := c.answer(); a.body != "POST /echo hi" {
				t.Fatalf("%+v", a)
			}
			// Part of a next head holds none either.
			if len(idle)%2 == 1 {
				c.send("POST /echo HTTP/1.1\r\n")
			}
			idle = append(idle, c)
		}
	}
	open(10)
	eventually(t, "goroutines to end", func() bool { return s.Stats().InHand == 0 })
	before := runtime.NumGoroutine()
	open(500)
	eventually(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before+2 && s.Stats().InHand == 0 })
	if st := s.Stats(); st.Open != 510 {
		t.Errorf("%+v", st)
	}
	// They are alive.
	for i, c := range idle {
		if i%2 == 1 {
			c.send("Host: a\r\nContent-Length: 3\r\n\r\nyou")
		} else {
			c.send(post("/echo", 3, "") + "you")
		}
		if a := c.answer(); a.body != "POST /echo you" {
			t.Fatalf("%+v", a)
		}
	}
}

// A connection between requests is closed after the idle timeout, without a word.
func TestIdleConnectionIsClosed(t *testing.T) {
	s := start(t, func(o *Options) { o.IdleTimeout = 30 * time.Millisecond })
	c := s.dial(t)
	c.send(post("/echo", 0, ""))
	c.answer()
	if rest := c.all(); rest != "" {
		t.Errorf("%q", rest)
	}
	if st := s.Stats(); st.Timeouts != 0 {
		t.Errorf("an idle end counts as a timeout: %+v", st)
	}
}

// A head that does not come in time is told 408, on every way; so is silence. A drop at a time
// does not help.
func TestLateHeadIsTold(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		for _, part := range []string{"", "GET", "GET /events/a HTTP/1.1\r\nHost: a\r\n" + w.pad} {
			if w.kept && part == "" {
				continue // that is idle
			}
			c := w.open(t, s)
			go func() {
				if _, err := c.Write([]byte(part)); err != nil || part == "" {
					return
				}
				every := time.NewTicker(10 * time.Millisecond)
				defer every.Stop()
				for range 100 {
					<-every.C
					if _, err := c.Write([]byte("X")); err != nil {
						return
					}
				}
			}()
			checkRefused(t, c, 408, "in time")
			c.Close()
		}
		if st := s.Stats(); st.Timeouts == 0 {
			t.Errorf("%+v", st)
		}
	}, func(o *Options) { o.HandshakeTimeout = 60 * time.Millisecond })
}

// Resets, in whatever state, leave nothing behind.
func TestResetsLeaveNothing(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		for _, part := range []string{"", "G", "GET /events/a HTTP/1.1\r\nHost: a\r\n" + w.pad, post("/echo", 10, w.pad) + "hal",
			chunkedPost + "5\r\nhe", post("/echo", 1<<30, w.pad) + "x", "nonsense\r\n\r\n"} {
			c := w.open(t, s)
			c.send(part)
			c.reset()
		}
		for range 20 {
			// Whatever the server is doing at that moment.
			c := w.open(t, s)
			c.send(post("/echo", 2, w.pad) + "hi" + post("/echo", 2, "") + "hi")
			c.reset()
		}
		eventually(t, "nothing to be left", func() bool {
			st := s.Stats()
			return st.Open == 0 && st.InHand == 0 && st.Waiting == 0 && s.longs.len() == 0
		})
	})
}

// A server without room says so to each client in its way; health is served all the same; when
// there is room again, it serves again.
func TestMaxConnections(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxConnections = 3 })
	for range 2 {
		c := s.dial(t)
		c.send(get + "\r\n")
		c.stream("a.b")
	}
	idle := s.dial(t)
	idle.send(post("/echo", 0, ""))
	idle.answer()

	c := s.dial(t)
	c.send(get + "Accept: text/event-stream\r\n\r\n")
	if got := c.all(); !strings.Contains(got, "200 OK") || !strings.Contains(got, "retry: 4000") {
		t.Errorf("an EventSource got %q", got)
	}
	c.Close()
	c = s.dial(t)
	c.send(post("/echo", 5, "") + "hello")
	if a := c.answer(); a.status != 503 || a.header.Get("Retry-After") == "" || !a.close {
		t.Errorf("a publisher got %+v", a)
	}
	c.all()
	c.Close()
	eventually(t, "the refused to leave", func() bool { return s.Stats().Open == 1 })
	c = s.dial(t)
	c.send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if a := c.answer(); a.status != 200 || a.body != "ok" {
		t.Errorf("health got %+v", a)
	}
	c.all()
	c.Close()
	// Who has a connection keeps it.
	idle.send(post("/echo", 2, "") + "hi")
	if a := idle.answer(); a.status != 200 {
		t.Errorf("%+v", a)
	}
	idle.Close()
	eventually(t, "room", func() bool { return s.Stats().Open == 0 })
	c = s.dial(t)
	c.send(get + "\r\n")
	c.stream("a.b")
	if st := s.Stats(); st.Refused != 2 {
		t.Errorf("%+v", st)
	}
}

// Where streams leave the process's descriptor table they take no place of those that stay.
func TestMaxHere(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxHere = 2 })
	for range 5 {
		c := s.dial(t)
		c.send(get + "\r\n")
		c.stream("a.b")
	}
	var idle []*client
	for range 2 {
		c := s.dial(t)
		c.send(post("/echo", 0, ""))
		c.answer()
		idle = append(idle, c)
	}
	c := s.dial(t)
	c.send(get + "Accept: text/event-stream\r\n\r\n")
	if got := c.all(); !strings.Contains(got, "retry: 4000") {
		t.Errorf("an EventSource got %q, want to be told to come back", got)
	}
	c.Close()
	idle[0].Close()
	eventually(t, "room", func() bool { return s.Stats().Open == 1 })
	c = s.dial(t)
	c.send(get + "\r\n")
	c.stream("a.b")
	if st := s.Stats(); st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

// Far over MaxConnections nobody waits and nobody is lingered with. An EventSource is told in its
// own way all the same, or it would never come back, and health is served.
func TestFarOverMaxConnections(t *testing.T) {
	const most = 32
	s := start(t, func(o *Options) { o.MaxConnections = most })
	const room = most + most/16 + 16
	for range room {
		s.dial(t).send("G")
	}
	eventually(t, "all to wait", func() bool { return s.Stats().Waiting == room })
	for _, c := range []struct{ send, want string }{
		{"G", "HTTP/1.1 503 "},
		{post("/echo", 5, "") + "hello", "HTTP/1.1 503 "},
		{get + "\r\n", "HTTP/1.1 503 "},
		{get + "Accept: text/event-stream\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream"},
		{"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
	} {
		to := s.dial(t)
		to.send(c.send)
		if got := to.all(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%q got %q, want %q", c.send, got, c.want)
		}
		to.Close()
		eventually(t, "it to leave", func() bool { return s.Stats().Open == room })
	}
	if st := s.Stats(); st.Lingering != 0 || st.Refused != 4 {
		t.Errorf("%+v", st)
	}
}

// A full room says 503 and when to come back; the other rooms are open.
func TestMaxRequests(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxRequests = 2 })
	var waiting []*client
	for range 2 {
		c := s.dial(t)
		c.send(post("/wait", 0, ""))
		<-s.house.waiting
		waiting = append(waiting, c)
	}
	everyBusy := func(what string) {
		c := s.dial(t)
		c.send(post("/echo", 5, "") + what)
		if a := c.answer(); a.status != 503 || a.header.Get("Retry-After") == "" || !a.close {
			t.Errorf("%+v", a)
		}
		if rest := c.all(); rest != "" {
			t.Errorf("%q", rest)
		}
	}
	everyBusy("hello")
	c := s.dial(t)
	c.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := c.answer(); a.body != "ok" {
		t.Errorf("%+v", a)
	}
	c.send(get + "\r\n") // on the long way, for the connection is kept
	c.stream("a.b")
	close(s.house.goOn)
	for _, c := range waiting {
		if a := c.answer(); a.body != "went on" {
			t.Errorf("%+v", a)
		}
	}
	eventually(t, "room", func() bool { return s.Stats().InHand == 0 })
	c = waiting[0]
	c.send(post("/echo", 2, "") + "hi")
	if a := c.answer(); a.body != "POST /echo hi" {
		t.Errorf("%+v", a)
	}
	if st := s.Stats(); st.Busy != 1 {
		t.Errorf("%+v", st)
	}
}

// Bodies in hand are bounded together, by what they announce and by what comes of chunked ones.
func TestBodyMemory(t *testing.T) {
	s := start(t, func(o *Options) { o.BodyMemory = 1 << 20 })
	c := s.dial(t)
	c.send(post("/echo", 1<<20, "") + "x")
	eventually(t, "the body to be counted", func() bool { return s.bodies.Load() == 1<<20 })
	other := s.dial(t)
	other.send(post("/echo", freeBody+1, ""))
	if a := other.answer(); a.status != 503 {
		t.Errorf("%+v", a)
	}
	other = s.dial(t)
	go other.Write([]byte(chunkedPost + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 4*freeBody, strings.Repeat("y", 4*freeBody))))
	if a := other.answer(); a.status != 503 || a.header.Get("Retry-After") == "" || !a.close {
		t.Errorf("%+v", a)
	}
	small := s.dial(t)
	small.send(post("/echo", 2, "") + "hi")
	if a := small.answer(); a.body != "POST /echo hi" {
		t.Errorf("%+v", a)
	}
	c.Close()
	eventually(t, "the body to be forgotten", func() bool { return s.bodies.Load() == 0 })
}

// A client that sends on and on while its request is in hand is cut off where netpoll reads, for
// that has no bound. On a first request nobody reads, and the kernel bounds it.
func TestFloodBehindRequestIsBounded(t *testing.T) {
	s := start(t)
	flood := func(c *client) (sent int) {
		c.send(post("/wait", 0, ""))
		<-s.house.waiting
		chunk := make([]byte, 1<<20)
		for sent < 4<<30 {
			c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := c.Write(chunk)
			if sent += n; err != nil {
				return sent
			}
		}
		t.Fatal("took 4 GiB")
		return 0
	}
	sent := flood(s.dial(t))
	t.Logf("first: %d MiB", sent>>20)
	if st := s.Stats(); st.Floods != 0 || st.Open != 1 || sent > 64<<20 {
		t.Errorf("%+v", st)
	}
	sent = flood(ways[2].open(t, s))
	t.Logf("kept: cut after %d MiB", sent>>20)
	close(s.house.goOn)
	eventually(t, "the connection to be cut", func() bool { return s.Stats().Floods > 0 })
}

// Out of descriptors, accept does not spin, keeps what it has, says so once, and goes on when
// there are some again, at every address.
func TestOutOfDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var said saying
	s, path := unixStart(t, func(o *Options) { o.Log, o.Listen = said.logger(), []string{"127.0.0.1:0", o.Listen[0]} })
	c := s.dial(t)
	c.send(post("/echo", 0, ""))
	c.answer()
	var more []*client
	for range 8 {
		more = append(more, s.dial(t), unixClient(t, path))
	}
	low := limit
	low.Cur = uint64(descriptors(t) - 1) // one is of counting them
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore := func() {
		if !restored {
			restored = true
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Error(err)
			}
		}
	}
	defer restore()
	for _, m := range more {
		m.send(get + "\r\n")
	}
	eventually(t, "accept4 to fail", func() bool { return s.Stats().Errors > 0 })
	errorsThen, began := s.Stats().Errors, time.Now()
	for range 20 { // what is there is served meanwhile
		c.send(post("/echo", 2, "") + "hi")
		if a := c.answer(); a.body != "POST /echo hi" {
			t.Fatalf("%+v", a)
		}
	}
	if n := s.Stats().Errors - errorsThen; n > 2+uint64(time.Since(began)/pause) {
		t.Errorf("%d failures of accept4 meanwhile: it spins", n)
	}
	restore()
	for _, m := range more {
		m.stream("a.b")
	}
	if n := said.count("out of descriptors"); n != 1 {
		t.Errorf("said so %d times: %s", n, said.text())
	}
}

// Who may not ask is told so by the head alone: a body that never comes holds no place, no memory
// and no time.
func TestBodyIsJudgedByItsHead(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxRequests = 2 })
	free := func() { // a place is given back after the answer
		eventually(t, "a place", func() bool { return s.Stats().InHand == 0 && s.slow.size() == 0 })
	}
	for _, w := range []way{ways[0], ways[2], ways[3]} {
		for range 3 {
			free()
			c := w.open(t, s)
			c.send(post("/secret", 1<<20, ""))
			if a := c.answer(); a.status != 401 || !a.close || !strings.Contains(a.body, "1048576 bytes of nobody") {
				t.Errorf("%s: %+v", w.name, a)
			}
			c.send(strings.Repeat("x", 1000)) // it is still heard, and dropped
			c.CloseWrite()
			if rest := c.all(); rest != "" {
				t.Errorf("%s: %q", w.name, rest)
			}
			free()
			c = w.open(t, s)
			c.send(strings.Replace(chunkedPost, "/echo", "/secret", 1) + "5\r\nhel")
			if a := c.answer(); a.status != 401 || !strings.Contains(a.body, "-1 bytes of nobody") {
				t.Errorf("%s: %+v", w.name, a)
			}
			free()
			c = w.open(t, s)
			c.send(post("/secret", 1001, "Authorization: x\r\n"))
			if a := c.answer(); a.status != 413 {
				t.Errorf("%s: %+v", w.name, a)
			}
			free()
			c = w.open(t, s)
			c.send(strings.Replace(chunkedPost, "/echo", "/secret", 1)[:len(chunkedPost)] + "Authorization: x\r\n\r\n")
			c.send("3e9\r\n" + strings.Repeat("x", 0x3e9))
			if a := c.answer(); a.status != 413 {
				t.Errorf("%s: chunked: %+v", w.name, a)
			}
		}
	}
	if st := s.Stats(); st.Unadmitted != 18 || s.bodies.Load() != 0 {
		t.Errorf("%+v, %d bytes of bodies", st, s.bodies.Load())
	}
	eventually(t, "all to end", func() bool { return s.Stats().InHand == 0 && s.slow.size() == 0 })
}

// One address has its share of requests whose bodies are still to come, whoever it is; one whose
// body has come takes nothing of it.
func TestSlowBodiesOfOneAddressLeaveRoom(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxRequests = 3 * slowShare })
	var slow []*client
	for range 3 {
		c := s.dial(t)
		c.send(post("/echo", 5, "") + "hel")
		slow = append(slow, c)
	}
	eventually(t, "all to be in hand", func() bool { return s.Stats().InHand == 3 })
	c := s.dial(t)
	c.send(post("/echo", 5, "") + "hel")
	if a := c.answer(); a.status != 429 || !a.close {
		t.Errorf("%+v", a)
	}
	c = s.dial(t)
	c.send(post("/echo", 5, "") + "hello")
	if a := c.answer(); a.body != "POST /echo hello" {
		t.Errorf("%+v", a)
	}
	c = s.dial(t)
	c.send(post("/wait", 1, ""))
	if a := c.answer(); a.status != 429 {
		t.Errorf("%+v", a)
	}
	slow[0].send("lo")
	if a := slow[0].answer(); a.body != "POST /echo hello" {
		t.Errorf("%+v", a)
	}
	c = s.dial(t)
	c.send(post("/wait", 1, ""))
	eventually(t, "it to be in hand", func() bool { return s.Stats().InHand == 3 })
	c.send("x")
	<-s.house.waiting // its body has come, so that it takes nothing of the share
	last := s.dial(t)
	last.send(post("/echo", 5, "") + "hel")
	eventually(t, "the next one to be in hand", func() bool { return s.Stats().InHand == 4 })
	for _, c := range append(slow, last) {
		c.reset()
	}
}

// A body in crumbs ends with its time, however lively its client is.
func TestBodyInCrumbsIsLate(t *testing.T) {
	s := start(t, func(o *Options) { o.BodyTimeout = 100 * time.Millisecond })
	c := s.dial(t)
	c.send(post("/echo", 1000, ""))
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for every := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-every.C:
				c.Write([]byte("x"))
			case <-stop:
				every.Stop()
				return
			}
		}
	}()
	began := time.Now()
	a := c.answer()
	close(stop)
	<-ended
	if took := time.Since(began); a.status != 408 || took < 900*time.Millisecond {
		t.Errorf("%+v after %s", a, took)
	}
}

// A stream that comes from another process counts for its network as it did there.
func TestAddressesCountWhoComesFromElsewhere(t *testing.T) {
	there, here := NewAddresses(), NewAddresses()
	there.enter(7, netip.MustParseAddr("2001:db8::1"), 10)
	ticket := here.Enter(there.Network(there.lift(7)))
	here.enter(5, netip.MustParseAddr("2001:db8::2"), 1)
	if !here.over(5) || here.Len() != 1 {
		t.Errorf("one more of its /64 is not over the limit of 1; %d networks", here.Len())
	}
	here.Leave(ticket)
	here.leave(5)
	if here.Len() != 0 {
		t.Errorf("%d networks are left", here.Len())
	}
}

// size is how many networks have something.
func (s *shares) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.has)
}
