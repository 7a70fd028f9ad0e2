package accept

import (
	"strings"
	"testing"
)

const get = "GET /events/a.b HTTP/1.1\r\nHost: localhost\r\n"

// A plain GET becomes a stream, whichever way it comes.
func TestStreamBeginsOnEveryWay(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		c.send(get + w.pad + "\r\n")
		c.stream("a.b")
		eventually(t, "accept to let go of the stream", func() bool { return s.Stats().Open == 0 })
		st := s.Stats()
		if w.name == "short" && (st.ShortStreams != 1 || st.Short != 1 || st.Long != 0) {
			t.Errorf("took another way: %+v", st)
		}
		if w.name != "short" && (st.LongStreams != 1 || st.Short != 0 || st.Long != 1) {
			t.Errorf("took another way: %+v", st)
		}
	})
}

// What a client sends behind the head of a stream does not wait in its socket: it would make the
// stream's end a reset.
func TestBytesBehindStreamHeadAreDropped(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		c.send(get + w.pad + "\r\n" + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + strings.Repeat("x", 10000))
		c.stream("a.b")
		if n := s.shards.unread(); n != 0 {
			t.Errorf("%d bytes wait in the stream's socket", n)
		}
		if st := s.Stats(); !w.kept && st.Requests > 1 {
			t.Errorf("what follows a stream was taken for a request: %+v", st)
		}
	})
}

// One byte at a time is as good as all at once.
func TestStreamFromSingleBytes(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		for _, b := range []byte(get + "X-Pad: more\r\n\r\n") {
			c.send(string(b))
		}
		c.stream("a.b")
	})
}

// A head in pieces waits without a goroutine, and goes the short way once it is whole.
func TestHeadInPiecesGoesTheShortWay(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	c.send(get)
	eventually(t, "the head to wait", func() bool { return s.Stats().Waiting == 1 })
	c.send("\r\n")
	c.stream("a.b")
	eventually(t, "the short way to end", func() bool { st := s.Stats(); return st.ShortStreams == 1 && st.Waiting == 0 })
}

// A head that grows over what the short way takes goes on the long one.
func TestHeadInPiecesGrowsIntoTheLongWay(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	c.send(get)
	eventually(t, "the head to wait", func() bool { return s.Stats().Waiting == 1 })
	c.send("X-Pad: " + strings.Repeat("p", shortMost) + "\r\n")
	eventually(t, "the long way", func() bool { return s.Stats().Long == 1 })
	c.send("X-More: 1\r\n")
	c.send("\r\n")
	c.stream("a.b")
	eventually(t, "the long way to end", func() bool { st := s.Stats(); return st.LongStreams == 1 && st.Waiting == 0 })
}

// A stream may follow requests on a connection, all of them sent at once.
func TestPipelinedStreamFollowsPublish(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	c.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none" +
		"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n" +
		get + "\r\n")
	for _, want := range []string{"one", "two"} {
		if a := c.answer(); a.body != "POST /echo "+want {
			t.Fatalf("got %+v, want %s", a, want)
		}
	}
	c.stream("a.b")
}

// HEAD and errors are answered alike, and the connection ends cleanly.
func TestAnswersOfStreamPathsAreAlike(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		c.send("GET /events/refused HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + w.pad + "\r\n")
		if a := c.answer(); a.status != 404 || !strings.Contains(a.body, "no such topic") || !a.close {
			t.Errorf("%+v", a)
		}
		if rest := c.all(); rest != "" {
			t.Errorf("after the answer: %q", rest)
		}
		c = w.open(t, s)
		c.send("HEAD /events/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + w.pad + "\r\n")
		got := c.all()
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\n") || !strings.Contains(got, "text/event-stream") {
			t.Errorf("HEAD: %q", got)
		}
		if s.shards.Streams() != 0 {
			t.Error("HEAD made a stream")
		}
	})
}

// A client that half-closes after its request becomes a stream all the same: the shard decides.
func TestHalfClosedStreamReachesTheShard(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		c.send(get + w.pad + "\r\n")
		c.CloseWrite()
		c.stream("a.b")
	})
}

// A stream that no shard takes ends so that an EventSource comes back: on the short way with the
// Handler's word, on the long way without any.
func TestStreamThatNoShardTakes(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		s.shards.mu.Lock()
		s.shards.draining = true
		s.shards.mu.Unlock()
		c.send(get + "Accept: text/event-stream\r\n" + w.pad + "\r\n")
		got := c.all()
		if w.name == "short" && !strings.Contains(got, "retry: 4000") || w.name != "short" && got != "" {
			t.Errorf("got %q", got)
		}
		c.Close()
		eventually(t, "the socket to be closed", func() bool { return s.Stats().Open == 0 })
		if st := s.Stats(); st.Unjoined != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// The client's address is the socket's, on both ways.
func TestRemoteIsTheClient(t *testing.T) {
	everyWay(t, func(t *testing.T, s *server, w way) {
		c := w.open(t, s)
		c.send(get + w.pad + "\r\n")
		c.stream("a.b")
		s.house.mu.Lock()
		defer s.house.mu.Unlock()
		for _, r := range s.house.froms {
			if r.Remote.String() != c.LocalAddr().String() {
				t.Errorf("remote %s, want %s", r.Remote, c.LocalAddr())
			}
		}
	})
}

// IPv6, and IPv4 through a listener of both, have their right addresses.
func TestRemoteOverIPv6(t *testing.T) {
	s := start(t, func(o *Options) { o.Listen = []string{"[::]:0"} })
	port := s.Addr().String()[strings.LastIndex(s.Addr().String(), ":"):]
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		c := dial(t, addr(host+port))
		c.send(get + "\r\n")
		c.stream("a.b")
		s.house.mu.Lock()
		r := s.house.froms[len(s.house.froms)-1].Remote
		s.house.mu.Unlock()
		if r.String() != c.LocalAddr().String() {
			t.Errorf("remote %s, want %s", r, c.LocalAddr())
		}
	}
}

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
