package accept

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// saying is a log that a test reads.
type saying struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *saying) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *saying) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func (s *saying) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *saying) count(what string) int { return strings.Count(s.text(), what) }

// While it drains, the port stays open, connections end with the request in hand, and idle ones
// at once.
func TestDrain(t *testing.T) {
	s := start(t)
	idle, half, busy := s.dial(t), s.dial(t), s.dial(t)
	idle.send(post("/echo", 0, ""))
	idle.answer()
	half.send("POST /echo HTTP/1.1\r\nHost: a\r\n")
	busy.send(post("/wait", 0, ""))
	<-s.house.waiting
	s.Drain()
	if rest := idle.all(); rest != "" {
		t.Errorf("%q", rest)
	}
	half.send("Content-Length: 2\r\n\r\nhi")
	if a := half.answer(); a.body != "POST /echo hi" || !a.close {
		t.Errorf("%+v", a)
	}
	half.all()
	close(s.house.goOn)
	if a := busy.answer(); a.body != "went on" || !a.close {
		t.Errorf("%+v", a)
	}
	busy.all()
	c := s.dial(t)
	c.send(get + "\r\n")
	c.stream("a.b")
}

// Close ends what waits, lets requests in hand end, and gives the port back.
func TestCloseWaitsForRequests(t *testing.T) {
	s := start(t)
	idle, half, waiting, busy := s.dial(t), s.dial(t), s.dial(t), s.dial(t)
	idle.send(post("/echo", 0, ""))
	idle.answer()
	half.send("GET /events/a")
	waiting.send("P")
	busy.send(post("/wait", 0, ""))
	<-s.house.waiting
	stream := s.dial(t)
	stream.send(get + "\r\n")
	stream.stream("a.b")
	eventually(t, "both to wait", func() bool { return s.Stats().Waiting == 2 })

	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	for _, c := range []*client{idle, half, waiting} {
		if _, err := io.ReadAll(c.r); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%v", err)
		}
	}
	eventually(t, "the port to be closed", func() bool {
		c, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-closed:
		t.Fatal("Close has not waited for the request in hand")
	default:
	}
	close(s.house.goOn)
	if a := busy.answer(); a.body != "went on" || !a.close {
		t.Errorf("%+v", a)
	}
	busy.Close()
	<-closed
	stream.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := stream.r.ReadByte(); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the stream did not live on: %v", err)
	}
}

// A handler that does not return holds Close up to its limit only.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	s := start(t, func(o *Options) { o.CloseTimeout = 20 * time.Millisecond })
	c := s.dial(t)
	c.send(post("/wait", 0, ""))
	<-s.house.waiting
	s.Close()
	if st := s.Stats(); st.InHand != 1 {
		t.Errorf("%+v", st)
	}
	close(s.house.goOn)
	eventually(t, "the handler's socket to be closed", func() bool { return s.Stats().Open == 0 && s.Stats().InHand == 0 })
}

// Close may be called twice, and Drain after it.
func TestCloseTwice(t *testing.T) {
	s := start(t)
	s.Close()
	s.Close()
	s.Drain()
}

// An address that can't be listened on is an error that names it.
func TestListenErrors(t *testing.T) {
	s := start(t)
	for _, at := range []string{s.Addr().String(), "127.0.0.1", "127.0.0.1:99999", "203.0.113.1:0"} {
		a, err := Listen(Options{Listen: []string{at}, Handler: newHouse()})
		if err == nil {
			a.Close()
			t.Errorf("%s: listens", at)
			continue
		}
		if !strings.Contains(err.Error(), "listen on "+at) || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// Two Acceptors live side by side, each with its Handler.
func TestTwoAcceptors(t *testing.T) {
	s, admin := start(t), start(t, func(o *Options) { o.Shards = nil })
	c := s.dial(t)
	c.send(get + "\r\n")
	c.stream("a.b")
	d := admin.dial(t)
	d.send(post("/echo", 2, "") + "hi")
	if a := d.answer(); a.body != "POST /echo hi" {
		t.Errorf("%+v", a)
	}
	s.Close()
	d.send(post("/echo", 2, "") + "ho")
	if a := d.answer(); a.body != "POST /echo ho" {
		t.Errorf("%+v", a)
	}
}

// What netpoll says by itself goes to the log, for those who debug.
func TestNetpollSpeaksToTheLog(t *testing.T) {
	var said saying
	start(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	logs.Write([]byte("NETPOLL: something\n"))
	if said.count("level=DEBUG msg=netpoll line=\"NETPOLL: something\"") != 1 {
		t.Errorf("the log has %q", said.text())
	}
}
