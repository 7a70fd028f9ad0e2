package fanout

// Adopting: streams of another process become a frozen shard's own. It begins to serve them when
// it is thawed.
//
// Everything here runs on the shard's thread, before anything has happened on it.

import (
	"bytes"
	"slices"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// A share is streams of one other shard that one of ours adopts, and their sockets. Those of
// one shard need not stay together, nor those of one audience; and audiences of two shards may
// become one.
type share struct {
	state   *shardState
	streams []streamState // of state
	sockets []int32
}

// An arrival is the part of another shard that streams come from.
type arrival struct {
	state  *shardState
	chunks []chunk
}

// An adopted is one of them.
type adopted struct {
	*subscriber
	state *streamState
	from  *arrival
}

// home is the audience that it had; nil for one that is ending.
func (m *adopted) home() *audienceState {
	if m.state.audience < 0 {
		return nil
	}
	return &m.from.state.audiences[m.state.audience]
}

// adopt takes streams over.
func (sh *shard) adopt(shares []share) {
	sh.clock = sh.sys.now()
	n := 0
	for _, s := range shares {
		n += len(s.streams)
	}
	all := make([]adopted, 0, n)
	var made []madeAudience
	for _, s := range shares {
		audiences := make([]*audience, len(s.state.audiences))
		from := &arrival{s.state, make([]chunk, len(s.state.chunks))}
		for i, b := range s.state.chunks {
			from.chunks[i].bytes = b
		}
		for i := range s.streams {
			st := &s.streams[i]
			m := adopted{&subscriber{fd: s.sockets[i], onLag: st.onLag, told: st.told}, st, from}
			all = append(all, m)
			sh.stats.streams.Add(1)
			if st.network.IsValid() && sh.enterNetwork != nil {
				m.ticket = sh.enterNetwork(st.network)
			}
			home := m.home()
			if home == nil {
				continue
			}
			sh.enter(m.subscriber, &home.subscription)
			if audiences[st.audience] == nil {
				audiences[st.audience] = m.audience
				made = append(made, madeAudience{m.audience, home})
			}
		}
	}
	sh.giveSlots(all)
	for _, m := range made {
		sh.adoptMatched(m.state)
	}
	for _, m := range made {
		m.audience.flushed = sh.tick - sh.ticksRound // that is told of each member
		if m.audience.pace != nil {
			sh.adoptPace(m.audience, m.state)
		}
	}
	for i := range all {
		if m := &all[i]; m.home() != nil {
			sh.adoptStream(m)
		} else {
			m.subscriber.state = ending
			sh.lingering = append(sh.lingering, lingerer{m.subscriber, sh.clock.Add(m.state.turn)})
		}
	}
	slices.SortStableFunc(sh.lingering, func(a, b lingerer) int { return a.until.Compare(b.until) })
}

// A madeAudience is an audience, and one that it goes on for.
type madeAudience struct {
	audience *audience
	state    *audienceState
}

// giveSlots gives slots to streams, each one that brings its heartbeat's turn when it is due, as far
// as that leaves no more slots empty than there are streams.
func (sh *shard) giveSlots(all []adopted) {
	round := int(sh.ticksRound)
	most := 2*len(all) + round
	next := make([]int, round) // by turn: how often it was given
	var others []*subscriber
	for _, m := range all {
		turn := (int(m.state.turn/sh.tickLength()) + int(sh.tick)) % round
		slot := turn + next[turn]*round
		if m.state.turn < 0 || slot >= most {
			others = append(others, m.subscriber)
			continue
		}
		next[turn]++
		if slot >= len(sh.slots) {
			sh.slots = append(sh.slots, make([]*subscriber, slot+1-len(sh.slots))...)
		}
		m.slot, sh.slots[slot] = uint32(slot), m.subscriber
	}
	for slot := len(sh.slots) - 1; slot >= 0; slot-- {
		if sh.slots[slot] == nil {
			sh.freeSlots = append(sh.freeSlots, uint32(slot))
		}
	}
	for _, m := range others {
		sh.giveSlot(m)
	}
	for _, m := range all {
		sh.setEnd(m.slot) // its age begins anew
	}
}

// adoptMatched judges the topics that an audience's patterns have met: who catches up counts on
// all that had events since it came.
func (sh *shard) adoptMatched(st *audienceState) {
	for _, number := range st.matched {
		if in := sh.index[number]; in == nil || in.round != sh.round {
			sh.judge(number, in)
		}
	}
}

// adoptPace goes on with what is due to an audience. Where two have become one, it stands where the
// one stood that was behind; members of the other wait for it.
func (sh *shard) adoptPace(a *audience, st *audienceState) {
	c := a.pace
	if last := sh.clock.Add(-st.flushed); last.After(c.last) {
		c.last = last
	}
	if !st.stirred {
		return
	}
	due := sh.clock.Add(st.due)
	if !c.stirred {
		c.stirred, c.cursor, c.beforeID, c.due = true, st.cursor, st.beforeID, due
		sh.schedule(a)
	} else {
		c.cursor, c.beforeID = min(c.cursor, st.cursor), min(c.beforeID, st.beforeID)
		if due.Before(c.due) {
			c.due = due
			sh.siftUp(c.at)
		}
	}
	for _, number := range st.changed {
		in := sh.index[number]
		if in == nil {
			continue // forgotten: nothing of it is in reach
		}
		for _, l := range in.audiences {
			if l.audience == a {
				sh.change(a, l.topic)
			}
		}
	}
}

// adoptStream makes a member what it was.
func (sh *shard) adoptStream(of *adopted) {
	m, st := of.subscriber, of.state
	a := m.audience
	m.sent = sh.tick - uint32(min(st.idle/sh.tickLength(), time.Duration(sh.ticksRound)))
	if a.packed != nil {
		a.packed.places[m.at] = encode.PlaceOf(st.crc, st.size)
	}
	if st.lag != nil {
		sh.adoptLag(m, st.lag, of.from.chunks)
		return
	}
	served := of.home().servedOf(sh.read)
	if served == sh.position(a) {
		m.state = live
		if a.packed != nil {
			a.packed.in(m)
		}
		return
	}
	l := sh.newLag(m) // its audience stands further back than its own did
	l.cursor, l.reason, l.parked = served, GapLag, true
}

// adoptLag goes on with one that lagged.
func (sh *shard) adoptLag(m *subscriber, st *lagState, chunks []chunk) {
	l := sh.newLag(m)
	l.cursor, l.opening, l.past, l.reason = st.cursor, st.opening, st.past, st.reason
	l.fellUntil, l.fell, l.unknown, l.skim, l.bare = st.fellUntil, st.fell, st.unknown, st.skim, st.bare
	l.broken, l.was = st.broken, st.was
	for _, number := range st.topics {
		if t, ok := sh.seq.Topic(number); ok {
			l.topics = append(l.topics, t)
		}
	}
	l.known = known{forgotten: st.known.forgotten, until: st.known.until}
	if st.known.known {
		l.known.floors = make(map[*topic.Topic]uint64, len(st.known.floors))
		for _, f := range st.known.floors {
			if t, ok := sh.numbered(f.topic); ok {
				l.known.floors[t] = f.id
			}
		}
	}
	if st.rest.chunk > 0 {
		sh.adoptRest(m, &st.rest, chunks)
	}
	sh.wake(m)
}

// numbered is the topic with that number, be it one that only subscribers know.
func (sh *shard) numbered(number uint64) (*topic.Topic, bool) {
	if in := sh.index[number]; in != nil {
		return in.topic, true
	}
	return sh.seq.Topic(number)
}

// A chunk is one that some of the adopted have a rest of.
type chunk struct {
	bytes []byte
	held  *held
}

// adoptRest goes on with the rest of a chunk: by its place in the ring, if this process makes the
// same bytes of it.
func (sh *shard) adoptRest(m *subscriber, st *restState, chunks []chunk) {
	l, c := m.lag, &chunks[st.chunk-1]
	if st.again {
		l.rest = rest{first: st.first, end: st.end, after: st.after, size: len(c.bytes), sent: st.sent}
		if bytes.Equal(sh.remake(m), c.bytes[st.sent:]) {
			return
		}
		l.rest = rest{}
	}
	sh.share(l, c.bytes, st.sent, &c.held)
}
