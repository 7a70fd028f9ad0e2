package fanout

// What a stream may rely on where something is lost, and at its end.

import (
	"encoding/json"
	"slices"
	"strings"

	"penstock/encode"
	"penstock/server/topic"
)

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
	case c.hung:
	case c.sock.closed && !c.sock.finished && !c.sock.hard && c.owed > 0:
		c.fail("closed within a frame, which a client may take for its end")
	case m.faulty:
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
