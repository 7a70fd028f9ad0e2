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
	"strconv"
	"syscall"

	"penstock/encode"
	"penstock/ring"
)

const (
	// A slice is what a lagging subscriber gets at once: enough that a socket
	// rarely takes more.
	sliceBytes = 64 << 10
	// The work of catching up in a pass: bytes sent, and for each slice what a
	// small send costs in bytes. What is left over waits for the next pass, so that a
	// storm of resumes does not hold live events up.
	catchUpBudget = 2 << 20
	sliceCost     = 4 << 10
)

// newLag makes m lag.
func (sh *shard) newLag(m *subscriber) *lag {
	l := new(lag)
	if n := len(sh.spareLags); n > 0 {
		l, sh.spareLags[n-1] = sh.spareLags[n-1], nil
		sh.spareLags = sh.spareLags[:n-1]
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
// batch's size bytes. before is what the audience was told last before the batch.
func (sh *shard) stall(m *subscriber, b *batch, before uint64, n, size int) {
	told := max(m.told, before)
	l := sh.newLag(m)
	l.reason = GapLag
	if n == 0 {
		m.told, l.cursor = told, b.first
	} else {
		m.told, l.cursor = b.lastID, b.end
		l.rest = rest{first: b.first, end: b.end, after: told, size: size, sent: n}
	}
	sh.block(m)
}

// block leaves m alone until its socket takes bytes again.
func (sh *shard) block(m *subscriber) {
	m.lag.blocked = true
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

// catchUpAll serves the queue until it is empty or the pass's budget is spent.
// It tells whether anything was sent or anybody became live.
func (sh *shard) catchUpAll() bool {
	budget, moved := catchUpBudget, false
	sh.shared.audience = nil
	for n := len(sh.ready); n > 0 && budget > 0; n-- {
		m := sh.ready[sh.served]
		sh.ready[sh.served] = nil
		sh.served++
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
	sh.ready = append(sh.ready[:0], sh.ready[sh.served:]...)
	sh.served = 0
	return moved
}

// catchUp sends a lagging subscriber its next slice. It returns the work that this was
// and whether there is more to do in the next pass: not when m is live
// again, blocked or gone.
func (sh *shard) catchUp(m *subscriber) (work int, more bool) {
	l := m.lag
	if l.rest.due() {
		n, ok := sh.sendRest(m)
		if !ok {
			return n + sliceCost, false
		}
		work = n + sliceCost
	}
	if l.ending {
		sh.end(m)
		return work + sliceCost, false
	}
	s := sh.nextSlice(m)
	if len(s.bytes) > 0 {
		n, errno := sh.sys.send(m.fd, s.bytes)
		add(&sh.stats.sends, 1)
		add(&sh.stats.bytesOut, uint64(n))
		work += n + sliceCost
		if n < len(s.bytes) {
			if errno != syscall.EAGAIN {
				sh.leave(m, SendFailed)
				return work, false
			}
			if n == 0 {
				sh.block(m) // nothing has gone out: made anew when it can
				return work, false
			}
		}
		sh.sentSlice(m, &s, n)
		if n < len(s.bytes) {
			sh.block(m)
			return work, false
		}
	} else {
		l.cursor = s.next
	}
	if l.cursor < sh.read {
		return work, true
	}
	if sh.readID < m.told {
		// Another shard had shown it more than this one has read: it joins the
		// audience once we are there, and gets only what is newer.
		return work, true
	}
	sh.dropLag(m)
	m.state = live
	return work, false
}

// sentSlice notes that m was given a slice, of which its socket took n bytes.
func (sh *shard) sentSlice(m *subscriber, s *slice, n int) {
	l := m.lag
	after := m.told
	m.told, m.sent = max(m.told, s.told), sh.tick
	add(&sh.stats.deliveries, uint64(s.events))
	if l.opening != nil {
		sh.opened(l.opening, s)
		l.opening = nil
	} else if s.gap {
		add(&sh.stats.gaps[l.reason], 1)
	}
	l.reason = GapLag
	if n < len(s.bytes) {
		if s.again {
			l.rest = rest{first: l.cursor, end: s.next, after: after, size: len(s.bytes), sent: n}
		} else {
			sh.hold(l, s.bytes[n:])
		}
	}
	l.cursor = s.next
}

// A slice is what a lagging subscriber gets in one send.
type slice struct {
	bytes  []byte        // valid until the next slice is made
	next   ring.Position // where the cursor goes on after it
	told   uint64        // the newest id in it
	events int
	gap    bool // it says that something was lost
	again  bool // its bytes can be made again from the ring
}

// nextSlice lays out what m gets next: its response header and first block if
// those are due, a gap if something was lost, and the frames after its cursor.
//
// A gap and the first frame after it go out together, so that there never are two gaps
// without an event between them, however fast the ring moves on.
func (sh *shard) nextSlice(m *subscriber) slice {
	a, l := m.audience, m.lag
	if c := &sh.shared; c.audience == a && c.cursor == l.cursor && c.after <= m.told && m.told < c.firstID && l.opening == nil {
		return c.slice
	}
	found, next, lost := sh.seq.Gather(sh.found[:0], a.topics, m.told, l.cursor, sh.read, sliceBytes)
	sh.found = found
	s := slice{next: next, told: m.told, events: len(found), gap: lost}
	buf, head := sh.block0(a, l.opening)
	if l.opening != nil {
		buf = sh.appendOpening(buf, l.opening)
	}
	if lost {
		stands := max(m.told, sh.readID)
		if len(found) > 0 {
			stands = max(m.told, found[0].Entry.ID()-1)
		}
		buf = sh.appendGap(buf, a, m.told, l, stands)
		s.told = stands
	}
	s.again = l.opening == nil && !lost
	for i := range found {
		buf = append(buf, sh.frame(found[i].Entry, a.form)...)
		s.again = s.again && found[i].Position != ring.None
	}
	if len(found) > 0 {
		s.told = found[len(found)-1].Entry.ID()
	}
	if head+len(buf) == 0 || (head == 0 && len(buf) == encode.ChunkHead) {
		sh.scratch = buf
		return s // nothing to send
	}
	s.bytes = seal(buf, head, a.http10)
	sh.scratch = buf
	if s.again && len(found) > 0 {
		sh.shared = shared{slice: s, audience: a, cursor: l.cursor, after: m.told, firstID: found[0].Entry.ID()}
	} else {
		sh.shared.audience = nil
	}
	return s
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
}

// block0 begins a slice: the response header where it is due, and room for a
// chunk's head. head is the header's length.
func (sh *shard) block0(a *audience, opening *Subscription) (buf []byte, head int) {
	buf = sh.scratch[:0]
	if opening != nil {
		buf = appendHeader(buf, opening, sh.date())
		head = len(buf)
	}
	var room [encode.ChunkHead]byte
	return append(buf, room[:]...), head
}

// appendGap says that events after told and before the ring's tail are gone.
func (sh *shard) appendGap(buf []byte, a *audience, told uint64, l *lag, stands uint64) []byte {
	g := encode.Gap{After: strconv.FormatUint(told, 10), Before: sh.seq.BeforeID(), Reason: gapName(l.reason)}
	for _, t := range a.topics {
		if sh.seq.Lost(t, told) {
			g.Topics = append(g.Topics, t.Name())
		}
	}
	if len(g.Topics) == 0 || len(g.Topics) > MaxGapTopics {
		g.Topics = a.names()
	}
	return encode.AppendGap(buf, &g, stands)
}

// names are the names of a's topics.
func (a *audience) names() []string {
	names := make([]string, len(a.topics))
	for i, t := range a.topics {
		names[i] = t.Name()
	}
	return names
}

// sendRest sends what is left of m's chunk. n is what went out; ok is false
// when m is blocked again or gone.
func (sh *shard) sendRest(m *subscriber) (n int, ok bool) {
	l := m.lag
	bytes := l.rest.own
	if bytes == nil {
		if bytes = sh.remake(m); bytes == nil {
			// The tail has passed the chunk before anybody copied it out. Half a
			// frame is out, without its id: the client resumes before it.
			sh.leave(m, LagMemory)
			return 0, false
		}
	}
	n, errno := sh.sys.send(m.fd, bytes)
	add(&sh.stats.sends, 1)
	add(&sh.stats.bytesOut, uint64(n))
	switch {
	case n == len(bytes):
		sh.dropRest(l)
		m.sent = sh.tick
		return n, true
	case errno != syscall.EAGAIN:
		sh.leave(m, SendFailed)
		return n, false
	}
	if l.rest.own != nil {
		l.rest.own = l.rest.own[n:]
		sh.stats.lagBytes.Add(int64(-n))
	} else {
		l.rest.sent += n
	}
	sh.block(m)
	return n, false
}

// remake makes the rest of m's chunk again, in scratch bytes; nil when the ring
// no longer has it.
func (sh *shard) remake(m *subscriber) []byte {
	r := &m.lag.rest
	found, _, lost := sh.seq.Gather(sh.found[:0], m.audience.topics, r.after, r.first, r.end, 1<<62)
	sh.found = found
	sh.shared.audience = nil
	buf, _ := sh.block0(m.audience, nil)
	for i := range found {
		buf = append(buf, sh.frame(found[i].Entry, m.audience.form)...)
	}
	bytes := seal(buf, 0, m.audience.http10)
	sh.scratch = buf
	if lost || len(bytes) != r.size {
		return nil
	}
	return bytes[r.sent:]
}

// hold keeps bytes as l's rest.
func (sh *shard) hold(l *lag, bytes []byte) {
	l.rest = rest{own: append([]byte(nil), bytes...)}
	sh.stats.lagBytes.Add(int64(len(bytes)))
}

func (sh *shard) dropRest(l *lag) {
	sh.stats.lagBytes.Add(int64(-len(l.rest.own)))
	l.rest = rest{}
}

// guard keeps promises to the laggards before the tail breaks them: rests that
// the tail comes near to are copied out, and where all rests together are over
// the limit the one furthest behind is cut; it may resume.
//
// Looking at all laggards costs something, so that it happens only once for
// every eighth of the ring that is read; a rest is copied out when a quarter
// of the ring has been read since. Publishers let no shard be further behind than
// another quarter.
func (sh *shard) guard() {
	if step := ring.Position(sh.ringSize); sh.read >= sh.guarded+step/8 {
		sh.guarded = sh.read
		for i := len(sh.laggards) - 1; i >= 0; i-- {
			m := sh.laggards[i]
			if r := &m.lag.rest; r.size > 0 && r.first+step/4 < sh.read {
				if bytes := sh.remake(m); bytes != nil {
					sh.hold(m.lag, bytes)
				} else {
					sh.leave(m, LagMemory)
				}
			}
		}
	}
	for sh.stats.lagBytes.Load() > sh.lagMemory {
		var last *subscriber
		for _, m := range sh.laggards {
			if len(m.lag.rest.own) > 0 && (last == nil || sh.behind(m) > sh.behind(last)) {
				last = m
			}
		}
		if last == nil {
			return
		}
		sh.leave(last, LagMemory)
	}
}

// lapAll makes every live member lag from where the shard has read to: the
// ring's tail has passed what came next. What each of them lost is told to it by its own
// gap.
func (sh *shard) lapAll() {
	for _, a := range sh.audiences {
		for _, m := range a.members {
			if m.state == live {
				m.told = max(m.told, a.lastID, sh.readID)
				l := sh.newLag(m)
				l.cursor, l.reason = sh.read, GapLag
				sh.wake(m)
			}
		}
	}
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
