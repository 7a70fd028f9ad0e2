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
	t.Run("one-table", func(t *testing.T) { thaws(t, newReal(t, 2)) })
	t.Run("tables", func(t *testing.T) { thaws(t, newReal(t, 2, tables(20))) })
}

func thaws(t *testing.T, r *real) {
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

// Where sockets can't all be given, because a table over there is full or nobody takes them any more,
// it is an error on both sides, nothing is left open over there, and the shards go on with all of
// them: those that were sent and those that were not.
func TestSocketsThatAreNotTakenStay(t *testing.T) {
	const streams = 300
	for _, tt := range []struct {
		name  string
		rooms func(*Rooms)
		stop  bool // the receiver gives up
	}{
		{"a table is full", func(r *Rooms) { r.Each[1] = streams }, false},
		{"nobody takes them", func(r *Rooms) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReal(t, 2, tables(streams))
			pair := pairOf(t, unix.SOCK_STREAM) // all streams but two write into it, and nobody reads
			_, first := r.join(t, &Subscription{Topics: []string{"a"}})
			for range streams - 2 {
				if err := r.shards.Join(dup(t, int(pair[0])), &Subscription{Topics: []string{"b"}}); err != nil {
					t.Fatal(err)
				}
			}
			_, last := r.join(t, &Subscription{Topics: []string{"a"}})
			wait(t, "all have joined", func() bool {
				all := r.shards.Stats()
				return all[0].Joins+all[1].Joins == streams
			})
			before := r.descriptors(t)
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := r.seq.Freeze(10 * time.Second); err != nil {
					t.Fatal(err)
				}
				st, err := r.shards.Freeze(10 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				there, err := NewTables(3, streams)
				if err != nil {
					t.Fatal(err)
				}
				rooms := there.Rooms(1)
				rooms.Each[0] = 100
				tt.rooms(&rooms)
				portions, err := st.Portions(&rooms)
				if err != nil {
					t.Fatal(err)
				}
				until := time.Now().Add(10 * time.Second)
				sent := make(chan error)
				go func() { sent <- r.shards.Give(st, portions, there.Doors(), until) }()
				if tt.stop {
					there.Abort()
					err = <-sent
				} else {
					lower := limit
					lower.Cur = uint64(limitFor(t, there.threads[1].system.pair.thread, 170)) // and the old ones, with 150, can be lent a door
					if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
						t.Fatal(err)
					}
					_, err = there.Receive(portions, until)
					unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
					if !errors.Is(err, syscall.EMFILE) {
						t.Errorf("received in a full table: %v", err)
					}
					<-sent // they fit into what is on its way
				}
				if err == nil {
					t.Error("all were given")
				}
				there.Close()
				r.shards.Thaw()
				r.seq.Thaw()
				if _, err := r.seq.Publish(&topic.Publication{Topic: "a", Event: encode.Event{Data: []byte("x")}}); err != nil {
					t.Fatal(err)
				}
				events(t, first, 1)
				events(t, last, 1)
				wait(t, "nothing is open that was not", func() bool { return r.descriptors(t) == before })
			}
			if n := r.shards.Streams(); n != streams {
				t.Errorf("%d streams, want %d", n, streams)
			}
		})
	}
}

// Who joins shards that then let go is closed without an answer, whether its socket has come to the
// shard's table, is on its way or waits for that; nothing is left of it.
func TestJoinersOfShardsThatLetGoAreClosed(t *testing.T) {
	for _, kind := range []struct {
		name   string
		change []func(*Options)
	}{{"one-table", nil}, {"tables", []func(*Options){tables(100)}}} {
		t.Run(kind.name, func(t *testing.T) {
			r := newReal(t, 2, kind.change...)
			before := r.descriptors(t)
			if err := r.seq.Freeze(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			if _, err := r.shards.Freeze(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			var clients []int
			for i := range 40 {
				p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, p[1])
				if err := r.shards.Enlist(p[0], &Subscription{Topics: []string{"a"}}); err != nil {
					t.Fatal(err)
				}
				if i < 20 {
					r.shards.HandOver()
				}
			}
			r.shards.LetGo()
			r.shards.HandOver()
			for _, fd := range clients {
				wait(t, "the end, and nothing before it", func() bool {
					n, err := unix.Read(fd, make([]byte, 100))
					if n > 0 {
						t.Fatalf("%d bytes of an answer", n)
					}
					return n == 0 && err == nil
				})
				unix.Close(fd)
			}
			wait(t, "nothing is left", func() bool { return r.shards.Streams() == 0 && r.descriptors(t) == before })
			if err := r.shards.Enlist(0, &Subscription{Topics: []string{"a"}}); !errors.Is(err, ErrDraining) {
				t.Errorf("one more: %v, want ErrDraining", err)
			}
		})
	}
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
