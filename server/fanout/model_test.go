package fanout

// The model: random sequences of everything that happens to two shards on one
// sequencer, each stepped by hand at its own times. What their clients receive is
// judged by contract_test.go. A failure prints the shortest history that rapid found.

import (
	"fmt"
	"slices"
	"strconv"
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
	posts   []*post
	streams []*stream
	records []*record
	byID    map[uint64]*record
	topics  map[string][]*record // whatever was published under a name, forgotten or not
	history []line
	options topic.Options // the sequencer's
	shards  Options
	bound   func(*shard) // of a pass's work

	tightMemory bool // laggards are cut for what is held for them
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
	maxTopics := rapid.SampledFrom([]int{1000, 3, 5}).Draw(t, "max topics")
	lagMemory := rapid.SampledFrom([]int64{8 << 20, 20 << 10}).Draw(t, "lag memory")
	flushMax := rapid.SampledFrom([]int{64 << 10, 500}).Draw(t, "flush max")
	w.tightMemory = lagMemory < 1<<20
	slice := rapid.SampledFrom([]int{mostSlice, 16 << 10, 2 << 10}).Draw(t, "slice")
	passMost := rapid.SampledFrom([]int{mostRead, 20 << 10}).Draw(t, "pass")
	w.say("ring=65536 keep=%d max-topics=%d lag-memory=%d flush-max=%d slice=%d pass=%d", keep, maxTopics, lagMemory, flushMax, slice, passMost)
	w.bound = func(sh *shard) {
		sh.sliceBytes, sh.passBytes = slice, ring.Position(passMost)
		if passMost < mostRead {
			sh.passJoiners, sh.catchUpBudget = 2, 3*sliceCost
		}
	}
	w.options = topic.Options{
		RingSize: 64 << 10, MaxEventSize: 16 << 10, MaxTopics: maxTopics, Keep: keep, Shed: true, Seed: 1,
		Now: func() int64 { return w.time.UnixMicro() },
	}
	seq, err := topic.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	w.seq = seq
	w.shards = Options{
		Shards: 1, Heartbeat: 15 * time.Second, FlushInterval: 10 * time.Millisecond,
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

// publish publishes events, and notes what the ring has got.
func (w *world) publish() {
	name := draw(w, "topic", modelTopics...)
	n, size := draw(w, "events", 1, 1, 2, 5, 20, 60), draw(w, "size", 0, 300, 3000, 15000)
	typ := draw(w, "type", "", "", "t")
	insist := topic.IsOwn(name) || yes(w, "insist")
	w.say("publish %s x%d size=%d type=%q insist=%v", name, n, size, typ, insist)
	for range n {
		data := fmt.Sprintf("#%d%s\n.", len(w.records), strings.Repeat("x", size))
		p := topic.Publication{Topic: name, Event: encode.Event{Type: typ, Data: []byte(data)}}
		var id uint64
		var err error
		if insist {
			id, err = w.seq.PublishOwn(&p) // waits for no shard
		} else {
			id, err = w.seq.Publish(&p)
		}
		if err == topic.ErrOverload || err == topic.ErrTooManyTopics {
			w.say("  %s...", err.Error()[:20])
			return
		}
		if err != nil {
			w.fail("publish: %v", err)
		}
		w.note(&record{id, name, ring.Event, typ, data})
	}
}

func (w *world) note(e *record) {
	w.records = append(w.records, e)
	w.byID[e.id] = e
	w.topics[e.topic] = append(w.topics[e.topic], e)
}

// end ends a topic.
func (w *world) end() {
	name := draw(w, "topic", modelTopics[:5]...)
	id, err := w.seq.End(name)
	w.say("end %s: %d %v", name, id, err)
	if err == nil && w.byID[id] == nil {
		w.note(&record{id, name, ring.End, "end", fmt.Sprintf(`{"topic":%q}`, name)})
	}
}

// between are the records after an id, up to another.
func (w *world) between(after, until uint64) []*record {
	from, _ := slices.BinarySearchFunc(w.records, after+1, func(e *record, id uint64) int { return int(e.id) - int(id) })
	to := from
	for to < len(w.records) && w.records[to].id <= until {
		to++
	}
	return w.records[from:to]
}

// gone is the newest id of a topic that nobody can get any more.
func (w *world) gone(name string) uint64 {
	all := w.topics[name]
	oldest := len(all)
	if t, ok := w.seq.Table().Lookup(name); ok {
		if found, _, _ := w.seq.Gather(nil, []*topic.Topic{t}, 0, 0, w.seq.Ring().Head(), 1); len(found) > 0 {
			oldest = slices.Index(all, w.byID[found[0].Entry.ID()])
		}
	}
	if oldest == 0 {
		return 0
	}
	return all[oldest-1].id
}

// anID is an id that a client may come with.
func (w *world) anID() uint64 {
	start := w.seq.StartID()
	some := []uint64{start, start - 5, w.seq.NewestID(), w.seq.NewestID() + 1000}
	if n := len(w.records); n > 0 {
		e := w.records[rapid.IntRange(0, n-1).Draw(w.t, "record")]
		some = append([]uint64{e.id, e.id - 1, e.id + 1}, some...)
	}
	return draw(w, "id", some...)
}

// subscribe begins a stream.
func (w *world) subscribe() {
	var s Subscription
	for range draw(w, "names", 1, 1, 2, 3) {
		if yes(w, "a pattern") {
			p, _ := topic.ParsePattern(draw(w, "pattern", modelPatterns...))
			s.Patterns = append(s.Patterns, p)
		} else {
			s.Topics = append(s.Topics, draw(w, "topic", modelTopics...))
		}
	}
	s.Latest = yes(w, "latest")
	if yes(w, "paced") {
		s.Interval = draw(w, "interval", 250*time.Millisecond, time.Second, 20*time.Second)
	}
	s.HTTP10, s.HeartbeatEvent = yes(w, "http10"), yes(w, "heartbeat events")
	s.Coding = draw(w, "coding", encode.Identity, encode.Gzip)
	s.Form = draw(w, "form", encode.FormType, encode.FormType, encode.FormTopic, encode.FormEnvelope)
	if len(w.streams) > 0 && yes(w, "as another") {
		o := rapid.SampledFrom(w.streams).Draw(w.t, "stream").sub // an audience of several
		s = Subscription{Topics: slices.Clone(o.Topics), Patterns: slices.Clone(o.Patterns), Latest: o.Latest, Interval: o.Interval,
			HTTP10: o.HTTP10, Coding: o.Coding, HeartbeatEvent: o.HeartbeatEvent, Form: o.Form}
	}
	switch draw(w, "from", "now", "after", "rewind", "bad") {
	case "after":
		s.Resume, s.LastID = true, w.anID()
	case "rewind":
		s.Rewind = draw(w, "rewind", Rewind{All: true}, Rewind{Count: 1}, Rewind{Count: 3}, Rewind{Count: 40}, Rewind{Since: 50 * time.Millisecond}, Rewind{Since: time.Minute})
	case "bad":
		s.BadID = "x\"y"
	}
	s.OnLag = draw(w, "onlag", OnLagGap, OnLagGap, OnLagLatest, OnLagClose)
	s.Snapshot, s.Hello = yes(w, "snapshot"), yes(w, "hello")
	w.join(s)
}

// join leaves a subscription at one of the shards.
func (w *world) join(s Subscription) {
	slices.Sort(s.Topics)
	s.Topics = slices.Compact(s.Topics)
	slices.SortFunc(s.Patterns, func(a, b topic.Pattern) int { return strings.Compare(a.String(), b.String()) })
	s.Patterns = slices.Compact(s.Patterns)
	on := rapid.IntRange(0, 1).Draw(w.t, "shard")
	p := w.posts[on]
	c := &stream{w: w, name: "c" + strconv.Itoa(len(w.streams)), on: p, sub: s, sock: p.open(), drain: p.drained, got: map[uint64]bool{}}
	c.sock.room = draw(w, "room", -1, -1, 0, 100, 1000)
	own := s // the shard's, which it will use again
	own.Topics, own.Patterns = slices.Clone(s.Topics), slices.Clone(s.Patterns)
	if !p.sh.inbox.join(joiner{c.sock.fd, &own}) {
		return
	}
	p.sh.stats.streams.Add(1)
	w.streams = append(w.streams, c)
	w.say("subscribe %s on %d %s room=%d: %s", c.name, on, strings.Join(s.names(), ","), c.sock.room, s.text())
}

func (s *Subscription) text() string {
	var b strings.Builder
	if s.Resume {
		fmt.Fprintf(&b, " after=%d", s.LastID)
	}
	if s.BadID != "" {
		fmt.Fprintf(&b, " bad=%q", s.BadID)
	}
	if s.Rewind != (Rewind{}) {
		fmt.Fprintf(&b, " rewind=%+v", s.Rewind)
	}
	for _, o := range []struct {
		on   bool
		text string
	}{{s.Latest, "latest"}, {s.Snapshot, "snapshot"}, {s.HTTP10, "http10"}, {s.Coding == encode.Gzip, "gzip"}, {s.Hello, "hello"}, {s.HeartbeatEvent, "events"}} {
		if o.on {
			b.WriteString(" " + o.text)
		}
	}
	fmt.Fprintf(&b, " interval=%s onlag=%s form=%s", s.Interval, []string{"gap", "latest", "close"}[s.OnLag], []string{"type", "topic", "envelope"}[s.Form])
	return b.String()
}

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
	busy = p.sh.pass(w.time)
	m.read = p.sh.readID // a pass does not read more than so much
	if err := p.sh.broken(); err != nil {
		w.fail("%v", err)
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

// advance moves the clock.
func (w *world) advance(d time.Duration) { w.time = w.time.Add(d) }

// anyStream is a stream that has not ended; nil if there is none.
func (w *world) anyStream() *stream {
	open := slices.DeleteFunc(slices.Clone(w.streams), func(c *stream) bool { return c.hung || c.sock.closed })
	if len(open) == 0 {
		return nil
	}
	return rapid.SampledFrom(open).Draw(w.t, "stream")
}

// hangUp is the client closing.
func (w *world) hangUp(c *stream) {
	if c.sock.watched {
		c.hung = true
		c.on.hangUp(c.sock)
	}
}

// cut loses a client behind a random byte of its stream, and it comes back with what
// it knows.
func (w *world) cut(c *stream) {
	n := rapid.IntRange(0, len(c.sock.wire)).Draw(w.t, "bytes")
	s := c.sub
	if id, ok := lastID(c.sock.wire[:n], &c.sub); ok {
		s.Resume, s.LastID, s.BadID = true, id, ""
	}
	w.say("cut %s behind byte %d", c.name, n)
	w.hangUp(c)
	w.join(s)
}

// lastID is what a client knows that has received the beginning of a stream.
func lastID(wire []byte, s *Subscription) (id uint64, ok bool) {
	head, rest, _ := strings.Cut(string(wire), "\r\n\r\n")
	_ = head
	var d encode.Decoder
	var chunks encode.Dechunker
	var body []byte
	for wire = []byte(rest); len(wire) > 0; {
		payload := wire
		if wire = nil; !s.HTTP10 {
			payload, wire, _ = chunks.Next(payload)
		}
		body = append(body, payload...)
		if len(payload) == 0 {
			break
		}
	}
	if s.Coding == encode.Gzip {
		body, _ = new(inflater).next(body)
	}
	_ = d.Decode(body, func(*encode.Decoded) {})
	id, err := encode.ParseID(string(d.LastID()))
	return id, err == nil
}

// act does something.
func (w *world) act() {
	switch what := rapid.IntRange(0, 99).Draw(w.t, "act"); {
	case what < 2:
		w.upgrade()
	case what < 24:
		i := rapid.IntRange(0, 1).Draw(w.t, "shard")
		w.say("pass %d", i)
		w.pass(w.posts[i])
	case what < 50:
		w.publish()
	case what < 65:
		w.subscribe()
	case what < 77:
		if c := w.anyStream(); c != nil {
			room := draw(w, "room", -1, 0, 1, 50, 500, 5000)
			w.say("room %s %d", c.name, room)
			c.on.take(c.sock, room)
		}
	case what < 83:
		d := draw(w, "by", time.Millisecond, 50*time.Millisecond, 250*time.Millisecond, time.Second, 8*time.Second, 20*time.Second)
		w.say("advance %s", d)
		w.advance(d)
	case what < 88:
		if c := w.anyStream(); c != nil {
			w.cut(c)
		}
	case what < 90:
		if c := w.anyStream(); c != nil {
			w.say("hang up %s", c.name)
			w.hangUp(c)
		}
	case what < 96:
		w.end()
	case what < 98:
		p := rapid.SampledFrom(w.posts).Draw(w.t, "shard")
		clear(p.fail)
		if call := draw(w, "call", "", "send", "watch", "writable"); call != "" {
			p.fail[call] = syscall.EPIPE
		}
		w.say("fail on %d: %s", slices.Index(w.posts, p), fmt.Sprint(p.fail))
	case what < 99:
		i := rapid.IntRange(0, 1).Draw(w.t, "shard")
		if p := w.posts[i]; !p.drained && yes(w, "drain") {
			w.say("drain %d", i)
			p.drained = true
			p.sh.inbox.command(command{kind: commandDrain, spread: draw(w, "spread", 0, time.Second)})
			for _, c := range w.streams {
				c.drain = c.drain || c.on == p
			}
		}
	default:
		w.say("settle")
		w.stir(w.posts[0])
		w.stir(w.posts[1])
	}
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
