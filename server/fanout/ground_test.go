package fanout

// The ground that tests give a shard: a clock that they move, and sockets in
// memory that take as much as they are told to. Nothing here waits.

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// ground is a system. One goroutine.
type ground struct {
	time    time.Time
	crawl   time.Duration // by which it moves on with each look at it
	sockets map[int32]*socket
	pending []event
	rings   int
	nextFD  int32
	fail    map[string]syscall.Errno // by call: the error that it gets
	deaf    bool                     // the next wait is interrupted: it tells of nothing
}

// A socket is the client's end and the kernel's buffer in one.
type socket struct {
	fd       int32
	slot     uint32
	watched  bool
	out      bool // writability was asked for
	room     int  // bytes that it takes before it is full; -1 for any number
	full     bool // it has refused bytes: the edge that writability waits for
	finished bool
	broken   bool // the connection is gone: bytes are refused for good
	closed   bool
	reset    bool // closed without finish
	hard     bool // by a reset, not by close
	wire     []byte
	sends    int
	taken    int // bytes that its client has read of a full socket
}

func newGround() *ground {
	return &ground{time: time.Unix(1_700_000_000, 0), sockets: map[int32]*socket{}, fail: map[string]syscall.Errno{}, nextFD: 100}
}

// open makes a socket.
func (g *ground) open() *socket {
	g.nextFD++
	s := &socket{fd: g.nextFD, room: -1}
	g.sockets[s.fd] = s
	return s
}

// take lets a full socket take n more bytes, any number at -1.
func (g *ground) take(s *socket, n int) {
	s.room = n
	if s.full && s.out && n != 0 {
		s.full = false
		g.pending = append(g.pending, event{slot: s.slot, writable: true})
	}
}

// hangUp is the client closing.
func (g *ground) hangUp(s *socket) {
	if s.watched {
		g.pending = append(g.pending, event{slot: s.slot, gone: true})
	}
}

func (g *ground) now() time.Time {
	g.time = g.time.Add(g.crawl)
	return g.time
}

func (g *ground) send(fd int32, p []byte) (int, syscall.Errno) {
	s := g.sockets[fd]
	if s == nil || s.closed || s.finished {
		panic(fmt.Sprintf("send to a socket that is closed or finished: %d", fd))
	}
	s.sends++
	if errno := g.fail["send"]; errno != 0 {
		return 0, errno
	}
	if s.broken {
		return 0, syscall.ECONNRESET
	}
	n := len(p)
	if s.room >= 0 {
		n = min(n, s.room)
		s.room -= n
	}
	s.wire = append(s.wire, p[:n]...)
	if n < len(p) {
		s.full = true
		return n, syscall.EAGAIN
	}
	return n, 0
}

func (g *ground) discard(int32) {}

func (g *ground) finish(fd int32) { g.sockets[fd].finished = true }

func (g *ground) reset(fd int32) {
	g.close(fd)
	g.sockets[fd].hard = true
}

func (g *ground) close(fd int32) {
	s := g.sockets[fd]
	if s.closed {
		panic("closed twice")
	}
	if s.watched {
		panic("closed while watched")
	}
	s.closed, s.reset = true, !s.finished
}

func (g *ground) unsent(fd int32) int32 { return int32(1000 - g.sockets[fd].taken) }

func (g *ground) peer(fd int32) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(fd))
}

func (g *ground) watch(fd int32, slot uint32) syscall.Errno {
	if errno := g.fail["watch"]; errno != 0 {
		return errno
	}
	s := g.sockets[fd]
	s.slot, s.watched = slot, true
	return 0
}

func (g *ground) writable(fd int32, slot uint32, on bool) syscall.Errno {
	if errno := g.fail["writable"]; errno != 0 {
		return errno
	}
	s := g.sockets[fd]
	s.out = on
	if s.room != 0 && on {
		g.take(s, s.room) // the edge may have passed while nobody watched
	}
	return 0
}

func (g *ground) unwatch(fd int32) { g.sockets[fd].watched = false }

func (g *ground) wait(events []event, _ time.Duration) []event {
	if g.deaf {
		g.deaf = false
		return events
	}
	events = append(events, g.pending...)
	g.pending = g.pending[:0]
	return events
}

func (g *ground) give(int32, int, []int32, time.Time) error { return nil }

func (g *ground) receive(fds []int32) (uint64, []int32, bool) {
	panic("this shard has no descriptor table of its own")
}

func (g *ground) ring() { g.rings++ }

func (g *ground) release() {}

// A house is a sequencer with one shard that a test steps by hand.
type house struct {
	ground *ground
	seq    *topic.Sequencer
	sh     *shard
	micros int64 // the sequencer's clock: each id is one more than the last
}

type houseOptions struct {
	ringSize, maxEvent, keep int
	maxTopics                int
	flushMax                 int
	lagMemory                int64
	memory                   *lagMemory // with others; nil: of its own
	heartbeat                time.Duration
	share                    int
	maxLag                   int
	maxAge, stall            time.Duration
}

func newHouse(t testing.TB, o houseOptions) *house {
	t.Helper()
	h := &house{ground: newGround(), micros: 1000}
	seq, err := topic.New(topic.Options{
		RingSize: or(o.ringSize, 1<<20), MaxEventSize: or(o.maxEvent, 16<<10), MaxTopics: or(o.maxTopics, 1000),
		Keep: o.keep, KeepSize: 1 << 20, PublishWait: time.Second, MaxWaiting: 1,
		Now: func() int64 { return h.micros },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.seq = seq
	heartbeat := o.heartbeat
	if heartbeat == 0 {
		heartbeat = 15 * time.Second
	}
	h.sh = newShard(&Options{
		Shards: 1, memory: o.memory, Sequencer: seq, Heartbeat: heartbeat, FlushInterval: 10 * time.Millisecond,
		CompressShare: or(o.share, 8), CompressLevel: encode.Best,
		FlushMaxBytes: or(o.flushMax, 64<<10), LagMemory: int64(or(int(o.lagMemory), 1<<20)),
		RetryMin: 2 * time.Second, RetryMax: 2 * time.Second, MaxLag: int64(o.maxLag), MaxAge: o.maxAge, StallTimeout: o.stall,
	}, h.ground)
	return h
}

func or(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// publish gives the sequencer an event and returns its id.
func (h *house) publish(t testing.TB, name, data string) uint64 {
	t.Helper()
	h.micros++
	id, err := h.seq.PublishOwn(&topic.Publication{Topic: name, Event: encode.Event{Data: []byte(data)}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// subscribe leaves a socket in the shard's inbox, as Shards.Join does.
func (h *house) subscribe(sub *Subscription) *socket {
	s := h.ground.open()
	h.sh.stats.streams.Add(1)
	h.sh.inbox.join(joiner{s.fd, sub})
	return s
}

// pass steps the shard once and checks that what must hold between passes does.
func (h *house) pass(t testing.TB) bool {
	t.Helper()
	h.sh.events = h.ground.wait(h.sh.events, 0)
	busy := h.sh.pass(h.ground.time)
	if err := h.sh.broken(); err != nil {
		t.Fatalf("after a pass: %v", err)
	}
	return busy
}

// settle steps the shard until a pass finds nothing.
func (h *house) settle(t testing.TB) {
	t.Helper()
	for range 10_000 {
		if !h.pass(t) {
			return
		}
	}
	t.Fatal("the shard finds something in each of 10,000 passes")
}

// broken tells which invariant of the shard's state does not hold.
func (sh *shard) broken() error {
	streams, laggards := 0, 0
	for i, m := range sh.slots {
		if m == nil {
			continue
		}
		streams++
		switch {
		case m.slot != uint32(i):
			return fmt.Errorf("slot %d has the subscriber of %d", i, m.slot)
		case m.state == gone:
			return fmt.Errorf("slot %d has one that is gone", i)
		case (m.state == lagging) != (m.lag != nil):
			return fmt.Errorf("slot %d: state %d, lag %v", i, m.state, m.lag)
		case (m.state == ending) != (m.audience == nil):
			return fmt.Errorf("slot %d: state %d, audience %v", i, m.state, m.audience)
		}
		if m.lag != nil {
			laggards++
			if sh.laggards[m.lag.at] != m {
				return fmt.Errorf("slot %d: not where it is among the laggards", i)
			}
			if n := index(m.lag.blocked) + index(m.lag.queued) + index(m.lag.parked); n != 1 {
				return fmt.Errorf("slot %d: blocked %v, queued %v, parked %v", i, m.lag.blocked, m.lag.queued, m.lag.parked)
			}
		}
		if m.state == live && m.told > sh.readID {
			return fmt.Errorf("slot %d is live and was told %d, while the shard has read %d", i, m.told, sh.readID)
		}
	}
	if len(sh.laggards) != laggards || int(sh.stats.lagging.Load()) != laggards {
		return fmt.Errorf("%d lag, %d in the list, %d counted", laggards, len(sh.laggards), sh.stats.lagging.Load())
	}
	bytes, users := 0, map[*held]int{}
	for _, m := range sh.laggards {
		h := m.lag.rest.held
		if (h != nil) != (m.lag.rest.own != nil) {
			return fmt.Errorf("a rest of %d bytes, held %v", len(m.lag.rest.own), h)
		}
		if h == nil {
			continue
		}
		if users[h]++; users[h] == 1 {
			bytes += len(h.bytes)
		}
	}
	for h, n := range users {
		if h.users != n {
			return fmt.Errorf("bytes held for %d laggards, %d counted", n, h.users)
		}
	}
	if int64(bytes) != sh.stats.lagBytes.Load() {
		return fmt.Errorf("%d bytes held for laggards, %d counted", bytes, sh.stats.lagBytes.Load())
	}
	listed := map[uint64]int{}
	for key, a := range sh.audiences {
		switch {
		case a.key != key:
			return fmt.Errorf("audience %q under %q", a.key, key)
		case len(a.members) == 0:
			return fmt.Errorf("audience %q has no member", key)
		case a.batch != nil:
			return fmt.Errorf("audience %q has a batch", key)
		case a.lastID > sh.readID:
			return fmt.Errorf("audience %q: flushed to %d, read to %d", key, a.lastID, sh.readID)
		case a.pace != nil && a.pace.stirred && (a.pace.at < 0 || a.pace.at >= len(sh.paced) || sh.paced[a.pace.at] != a):
			return fmt.Errorf("audience %q is due, but not in the heap", key)
		}
		for i, m := range a.members {
			if m.audience != a || int(m.at) != i {
				return fmt.Errorf("audience %q: member %d is elsewhere", key, i)
			}
		}
		if err := a.brokenPacked(); err != nil {
			return fmt.Errorf("audience %q: %v", key, err)
		}
		for i, t := range a.topics {
			in := sh.index[t.Number()]
			if in == nil || in.audiences[a.places[i]] != (listing{a, int32(i)}) {
				return fmt.Errorf("audience %q: topic %s does not list it", key, t.Name())
			}
			listed[t.Number()]++
		}
	}
	for i, a := range sh.paced {
		if a.pace.at != i || !a.pace.stirred || sh.audiences[a.key] != a {
			return fmt.Errorf("audience %q is wrong in the heap at %d", a.key, i)
		}
		if i > 0 && a.pace.due.Before(sh.paced[(i-1)/2].pace.due) {
			return fmt.Errorf("the heap is wrong at %d", i)
		}
	}
	for number, in := range sh.index {
		if len(in.audiences) != listed[number] || listed[number] == 0 && !sh.keeps(in) {
			return fmt.Errorf("topic %d lists %d audiences, %d want it", number, len(in.audiences), listed[number])
		}
	}
	return nil
}

// brokenPacked is broken for what only a compressed audience has.
func (a *audience) brokenPacked() error {
	p, owing := a.packed, 0
	for i, m := range a.members {
		switch {
		case m.owed && (p == nil || p.beat == nil || m.state != live):
			return fmt.Errorf("member %d is owed a heartbeat", i)
		case p != nil && p.places[i].In() != (m.state == live):
			return fmt.Errorf("member %d: state %d, in the shared stream: %v", i, m.state, p.places[i].In())
		}
		owing += index(m.owed)
	}
	if p != nil && (len(p.places) != len(a.members) || p.owing != owing || (p.beat == nil) != (owing == 0)) {
		return fmt.Errorf("%d members, %d places, %d owed a heartbeat, %d counted, heartbeat %v", len(a.members), len(p.places), owing, p.owing, p.beat)
	}
	return nil
}

// read takes what came since the last read and says it in words: the header, the
// blocks, the end.
func (s *socket) read(c *reading) string {
	wire := s.wire[c.seen:]
	c.seen = len(s.wire)
	var said []string
	if !c.header {
		head, rest, ok := strings.Cut(string(wire), "\r\n\r\n")
		if !ok {
			if len(wire) > 0 {
				said = append(said, fmt.Sprintf("%d bytes of a header", len(wire)))
				c.seen -= len(wire)
			}
			return s.ended(said)
		}
		c.header = true
		c.plain = !strings.Contains(head, "chunked")
		c.gzip = strings.Contains(head, "\r\nContent-Encoding: gzip\r\n")
		said = append(said, strings.Replace(head[:strings.Index(head, "\r\n")], "HTTP/1.1 ", "", 1))
		wire = []byte(rest)
	}
	var body []byte
	for len(wire) > 0 {
		payload, rest := wire, []byte(nil)
		if !c.plain {
			var err error
			if payload, rest, err = c.chunks.Next(wire); err != nil {
				return s.ended(append(said, "BROKEN CHUNKS: "+err.Error()))
			}
			c.last = c.chunks.Done()
		}
		body, wire = append(body, payload...), rest
		if len(payload) == 0 && len(rest) == 0 {
			break
		}
	}
	if c.gzip {
		c.packed = append(c.packed, body...)
		var err error
		if body, err = c.inflate(c.last || c.plain && s.finished); err != nil {
			return s.ended(append(said, "BROKEN GZIP: "+err.Error()))
		}
	}
	if err := c.decoder.Decode(body, func(d *encode.Decoded) {
		said = append(said, c.say(d))
		c.begun = true
	}); err != nil {
		return s.ended(append(said, "BROKEN STREAM: "+err.Error()))
	}
	if c.last && !c.toldLast {
		c.toldLast = true
		said = append(said, "last chunk")
	}
	return s.ended(runs(said))
}

// reading is a client's state.
type reading struct {
	seen                                 int
	header, begun, plain, last, toldLast bool
	chunks                               encode.Dechunker
	decoder                              encode.Decoder

	gzip     bool
	packed   []byte // all of the body
	inflated int    // how much of it, as plain bytes, was taken
}

// inflate takes what the body shows now beyond what it did. Once it is whole,
// its trailer has to be right.
func (c *reading) inflate(whole bool) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(c.packed))
	var plain []byte
	if err == nil {
		r.Multistream(false)
		plain, err = io.ReadAll(r)
	}
	if err != nil && (whole || err != io.ErrUnexpectedEOF && err != io.EOF) {
		return nil, err
	}
	plain = plain[c.inflated:]
	c.inflated += len(plain)
	return plain, nil
}

func (c *reading) say(d *encode.Decoded) string {
	switch {
	case !d.HasData && !d.HasID && d.Retry < 0 && d.Comments == 1:
		return "comment"
	case !d.HasData && d.Retry >= 0 && d.HasID:
		return fmt.Sprintf("start %s", d.ID)
	case !d.HasData && d.Retry >= 0 && !c.begun:
		return "start"
	case !d.HasData && d.Retry >= 0:
		return "come back"
	case !d.HasData && d.HasID:
		return "id " + string(d.ID)
	case string(d.Type) == "gap":
		return fmt.Sprintf("gap %s id=%s", d.Data, d.ID)
	case string(d.Type) == "end":
		return fmt.Sprintf("end %s id=%s", d.Data, d.ID)
	case string(d.Type) == "hello":
		return fmt.Sprintf("hello %s", d.Data)
	case string(d.Type) == "heartbeat" && d.HasID:
		return "heartbeat id=" + string(d.ID)
	case string(d.Type) == "heartbeat":
		return "heartbeat"
	case d.HasData && !d.HasID && string(d.Type) == "message":
		return "event without id, " + strconv.Itoa(len(d.Data)) + " bytes"
	case d.HasData && d.HasID && bytes.HasPrefix(d.Data, []byte("{")):
		return fmt.Sprintf("event %s %s", d.ID, d.Data)
	case d.HasData && d.HasID && string(d.Type) != "message":
		return fmt.Sprintf("event %s named %s", d.ID, d.Type)
	case d.HasData && d.HasID:
		return "event " + string(d.ID)
	}
	return fmt.Sprintf("%+v", *d)
}

func (s *socket) ended(said []string) string {
	if s.finished {
		said = append(said, "finished")
	}
	if s.reset {
		said = append(said, "reset")
	}
	return strings.Join(said, ", ")
}

// runs says "events a..b" for events in a row.
func runs(said []string) []string {
	var out []string
	for i := 0; i < len(said); i++ {
		first, ok := strings.CutPrefix(said[i], "event ")
		j := i
		for ok && j+1 < len(said) && strings.HasPrefix(said[j+1], "event ") {
			j++
		}
		if j > i {
			out = append(out, fmt.Sprintf("%d events %s..%s", j-i+1, first, strings.TrimPrefix(said[j], "event ")))
		} else {
			out = append(out, said[i])
		}
		i = j
	}
	return out
}
