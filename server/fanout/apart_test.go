package fanout

// Shards with descriptor tables of their own.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"penstock/encode"
	"penstock/server/topic"
)

// tables gives shards tables of their own, for so many streams each.
func tables(streams int) func(*Options) {
	return func(o *Options) {
		var err error
		if o.Tables, err = NewTables(o.Shards, streams); err != nil {
			panic(err)
		}
	}
}

// newApart is New with tables for so many streams each.
func newApart(o Options, streams int) (s *Shards, err error) {
	if o.Tables, err = NewTables(o.Shards, streams); err != nil {
		return nil, err
	}
	return New(o)
}

// descriptors counts those of every table that there is: the process's, and the shards'.
func (r *real) descriptors(t testing.TB) (all int) {
	t.Helper()
	all = tableOf(t, os.Getpid())
	for _, sh := range r.shards.shards {
		if p := sh.pair(); p != nil {
			all += tableOf(t, p.thread)
		}
	}
	return all
}

// dup is another descriptor of the same socket: so a test needs few for many streams.
func dup(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Streams in tables of shards' own hear everything; a descriptor is in one table alone, and in none
// when its stream has ended.
func TestStreamsLiveInTheirShardsTables(t *testing.T) {
	const shards, streams = 3, 90
	r := newReal(t, shards, tables(streams/shards))
	before := r.descriptors(t)
	var conns []net.Conn
	var bodies []io.Reader
	for range streams {
		conn, body := r.join(t, &Subscription{Topics: []string{"a"}})
		conns, bodies = append(conns, conn), append(bodies, body)
	}
	if n := r.shards.Enlisted(); n != 0 {
		t.Errorf("%d sockets wait to be sent", n)
	}
	// A client's end and a shard's.
	if n := r.descriptors(t); n != before+2*streams {
		t.Errorf("%d descriptors, want %d before and 2 for each of %d streams", n, before, streams)
	}
	for i, st := range r.shards.Stats() {
		own := tableOf(t, r.shards.shards[i].pair().thread)
		if st.Streams != streams/shards || st.Descriptors != own || st.DescriptorLimit < own {
			t.Errorf("shard %d: %+v, %d descriptors in its table", i, st, own)
		}
	}
	if _, err := r.seq.Publish(&topic.Publication{Topic: "a", Event: encode.Event{Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		events(t, body, 1)
	}
	for _, conn := range conns {
		conn.Close()
	}
	wait(t, "no streams", func() bool { return r.shards.Streams() == 0 })
	if n := r.descriptors(t); n != before {
		t.Errorf("%d descriptors when all streams have ended, %d before", n, before)
	}
}

// A shard is given no more than its table holds; who leaves makes room.
func TestFullTablesRefuse(t *testing.T) {
	const shards, each = 2, 5
	r := newReal(t, shards, tables(each))
	if n := r.shards.Room(); n != shards*each {
		t.Fatalf("room for %d, want %d", n, shards*each)
	}
	var conns []net.Conn
	for range shards * each {
		conn, _ := r.join(t, &Subscription{Topics: []string{"a"}})
		conns = append(conns, conn)
	}
	pair := pairOf(t, unix.SOCK_STREAM)
	if err := r.shards.Join(int(pair[0]), &Subscription{Topics: []string{"a"}}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	conns[3].Close()
	wait(t, "one has left", func() bool { return r.shards.Streams() == shards*each-1 })
	r.join(t, &Subscription{Topics: []string{"a"}})
}

// Streams fill those shards first that stand abreast, so that few streams keep few threads awake.
func TestShardsFillAbreast(t *testing.T) {
	const each = 4
	r := newReal(t, 5, tables(each), func(o *Options) { o.Abreast = 2 })
	counts := func() (n []int) {
		for _, st := range r.shards.Stats() {
			n = append(n, st.Streams)
		}
		return n
	}
	for _, want := range []struct {
		streams int
		counts  string
	}{{6, "[3 3 0 0 0]"}, {8, "[4 4 0 0 0]"}, {11, "[4 4 2 1 0]"}, {18, "[4 4 4 4 2]"}} {
		for r.shards.Streams() < want.streams {
			r.join(t, &Subscription{Topics: []string{"a"}})
		}
		if got := fmt.Sprint(counts()); got != want.counts {
			t.Errorf("%d streams: %s, want %s", want.streams, got, want.counts)
		}
	}
}

// When the limit of open files is lowered under a running server, a shard's table is full before its
// room is: what the kernel drops is told by its stream's end, those that came are streams, nobody waits
// for the others, and no more are taken.
func TestLostSocketsAreCounted(t *testing.T) {
	r := newReal(t, 1, tables(1000))
	sh := r.shards.shards[0]
	pair := pairOf(t, unix.SOCK_STREAM) // all streams write into it, and nobody reads
	sub := func() *Subscription { return &Subscription{Topics: []string{"a"}} }
	const before, batch, fit = 60, 10, 4
	for range before {
		if err := r.shards.Join(dup(t, int(pair[0])), sub()); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "60 joined", func() bool { return r.shards.Stats()[0].Joins == before })
	for range batch {
		if err := r.shards.Enlist(dup(t, int(pair[0])), sub()); err != nil {
			t.Fatal(err)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	lower := limit
	lower.Cur = uint64(limitFor(t, sh.pair().thread, fit))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	r.shards.HandOver()
	wait(t, "six are lost", func() bool { return r.shards.Stats()[0].Lost == batch-fit })
	wait(t, "four have joined", func() bool { return r.shards.Stats()[0].Joins == before+fit })
	if n := r.shards.Streams(); n != before+fit {
		t.Errorf("%d streams, want %d", n, before+fit)
	}
	if err := r.shards.Join(int(pair[0]), sub()); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
}

// limitFor is the limit of open files below which the thread's table has so many numbers free.
func limitFor(t testing.TB, tid, free int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/self/task/%d/fd", tid))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, n := range names {
		used[n.Name()] = true
	}
	limit := 0
	for ; free > 0; limit++ {
		if !used[strconv.Itoa(limit)] {
			free--
		}
	}
	return limit
}

// What is no descriptor ends as a lost stream, and does not keep those behind it.
func TestBadDescriptorDoesNotBlockTheOthers(t *testing.T) {
	r := newReal(t, 1, tables(100))
	pair := pairOf(t, unix.SOCK_STREAM)
	for i := range 5 {
		fd := 1 << 20
		if i != 2 {
			fd = dup(t, int(pair[0]))
		}
		if err := r.shards.Enlist(fd, &Subscription{Topics: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.shards.Enlisted(); n != 5 {
		t.Errorf("%d enlisted, want 5", n)
	}
	r.shards.HandOver()
	wait(t, "four streams, one lost", func() bool {
		st := r.shards.Stats()[0]
		return st.Joins == 4 && st.Lost == 1 && st.Streams == 4
	})
}

// More sockets than a pair takes wait, without anybody waiting for them, until the shard has room again.
func TestFullPairIsTriedAgain(t *testing.T) {
	r := newReal(t, 1, tables(100_000))
	sh := r.shards.shards[0]
	// The door takes only two messages or so.
	if err := unix.SetsockoptInt(int(sh.door), unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	pair := pairOf(t, unix.SOCK_STREAM)
	const streams = 3000
	for range streams {
		if err := r.shards.Enlist(dup(t, int(pair[0])), &Subscription{Topics: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
	}
	r.shards.HandOver()
	wait(t, "all have joined", func() bool { return r.shards.Stats()[0].Joins == streams })
	if n := r.shards.Enlisted(); n != 0 {
		t.Errorf("%d are still enlisted", n)
	}
}

// Joins from many goroutines at once, with and without a batch, hang-ups between them, and then the
// drain: every socket becomes a stream, ends, and is closed in every table.
func TestJoinsFromEverywhereLeakNothing(t *testing.T) {
	const shards, goroutines, each = 3, 8, 100
	r := newReal(t, shards, tables(goroutines*each))
	before := r.descriptors(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				sub := &Subscription{Topics: []string{"a"}}
				if g%2 == 0 {
					err = r.shards.Join(p[0], sub)
				} else if err = r.shards.Enlist(p[0], sub); i%7 == 0 || i == each-1 {
					r.shards.HandOver()
				}
				if err != nil {
					unix.Close(p[0])
					mu.Lock()
					refused++
					mu.Unlock()
				}
				unix.Close(p[1]) // before it has arrived, or after
			}
			r.shards.HandOver()
		})
	}
	r.shards.Drain(0, nil) // in the midst of it
	wg.Wait()
	r.shards.Drain(0, nil)
	wait(t, "no streams", func() bool { return r.shards.Streams() == 0 })
	joins, ends := uint64(0), uint64(0)
	for _, st := range r.shards.Stats() {
		joins += st.Joins
		for _, n := range st.Disconnects {
			ends += n
		}
	}
	if int(joins)+refused != goroutines*each || ends != joins {
		t.Errorf("%d joined, %d were refused, %d ended; want %d in all", joins, refused, ends, goroutines*each)
	}
	if n := r.descriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

// Close gives back what the shards' tables held, and what was on its way to them: the clients see
// the end, and no descriptor is left.
func TestCloseLeavesNothingInAnyTable(t *testing.T) {
	before := tableOf(t, os.Getpid())
	pairs := make([][2]int, 40)
	seq, err := topic.New(topic.Options{RingSize: 1 << 20, MaxEventSize: 1 << 10, MaxTopics: 10, Keep: 1, KeepSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newApart(Options{Shards: 2, Sequencer: seq, Heartbeat: 1e9, FlushMaxBytes: 64 << 10, LagMemory: 1 << 20, RetryMin: 1e9, RetryMax: 1e9, CompressShare: 8}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pairs {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		pairs[i] = p
		if err := s.Enlist(p[0], &Subscription{Topics: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		if i == len(pairs)/2 {
			s.HandOver() // and the rest never is
		}
	}
	s.Close()
	for _, p := range pairs {
		wait(t, "the client sees the end", func() bool {
			n, err := unix.Read(p[1], make([]byte, 4096))
			return n == 0 && err == nil
		})
		unix.Close(p[1])
	}
	if n := tableOf(t, os.Getpid()); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

// A listening socket, or a connection, that the process had before is not kept open by the shards'
// copies of its table; standard output is.
func TestTablesDoNotHoldWhatTheProcessCloses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	newReal(t, 2, tables(10))
	listener.Close()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Errorf("%s still listens: in a shard's table", address)
	}
}

// Wherever the limit of open files stops the start, there is an error, and no thread and no
// descriptor is left of it.
func TestStartWithoutDescriptorsLeavesNothing(t *testing.T) {
	before := tableOf(t, os.Getpid())
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	seq, err := topic.New(topic.Options{RingSize: 1 << 20, MaxEventSize: 1 << 10, MaxTopics: 10, Keep: 1, KeepSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	failed, started := 0, 0
	for free := range 12 { // two bells, two pairs, and an epoll set in each table
		lower := limit
		lower.Cur = uint64(limitFor(t, os.Getpid(), free))
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
			t.Fatal(err)
		}
		s, err := newApart(Options{Shards: 2, Sequencer: seq, Heartbeat: 1e9, FlushMaxBytes: 64 << 10, LagMemory: 1 << 20, RetryMin: 1e9, RetryMax: 1e9, CompressShare: 8}, 100)
		unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		if err != nil {
			failed++
		} else {
			started++
			s.Close()
		}
		if n := tableOf(t, os.Getpid()); n != before {
			t.Errorf("with %d free: %d descriptors, %d before", free, n, before)
		}
	}
	if failed < 6 || started == 0 {
		t.Errorf("%d starts failed, %d did not", failed, started)
	}
}
