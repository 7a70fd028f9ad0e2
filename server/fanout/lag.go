package fanout

// Lagging subscribers: full sockets, resumes, and everyone at first.
//
// A lagging subscriber has a cursor of its own and is caught up a slice at a
// time until it is with its audience again. Resume, slow reader and gap are one
// piece of code: the subscription's topics from the cursor on, in id order.
// Everything here runs on the shard's thread, after the pass has read and
// flushed: each audience then stands at the shard's read position.

import (
	"cmp"
	"slices"
	"syscall"

	"penstock/ring"
)

const (
	// A slice is what a lagging subscriber gets at once: enough that a socket
	// rarely takes more.
	mostSlice = 64 << 10
	// The work of catching up in a pass: bytes sent, and for each slice what a
	// small send costs in bytes. It is more than its time allows mostly (chores.go).
	mostCatchUp = 32 << 20
	sliceCost   = 4 << 10
)

// newLag makes m lag.
func (sh *shard) newLag(m *subscriber) *lag {
	if p := m.audience.packed; p != nil {
		p.out(m)
	}
	var l *lag
	if n := len(sh.spareLags); n > 0 {
		l, sh.spareLags[n-1] = sh.spareLags[n-1], nil
		sh.spareLags = sh.spareLags[:n-1]
	} else {
		l = new(lag)
	}
	*l = lag{at: int32(len(sh.laggards))}
	sh.laggards = append(sh.laggards, m)
	sh.stats.lagging.Add(1)
	m.lag, m.state = l, lagging
	return l
}

// dropLag takes m out of the laggards: it is live again, or it leaves.
func (sh *shard) dropLag(m *subscriber) {
	l := m.lag
	sh.dropRest(l)
	last := len(sh.laggards) - 1
	moved := sh.laggards[last]
	sh.laggards[l.at], moved.lag.at = moved, l.at
	sh.laggards[last] = nil
	sh.laggards = sh.laggards[:last]
	sh.stats.lagging.Add(-1)
	m.lag = nil
	if l.queued {
		return // shard.ready still has the subscriber and will find it without a lag
	}
	if len(sh.spareLags) < 1024 {
		sh.spareLags = append(sh.spareLags, l)
	}
}

// stall makes a live member of a flush a lagging one: its socket took n of the
// batch's bytes. before is what the audience was told last before the batch, copied
// the copy for those whom these bytes stall.
func (sh *shard) stall(m *subscriber, b *batch, before uint64, bytes []byte, n int, copied **held) {
	told := max(m.told, before)
	l := sh.newLag(m)
	l.reason = GapLag
	again := b.first != ring.None // the batch is a stretch of the ring
	switch {
	case n == 0 && again:
		m.told, l.cursor = told, b.first
	case n == 0:
		m.told = told // mode latest: whatever is the newest then
	case again && m.audience.packed != nil:
		m.told, l.cursor = b.lastID, b.end
		sh.share(l, bytes, n, copied)
	case again:
		m.told, l.cursor = b.lastID, b.end
		l.rest = rest{first: b.first, end: b.end, after: told, size: len(bytes), sent: n}
	default:
		m.told = b.lastID
		sh.share(l, bytes, n, copied)
	}
	sh.block(m)
}

// block leaves m alone until its socket takes bytes again.
func (sh *shard) block(m *subscriber) {
	m.lag.blocked, m.lag.looks = true, 0
	if m.armed {
		return // edge-triggered: the next time that it becomes writable is told
	}
	m.armed = true
	if errno := sh.sys.writable(m.fd, m.slot, true); errno != 0 {
		sh.leave(m, SendFailed)
	}
}

// wake puts a lagging subscriber in the queue of those who can go on.
func (sh *shard) wake(m *subscriber) {
	l := m.lag
	l.blocked = false
	if !l.queued {
		l.queued = true
		sh.ready = append(sh.ready, m)
	}
}

// catchUpAll serves the queue until it is empty or the pass's budget is spent: its bytes, or its time.
// It tells whether anything was sent or anybody became live.
func (sh *shard) catchUpAll() bool {
	budget, moved, cut := sh.catchUpBudget, false, false
	sh.shared.audience = nil
	for n := len(sh.ready); n > 0 && budget > 0; n-- {
		if cut = sh.turn%choresAtOnce == 0 && sh.turn > 0 && sh.late(catchUps); cut {
			break
		}
		m := sh.ready[sh.turn]
		sh.ready[sh.turn] = nil
		sh.turn++
		if m.lag == nil || !m.lag.queued {
			continue // it left while it waited
		}
		m.lag.queued = false
		work, more := sh.catchUp(m)
		budget -= work
		moved = moved || work > 0 || !more
		if more {
			sh.wake(m)
		}
	}
	sh.ready = slices.Delete(sh.ready, 0, sh.turn)
	sh.turn = 0
	sh.owes = 0
	if (cut || budget <= 0) && len(sh.ready) > 0 {
		sh.chores.left = true
		sh.owes = sh.owed()
	}
	return moved
}

// owed is how far behind those are, in bytes of the ring, who were live once and now wait for nothing
// but this shard: the mean of them, where they are more than those who are live. It is asked when a
// pass had no time for all of them. Publishers wait then as they do while the ring is not read: a shard
// reads fast when nobody is live, and what it has not sent is still to be sent.
//
// Nobody whose socket is full counts, be it one or all: what a client does not take is no reason to
// slow others down. Nor does who resumes, and who gets only the newest.
func (sh *shard) owed() uint64 {
	waiting, bytes := int64(0), uint64(0)
	for _, m := range sh.ready {
		l := m.lag
		if l == nil || !l.queued || l.opening != nil || l.past.until > 0 || l.skims(m.audience) {
			continue // has left, or has never been live, or needs little
		}
		waiting++
		if to := sh.position(m.audience); to > l.cursor {
			bytes += uint64(to - l.cursor)
		}
	}
	if live := sh.stats.streams.Load() - int64(len(sh.laggards)); waiting == 0 || waiting <= live {
		return 0
	}
	return bytes / uint64(waiting)
}

// catchUp sends a lagging subscriber its next slice. It returns the work that this was
// and whether there is more to do in the next pass: not when m is live
// again, blocked, parked or gone.
func (sh *shard) catchUp(m *subscriber) (work int, more bool) {
	l := m.lag
	if l.rest.due() {
		n, ok := sh.sendRest(m)
		if !ok {
			return n + sliceCost, false
		}
		work = n + sliceCost
	}
	s := sh.nextSlice(m)
	if s.gap && m.onLag == OnLagClose && l.reason == GapLag && l.opening == nil {
		sh.end(m, LagClosed)
		return work + sliceCost, false
	}
	if s.hold {
		l.parked = m.audience.pace != nil && m.audience.pace.stirred
		return work + sliceCost, !l.parked
	}
	n := 0
	if len(s.bytes) > 0 {
		var errno syscall.Errno
		n, errno = sh.sys.send(m.fd, s.bytes)
		add(&sh.stats.sends, 1)
		add(&sh.stats.bytesOut, uint64(n))
		work += n + sliceCost
		if n < len(s.bytes) && errno != syscall.EAGAIN {
			sh.leave(m, SendFailed)
			return work, false
		}
		if n == 0 {
			sh.block(m) // nothing has gone out: made anew when it can
			return work, false
		}
	}
	sh.served(m, &s, n)
	if n < len(s.bytes) {
		sh.block(m)
		return work, false
	}
	return work, sh.settle(m)
}

// settle makes m live if it is with its audience now. Else it tells whether m
// has more to do in the next pass.
func (sh *shard) settle(m *subscriber) (more bool) {
	a, l := m.audience, m.lag
	position := sh.position(a)
	switch {
	case l.cursor < max(position, l.past.until) || l.past.due():
		return true
	case l.cursor > position || sh.servedID(a) < m.told:
		// It was shown more than its audience: by another shard, or because it
		// came while the audience was held back. It waits for the audience, and gets
		// only what is newer.
		if a.pace != nil && a.pace.stirred {
			l.parked = true
			return false
		}
		return true
	}
	if l.ending {
		sh.end(m, l.why)
		return false
	}
	if a.is(over) && position == sh.read {
		sh.end(m, TopicsEnded)
		return false
	}
	sh.dropLag(m)
	m.state = live
	if a.packed != nil {
		a.packed.in(m)
	}
	return false
}

// served notes that m was given a slice, of which its socket took n bytes.
func (sh *shard) served(m *subscriber, s *slice, n int) {
	l := m.lag
	if p := m.audience.packed; p != nil && n > 0 {
		p.places[m.at].Add(s.plain)
		add(&sh.stats.packedFrom, uint64(len(s.plain)))
		add(&sh.stats.packedTo, uint64(len(s.bytes)))
	}
	after := m.told
	if l.opening != nil {
		m.told = s.told // a rewind has set it back
		sh.opened(l.opening, s)
		l.opening.free()
		l.opening = nil
	} else if s.gap {
		add(&sh.stats.gaps[l.reason], 1)
	}
	m.told = max(m.told, s.told)
	l.bare = s.events == 0 && (s.gap || l.bare)
	add(&sh.stats.deliveries, uint64(s.events))
	if len(s.bytes) > 0 {
		m.sent, l.reason = sh.tick, GapLag
	}
	if n < len(s.bytes) {
		if s.again {
			l.rest = rest{first: s.first, end: s.next, after: after, size: len(s.bytes), sent: n}
		} else if c := &sh.shared; c.audience == m.audience && len(c.slice.bytes) > 0 && &c.slice.bytes[0] == &s.bytes[0] {
			sh.share(l, s.bytes, n, &c.held)
		} else {
			sh.hold(l, s.bytes[n:])
		}
	}
	l.cursor, l.unknown, l.skim = s.next, false, s.skim
	if s.known != nil {
		l.known = *s.known
	} else if l.cursor >= l.known.until {
		l.known.floors = nil
	}
	l.past.rewind = s.rewind
	rewound := s.rewind
	l.broken, l.was = l.broken && len(s.bytes) == 0, 0
	l.past.passed(l.cursor, s.place, m.audience)
	if rewound && !l.past.rewind {
		m.told = max(m.told, l.past.untilID) // what it did not ask for before that is no loss
	}
	if l.fell && l.cursor >= l.fellUntil {
		l.fell, l.topics = false, nil // what follows is in the ring
	}
}

// guard keeps promises to the laggards before the tail breaks them: rests that
// the tail comes near to are copied out, and where all shards' copies together are over
// the limit the one furthest behind is cut, with those who share its copy, here or where as
// much is held (lagMemory); they may resume.
//
// Looking at all laggards costs something, so that it happens only once for
// every quarter of the slack that is read; a rest is copied out when half of it has
// been read since.
func (sh *shard) guard() {
	if sh.read >= sh.guarded+sh.slack/4 {
		sh.guarded = sh.read
		for i := len(sh.laggards) - 1; i >= 0; i-- {
			m := sh.laggards[i]
			if r := &m.lag.rest; r.size > 0 && r.first+sh.slack/2 < sh.read {
				if bytes := sh.remake(m); bytes != nil {
					sh.hold(m.lag, bytes)
				} else {
					sh.leave(m, LagMemory)
				}
			}
		}
	}
	for sh.memory.over(sh.stats.lagBytes.Load()) {
		var last *subscriber
		for _, m := range sh.laggards {
			if m.lag.rest.held != nil && (last == nil || sh.behind(m) > sh.behind(last)) {
				last = m
			}
		}
		if last == nil {
			return
		}
		// The memory is free when all have left who share it.
		h := last.lag.rest.held
		for i := len(sh.laggards) - 1; i >= 0; i-- { // from the end: see dropLag
			if m := sh.laggards[i]; m.lag.rest.held == h {
				sh.leave(m, LagMemory)
			}
		}
	}
}

// slackOf is how far behind the read position of a pass an entry may be that will still
// be in the ring at the next one's end: publishers let no shard be further behind
// than a quarter of the ring and an event, which a pass may read while as much
// is published. 0 where the greatest events leave none: rests are copied out at once then.
func slackOf(r *ring.Ring) ring.Position {
	event := r.Size() - r.Span()
	return ring.Position(max(0, r.Span()-2*(r.Size()/4+event)))
}

// lapAll makes every live member lag from where it has been served to: the
// ring's tail has passed what came next. What each of them lost is told to it by
// its own gap.
func (sh *shard) lapAll() {
	sh.judgeUnread()
	// In an order that a simulation can repeat.
	for _, a := range sh.inOrder() {
		sh.lapAudience(a)
	}
}

// lap makes a's live members, which have been served up to from and told, lag.
func (sh *shard) lap(a *audience, from ring.Position, told uint64) {
	for _, m := range a.members {
		if m.state == live {
			m.told = max(m.told, a.lastID, told)
			l := sh.newLag(m)
			l.cursor, l.reason = from, GapLag
			sh.wake(m)
		}
	}
	sh.unpark(a)
}

// furthestBehind describes the n laggards that are furthest behind.
func (sh *shard) furthestBehind(n int) []StreamInfo {
	all := make([]*subscriber, len(sh.laggards))
	copy(all, sh.laggards)
	slices.SortFunc(all, func(a, b *subscriber) int { return cmp.Compare(sh.behind(b), sh.behind(a)) })
	infos := make([]StreamInfo, 0, min(n, len(all)))
	for _, m := range all[:min(n, len(all))] {
		infos = append(infos, StreamInfo{
			Address: sh.sys.peer(m.fd), Topics: m.audience.names(),
			Lag: sh.behind(m), Bytes: uint64(len(m.lag.rest.own)),
		})
	}
	return infos
}
