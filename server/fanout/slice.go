package fanout

// Slices: what a lagging subscriber gets in one send, and how far back a joiner
// goes.
//
// Everything here runs on the shard's thread, after the pass has read and flushed.

import (
	"math"
	"slices"
	"strconv"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// A slice is what a lagging subscriber gets in one send.
type slice struct {
	bytes  []byte        // valid until the next slice is made; none: nothing is to be sent
	next   ring.Position // where the cursor goes on after it
	place  int32         // where a snapshot goes on after it
	told   uint64        // the newest id in it
	events int
	gap    bool   // it says that something was lost
	known  *known // what is known from then on; nil: what was
	hold   bool   // it is not to be sent yet
	skim   bool   // after it: what lag.skim and past.rewind are
	rewind bool
	again  bool          // its bytes can be made again from the ring ...
	first  ring.Position // ... where the first of its events is
	plain  []byte        // compressed: what was; as long valid as bytes
}

// shared is the slice made last, for those of the same audience with the same
// cursor: many who were stalled by one batch share it. It is valid as long as
// the scratch bytes are, within one pass.
type shared struct {
	slice    slice
	audience *audience
	cursor   ring.Position
	after    uint64 // made for somebody who was told this
	firstID  uint64 // its first event
	held     *held  // the copy for those whom it stalled
}

// nextSlice lays out what m gets next: its response header and first block if
// those are due, a gap if something was lost, and the frames after its cursor.
//
// A gap and the first frame after it go out together, so that there never are two gaps
// without an event between them, however fast the ring moves on.
func (sh *shard) nextSlice(m *subscriber) slice {
	a, l := m.audience, m.lag
	plain := l.opening == nil && !l.past.due() && !l.broken
	if c := &sh.shared; plain && c.audience == a && c.cursor == l.cursor && c.after <= m.told && m.told < c.firstID {
		return c.slice
	}
	sh.shared.audience = nil
	lost := sh.lapse(m)
	s, found, lapsed := sh.lookBehind(m, &lost)
	if !lapsed {
		s, found = sh.look(m)
	}
	if s.hold {
		return s
	}
	limit, limitID := sh.limit(m)

	buf, head := sh.begin(a, l.opening)
	if l.opening != nil {
		s.told = sh.startID(m, found)
		buf = sh.appendOpening(buf, l.opening, s.told)
		if l.opening.Rewound {
			s.told = max(s.told, m.told) // with a past of its own it starts before that
		}
	}
	if s.gap {
		switch {
		case len(found) > 0:
			s.told = max(m.told, found[0].Entry.ID()-1)
		case s.next >= limit:
			s.told = max(m.told, limitID)
		}
		if lapsed {
			buf = sh.appendLapse(buf, m, &lost, s.told)
		} else {
			buf = sh.appendGap(buf, m, s.told)
		}
	}
	s.again = plain && !s.gap && !l.skims(a) && !s.skim
	if l.snapping() {
		for i := range found {
			buf = encode.AppendWithoutID(buf, sh.frame(found[i].Entry, a.form))
		}
	} else {
		for i := range found {
			buf = append(buf, sh.frame(found[i].Entry, a.form)...)
			s.again = s.again && found[i].Position != ring.None
		}
		if len(found) > 0 {
			s.told = found[len(found)-1].Entry.ID()
		}
	}
	if s.again && len(found) > 0 {
		s.first = found[0].Position
	}
	s.events = len(found)
	sh.scratch = buf
	if head == 0 && len(buf) == encode.ChunkHead {
		return s // nothing to send
	}
	whole := s.again
	if a.packed != nil {
		buf, s.plain = sh.packSlice(buf, head+encode.ChunkHead, l.opening != nil)
		sh.scratch, s.again = buf, false
	}
	s.bytes = seal(buf, head, a.is(http10))
	if whole {
		sh.shared = shared{slice: s, audience: a, cursor: l.cursor, after: m.told, firstID: found[0].Entry.ID()}
	}
	return s
}

// begin begins a slice: the response header where it is due, and room for a
// chunk's head. head is the header's length.
func (sh *shard) begin(a *audience, opening *Subscription) (buf []byte, head int) {
	buf = sh.scratch[:0]
	if opening != nil {
		buf = appendHeader(buf, opening, sh.date())
		head = len(buf)
	}
	var room [encode.ChunkHead]byte
	return append(buf, room[:]...), head
}

// limit is how far m is caught up, and the newest id before that: to where its audience stands, and
// to where m joined one that was held back.
func (sh *shard) limit(m *subscriber) (ring.Position, uint64) {
	a, p := m.audience, &m.lag.past
	return max(sh.position(a), p.until), max(sh.servedID(a), p.untilID)
}

// look finds the entries of m's next slice, and whether something was lost before
// them that it does not know of.
func (sh *shard) look(m *subscriber) (s slice, found []topic.Found) {
	l := m.lag
	limit, limitID := sh.limit(m)
	skims, rewind := l.skims(m.audience), l.past.rewind
	forgotten := sh.seq.Table().NewestForgotten()
	badID := l.opening != nil && l.opening.BadID != ""
	silent := badID || rewind && l.opening != nil // it is sent a gap anyway; it asked for what is there
	s, found = sh.lookFor(m, skims, rewind)
	s.gap = s.gap || l.broken
	if s.gap && rewind && !silent && (skims || len(found) == 0 && s.next < limit) {
		// All of the past that was left is lost, and a gap wants an event behind it. Or some of
		// it is, which is no loss to who asked for the newest alone.
		rewind = false
		s, found = sh.lookFor(m, skims, rewind)
		s.gap = s.gap || !skims
	}
	if s.gap && !silent && m.onLag == OnLagLatest && l.reason == GapLag && !skims {
		skims = true
		s, found = sh.lookFor(m, skims, rewind)
		s.gap = true
	}
	until := max(limit, sh.ring.Tail())
	if (s.gap || badID) && (s.next < until || skims) {
		// More slices of this past follow, or the newest are asked for again. What they lack by now is known; what is lost from now
		// on, be it while we look once more, is not.
		untilID := max(limitID, sh.seq.BeforeID()-1)
		rewinds := rewind && silent
		if rewinds {
			until, untilID = l.past.until, l.past.untilID
		}
		k := sh.knows(m, until, untilID, math.MaxInt32)
		if rewinds {
			k.forgotten = l.known.forgotten // when it came: what was forgotten since may have had something newer
		}
		s, found = sh.lookFor(m, skims, rewind)
		s.gap, s.known = true, &k
	} else if s.gap || badID {
		s.known = &known{forgotten: forgotten}
	}
	// More has left the ring already than was looked at: one gap for all of it, in the next pass.
	s.hold = (s.gap && !silent || badID || l.known.floors != nil) && s.next >= limit && sh.ring.Tail() > limit
	s.gap = s.gap && !silent
	return s, found
}

// lookFor looks for entries: all, or the newest of each topic; and with rewind no further than
// that goes.
func (sh *shard) lookFor(m *subscriber, skims, rewind bool) (s slice, found []topic.Found) {
	a, l := m.audience, m.lag
	p := &l.past
	limit, _ := sh.limit(m)
	s.place, s.told, s.skim, s.rewind = p.next, m.told, l.skim, rewind
	switch {
	case l.snapping():
		found, s.place = sh.snapshot(a, p)
		s.next = l.cursor
	case skims && !rewind:
		found, s.gap = sh.newest(m, limit)
		s.next, s.skim = max(l.cursor, limit), false
		if n := prefix(found, sh.sliceBytes); n < len(found) {
			found, s.next, s.skim = found[:n], l.cursor, true
		}
	default:
		if rewind {
			limit = min(limit, p.until)
		}
		limit = max(limit, l.cursor)
		if a.wild != nil {
			found, s.next, s.gap = sh.lookWild(m, limit)
		} else {
			found, s.next, s.gap = sh.seq.GatherAbove(sh.found[:0], a.topics, l.known.floors, m.told, l.cursor, limit, sh.sliceBytes)
			sh.found = found
		}
	}
	return s, found
}

// knows is what m knows of the past before a position, with its id, once it has been told that
// something was lost, or has rewound to the newest n events of each topic.
func (sh *shard) knows(m *subscriber, until ring.Position, untilID uint64, n int) known {
	old := &m.lag.known
	k := known{forgotten: sh.seq.Table().NewestForgotten(), until: until}
	topics := sh.topicsOf(m)
	k.floors = make(map[*topic.Topic]uint64, len(topics))
	for _, t := range topics {
		// The newest one lost may be behind until.
		k.floors[t] = max(old.floors[t], min(sh.seq.Floor(t, until, n), untilID))
	}
	if m.audience.wild != nil {
		for _, t := range m.audience.topics {
			if t.Forgotten() {
				k.floors[t], _, _ = t.Newest()
			}
		}
	}
	return k
}

// forgot tells whether topics were forgotten that may have had something that m was not told,
// nor knows to be lost.
func (sh *shard) forgot(m *subscriber) bool {
	return max(m.told, m.lag.known.forgotten) < sh.seq.Table().NewestForgotten()
}

// skims tells whether only the newest event of each topic is of interest.
func (l *lag) skims(a *audience) bool { return l.skim || a.pace != nil && a.pace.latest }

// newest finds the newest event before a position of each of m's topics that has one newer
// than what m was told, and the topic's end if that has come after it. lost tells whether one will never be known: it is out of reach
// and nothing newer has come, or, for a resume, it may have been here before what is
// known of the topic begins.
func (sh *shard) newest(m *subscriber, limit ring.Position) (found []topic.Found, lost bool) {
	l, topics := m.lag, m.audience.topics
	if m.audience.wild != nil {
		if l.past.until > 0 {
			// A topic may have been quiet since the audience came, and m is not live yet.
			topics = sh.seq.Table().Matching(m.audience.wild.patterns, m.told)
		}
		lost = max(m.told, l.known.forgotten) < sh.seq.ForgotNewest()
	}
	found = sh.found[:0]
	for _, t := range topics {
		var gone bool
		found, gone = sh.seq.AppendLatest(found, t, limit, max(m.told, l.known.floors[t]))
		lost = lost || gone || l.opening != nil && sh.seq.MissesNewest(t, m.told)
	}
	sh.found = found
	sortFound(found)
	return found, lost
}

// snapshot finds the newest events, and the ends behind them, as they were where the
// subscriber joined, of the topics that nothing newer has been sent of: a slice of them from a place on. For an
// audience with patterns the places are parts of the table.
func (sh *shard) snapshot(a *audience, p *past) (found []topic.Found, place int32) {
	found = sh.found[:0]
	place = p.next
	topics := a.topics
	for size := 0; int(place) < p.places(a) && size < sh.sliceBytes; place++ {
		topics = topics[:0:0]
		if a.wild != nil {
			topics = sh.seq.Table().MatchingIn(topics, int(place), a.wild.patterns, 0)
		} else {
			topics = a.topics[place : place+1]
		}
		for _, t := range topics {
			n := len(found)
			found, _ = sh.seq.AppendLatest(found, t, p.until, 0)
			if len(found) > n && found[len(found)-1].Entry.ID() > p.after {
				found = found[:n]
			}
			for _, f := range found[n:] {
				size += len(f.Entry.Frame())
			}
		}
	}
	sh.found = found
	sortFound(found)
	return found, place
}

// places is how many places a snapshot of a has.
func (p *past) places(a *audience) int {
	if a.wild != nil {
		return topic.Parts
	}
	return len(a.topics)
}

// due tells whether something of the past is still to be served.
func (p *past) due() bool { return p.rewind || p.snapshot }

// snapping tells whether a snapshot's turn has come: a resume goes first, if only
// to find out in an empty ring that something is lost.
func (l *lag) snapping() bool {
	return l.past.snapshot && l.cursor >= l.past.until && (l.opening == nil || !l.opening.Resume)
}

// passed forgets what of the past has been served.
func (p *past) passed(cursor ring.Position, place int32, a *audience) {
	p.next = place
	if cursor >= p.until {
		p.rewind = false
	}
	if p.snapshot && int(place) >= p.places(a) {
		p.snapshot = false
	}
}

// appendGap says that events after what m was told and before the ring's tail
// are gone. stands is the gap's own id.
func (sh *shard) appendGap(buf []byte, m *subscriber, stands uint64) []byte {
	g := encode.Gap{After: strconv.FormatUint(m.atBreak(), 10), Before: sh.seq.BeforeID(), Reason: gapName(m.lag.reason)}
	for _, t := range sh.topicsOf(m) {
		if sh.seq.Lost(t, m.told) {
			g.Topics = append(g.Topics, t.Name())
		}
	}
	slices.Sort(g.Topics)
	w := m.audience.wild
	if len(g.Topics) == 0 || len(g.Topics) > MaxGapTopics || w != nil && m.told < sh.seq.Table().NewestForgotten() {
		g.Topics = m.audience.names()
	}
	return encode.AppendGap(buf, &g, stands)
}

// topicsOf are those that m may have lost something of.
func (sh *shard) topicsOf(m *subscriber) []*topic.Topic {
	// Those found when it fell are not looked at again while only the newest are asked for.
	if w := m.audience.wild; m.lag.fell && !m.lag.skims(m.audience) {
		return m.lag.topics
	} else if w != nil {
		return sh.seq.Table().Matching(w.patterns, m.told)
	}
	return m.audience.topics
}

// names are the topics and patterns that a's members asked for.
func (a *audience) names() []string {
	var names []string
	if a.wild != nil {
		for _, p := range a.wild.patterns {
			names = append(names, p.String())
		}
		return names
	}
	for _, t := range a.topics {
		names = append(names, t.Name())
	}
	return names
}
