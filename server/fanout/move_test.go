package fanout

// Moving to other shards with real sockets, threads and epoll sets; the other process is this one.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"penstock/encode"
	"penstock/server/topic"
)

// next is a real that has taken over from r: everything, its sockets by messages. With room each
// shard has a table of its own, for so many streams.
func (r *real) next(t *testing.T, shards, room int) *real {
	t.Helper()
	if err := r.seq.Freeze(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	st, err := r.shards.Freeze(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	past, streams := new(topic.State), new(State)
	through(t, r.seq.Export(), past)
	through(t, st, streams)

	seq, err := topic.New(topic.Options{RingSize: 4 << 20, MaxEventSize: 64 << 10, MaxTopics: 1000, Keep: 1, KeepSize: 1 << 20, MaxWaiting: 64,
		Past: past, Ring: copyOf(t, r.seq.Ring())})
	if err != nil {
		t.Fatal(err)
	}
	o := realOptions(seq, shards)
	o.Frozen = true
	until := time.Now().Add(10 * time.Second)
	pair := pairOf(t, unix.SOCK_SEQPACKET)
	rooms, doors := Rooms{Each: []int{streams.Streams()}, Abreast: 1}, pair[:1]
	if room > 0 {
		tables(room)(&o)
		rooms, doors = o.Tables.Rooms(2), o.Tables.Doors()
	}
	portions, err := st.Portions(&rooms)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error)
	go func() { sent <- r.shards.Give(st, portions, doors, until) }()
	var sockets []int32
	if room > 0 {
		sockets, err = o.Tables.Receive(portions, until)
	} else {
		sockets, err = ReceiveSockets(int(pair[1]), streams.Streams(), until)
	}
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &real{seq, s}
	t.Cleanup(func() {
		s.Drain(0, nil)
		s.Close()
	})
	if err := seq.Load(past); err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt(streams, portions, sockets); err != nil {
		t.Fatal(err)
	}
	seq.Settle()
	r.shards.LetGo()
	s.Thaw()
	return n
}

// Streams go on at other shards, more or fewer, while publishers publish: each event arrives once
// and in order, and the ends of compressed streams are right.
func TestStreamsGoOnElsewhere(t *testing.T) {
	r := newReal(t, 2)
	const each = 3000
	type reader struct {
		body io.Reader
		sub  *Subscription
	}
	var readers []reader
	for i := range 24 {
		sub := &Subscription{Topics: []string{"a"}, HTTP10: i%5 == 0}
		if i%2 == 1 {
			sub.Coding = encode.Gzip
		}
		if i%3 == 2 {
			p, _ := topic.ParsePattern("*")
			sub.Topics, sub.Patterns = nil, []topic.Pattern{p}
		}
		if i%4 == 3 {
			sub.Interval = 20 * time.Millisecond
		}
		_, body := r.join(t, sub)
		readers = append(readers, reader{body, sub})
	}
	moved := make(chan struct{})
	var at atomic.Pointer[real]
	at.Store(r)
	var published atomic.Int64
	var all, have sync.WaitGroup
	have.Add(len(readers))
	all.Go(func() {
		for i := 0; i < each; {
			n := at.Load()
			_, err := n.seq.Publish(&topic.Publication{Topic: "a", Event: encode.Event{Data: fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte("x"), i%997))}})
			switch {
			case err == nil:
				i++
				published.Store(int64(i))
			case errors.Is(err, topic.ErrDraining): // it has moved
			default:
				t.Error(err)
				return
			}
		}
		have.Wait() // the last bytes of a stream do not wait for room in its socket
		at.Load().seq.End("a")
	})
	for i, rd := range readers {
		all.Go(func() {
			body, has := rd.body, sync.OnceFunc(have.Done)
			defer has()
			if rd.sub.Coding == encode.Gzip {
				z, err := gzip.NewReader(body)
				if err != nil {
					t.Error(err)
					return
				}
				body = z
			}
			if i%3 != 1 && i%2 == 0 {
				<-moved // so that some lag
			}
			data, _ := events(t, body, each)
			for j, s := range data[:each] { // the end comes after them
				var n int
				if fmt.Sscan(s, &n); n != j {
					t.Errorf("reader %d: event %d where %d is due", i, n, j)
					return
				}
			}
			has()
			if rd.sub.Patterns == nil {
				if _, err := io.Copy(io.Discard, body); err != nil { // the trailer is looked at
					t.Errorf("reader %d: its stream ended with %v", i, err)
				}
			}
		})
	}
	moves := []struct{ shards, room int }{{3, 0}, {1, 0}, {2, 0}, {2, 0}, {3, 12}, {3, 12}, {5, 7}, {2, 100}, {1, 0}, {4, 8}}
	for i, to := range moves {
		wait(t, "more is published", func() bool { return published.Load() >= int64((i+1)*each/(len(moves)+2)) })
		n := at.Load().next(t, to.shards, to.room)
		old := at.Swap(n)
		old.seq.Drain()
		if n := old.shards.Streams(); n != 0 {
			t.Errorf("%d streams are left behind", n)
		}
	}
	close(moved)
	all.Wait()
}

// Shards that were frozen and thawed have everything, and told what happened meanwhile: who has
// hung up leaves, who came joins, who takes bytes again gets them.
func TestThawedShardsGoOn(t *testing.T) {
	r := newReal(t, 2)
	_, body := r.join(t, &Subscription{Topics: []string{"a"}})
	gone, _ := r.join(t, &Subscription{Topics: []string{"a"}})
	_, slow := r.join(t, &Subscription{Topics: []string{"a"}})
	big := bytes.Repeat([]byte("x"), 50<<10)
	for range 40 {
		if _, err := r.seq.Publish(&topic.Publication{Topic: "a", Event: encode.Event{Data: big}}); err != nil {
			t.Fatal(err)
		}
		events(t, body, 1)
	}
	for range 3 {
		if err := r.seq.Freeze(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := r.shards.Freeze(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		gone.Close()
		joined := make(chan io.Reader)
		go func() {
			_, body := r.join(t, &Subscription{Topics: []string{"a"}})
			joined <- body
		}()
		select {
		case <-joined:
			t.Error("served while frozen")
		case <-time.After(5 * time.Millisecond):
		}
		r.shards.Thaw()
		r.seq.Thaw()
		<-joined
	}
	if data, _ := events(t, slow, 40); len(data) != 40 {
		t.Errorf("%d events", len(data))
	}
	wait(t, "the one who hung up has left", func() bool { return r.shards.Streams() == 5 })
}

// Sockets that can't be sent or received in time, or whose other end has gone, are an error, and
// leave nothing open.
func TestSocketsThatDoNotArrive(t *testing.T) {
	pair := pairOf(t, unix.SOCK_SEQPACKET)
	soon := func() time.Time { return time.Now().Add(20 * time.Millisecond) }
	fds := make([]int32, 100_000)
	for i := range fds {
		fds[i] = pair[0]
	}
	if err := sendSockets(pair[0], 0, fds, soon()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("sent to one who does not receive: %v", err)
	}
	before := openFiles(t)
	if _, err := ReceiveSockets(int(pair[1]), len(fds), soon()); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.EMFILE) {
		t.Errorf("received from one who does not send all: %v", err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, there were %d", after, before)
	}
	other := pairOf(t, unix.SOCK_SEQPACKET)
	unix.Shutdown(int(other[0]), unix.SHUT_WR)
	if _, err := ReceiveSockets(int(other[1]), 1, soon()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("received from one who has gone: %v", err)
	}
	if err := sendSockets(other[0], 0, fds, soon()); err == nil {
		t.Error("sent to nobody")
	}
	for _, first := range []int{-1, 5, 1 << 40} {
		odd := pairOf(t, unix.SOCK_SEQPACKET)
		if err := sendSockets(odd[0], first, fds[:2], soon()); err != nil {
			t.Fatal(err)
		}
		if _, err := ReceiveSockets(int(odd[1]), 6, soon()); err == nil {
			t.Errorf("sockets from %d on are taken for some of 6", first)
		}
	}
	if after := openFiles(t); after != before+8 {
		t.Errorf("%d descriptors are open, want %d", after, before+8)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
