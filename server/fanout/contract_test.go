package fanout

// What a stream may rely on, checked the naive way: by going through everything
// ever published, for each block that a client decodes. contract_gap_test.go is the rest of it.

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
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
