package fanout

// The simulation: a sequencer with its topic table and two shards on a ground of their own, where
// nothing happens but what one seed draws (acts_test.go): publishers, clients, faults of the
// ground, clocks that jump. The shards are stepped by hand, each at its own times; after each pass
// their invariants are checked (broken), and what their clients have received is judged
// (contract_test.go). A failure prints the shortest history that rapid found, and its seed:
//
//	make simulate SEED=4711 COUNT=1

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// A world is the sequencer, its shards, and everything ever published.
type world struct {
	t       *rapid.T
	seq     *topic.Sequencer
	time    time.Time
	skew    time.Duration // of the publishers' clock, which jumps
	posts   []*post
	streams []*stream
	records []*record
	byID    map[uint64]*record
	topics  map[string][]*record // whatever was published under a name, forgotten or not
	history []line
	options topic.Options // the sequencer's
	shards  Options
	bound   func(*shard) // of a pass's work

	crawl       time.Duration // how far the shards' clocks move with each look at them, in a pass
	tightMemory bool          // laggards are cut for what is held for them
}

// A post is a shard on its ground, which notes where each send begins.
type post struct {
	*ground
	w       *world
	sh      *shard
	now_    *moment // of the pass under way
	over    []*moment
	drained bool
	gone    []*socket // of streams that ended before an upgrade
}

// send is the ground's, and notes origins.
func (p *post) send(fd int32, b []byte) (int, syscall.Errno) {
	s := p.sockets[fd]
	c := p.w.of(s)
	if c.owed > 0 && len(b) != c.owed {
		c.fail("%d bytes of a send are owed, and %d others follow", c.owed, len(b))
	}
	at := len(s.wire)
	n, errno := p.ground.send(fd, b)
	switch {
	case n == 0:
	case c.owed > 0:
		c.owed -= n
	default:
		live := p.sh.slots[s.slot] != nil && p.sh.slots[s.slot].state == live
		c.origins = append(c.origins, origin{at: at, m: p.now_, live: live})
		c.owed, c.since = len(b)-n, p.now_
	}
	return n, errno
}

// overrunSince tells whether publishers have outrun the shard since a moment.
func (p *post) overrunSince(m *moment) bool {
	return len(p.over) > 0 && !p.over[len(p.over)-1].time.Before(m.time)
}

func (w *world) of(s *socket) *stream {
	return w.streams[slices.IndexFunc(w.streams, func(c *stream) bool { return c.sock == s })]
}

func (w *world) fail(format string, args ...any) {
	w.t.Fatalf("%s\n\nhistory:\n%s", fmt.Sprintf(format, args...), w.told())
}

// A line of the history: put into words only when it is shown.
type line struct {
	format string
	args   []any
}

// told is the history in words.
func (w *world) told() string {
	var b strings.Builder
	for _, l := range w.history {
		fmt.Fprintf(&b, l.format+"\n", l.args...)
	}
	return b.String()
}

func (w *world) say(format string, args ...any) {
	w.history = append(w.history, line{format, args})
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, time: time.Unix(1000, 0), byID: map[uint64]*record{}, topics: map[string][]*record{}}
	keep := rapid.SampledFrom([]int{1, 0, 2}).Draw(t, "keep")
	keepSize := rapid.SampledFrom([]int64{0, 20 << 10, 3 << 10}).Draw(t, "keep size")
	maxTopics := rapid.SampledFrom([]int{1000, 3, 5}).Draw(t, "max topics")
	lagMemory := rapid.SampledFrom([]int64{8 << 20, 20 << 10}).Draw(t, "lag memory")
	flushMax := rapid.SampledFrom([]int{64 << 10, 500}).Draw(t, "flush max")
	w.tightMemory = lagMemory < 1<<20
	w.crawl = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "crawl")
	slice := rapid.SampledFrom([]int{mostSlice, 16 << 10, 2 << 10}).Draw(t, "slice")
	passMost := rapid.SampledFrom([]int{mostRead, 20 << 10}).Draw(t, "pass")
	w.say("ring=65536 keep=%d keep-size=%d max-topics=%d lag-memory=%d flush-max=%d slice=%d pass=%d", keep, keepSize, maxTopics, lagMemory, flushMax, slice, passMost)
	w.bound = func(sh *shard) {
		sh.sliceBytes, sh.passBytes = slice, ring.Position(passMost)
		if passMost < mostRead {
			sh.passJoiners, sh.catchUpBudget = 2, 3*sliceCost
		}
	}
	w.options = topic.Options{
		RingSize: 64 << 10, MaxEventSize: 16 << 10, MaxTopics: maxTopics, Keep: keep, KeepSize: keepSize, Shed: true, Seed: 1,
		Now: func() int64 { return w.time.Add(w.skew).UnixMicro() },
	}
	seq, err := topic.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	w.seq = seq
	w.shards = Options{
		Shards: 2, memory: newLagMemory(lagMemory, 2), Heartbeat: 15 * time.Second, FlushInterval: 10 * time.Millisecond,
		CompressShare: 2, CompressLevel: encode.Best,
		FlushMaxBytes: flushMax, LagMemory: lagMemory, RetryMin: 2 * time.Second, RetryMax: 2 * time.Second,
	}
	for i := range 2 {
		p := w.newPost()
		p.nextFD += int32(i) * 100_000
		w.posts = append(w.posts, p)
	}
	return w
}

// newPost makes a shard that follows the sequencer.
func (w *world) newPost() *post {
	p := &post{ground: newGround(), w: w}
	p.ground.time = w.time
	w.shards.Sequencer = w.seq
	p.sh = newShard(&w.shards, p)
	w.bound(p.sh)
	return p
}

var (
	modelTopics   = []string{"a", "b", "c.1", "c.2", "d.1.x", "$s.x"}
	modelPatterns = []string{"c.*", ">", "*.1.>", "$s.*", "d.>"}
)

// draw is one of some values.
func draw[T any](w *world, label string, of ...T) T { return rapid.SampledFrom(of).Draw(w.t, label) }

func yes(w *world, label string) bool { return rapid.IntRange(0, 3).Draw(w.t, label) == 3 }

// pass steps one shard and judges what came of it.
func (w *world) pass(p *post) (busy bool) {
	m := &moment{time: w.time, newest: w.seq.NewestID(), before: w.seq.BeforeID(), gone: map[string]uint64{}, forgotten: w.seq.Table().NewestForgotten()}
	for name := range w.topics {
		m.gone[name] = w.gone(name)
	}
	m.faulty = len(p.fail) > 0
	if m.overrun = p.sh.follower.Unread() > uint64(w.seq.Ring().Size()/4+16<<10); m.overrun {
		p.over = append(p.over, m)
	}
	p.now_, p.ground.time = m, w.time
	p.sh.events = p.ground.wait(p.sh.events, 0)
	p.ground.crawl = w.crawl
	busy = p.sh.pass(w.time)
	p.ground.crawl, p.ground.time = 0, w.time
	m.read = p.sh.readID // a pass does not read more than so much
	if err := p.sh.broken(); err != nil {
		w.fail("%v", err)
	}
	if held := w.posts[0].sh.stats.lagBytes.Load() + w.posts[1].sh.stats.lagBytes.Load(); held != w.shards.memory.held.Load() {
		w.fail("%d bytes are held by both shards, %d are counted", held, w.shards.memory.held.Load())
	}
	for _, c := range w.streams {
		if c.on != p {
			continue
		}
		var member *subscriber
		if c.sock.watched {
			if member = p.sh.slots[c.sock.slot]; member.state == ending {
				member = nil
			}
		}
		if c.joined == nil {
			if !c.sock.watched && !c.sock.closed {
				continue // still in the inbox
			}
			c.joined = m
		}
		if c.skims {
			c.skimUntil = m.read
		}
		c.read()
		c.skims = member != nil && member.lag != nil && member.lag.skim
		c.ended(m)
		if member != nil && member.state == live && member.audience.pace == nil {
			c.claims(m.read, m) // whoever is live has everything
		}
	}
	for _, name := range modelTopics {
		held := 0
		for _, c := range w.streams {
			if c.joined != nil && !c.sock.finished && !c.sock.closed && slices.Contains(c.sub.Topics, name) {
				held++
			}
		}
		if t, ok := w.seq.Table().Lookup(name); ok && t.Subscribers() != held || !ok && held > 0 {
			w.fail("%s has %d subscribers, want %d", name, t.Subscribers(), held)
		}
	}
	return busy
}

// stir steps a shard until it finds nothing.
func (w *world) stir(p *post) {
	for range 1000 {
		if !w.pass(p) {
			return
		}
	}
	w.fail("a shard finds something in each of 1,000 passes")
}

// finish lets everything come to rest: nothing may be missing then, and nothing left.
func (w *world) finish() {
	w.say("finish")
	for _, p := range w.posts {
		clear(p.fail)
	}
	for range 6 { // intervals, heartbeats, the time that those who end are given
		for _, p := range w.posts {
			for _, c := range w.streams {
				if c.on == p && !c.sock.closed {
					p.take(c.sock, -1)
				}
				if c.on == p && c.sock.broken {
					p.hangUp(c.sock) // sooner or later the kernel tells
				}
			}
			w.stir(p)
		}
		w.advance(11 * time.Second)
	}
	for _, p := range w.posts {
		if n := len(p.sh.laggards); n > 0 {
			w.fail("%d lag for ever", n)
		}
		if n := p.sh.stats.streams.Load(); p.drained && n > 0 {
			w.fail("drained, but %d streams are left", n)
		}
	}
	for _, c := range w.streams {
		c.settled(c.on.now_)
		w.hangUp(c)
	}
	for _, p := range w.posts {
		w.stir(p)
		if len(p.sockets) > 0 && p.sh.stats.streams.Load() != 0 || len(p.sh.audiences) > 0 || len(p.sh.index) > 0 || len(p.sh.judged) > 0 {
			w.fail("left: %d streams, %d audiences, %d topics, %d judged", p.sh.stats.streams.Load(), len(p.sh.audiences), len(p.sh.index), len(p.sh.judged))
		}
	}
}

// Whatever happens, each stream has every event that it asked for, once and in order,
// or is told what it lost.
func TestStreamsKeepTheContract(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); poolsForget && f.Value.String() == f.DefValue {
		_ = f.Value.Set("40") // with the race detector each history takes five times as long
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	for _, acts := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("acts=%d", acts), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t)
				defer func() {
					if p := recover(); p != nil {
						if s := fmt.Sprintf("%T", p); !strings.Contains(s, "rapid") {
							t.Logf("panic: %v\n\nhistory:\n%s", p, w.told())
						}
						panic(p)
					}
				}()
				t.Repeat(map[string]func(*rapid.T){"acts": func(*rapid.T) {
					for range rapid.IntRange(1, acts).Draw(t, "acts") {
						w.act()
					}
				}})
				w.finish()
			})
		})
	}
}
