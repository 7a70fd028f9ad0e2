package fanout

// What a stream may rely on, checked the naive way: by going through everything
// ever published, for each block that a client decodes. model_test.go makes the streams.

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// A record is something published.
type record struct {
	id    uint64
	topic string
	kind  ring.Kind
	name  string // what the publisher calls the event
	data  string // each is different, but for ends
}

// A moment is what was true in one pass of a shard, in which nothing is published.
type moment struct {
	time      time.Time
	read      uint64            // the newest id when it had read
	newest    uint64            // the newest id that there was
	before    uint64            // the id at the ring's tail
	gone      map[string]uint64 // the newest id of each topic that is out of reach
	forgotten uint64            // the newest id of a topic that was forgotten
	faulty    bool              // a system call was made to fail
	overrun   bool              // more was unread than publishers let a shard be behind
}

// An origin is where the bytes of one send begin on the wire. What a socket
// does not take of them comes later, but was made then.
type origin struct {
	at     int
	m      *moment
	live   bool // the subscriber was live: a flush or a heartbeat
	blocks int
}

// A stream is a client of the model.
type stream struct {
	w    *world
	name string
	on   *post
	sub  Subscription
	sock *socket

	joined *moment // of the pass that took it from the inbox; nil before
	hung   bool    // the client has closed
	drain  bool    // the shard was told to drain
	done   bool    // the end was seen and judged

	origins []origin
	owed    int // bytes of the newest send that were not taken
	since   *moment

	seen    int // of the wire
	from    int // the origin that the next byte belongs to
	header  []byte
	headed  bool
	chunks  encode.Dechunker
	gzip    inflater
	decoder encode.Decoder

	begun     bool
	parted    bool   // was told when to come back: the end follows
	unknown   bool   // its own id could not be
	bad       string // what the first gap must say that the client sent
	start     uint64
	last      uint64            // the client's last event id
	floors    map[string]uint64 // where each topic begins, for a rewind
	got       map[uint64]bool
	gaps      []toldGap
	bareGap   *toldGap // the last gap, if no event has followed it
	skimUntil uint64   // onlag=latest: conflated up to this id
	skims     bool     // it still was after the last pass
	flushed   time.Time
}

type toldGap struct {
	encode.Gap
	after  uint64
	id     uint64
	origin int
	m      *moment
	wait   bool // something waited when it was sent: an event must follow
}

func (c *stream) fail(format string, args ...any) {
	c.w.fail(c.name+": "+format, args...)
}

// wants tells whether the subscription asks for a topic.
func (c *stream) wants(name string) bool {
	return slices.Contains(c.sub.Topics, name) ||
		slices.ContainsFunc(c.sub.Patterns, func(p topic.Pattern) bool { return p.Match(name) })
}

// floor is the id after which a topic's events are due.
func (c *stream) floor(name string) uint64 { return max(c.start, c.floors[name]) }

// read judges what has come on the wire since the last time.
func (c *stream) read() {
	for c.seen < len(c.sock.wire) {
		for c.from+1 < len(c.origins) && c.origins[c.from+1].at <= c.seen {
			c.from++
		}
		o := &c.origins[c.from]
		end := len(c.sock.wire)
		if c.from+1 < len(c.origins) {
			end = c.origins[c.from+1].at
		}
		c.take(c.sock.wire[c.seen:end], o)
		c.seen = end
		if whole := c.from+1 < len(c.origins) || c.owed == 0; whole && c.decoder.Open() {
			c.fail("a send ended within a block")
		}
	}
}

// take decodes bytes of one send.
func (c *stream) take(wire []byte, o *origin) {
	if !c.headed {
		c.header = append(c.header, wire...)
		end := bytes.Index(c.header, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		c.headed = true
		if chunked := bytes.Contains(c.header[:end], []byte("chunked")); chunked == c.sub.HTTP10 {
			c.fail("header %q", c.header[:end])
		}
		wire = c.header[end+4:]
	}
	for len(wire) > 0 {
		payload, rest := wire, []byte(nil)
		if !c.sub.HTTP10 {
			var err error
			if payload, rest, err = c.chunks.Next(wire); err != nil {
				c.fail("chunks: %v", err)
			}
		}
		if len(payload) == 0 && len(rest) == len(wire) {
			c.fail("%d bytes behind the last chunk", len(rest))
		}
		if c.sub.Coding == encode.Gzip {
			var err error
			if payload, err = c.gzip.next(payload); err != nil {
				c.fail("gzip: %v", err)
			}
		}
		if err := c.decoder.Decode(payload, func(d *encode.Decoded) { o.blocks++; c.block(d, o) }); err != nil {
			c.fail("stream: %v", err)
		}
		wire = rest
	}
}

// block judges one block.
func (c *stream) block(d *encode.Decoded, o *origin) {
	kind, id := string(d.Type), uint64(0)
	if d.HasData && kind != "gap" {
		c.w.say("  %s reads %s %s, %d bytes", c.name, kind, string(d.ID), len(d.Data))
	} else {
		c.w.say("  %s reads %s %s %s", c.name, kind, string(d.ID), string(d.Data))
	}
	if c.parted {
		c.fail("after it was told when to come back: %+v", *d)
	}
	if d.HasID {
		var err error
		if id, err = encode.ParseID(string(d.ID)); err != nil {
			c.fail("%v", err)
		}
		if c.begun && id < c.last {
			c.fail("id %d after %d", id, c.last)
		}
		if id > max(o.m.read, c.last) && c.begun {
			c.fail("id %d, while the shard had read %d", id, o.m.read)
		}
	}
	switch {
	case !c.begun:
		c.first(d, id, o)
	case c.bad != "":
		c.unknownID(d, id, o)
	case kind == "gap":
		c.gap(d, id, o)
	case !d.HasData && !d.HasID && d.Comments == 1, kind == "heartbeat" && !d.HasID:
		c.beat(kind == "heartbeat")
	case !d.HasData && d.HasID && d.Retry < 0, kind == "heartbeat":
		c.beat(kind == "heartbeat")
		c.claims(id, o.m)
		c.last = id
	case !d.HasData && d.Retry == 2000 && (c.drain || c.sub.OnLag == OnLagClose):
		c.parted = true
	case d.HasData && d.HasID:
		c.event(d, id, o)
	case d.HasData:
		c.past(d)
	default:
		c.fail("what is this: %+v", *d)
	}
}

func (c *stream) beat(event bool) {
	if event != c.sub.HeartbeatEvent {
		c.fail("a heartbeat of the other kind")
	}
}

// first judges the first block: where the stream says that it starts.
func (c *stream) first(d *encode.Decoded, id uint64, o *origin) {
	c.begun = true
	s := &c.sub
	if d.Retry != 2000 || d.HasData != s.Hello || s.Hello && string(d.Type) != "hello" {
		c.fail("first block %+v", *d)
	}
	if s.Resume && s.LastID > c.joined.newest {
		c.bad = strconv.FormatUint(s.LastID, 10)
	}
	if s.BadID != "" {
		c.bad = s.BadID
	}
	if d.HasID != (c.bad == "") {
		c.fail("first block with an id: %v", d.HasID)
	}
	switch r := s.Rewind; {
	case c.bad != "":
		return
	case s.Resume:
		if id != s.LastID {
			c.fail("starts at %d, want its own %d", id, s.LastID)
		}
	case r == Rewind{}:
		if id != c.joined.read {
			c.fail("starts at %d, the shard had read %d", id, c.joined.read)
		}
	default:
		c.rewound(r, id, o.m)
	}
	c.start, c.last = id, id
}

// rewound judges the start of a stream with a rewind, and notes where each topic begins.
func (c *stream) rewound(r Rewind, start uint64, m *moment) {
	c.floors = map[string]uint64{}
	first := uint64(0)
	for name, all := range c.w.topics {
		if !c.wants(name) {
			continue
		}
		floor := min(m.gone[name], c.joined.read) // what was lost since is told by a gap
		if r.Since > 0 {
			floor = max(floor, min(c.joined.read, uint64(max(0, c.joined.time.Add(-r.Since).UnixMicro()))))
		}
		there := slices.DeleteFunc(slices.Clone(all), func(e *record) bool { return e.id > c.joined.read })
		if n := r.Count; n > 0 {
			if len(there) > 0 && there[len(there)-1].kind == ring.End {
				n++ // an end after them does not count
			}
			if n < len(there) {
				floor = max(floor, there[len(there)-n-1].id)
			}
		}
		c.floors[name] = floor
		for _, e := range there {
			if e.id > floor && (first == 0 || e.id < first) {
				first = e.id
			}
		}
	}
	if first > 0 && start != first-1 || first == 0 && (start < c.joined.read || start > m.read) {
		c.fail("starts at %d, while the first event is %d, and the shard had read %d when it came, %d now", start, first, c.joined.read, m.read)
	}
}

// event judges an event: that it is the next one.
func (c *stream) event(d *encode.Decoded, id uint64, o *origin) {
	e := c.w.byID[id]
	switch {
	case e == nil || !c.wants(e.topic):
		c.fail("event %d is none of its own", id)
	case id <= c.last:
		c.fail("event %d after id %d", id, c.last)
	case id <= c.floor(e.topic):
		c.fail("event %d is before where %s begins, %d", id, e.topic, c.floor(e.topic))
	case !c.looks(d, e):
		c.fail("event %d is %s %.100q, was published as %s %.100q", id, d.Type, d.Data, e.name, e.data)
	}
	if newest, _ := c.newest(e.topic, min(c.skimUntil, o.m.read)); c.floors == nil && c.sub.Interval == 0 && newest != nil && id < newest.id {
		c.fail("event %d, while %s had newer ones and onlag=latest", id, e.topic)
	}
	c.claims(id-1, o.m)
	if g := c.bareGap; g != nil && g.m != nil && g.origin == c.from && g.id != id-1 {
		c.fail("gap with id %d before event %d", g.id, id)
	}
	c.got[id], c.last, c.bareGap = true, id, nil
	if o.live && c.sub.Interval > 0 && o.m.time != c.flushed {
		if gap := o.m.time.Sub(c.flushed); gap < c.sub.Interval {
			c.fail("flushed %s after the last time, in spite of interval %s", gap, c.sub.Interval)
		}
		c.flushed = o.m.time
	}
}

// looks tells whether a block has the form of an event.
func (c *stream) looks(d *encode.Decoded, e *record) bool {
	name := e.name
	if name == "" {
		name = "message"
	}
	switch {
	case e.kind == ring.End || c.sub.Form == encode.FormType:
		return string(d.Type) == name && string(d.Data) == e.data
	case c.sub.Form == encode.FormTopic:
		return string(d.Type) == e.topic && string(d.Data) == e.data
	}
	var got struct{ Topic, Event, Data string }
	err := json.Unmarshal(d.Data, &got)
	return err == nil && string(d.Type) == "message" && got.Topic == e.topic && got.Event == e.name && got.Data == e.data
}

// past judges an event without an id: of a snapshot.
func (c *stream) past(d *encode.Decoded) {
	for name := range c.w.topics {
		if !c.wants(name) {
			continue
		}
		event, end := c.newest(name, c.joined.read)
		for _, e := range []*record{event, end} {
			if e == nil || !c.looks(d, e) {
				continue
			}
			switch {
			case !c.sub.Snapshot:
				c.fail("event %d without its id, and nobody asked for a snapshot", e.id)
			case e.id > c.start:
				c.fail("event %d without its id, while the stream starts at %d", e.id, c.start)
			case c.got[e.id]:
				c.fail("event %d once more in the snapshot", e.id)
			case e == event && end != nil && c.got[end.id]:
				c.fail("event %d after its topic's end in the snapshot", e.id)
			}
			c.got[e.id], c.bareGap = true, nil
			return
		}
	}
	c.fail("%.100q without an id is no topic's newest event", d.Data)
}

// newest are a topic's newest event up to an id, and the end that came after it.
func (c *stream) newest(name string, until uint64) (event, end *record) {
	for _, e := range c.w.topics[name] {
		switch {
		case e.id > until:
		case e.kind == ring.End:
			end = e
		default:
			event, end = e, nil
		}
	}
	return event, end
}

// unknownID judges the gap that follows a first block without an id.
func (c *stream) unknownID(d *encode.Decoded, id uint64, o *origin) {
	var g encode.Gap
	if err := json.Unmarshal(d.Data, &g); err != nil || string(d.Type) != "gap" || !d.HasID {
		c.fail("%s %q where a gap for a bad id must be", d.Type, d.Data)
	}
	if g.Reason != encode.GapUnknownID || g.After != c.bad || g.Before != max(c.joined.read+1, o.m.before) || !slices.Equal(g.Topics, c.sub.names()) || id != c.joined.read {
		c.fail("gap %+v with id %d; the client sent %q, the shard had read %d", g, id, c.bad, c.joined.read)
	}
	c.gaps = append(c.gaps, toldGap{Gap: g, m: o.m}) // of what is out of reach by now as well
	c.bad, c.unknown, c.start, c.last = "", true, id, id
	c.bareGap = &toldGap{id: id, wait: !c.sub.Snapshot && c.waits(id, o.m)}
}

// gap judges a gap: that what it names was lost, and nothing else.
func (c *stream) gap(d *encode.Decoded, id uint64, o *origin) {
	g := toldGap{id: id, m: o.m, origin: c.from}
	var err error
	if err = json.Unmarshal(d.Data, &g.Gap); err == nil {
		g.after, err = encode.ParseID(g.After)
	}
	if err != nil || !d.HasID {
		c.fail("gap %q: %v", d.Data, err)
	}
	opening := c.from == 0
	reason := encode.GapLag
	if c.sub.Resume && !c.unknown && opening {
		reason = encode.GapResume
		if c.sub.LastID < c.w.seq.StartID() {
			reason = encode.GapRestart
		}
	}
	must, may := c.lost(g.after, o.m)
	own := slices.Equal(g.Topics, c.sub.names())
	switch {
	case g.Before != o.m.before:
		c.fail("gap before %d, while the ring's tail is %d", g.Before, o.m.before)
	case g.Reason != reason:
		c.fail("gap for %s, want %s", g.Reason, reason)
	case g.after < c.last:
		c.fail("gap after %d, while %d had come", g.after, c.last)
	case opening && (c.sub.Rewind != Rewind{}) && !c.sub.Resume:
		c.fail("gap at the beginning of a rewind")
	case reason == encode.GapLag && c.sub.OnLag == OnLagClose && !opening:
		c.fail("gap for lag, in spite of onlag=close")
	case c.bareGap != nil && c.bareGap.wait:
		c.fail("a second gap without an event between")
	case own && len(c.sub.Patterns) > 0 && g.after < o.m.forgotten:
		// Which topics there were is not known.
	default:
		for _, name := range may {
			if slices.Contains(must, name) && !slices.Contains(g.Topics, name) {
				c.fail("gap after %d that does not name %s, of which %d is gone", g.after, name, o.m.gone[name])
			}
		}
		for _, name := range g.Topics {
			if !slices.Contains(may, name) {
				c.fail("gap after %d names %s, of which nothing newer than %d is gone", g.after, name, o.m.gone[name])
			}
		}
		if len(must) == 0 {
			c.fail("gap %+v, and nothing is lost", g.Gap)
		}
	}
	if n := len(c.gaps); n > 0 {
		// What the gap before has told of is no reason for another one.
		before := c.gaps[n-1].m
		news := slices.ContainsFunc(may, func(name string) bool { return o.m.gone[name] > max(before.gone[name], c.floor(name)) })
		if !news && (len(c.sub.Patterns) == 0 || o.m.forgotten == before.forgotten) {
			c.fail("gap %+v, and nothing is lost since the one before, %+v", g.Gap, c.gaps[n-1].Gap)
		}
	}
	g.wait = c.waits(id, o.m)
	c.gaps = append(c.gaps, g)
	c.bareGap = &c.gaps[len(c.gaps)-1]
	if reason == encode.GapLag && c.sub.OnLag == OnLagLatest {
		c.skimUntil = max(c.skimUntil, o.m.read)
	}
	c.claims(id, o.m)
	c.last = id
}

// lost are the topics of which something newer than an id is gone: those that
// a gap must name, and those that it may.
func (c *stream) lost(after uint64, m *moment) (must, may []string) {
	names := slices.Clone(c.sub.Topics)
	for name := range c.w.topics {
		if c.wants(name) && !slices.Contains(names, name) && after >= c.w.seq.StartID() {
			names = append(names, name)
		}
	}
	for _, name := range names {
		restart := after < c.w.seq.StartID()
		if gone := m.gone[name]; restart || gone > after {
			may = append(may, name)
			event, end := c.newest(name, m.read)
			newest := event != nil && event.id > after && gone >= event.id || end != nil && end.id > after && gone >= end.id
			if restart || gone > max(after, c.floor(name)) && (!c.sub.Latest || newest) {
				must = append(must, name)
			}
		}
	}
	if c.sub.Latest && len(must) == 0 && c.from == 0 {
		must = may // a topic that is not known that far back
	}
	return must, may
}

// waits tells whether an event in reach was due after an id.
func (c *stream) waits(id uint64, m *moment) bool {
	for _, e := range c.w.between(id, m.read) {
		if c.wants(e.topic) && e.id > c.floor(e.topic) && e.id > m.gone[e.topic] {
			return c.sub.Interval == 0
		}
	}
	return false
}

// claims judges that nothing is missing up to an id: everything due was
// delivered, or named in a gap, or overtaken where only the newest is asked for.
func (c *stream) claims(id uint64, m *moment) {
	for _, e := range c.w.between(c.last, id) {
		if c.wants(e.topic) && e.id > c.floor(e.topic) && !c.got[e.id] && !c.excused(e, m) {
			c.fail("%s %d is missing, of what is up to %d (in reach: %v)", e.topic, e.id, id, e.id > m.gone[e.topic])
		}
	}
}

func (c *stream) excused(e *record, m *moment) bool {
	for i := range c.gaps {
		g := &c.gaps[i]
		if g.after < e.id && e.id < g.Before && e.id <= g.m.gone[e.topic] && c.names(g, e.topic) {
			return true
		}
	}
	until := c.skimUntil
	if c.sub.Latest {
		if until = m.read; e.id <= m.gone[e.topic] {
			until = m.newest // whoever will read on gets the newer one
		}
	}
	event, _ := c.newest(e.topic, until)
	return event != nil && event.id > e.id
}

// names tells whether a gap names a topic.
func (c *stream) names(g *toldGap, name string) bool {
	return slices.ContainsFunc(g.Topics, func(s string) bool {
		p, err := topic.ParsePattern(s)
		return err == nil && p.Match(name)
	})
}

// over tells whether all topics have ended, for good as far as anybody knows.
func (c *stream) over() bool {
	for _, name := range c.sub.Topics {
		t, ok := c.w.seq.Table().Lookup(name)
		if !ok {
			return false
		}
		if _, ok := t.Ended(); !ok {
			return false
		}
	}
	return len(c.sub.Patterns) == 0
}

// ended judges the stream's end, if it has come in a pass.
func (c *stream) ended(m *moment) {
	if c.done || !c.sock.finished && !c.sock.closed {
		return
	}
	c.done = true
	_, may := c.lost(c.last, m)
	unknown := len(c.sub.Patterns) > 0 && c.last < m.forgotten
	closed := c.sub.OnLag == OnLagClose && (len(may) > 0 || unknown)
	reason := c.drain || c.over() || closed
	switch {
	case c.hung || m.faulty:
	case c.sock.finished:
		if !reason {
			c.fail("ended without a reason")
		}
		if c.owed > 0 || c.decoder.Open() || c.headed && !c.sub.HTTP10 && !c.chunks.Done() || c.gzip.begun && !c.gzip.ended {
			c.fail("ended within a frame or without the last chunk")
		}
		if c.begun && !c.parted && !c.over() {
			c.fail("was not told when to come back")
		}
		if !c.drain && !closed {
			c.claims(m.read, m)
		}
	case c.sock.full && reason:
	case c.owed > 0 && (c.w.tightMemory || c.on.overrunSince(c.since)):
	default:
		c.fail("reset without a reason, %d bytes owed", c.owed)
	}
}

// settled judges a stream to which nothing is due any more.
func (c *stream) settled(m *moment) {
	if c.done {
		return
	}
	if !c.begun {
		c.fail("has not begun")
	}
	if c.over() {
		c.fail("has not ended: %s", strings.Join(c.sub.Topics, ", "))
	}
	c.claims(m.read, m)
	if !c.sub.Snapshot {
		return
	}
	for name := range c.w.topics {
		event, end := c.newest(name, c.joined.read)
		if end != nil && end.id > c.start {
			continue // the stream's own events have touched it
		}
		for _, e := range []*record{event, end} {
			if e != nil && c.wants(name) && e.id <= c.start && e.id > m.gone[name] && !c.got[e.id] {
				c.fail("%s %d is missing of the snapshot", name, e.id)
			}
		}
	}
}
