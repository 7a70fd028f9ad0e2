package accept

import (
	"testing"
	"time"
)

// After a round that brought a crowd, and left nobody waiting, the thread lets the next ones gather: for
// gatherTimes as long as the round took, gatherMost at the most. Then they are served.
func TestCrowdIsLeftToGather(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		about string
		came  int
		more  bool
		took  time.Duration
		rest  time.Duration
	}{
		{"one", 1, false, 100 * time.Microsecond, 0},
		{"nearly a crowd", gatherFrom - 1, false, 100 * time.Microsecond, 0},
		{"a crowd, and more wait", acceptMost, true, 100 * time.Microsecond, 0},
		{"a crowd", gatherFrom, false, 50 * time.Microsecond, gatherTimes * 50 * time.Microsecond},
		{"a crowd that took long", acceptMost, false, 10 * time.Millisecond, gatherMost},
	} {
		s.ask(func() {
			before := s.clock()
			s.came, s.more, s.now = c.came, c.more, before-int64(c.took)
			s.gather()
			after := s.clock()
			if c.rest == 0 {
				if s.resumeAt != 0 {
					t.Errorf("%s: rests", c.about)
				}
				return
			}
			// The round has lasted from s.now to somewhere between before and after.
			slack := (1 + gatherTimes) * (after - before)
			if rest := s.resumeAt - before; rest < int64(c.rest) || rest > int64(c.rest)+slack {
				t.Errorf("%s: rests for %s, want %s", c.about, time.Duration(rest), c.rest)
			}
			s.came = 0
		})
		client := s.dial(t)
		client.send(get + "\r\n")
		client.stream("a.b")
	}
}

// While a crowd gathers, connections that are in are answered.
func TestGatheringHoldsUpNobodyWhoIsIn(t *testing.T) {
	s := start(t)
	in := s.dial(t)
	in.send("POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
	in.answer()
	s.ask(func() { s.pauseUntil(s.clock() + int64(time.Hour)) })
	in.send("POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n2")
	if a := in.answer(); a.body != "POST /quick 2" {
		t.Errorf("answer: %+v", a)
	}
	s.ask(func() { s.resumeAt = s.now })
	later := s.dial(t)
	later.send(get + "\r\n")
	later.stream("a.b")
}
