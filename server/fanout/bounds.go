package fanout

// What a stream may not exceed: how far it lags, how old it gets, for how long its socket takes
// nothing.
//
// Everything here runs on the shard's thread, but for Limit.

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// Limits are those that may be changed while shards run.
type Limits struct {
	LagMemory          int64         // bytes held for lagging streams, over all shards
	RetryMin, RetryMax time.Duration // each stream is told a time between them to wait before it comes back

	// MaxLag is how far behind its audience a stream may be, in bytes of the ring: it loses what is
	// further behind, as if the ring had. What a resume, rewind or snapshot reads from before the
	// stream began does not count. 0: only the ring bounds it.
	MaxLag int64

	// MaxAge is how old a stream gets, a tenth more or less, and at most a heartbeat time more. It is
	// ended then, told to come back, and may resume. 0: for ever.
	MaxAge time.Duration

	// StallTimeout is for how long a full socket may take not one byte, a quarter more at the most. It
	// is reset then. 0: for ever.
	StallTimeout time.Duration
}

// Limit puts limits in the place of those that hold. Any goroutine.
func (s *Shards) Limit(l Limits) {
	s.shards[0].memory.limit.Store(l.LagMemory) // all shards'
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandLimit, limits: l})
		sh.wakeUp()
	}
}

// bounds is a shard's share of the limits, and what it needs to keep them.
type bounds struct {
	maxLag  ring.Position
	maxAge  time.Duration
	stall   time.Duration
	marks   []waymark // of the way that reading took lately, the oldest first; none without maxLag
	nextEnd []uint32  // of each slot: the tick at which its stream is too old; 0: never
	lookAt  time.Time // when full sockets are looked at next
}

// A waymark is a place in the ring where a pass ended, and the id before it.
type waymark struct {
	at ring.Position
	id uint64
}

// obeyLimits obeys Limit, but for LagMemory, which is not one shard's.
func (sh *shard) obeyLimits(l *Limits) {
	sh.retryMin, sh.retryMax = l.RetryMin, l.RetryMax
	b := &sh.bounds
	b.maxLag, b.stall = ring.Position(l.MaxLag), l.StallTimeout
	b.marks = b.marks[:0]
	sh.noteRead()
	if b.maxAge = l.MaxAge; b.maxAge == 0 {
		b.nextEnd = nil
		return
	}
	for slot, m := range sh.slots {
		if m != nil {
			sh.setEnd(uint32(slot)) // from now on: when it began nobody has noted
		}
	}
}

// noteRead notes how far the ring has been read, eight times for each MaxLag.
func (sh *shard) noteRead() {
	b := &sh.bounds
	if b.maxLag == 0 {
		return
	}
	if n := len(b.marks); n > 0 && sh.read < b.marks[n-1].at+b.maxLag/8 {
		return
	}
	old := 0
	for old < len(b.marks) && b.marks[old].at+b.maxLag < sh.read {
		old++
	}
	b.marks = append(append(b.marks[:0], b.marks[old:]...), waymark{sh.read, sh.readID})
}

// A lapse is what a stream loses that is too far behind: what is before a mark.
type lapse struct {
	waymark
	topics []string // that lost something; none: there is no lapse
}

// lapse finds out whether m is too far behind, and what it loses. It goes on at half of MaxLag, so
// that it makes progress. Where it loses nothing its cursor moves on.
func (sh *shard) lapse(m *subscriber) (lost lapse) {
	a, l, b := m.audience, m.lag, &sh.bounds
	if b.maxLag == 0 || l.opening != nil || l.past.due() || l.broken || l.known.floors != nil || l.bare || l.skims(a) {
		return lost
	}
	to, _ := sh.limit(m)
	if to <= l.cursor+b.maxLag || l.cursor < l.past.until {
		return lost
	}
	for _, at := range b.marks {
		if at.at <= to && to <= at.at+b.maxLag/2 && at.at > l.cursor && at.at >= sh.ring.Tail() {
			lost.waymark = at
			break
		}
	}
	if lost.at == 0 {
		return lost // its audience stands still, or the ring is smaller: the tail will tell
	}
	topics := a.topics
	if a.wild != nil {
		topics = sh.seq.Table().Matching(a.wild.patterns, m.told)
	}
	var found []topic.Found
	for _, t := range topics {
		var gone bool
		if found, gone = sh.seq.AppendLatest(found[:0], t, lost.at, m.told); gone || len(found) > 0 {
			lost.topics = append(lost.topics, t.Name())
		}
	}
	slices.Sort(lost.topics)
	switch n := len(lost.topics); {
	case n == 0 && (a.wild == nil || m.told >= sh.seq.Table().NewestForgotten()):
		l.cursor = lost.at
	case n == 0 || n > MaxGapTopics:
		lost.topics = a.names()
	}
	return lost
}

// lookBehind is look for one that loses something: what follows the lapse. lapsed is false where
// there is none, or where the ring's tail has come that far meanwhile.
func (sh *shard) lookBehind(m *subscriber, lost *lapse) (s slice, found []topic.Found, lapsed bool) {
	if len(lost.topics) == 0 {
		return s, nil, false
	}
	l, told := m.lag, m.told
	cursor, fell := l.cursor, l.fell
	skims := m.onLag == OnLagLatest
	if l.cursor, l.fell = lost.at, false; !skims {
		m.told = lost.id
	}
	s, found = sh.lookFor(m, skims, false)
	m.told, l.cursor, l.fell = told, cursor, fell
	if s.gap {
		return s, nil, false
	}
	s.gap = true
	return s, found, true
}

// appendLapse says what a lapse has lost.
func (sh *shard) appendLapse(buf []byte, m *subscriber, lost *lapse, stands uint64) []byte {
	g := encode.Gap{Topics: lost.topics, After: strconv.FormatUint(m.told, 10), Before: lost.id + 1, Reason: encode.GapLag}
	return encode.AppendGap(buf, &g, stands)
}

// setEnd draws when the stream of a slot, which begins now, is too old.
func (sh *shard) setEnd(slot uint32) {
	b := &sh.bounds
	if b.maxAge == 0 {
		return
	}
	for len(b.nextEnd) <= int(slot) {
		b.nextEnd = append(b.nextEnd, 0)
	}
	age := b.maxAge - b.maxAge/10 + rand.N(b.maxAge/5+1)
	b.nextEnd[slot] = max(1, sh.tick+uint32(min(age/sh.tickLength(), 1<<30)))
}

// tooOld tells whether the stream of a slot has reached its age.
func (sh *shard) tooOld(slot int) bool {
	return slot < len(sh.bounds.nextEnd) && sh.bounds.nextEnd[slot] != 0 && int32(sh.tick-sh.bounds.nextEnd[slot]) >= 0
}

// retire ends a stream that is too old, at a frame's border: one that lags once it is with its
// audience.
func (sh *shard) retire(m *subscriber) {
	if m.lag != nil {
		m.lag.ending, m.lag.why = true, Aged
	} else {
		sh.end(m, Aged)
	}
}

// stallLooks is how often a full socket is looked at within StallTimeout.
const stallLooks = 8

// endStalled resets the streams whose sockets have taken nothing for too long. A socket that takes
// something is not always one that tells so: the kernel tells when a third of it is free.
func (sh *shard) endStalled() {
	b := &sh.bounds
	if b.stall == 0 || sh.clock.Before(b.lookAt) {
		return
	}
	b.lookAt = sh.clock.Add(b.stall / stallLooks)
	for i := len(sh.laggards) - 1; i >= 0; i-- { // from the end: see dropLag
		m := sh.laggards[i]
		l := m.lag
		if !l.blocked {
			continue
		}
		unsent := sh.sys.unsent(m.fd)
		if unsent < l.unsent {
			l.looks = 0
		}
		l.unsent = unsent
		if l.looks++; l.looks > stallLooks {
			sh.leave(m, Stalled)
		}
	}
}
