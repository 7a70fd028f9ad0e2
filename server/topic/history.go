package topic

// The past: what of some topics is newer than an id, and whether anything of it is gone.
//
// No locks. Any goroutine; the topics must be held (Acquire), or they may be forgotten meanwhile.

import (
	"math/bits"
	"sync"

	"penstock/ring"
)

// A Found is an entry that Gather found.
type Found struct {
	Entry    ring.Entry
	Position ring.Position // in the ring; None: a kept copy of what has left it
}

// Lost reports whether something of the topic newer than an id is out of reach: neither in
// the ring nor kept, or not known here (the id is older than Since). It is exact at
// some moment of the call. Any goroutine.
func (s *Sequencer) Lost(t *Topic, after uint64) bool {
	if after < t.Since() {
		return true
	}
	if t.newest.Load() <= after {
		return false
	}
	l := s.newestBefore(t, ring.None)
	switch {
	case l.none():
		return false
	case l.gone():
		return l.id > after
	}
	_, whole := s.oldest(t, l, after, 0)
	return !whole
}

// Gather appends to dst what it finds of the topics (no two the same) with ids greater than after
// and positions in the ring, once or still, from one on and before limit: in the order of
// ids, kept copies included. It stops before maxBytes of frames would be exceeded, but finds at
// least one entry if there is any. next is the position from which another call goes on
// (with the same after, or the id of the last one found); limit when all was found.
//
// lost tells that something in that range is out of reach: the tail had passed it, or did while
// we looked. The first call, which is from 0, also tells of what was never known here: after is
// older than a topic's Since. What is found is never torn, and nothing is left out in silence.
// (A range that the tail has passed as a whole counts as lost for a topic whose
// later entries are out of reach as well, for nothing tells any more.)
//
// limit must be the ring's head at some time, from 0 or a position that next was. Nothing is allocated when
// dst has room. Any goroutine.
func (s *Sequencer) Gather(dst []Found, topics []*Topic, after uint64, from, limit ring.Position, maxBytes int) (found []Found, next ring.Position, lost bool) {
	return s.GatherAbove(dst, topics, nil, after, from, limit, maxBytes)
}

// GatherAbove is Gather with floors: of a topic that has one it finds, and counts as lost, only what
// is newer than its floor as well. Any goroutine.
func (s *Sequencer) GatherAbove(dst []Found, topics []*Topic, floors map[*Topic]uint64, after uint64, from, limit ring.Position, maxBytes int) (found []Found, next ring.Position, lost bool) {
	g := gatherers.Get().(*gatherer)
	g.begin(s, dst, topics, after, maxBytes)
	g.floors = floors
	next = g.run(from, limit)
	found, lost = g.found, g.lost
	g.end()
	return found, next, lost
}

// Dropped returns the newest id of what has left the ring, or is just leaving it; 0 when nothing
// has. All newer entries of all topics are in the ring. Any goroutine.
func (s *Sequencer) Dropped() uint64 { return s.dropped.Load() }

// Walk is Gather for topics that are known by a function of their numbers, as those of a pattern:
// it walks through the ring from an entry's position, or a former head, on, over no more than walkMost bytes, and knows no kept
// copies. lost tells that the tail had passed the place where it began or came to: who cannot
// say which topics lost something asks Table.Matching. Any goroutine.
func (s *Sequencer) Walk(dst []Found, member func(number uint64) bool, after uint64, from, limit ring.Position, maxBytes int) (found []Found, next ring.Position, lost bool) {
	limit = min(limit, from+walkMost)
	found, first := dst, len(dst)
	if from < s.ring.Tail() {
		return found, from, true
	}
	rd := s.ring.Reader(from, ring.None)
	for rd.Position() < limit {
		e, at, ok := rd.Next()
		if !ok {
			return found, rd.Position(), rd.Lapped()
		}
		if at >= limit {
			return found, at, false
		}
		if e.ID() <= after || !member(e.Topic()) {
			continue
		}
		if maxBytes -= len(e.Frame()); maxBytes < 0 && len(found) > first {
			return found, at, false
		}
		found = append(found, Found{e, at})
	}
	return found, rd.Position(), false
}

// walkMost is how many bytes of the ring one Walk looks at, so that it ends in about a
// millisecond.
const walkMost = 1 << 20

// A gatherer is one call of Gather.
type gatherer struct {
	s      *Sequencer
	topics []*Topic
	floors map[*Topic]uint64
	after  uint64
	room   int // bytes of frames that may still be added
	first  int // where this call's part of found begins
	found  []Found
	lost   bool
	full   bool // the next entry has no room

	members []uint64 // the topics' numbers as a set, open addressing, 0 is free; empty until it is needed
	chains  []chain
	heap    []*chain // those with pending entries, the least id first
}

var gatherers = sync.Pool{New: func() any { return new(gatherer) }}

func (g *gatherer) begin(s *Sequencer, dst []Found, topics []*Topic, after uint64, maxBytes int) {
	g.s, g.topics, g.after, g.room = s, topics, after, maxBytes
	g.first, g.found = len(dst), dst
	g.lost, g.full = false, false
	g.members = g.members[:0]
}

// end lets go of everything that would keep topics or segments in memory.
func (g *gatherer) end() {
	g.s, g.topics, g.floors, g.found = nil, nil, nil, nil
	if len(g.chains) > maxChains {
		return
	}
	for i := range g.chains {
		g.chains[i].free()
	}
	g.chains = g.chains[:0]
	clear(g.heap[:cap(g.heap)])
	g.heap = g.heap[:0]
	gatherers.Put(g)
}

// Which way is shorter, measured by BenchmarkGather: following a topic's chain costs a look or two at
// places all over the memory before it finds anything, about as much as walking
// over a KiB of entries in a row.
const (
	walkBytes  = 1 << 10 // for each topic
	wideTopics = 16      // from so many topics on, even searching the place to walk from is cheap
	maxChains  = 4096    // what a gatherer remembers
)

// run gathers from one position to before limit and returns where it ended.
func (g *gatherer) run(from, limit ring.Position) ring.Position {
	if from == 0 {
		for _, t := range g.topics {
			g.lost = g.lost || max(g.after, g.floors[t]) < t.Since()
		}
	}
	limit = min(limit, g.s.ring.Head())
	if len(g.topics) == 0 {
		return max(from, limit)
	}
	at := from
	if start, ok := g.walkStart(from); ok && g.floors == nil {
		near := start + ring.Position(walkBytes*len(g.topics))
		if limit <= near || len(g.topics) >= wideTopics {
			room := g.room
			at = g.walk(start, min(near, limit))
			if g.full || g.room < room-room/4 {
				return max(from, min(at, limit))
			}
		}
	}
	for at < limit && !g.full {
		// Up to settled, the topics speak of all that is in the ring. Loaded before them.
		if settled := min(limit, ring.Position(g.s.settled.Load())); at < settled {
			at = g.follow(at, settled)
		} else {
			at = g.walk(at, limit) // so new that it is above all floors
		}
	}
	return max(from, min(at, limit))
}

// walkStart returns from where on a walk through the ring finds all there is; false if
// that may begin before the tail, or is too dear to find out.
func (g *gatherer) walkStart(from ring.Position) (start ring.Position, ok bool) {
	r := g.s.ring
	if from > 0 {
		return from, from >= r.Tail()
	}
	if len(g.topics) < wideTopics {
		return 0, false
	}
	start = r.After(g.after)
	// An entry at the tail that is not newer, and that after start was found: so nothing
	// newer had passed the tail.
	e, _, ok := r.Oldest()
	return start, ok && e.ID() <= g.after
}

// walk takes the topics' entries from the ring between two positions, one after the other, and returns
// where it stopped: at the end, at an entry that has no room, or where the tail has passed it.
func (g *gatherer) walk(from, to ring.Position) ring.Position {
	rd := g.s.ring.Reader(from, ring.None)
	for rd.Position() < to {
		e, at, ok := rd.Next()
		if !ok {
			break
		}
		if at >= to || e.ID() > g.after && g.member(e.Topic()) && !g.take(e, at) {
			return at
		}
	}
	return rd.Position()
}

// take adds an entry, unless it has no room. at is where it is found in the ring, None for a copy.
func (g *gatherer) take(e ring.Entry, at ring.Position) bool {
	size := len(e.Frame())
	if size > g.room && len(g.found) > g.first {
		g.full = true
		return false
	}
	g.room -= size
	g.found = append(g.found, Found{e, at})
	return true
}

// member reports whether one of the topics has that number.
func (g *gatherer) member(number uint64) bool {
	if len(g.topics) <= 8 {
		for _, t := range g.topics {
			if t.number == number {
				return true
			}
		}
		return false
	}
	if len(g.members) == 0 {
		g.makeMembers()
	}
	for i := place(number, len(g.members)); g.members[i] != 0; i = (i + 1) & (len(g.members) - 1) {
		if g.members[i] == number {
			return true
		}
	}
	return false
}

func (g *gatherer) makeMembers() {
	size := 1 << bits.Len(uint(2*len(g.topics)))
	if cap(g.members) < size {
		g.members = make([]uint64, size)
	}
	g.members = g.members[:size]
	clear(g.members)
	for _, t := range g.topics {
		i := place(t.number, size)
		for g.members[i] != 0 {
			i = (i + 1) & (size - 1)
		}
		g.members[i] = t.number
	}
}

// place is where a number's search in a set of that size, a power of two, begins.
func place(number uint64, size int) int {
	return int(number * 0x9e3779b97f4a7c15 >> 32 & uint64(size-1))
}
