package accept

import (
	"bytes"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"penstock/server/handover"
)

// The parts of heads that have come are bounded together: who is one too many is told so, and the
// others go on.
func TestHalfHeadsShareTheirMemory(t *testing.T) {
	s := start(t)
	first := s.dial(t)
	first.send("GET /events/a.b HTTP/1.1\r\nHo")
	eventually(t, "the half head to be held", func() bool { return s.held.Load() > 0 })
	s.held.Add(heldMost) // as if others held it all
	second := s.dial(t)
	second.send("GET /events/a.b HTTP/1.1\r\nHo")
	if a := second.answer(); a.status != 503 || !a.close {
		t.Errorf("one too many: %+v", a)
	}
	s.held.Add(-heldMost)
	first.send("st: a\r\n\r\n")
	first.stream("a.b")
	if n := s.held.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

// Part of a head moves to another process with its connection, and the rest is waited for there.
func TestHalfHeadMoves(t *testing.T) {
	s := start(t)
	clients := []*client{s.dial(t), s.dial(t), s.dial(t)}
	for i, part := range []string{"GET /events/a.b HTTP/1.1\r\nHost", "G", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"} {
		clients[i].send(part)
		eventually(t, "part of a head to be held", func() bool { return s.Stats().Waiting == int64(i+1) && s.held.Load() > 0 })
	}
	s.Freeze()
	moved := s.Moved()
	if len(moved.Connections) != len(clients) || len(moved.Doors) != 1 {
		t.Fatalf("%d connections and %d listening sockets move", len(moved.Connections), len(moved.Doors))
	}
	var wire bytes.Buffer
	w := handover.NewWriter(&wire)
	moved.Code(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	var came Moved
	r := handover.NewReader(&wire)
	if came.Code(r); r.Err() != nil {
		t.Fatal(r.Err())
	}
	// Descriptors go their own way.
	for i := range came.Connections {
		came.Connections[i].FD = int32(dup(t, moved.Connections[i].FD))
	}
	came.Doors[0].FD = int32(dup(t, moved.Doors[0].FD))
	there, err := Listen(Options{
		Listen: s.o.Listen, Handler: s.house, Shards: s.shards, Doors: came.Doors, Frozen: true,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	there.Adopt(came.Connections)
	s.LetGo()
	clients[1].send("ET /events/a.b HTTP/1.1\r\nHost: a\r\n\r\n") // comes while nobody looks
	there.Thaw()
	clients[1].stream("a.b")
	clients[0].send(": a\r\n\r\n")
	clients[0].stream("a.b")
	clients[2].send("\r\nfirst")
	if a := clients[2].answer(); a.status != 200 || a.body != "POST /echo first" {
		t.Errorf("answer: %+v", a)
	}
	eventually(t, "nothing to be held", func() bool { return there.held.Load() == 0 })
}

// Part of a head is less than the short way takes: more is an error.
func TestHalfHeadThatIsTooLongDoesNotMove(t *testing.T) {
	m := Moved{Connections: []MovedConnection{{Half: make([]byte, shortMost)}}}
	var wire bytes.Buffer
	w := handover.NewWriter(&wire)
	m.Code(w)
	if err := w.Flush(); err == nil {
		t.Error("no error")
	}
}

func dup(t *testing.T, fd int32) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
