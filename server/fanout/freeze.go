package fanout

// Freezing: a shard comes to rest, tells what it has, and leaves its sockets alone until it is
// thawed, or lets go of them because another process has them.
//
//	running ──freeze──> coming to rest ──> frozen ──thaw──> running
//	                         │                │
//	                         └──thaw──>       └──let go──> running, empty
//
// Who joins meanwhile waits in the inbox, and its socket in the shard's own descriptor table where it
// has one.
//
// Everything here runs on the shard's thread. The sequencer is frozen meanwhile.

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// frost is where a shard is on that way.
type frost struct {
	answer  chan<- shardState // coming to rest: who waits for it; it has room
	frozen  bool
	sockets []int32 // frozen: the streams', in the order of what was answered
	lent    []int32 // where to send them, in the shard's own descriptor table
}

// atRest tells whether everything that was published has been read, and everybody who came has
// joined.
func (sh *shard) atRest() bool {
	return sh.read == sh.ring.Head() && sh.inbox.empty()
}

// freeze takes the sockets out of the epoll set and answers what there is.
func (sh *shard) freeze() {
	// Rests that can't be made again are cut, as they would be when their turn came.
	possible := make(map[restKey]bool)
	for i := len(sh.laggards) - 1; i >= 0; i-- {
		m := sh.laggards[i]
		if m.lag.rest.size == 0 {
			continue
		}
		key := m.restKey()
		ok, known := possible[key]
		if !known {
			ok = sh.remake(m) != nil
			possible[key] = ok
		}
		if !ok {
			sh.leave(m, LagMemory)
		}
	}
	for _, a := range sh.inOrder() {
		if sh.waitsForForgotten(a) {
			sh.lapAudience(a) // the other process does not know that topic: each member is told that its newest is lost
		}
	}
	for _, m := range sh.slots {
		if m != nil {
			sh.sys.unwatch(m.fd)
			m.armed = false
		}
	}
	sh.events = sh.events[:0] // they are told anew where the sockets are watched next
	st := sh.export()
	sh.frost.frozen = true
	sh.frost.sockets = make([]int32, len(st.streams))
	for i := range st.streams {
		sh.frost.sockets[i] = st.streams[i].fd
	}
	sh.frost.answer <- st
	sh.frost.answer = nil
}

// thaw goes on with what there is: the shard's own, or what it has adopted. What happened to a
// socket meanwhile is told by the kernel when it is watched again.
func (sh *shard) thaw() {
	sh.frost.answer = nil
	if !sh.frost.frozen {
		return
	}
	sh.melt()
	for _, m := range sh.slots {
		if m == nil {
			continue
		}
		if errno := sh.sys.watch(m.fd, m.slot); errno != 0 {
			sh.leave(m, JoinFailed)
			continue
		}
		if m.lag != nil && m.lag.blocked {
			sh.wake(m) // it may have become writable
		}
	}
}

// melt ends being frozen.
func (sh *shard) melt() {
	for _, fd := range sh.frost.lent {
		if fd >= 0 {
			sh.sys.close(fd)
		}
	}
	sh.frost = frost{}
}

// letGo closes the sockets, which another process has, and forgets the streams. Who has come since
// then is closed too, in the passes that follow: its answer has not begun.
func (sh *shard) letGo() {
	if !sh.frost.frozen {
		return
	}
	sh.melt()
	sh.inbox.close()
	sh.empty = true
	for _, m := range sh.slots {
		if m != nil {
			m.state = gone
			sh.lose(m.fd, m.ticket)
		}
	}
	for _, a := range sh.audiences {
		for range a.members {
			for _, t := range a.held() {
				sh.seq.Table().Release(t, sh.follower.Index())
			}
		}
	}
	sh.stats.audiences.Store(0)
	sh.stats.lagging.Store(0)
	sh.holds(int(-sh.stats.lagBytes.Load()))
	clear(sh.audiences)
	clear(sh.index)
	sh.patterns = topic.Trie[*audience]{}
	sh.wilds, sh.round = 0, 0
	sh.follower.Patterns(0)
	sh.paced, sh.judged, sh.slots, sh.freeSlots, sh.laggards, sh.ready, sh.lingering = nil, nil, nil, nil, nil, nil, nil
}

func (sh *shard) lose(fd int32, ticket uint32) {
	sh.sys.close(fd)
	sh.stats.streams.Add(-1)
	if ticket != 0 {
		sh.gone(ticket)
	}
}

// give sends sockets to another process.
func (sh *shard) give(c command) error {
	to, s := c.to, &c.stretch
	if sh.inbox.apart {
		for len(sh.frost.lent) == 0 {
			if !sh.receiveSome() {
				panic("fanout: give: nothing was lent")
			}
		}
		to, sh.frost.lent = sh.frost.lent[0], sh.frost.lent[1:]
		if to < 0 {
			return fmt.Errorf("the shard's descriptor table has no room for one more: %w", syscall.EMFILE)
		}
		defer sh.sys.close(to)
	}
	return sh.sys.give(to, s.first, sh.frost.sockets[s.at:s.at+s.count], c.until)
}

// tickLength is how long a tick is.
func (sh *shard) tickLength() time.Duration { return sh.heartbeat / time.Duration(sh.ticksRound) }

// export tells what the shard has. It changes nothing.
func (sh *shard) export() shardState {
	st := shardState{streams: make([]streamState, 0, sh.stats.streams.Load())}
	x := exporter{state: &st, held: make(map[*held]int32), made: make(map[restKey]int32)}
	places := make(map[*audience]int32, len(sh.audiences))
	for _, a := range sh.inOrder() {
		places[a] = int32(len(st.audiences))
		st.audiences = append(st.audiences, sh.exportAudience(a))
	}
	for _, m := range sh.slots {
		switch {
		case m == nil:
		case m.state == ending:
		default:
			st.streams = append(st.streams, sh.exportStream(m, places[m.audience], &x))
		}
	}
	for _, l := range sh.lingering { // the first to be closed first
		if m := l.subscriber; m.state == ending {
			st.streams = append(st.streams, streamState{fd: m.fd, network: sh.networkOf(m), audience: -1, turn: l.until.Sub(sh.clock)})
		}
	}
	return st
}

// An exporter knows where the chunks stand that were met before.
type exporter struct {
	state *shardState
	held  map[*held]int32
	made  map[restKey]int32
}

// A restKey is a chunk that can be made again.
type restKey struct {
	audience   *audience
	first, end ring.Position
	after      uint64
}

func (m *subscriber) restKey() restKey {
	r := &m.lag.rest
	return restKey{m.audience, r.first, r.end, r.after}
}

func (x *exporter) chunk(b []byte) int32 {
	x.state.chunks = append(x.state.chunks, b)
	return int32(len(x.state.chunks))
}

// rest tells what m has left of a chunk.
func (sh *shard) exportRest(m *subscriber, x *exporter) (st restState) {
	r := &m.lag.rest
	switch {
	case r.held != nil:
		at, ok := x.held[r.held]
		if !ok {
			at = x.chunk(r.held.bytes)
			x.held[r.held] = at
		}
		return restState{chunk: at, sent: len(r.held.bytes) - len(r.own)}
	case r.due():
		key := m.restKey()
		at, ok := x.made[key]
		if !ok {
			sent := r.sent
			r.sent = 0
			at = x.chunk(bytes.Clone(sh.remake(m)))
			r.sent = sent
			x.made[key] = at
		}
		return restState{chunk: at, sent: r.sent, again: true, first: r.first, end: r.end, after: r.after}
	}
	return restState{}
}

// networkOf is for whom m counts; the zero value where nobody counts.
func (sh *shard) networkOf(m *subscriber) netip.Addr {
	if m.ticket == 0 || sh.network == nil {
		return netip.Addr{}
	}
	return sh.network(m.ticket)
}

// subscription is what a's members have asked for, as far as it makes them members.
func (a *audience) subscription() Subscription {
	s := Subscription{HTTP10: a.is(http10), HeartbeatEvent: a.is(beatEvents), Form: a.form}
	for _, t := range a.held() {
		s.Topics = append(s.Topics, t.Name())
	}
	if a.wild != nil {
		s.Patterns = a.wild.patterns[a.wild.held:]
	}
	if a.pace != nil {
		s.Latest, s.Interval = a.pace.latest, a.pace.interval
	}
	if a.packed != nil {
		s.Coding = encode.Gzip
	}
	return s
}

// waitsForForgotten tells whether a is due the newest event of a topic that was forgotten.
func (sh *shard) waitsForForgotten(a *audience) bool {
	return a.pace != nil && a.pace.stirred && slices.ContainsFunc(a.pace.changed, func(place int32) bool { return a.topics[place].Forgotten() })
}

func (sh *shard) exportAudience(a *audience) audienceState {
	st := audienceState{subscription: a.subscription()}
	for _, t := range a.topics[len(a.held()):] {
		st.matched = append(st.matched, t.Number())
	}
	c := a.pace
	if c == nil {
		return st
	}
	st.flushed = sh.clock.Sub(c.last)
	if c.stirred {
		st.stirred, st.cursor, st.beforeID, st.due = true, c.cursor, c.beforeID, c.due.Sub(sh.clock)
		for _, place := range c.changed {
			st.changed = append(st.changed, a.topics[place].Number())
		}
	}
	return st
}

func (sh *shard) exportStream(m *subscriber, audience int32, x *exporter) streamState {
	a := m.audience
	st := streamState{
		fd: m.fd, network: sh.networkOf(m), audience: audience, told: m.told, onLag: m.onLag,
		idle: time.Duration(min(sh.tick-a.flushed, sh.tick-m.sent)) * sh.tickLength(),
		turn: time.Duration((m.slot+sh.ticksRound-sh.tick%sh.ticksRound)%sh.ticksRound) * sh.tickLength(),
	}
	if m.state == live {
		st.told = max(st.told, a.lastID)
	}
	if p := a.packed; p != nil {
		place := p.places[m.at]
		switch {
		case !place.In():
		case m.owed:
			place.Leave(p.before) // it goes without
		default:
			place.Leave(p.shared.Mark())
		}
		st.crc, st.size = place.Totals()
	}
	if m.lag != nil {
		st.lag = sh.exportLag(m, x)
	}
	return st
}

func (sh *shard) exportLag(m *subscriber, x *exporter) *lagState {
	l := m.lag
	st := &lagState{
		cursor: l.cursor, opening: l.opening, past: l.past, reason: l.reason,
		fellUntil: l.fellUntil, fell: l.fell, unknown: l.unknown, skim: l.skim, bare: l.bare,
		broken: l.broken, was: l.was,
		rest: sh.exportRest(m, x),
	}
	for _, t := range l.topics {
		if !t.Forgotten() {
			st.topics = append(st.topics, t.Number())
		} else if id, _, _ := t.Newest(); id > max(m.told, l.known.floors[t]) {
			st.unknown = true // nobody there knows it any more
		}
	}
	st.known = knownState{known: l.known.floors != nil, forgotten: l.known.forgotten, until: l.known.until}
	for t, id := range l.known.floors {
		if !t.Forgotten() {
			st.known.floors = append(st.known.floors, floorState{t.Number(), id})
		}
	}
	return st
}

// servedOf is how far the live members of an audience had been served.
func (a *audienceState) servedOf(head ring.Position) ring.Position {
	if a.stirred {
		return a.cursor
	}
	return head
}
