package fanout

// Shards with real threads, epoll sets and sockets.

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"penstock/encode"
	"penstock/server/topic"
)

// The model's histories are the same in each run, so that a change is judged and not
// the dice; -rapid.seed=N -rapid.checks=20000 looks elsewhere.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.seed"); f != nil && f.Value.String() == "0" {
		f.Value.Set("1")
	}
	if err := startNetpoll(); err != nil { // which opens descriptors once, and tests count them
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// A real is shards on real sockets.
type real struct {
	seq    *topic.Sequencer
	shards *Shards
}

func newReal(t testing.TB, shards int, change ...func(*Options)) *real {
	t.Helper()
	seq, err := topic.New(topic.Options{RingSize: 4 << 20, MaxEventSize: 64 << 10, MaxTopics: 1000, Keep: 1, KeepSize: 1 << 20, PublishWait: 10 * time.Second, MaxWaiting: 64})
	if err != nil {
		t.Fatal(err)
	}
	o := realOptions(seq, shards)
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &real{seq, s}
	t.Cleanup(func() {
		s.Drain(0, nil)
		s.Close()
	})
	return r
}

func realOptions(seq *topic.Sequencer, shards int) Options {
	return Options{Shards: shards, Sequencer: seq, Heartbeat: 15 * time.Second, FlushInterval: 10 * time.Millisecond,
		FlushMaxBytes: 64 << 10, LagMemory: 16 << 20, RetryMin: time.Second, RetryMax: 2 * time.Second, CompressShare: 2, CompressLevel: encode.Best}
}

// join makes a stream and returns the client's end, behind the response header.
func (r *real) join(t testing.TB, sub *Subscription) (net.Conn, io.Reader) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.SetNonblock(fds[0], true)
	f := os.NewFile(uintptr(fds[1]), "client")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.shards.Join(fds[0], sub); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("response %v", resp)
	}
	return conn, resp.Body
}

// events reads n events and returns their data.
func events(t testing.TB, body io.Reader, n int) (data []string, lastID uint64) {
	t.Helper()
	var d encode.Decoder
	buf := make([]byte, 32<<10)
	for len(data) < n {
		k, err := body.Read(buf)
		if derr := d.Decode(buf[:k], func(e *encode.Decoded) {
			if e.HasData {
				data = append(data, string(e.Data))
				id, err := encode.ParseID(e.ID)
				if err != nil || id <= lastID {
					t.Errorf("id %q after %d", e.ID, lastID)
				}
				lastID = id
			}
		}); derr != nil {
			t.Fatal(derr)
		}
		if err != nil && len(data) < n {
			t.Fatalf("after %d of %d events: %v", len(data), n, err)
		}
	}
	return data, lastID
}

// Whatever shard a subscriber is on, it has every event of its topics once and
// in order, from several publishers.
func TestEveryShardDeliversInOrder(t *testing.T) {
	r := newReal(t, 3)
	const subscribers, publishers, each = 30, 4, 200
	bodies := make([]io.Reader, subscribers)
	for i := range bodies {
		_, bodies[i] = r.join(t, &Subscription{Topics: []string{"a", "b"}, HTTP10: i%2 == 0})
	}
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if _, err := r.seq.Publish(&topic.Publication{Topic: string(rune('a' + i%2)), Event: encode.Event{Data: fmt.Appendf(nil, "%d %d", p, i)}}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for i, body := range bodies {
		data, _ := events(t, body, publishers*each)
		next := [publishers]int{}
		for _, s := range data {
			var p, n int
			fmt.Sscan(s, &p, &n)
			if n != next[p] {
				t.Fatalf("subscriber %d: %d of publisher %d, want %d", i, n, p, next[p])
			}
			next[p]++
		}
	}
	wg.Wait()
}

// A stream whose client hangs up leaves, on both kinds of hang-up, and its
// descriptor with it.
func TestHungUpStreamsLeave(t *testing.T) {
	r := newReal(t, 2)
	for i := range 20 {
		conn, _ := r.join(t, &Subscription{Topics: []string{"a"}})
		if i%2 == 0 {
			conn.Close()
		} else {
			conn.(*net.UnixConn).CloseWrite()
		}
	}
	wait(t, "no streams", func() bool { return r.shards.Streams() == 0 })
	gone := uint64(0)
	for _, s := range r.shards.Stats() {
		gone += s.Disconnects[ClientGone] + s.Disconnects[SendFailed]
		if s.Audiences != 0 {
			t.Errorf("%d audiences without members", s.Audiences)
		}
	}
	if gone != 20 {
		t.Errorf("%d disconnects counted, want 20", gone)
	}
}

// A reader that stops reading loses nothing that the ring still holds, and
// costs no bytes.
func TestSlowReaderIsCaughtUp(t *testing.T) {
	r := newReal(t, 1)
	_, body := r.join(t, &Subscription{Topics: []string{"a"}})
	_, quick := r.join(t, &Subscription{Topics: []string{"a"}})
	const n = 1000
	big := bytes.Repeat([]byte("x"), 2000)
	for range n {
		if _, err := r.seq.Publish(&topic.Publication{Topic: "a", Event: encode.Event{Data: big}}); err != nil {
			t.Fatal(err)
		}
	}
	events(t, quick, n)
	wait(t, "one lags", func() bool { return r.shards.Stats()[0].Lagging >= 1 })
	if l := r.shards.Laggards(10); len(l) != 1 || l[0].Lag == 0 || l[0].Topics[0] != "a" {
		t.Errorf("laggards %+v, want the one that does not read", l)
	}
	data, _ := events(t, body, n)
	if len(data) != n {
		t.Errorf("%d events, want %d", len(data), n)
	}
	wait(t, "none lags", func() bool { return r.shards.Stats()[0].Lagging == 0 })
}

// Drained streams end with the last chunk; new ones are refused.
func TestDrainEndsStreams(t *testing.T) {
	r := newReal(t, 2)
	var bodies []io.Reader
	for range 10 {
		_, body := r.join(t, &Subscription{Topics: []string{"a"}})
		bodies = append(bodies, body)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, body := range bodies {
			if _, err := io.Copy(io.Discard, body); err != nil {
				t.Errorf("stream ended by %v, want its last chunk", err)
			}
		}
	}()
	r.shards.Drain(20*time.Millisecond, nil)
	<-done
	if err := r.shards.Join(-1, &Subscription{Topics: []string{"a"}}); err != ErrDraining {
		t.Errorf("Join after Drain: %v, want ErrDraining", err)
	}
}

// wait waits until something holds.
func wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("waited 10 s: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// A topic's subscribers are streams, however many of them share an audience.
func TestTopicCountsItsStreams(t *testing.T) {
	r := newReal(t, 2)
	var conns []net.Conn
	for i := range 6 {
		topics := []string{"a"}
		if i == 0 {
			topics = []string{"a", "b"}
		}
		conn, _ := r.join(t, &Subscription{Topics: topics})
		conns = append(conns, conn)
	}
	subscribers := func(name string) int {
		if tp, ok := r.seq.Table().Lookup(name); ok {
			return tp.Subscribers()
		}
		return 0
	}
	if a, b := subscribers("a"), subscribers("b"); a != 6 || b != 1 {
		t.Errorf("%d of a, %d of b; want 6 and 1", a, b)
	}
	for _, conn := range conns[1:] {
		conn.Close()
	}
	wait(t, "one of a, one of b", func() bool { return subscribers("a") == 1 && subscribers("b") == 1 })
	conns[0].Close()
	wait(t, "no topic", func() bool { return r.seq.Table().Len() == 0 })
}
