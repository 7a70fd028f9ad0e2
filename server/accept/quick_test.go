package accept

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Small whole requests are answered on the accept thread, one after the other on one connection,
// with the same headers as on the long way.
func TestSmallRequestsAreAnsweredQuickly(t *testing.T) {
	s := start(t)
	long := s.dial(t)
	long.send(post("/echo", 2, "") + "hi")
	want := long.answer()
	c := s.dial(t)
	for i := range 100 {
		body := fmt.Sprint("hi", i)
		c.send(post("/quick", len(body), "") + body)
		a := c.answer()
		if a.body != "POST /quick "+body || a.status != 200 || a.close {
			t.Fatalf("%+v", a)
		}
		for name := range want.header {
			if name != "Content-Length" && name != "Date" && a.header.Get(name) != want.header.Get(name) {
				t.Errorf("header %s is %q, want %q as on the long way", name, a.header.Get(name), want.header.Get(name))
			}
		}
		if len(a.header) != len(want.header) {
			t.Errorf("headers %v, want %v", a.header, want.header)
		}
	}
	if st := s.Stats(); st.Quick != 100 || st.Requests != 101 || st.Long != 1 || st.InHand != 0 {
		t.Errorf("%+v", st)
	}
}

// What is not quick is answered as if nobody had looked: in pieces, several at once, with a last
// word, of an older version, and what asks for something else.
func TestWhatIsNotQuickGoesTheLongWay(t *testing.T) {
	whole := post("/quick", 5, "") + "hello"
	for _, c := range []struct {
		what  string
		sent  []string
		want  []string // the answers' bodies
		close bool     // the last one is the connection's
	}{
		{"a head in pieces", []string{whole[:10], whole[10:40], whole[40:]}, []string{"POST /quick hello"}, false},
		{"a body in pieces", []string{whole[:len(whole)-3], whole[len(whole)-3:]}, []string{"POST /quick hello"}, false},
		{"single bytes", strings.Split(whole, ""), []string{"POST /quick hello"}, false},
		{"two at once", []string{whole + whole}, []string{"POST /quick hello", "POST /quick hello"}, false},
		{"one and a half", []string{whole + whole[:20], whole[20:]}, []string{"POST /quick hello", "POST /quick hello"}, false},
		{"the last one", []string{post("/quick", 2, "Connection: close\r\n") + "hi"}, []string{"POST /quick hi"}, true},
		{"an older version", []string{"POST /quick HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"}, []string{"POST /quick hi"}, true},
		{"in chunks", []string{"POST /quick HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"}, []string{"POST /quick hi"}, false},
		{"a large body", []string{post("/quick", 8000, "") + strings.Repeat("x", 8000)}, []string{"POST /quick " + strings.Repeat("x", 8000)}, false},
		{"another path", []string{post("/echo", 2, "") + "hi"}, []string{"POST /echo hi"}, false},
		{"a GET", []string{"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"}, []string{"ok"}, false},
		{"a mistake in Quick", []string{post("/quick/mistake", 2, "") + "hi"}, []string{"POST /quick/mistake hi"}, false},
	} {
		for _, w := range []way{ways[0], ways[3]} {
			t.Run(w.name+"/"+c.what, func(t *testing.T) {
				s := start(t)
				client := w.open(t, s)
				quick := s.Stats().Quick
				for _, part := range c.sent {
					client.send(part)
				}
				for i, want := range c.want {
					if a := client.answer(); a.body != want || a.close != (c.close && i == len(c.want)-1) {
						t.Errorf("%+v, want %q", a, want)
					}
				}
				if c.close {
					if rest := client.all(); rest != "" {
						t.Errorf("%q behind the last answer", rest)
					}
					return
				}
				// The connection is as good as before.
				client.send(whole)
				if a := client.answer(); a.body != "POST /quick hello" {
					t.Errorf("afterwards: %+v", a)
				}
				if n := s.Stats().Quick - quick; len(c.sent) == 1 && len(c.want) == 1 && n > 1 {
					t.Errorf("%d quick answers, want at most that of the last request", n)
				}
			})
		}
	}
}

// A connection whose request has to wait goes to a goroutine for that one, and comes back.
func TestConnectionComesBackFromTheLongWay(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	for round := range uint64(3) {
		for _, waits := range []bool{true, false} {
			s.house.waits.Store(waits)
			c.send(post("/quick", 2, "") + "hi")
			if a := c.answer(); a.body != "POST /quick hi" {
				t.Fatalf("%+v", a)
			}
		}
		if st := s.Stats(); st.Long != round+1 || st.Quick != round+1 || st.Open != 1 {
			t.Fatalf("round %d: %+v", round, st)
		}
	}
	// It may also become a stream from there.
	c.send("GET /events/a.b HTTP/1.1\r\nHost: a\r\n\r\n")
	c.stream("a.b")
}

// A quick connection that says nothing more is closed after its time, one that its client closes
// at once.
func TestIdleQuickConnectionsEnd(t *testing.T) {
	s := start(t, func(o *Options) { o.IdleTimeout = 50 * time.Millisecond })
	c := ways[3].open(t, s)
	if rest := c.all(); rest != "" {
		t.Errorf("%q", rest)
	}
	eventually(t, "it to be forgotten", func() bool { return s.Stats().Open == 0 })

	s = start(t)
	ways[3].open(t, s).Close()
	eventually(t, "it to be forgotten", func() bool { return s.Stats().Open == 0 })
}

// A drain ends quick connections between requests, and one that comes back after it.
func TestDrainEndsQuickConnections(t *testing.T) {
	s := start(t)
	idle, busy := ways[3].open(t, s), ways[3].open(t, s)
	busy.send(post("/wait", 0, ""))
	<-s.house.waiting
	s.Drain()
	if rest := idle.all(); rest != "" {
		t.Errorf("%q", rest)
	}
	close(s.house.goOn)
	if a := busy.answer(); a.body != "went on" || !a.close {
		t.Errorf("%+v", a)
	}
	if rest := busy.all(); rest != "" {
		t.Errorf("%q", rest)
	}
}

// Many at once are all answered, whoever does it.
func TestManyQuickConnectionsAtOnce(t *testing.T) {
	s := start(t)
	var all sync.WaitGroup
	for i := range 4 * quickMost {
		c := s.dial(t)
		all.Go(func() {
			for n := range 20 {
				body := fmt.Sprint(i, " ", n)
				c.send(post("/quick", len(body), "") + body)
				if a := c.answer(); a.body != "POST /quick "+body {
					t.Errorf("%+v, want %s", a, body)
					return
				}
			}
		})
	}
	all.Wait()
	if st := s.Stats(); st.Requests != 4*quickMost*20 || st.Open != 4*quickMost {
		t.Errorf("%+v", st)
	}
}
