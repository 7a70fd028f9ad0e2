package topic

// Chains: from a topic's newest entry back through the links, by skips where that is
// far, and through the kept frames where the ring ends.
//
// No locks: any goroutine. The tail may pass any entry at any moment; an Entry in hand stays
// what it is.

import (
	"slices"

	"penstock/ring"
)

// A link is an entry of a topic's chain in hand.
type link struct {
	entry ring.Entry    // none if it is out of reach
	at    ring.Position // where it is or was in the ring
	id    uint64
	kept  *keptFrame // the copy that it is, nil in the ring
}

// none reports that the chain has no such entry.
func (l *link) none() bool { return l.id == 0 }

// gone reports that there is such an entry, but out of reach.
func (l *link) gone() bool { return !l.entry.Valid() }

// last reports whether everything newer than an id and from a position on ends with l: what
// is before it in the chain is no concern.
func (l *link) last(after uint64, from ring.Position) bool {
	return l.entry.PrevID() <= after || l.entry.Prev() < from
}

// newestOf returns the newest entry of a topic's chain.
func (s *Sequencer) newestOf(t *Topic) link {
	for {
		id := t.newest.Load() // before the head, which is stored first
		at := ring.Position(t.head.Load())
		if at == ring.None {
			return link{}
		}
		if e, ok := s.ring.At(at); ok {
			return link{e, at, e.ID(), nil}
		}
		// A copy is there before the tail moves.
		if k := t.kept.Load(); k != nil && k.at == at {
			return link{k.entry, at, k.entry.ID(), k}
		}
		// Nor kept: unless it was so only because there is a newer one by now.
		if t.newest.Load() == id && ring.Position(t.head.Load()) == at {
			return link{at: at, id: id}
		}
	}
}

// below returns the entry before l in its chain, which must not be the chain's first.
func (s *Sequencer) below(t *Topic, l link) link {
	at, id := l.entry.Prev(), l.entry.PrevID()
	var k *keptFrame
	if l.kept == nil {
		if e, ok := s.ring.At(at); ok {
			return link{e, at, id, nil}
		}
		for k = t.kept.Load(); k != nil && k.at > at; {
			k = k.older.Load()
		}
	} else {
		k = l.kept.older.Load()
	}
	if k == nil || k.at != at {
		return link{at: at, id: id}
	}
	return link{k.entry, at, id, k}
}

// skip returns the entry that l's skip link leads to; false where there is none in the ring.
func (s *Sequencer) skip(l link) (link, bool) {
	if l.kept != nil || l.entry.Skip() == ring.None {
		return link{}, false
	}
	e, ok := s.ring.At(l.entry.Skip())
	if !ok {
		return link{}, false
	}
	return link{e, l.entry.Skip(), e.ID(), nil}, true
}

// newestBefore returns the newest entry of a topic's chain before a position.
func (s *Sequencer) newestBefore(t *Topic, end ring.Position) link {
	l := s.newestOf(t)
	for !l.none() && !l.gone() && l.at >= end {
		if sk := l.entry.Skip(); sk != ring.None && sk >= end {
			if next, ok := s.skip(l); ok {
				l = next
				continue
			}
		}
		if l.entry.PrevID() == 0 {
			return link{}
		}
		l = s.below(t, l)
	}
	return l
}

// oldest returns the oldest entry, from l down, that is in reach, newer than an id and
// not before a position. whole tells whether those between are all in reach. l must be
// so itself.
func (s *Sequencer) oldest(t *Topic, l link, after uint64, from ring.Position) (o link, whole bool) {
	for !l.last(after, from) {
		if sk := l.entry.Skip(); sk >= from {
			if next, ok := s.skip(l); ok && next.id > after {
				l = next
				continue
			}
		}
		next := s.below(t, l)
		if next.gone() {
			return l, false
		}
		l = next
	}
	return l, true
}

// numbered returns the entry with that number in the chain, from l down; one
// that is gone if it can't be reached.
func (s *Sequencer) numbered(t *Topic, l link, number uint64) link {
	for n := l.entry.Number(); n > number; n = l.entry.Number() {
		if n&(n-1) >= number {
			if next, ok := s.skip(l); ok {
				l = next
				continue
			}
		}
		if l = s.below(t, l); l.gone() {
			break
		}
	}
	return l
}

// A chain is one topic's part of a Gather: its next entries in hand, and more behind them.
type chain struct {
	topic   *Topic
	pending []link // oldest first
	next    int    // in pending
	more    bool   // there are newer ones before the end
}

// free lets go of what c holds, but for the memory.
func (c *chain) free() {
	clear(c.pending[:cap(c.pending)])
	*c = chain{pending: c.pending[:0]}
}

// follow gathers from chains between two positions and returns where it stopped: at the
// end, or at the first entry that has no room. The end must be settled. All chains'
// entries are merged by their ids.
func (g *gatherer) follow(from, end ring.Position) ring.Position {
	// As many for each as make one slice together, about; refilled as they run out.
	length := min(max(g.room/256/len(g.topics), 4), 64)
	for i := range g.chains {
		g.chains[i].free()
	}
	g.chains = slices.Grow(g.chains[:0], len(g.topics))
	g.heap = g.heap[:0]
	for _, t := range g.topics {
		after := max(g.after, g.floors[t])
		if t.newest.Load() <= after {
			continue
		}
		g.chains = g.chains[:len(g.chains)+1]
		c := &g.chains[len(g.chains)-1]
		c.topic = t
		if g.fill(c, after, from, end, length) {
			g.heap = append(g.heap, c)
		}
	}
	for i := len(g.heap)/2 - 1; i >= 0; i-- {
		g.sift(i)
	}
	for len(g.heap) > 0 {
		c := g.heap[0]
		l := &c.pending[c.next]
		at := l.at
		if l.kept != nil {
			at = ring.None
		}
		if !g.take(l.entry, at) {
			return l.at
		}
		if c.next++; c.next == len(c.pending) && !(c.more && g.fill(c, l.id, from, end, length)) {
			g.heap[0] = g.heap[len(g.heap)-1]
			g.heap = g.heap[:len(g.heap)-1]
		}
		g.sift(0)
	}
	return end
}

// sift puts the chain in place i of the heap where it belongs.
func (g *gatherer) sift(i int) {
	for {
		least := i
		for below := 2*i + 1; below <= 2*i+2 && below < len(g.heap); below++ {
			if g.heap[below].id() < g.heap[least].id() {
				least = below
			}
		}
		if least == i {
			return
		}
		g.heap[i], g.heap[least] = g.heap[least], g.heap[i]
		i = least
	}
}

// id is that of the chain's next entry.
func (c *chain) id() uint64 { return c.pending[c.next].id }

// fill puts the chain's next entries after an id into pending, up to length of them;
// false if there is none. What is out of reach is noted as lost.
func (g *gatherer) fill(c *chain, after uint64, from, end ring.Position, length int) bool {
	s, t := g.s, c.topic
	known := uint64(0) // number of the entry with the id after, 0: not known
	if n := len(c.pending); n > 0 {
		known = c.pending[n-1].entry.Number()
	}
	for {
		c.pending, c.next, c.more = c.pending[:0], 0, false
		top := s.newestBefore(t, end)
		if top.none() || top.id <= after || top.at < from {
			return false
		}
		if top.gone() {
			g.lost = true
			return false
		}
		if known == 0 || top.entry.Number()-known <= uint64(length) {
			if !g.back(c, top, after, from, length) {
				return true
			}
			// There are more, older ones: find the oldest.
			lowest, whole := s.oldest(t, c.pending[0], after, from)
			g.lost = g.lost || !whole
			known = lowest.entry.Number() - 1
			c.pending = c.pending[:0]
		}
		l := s.numbered(t, top, known+uint64(length))
		if !l.gone() {
			g.back(c, l, after, from, length)
			c.more = l.entry.Number() < top.entry.Number()
			return true
		}
		// The tail has passed all of this: once more, from what is left.
		known = 0
	}
}

// back puts l and up to length entries in all before it into pending, oldest first. It
// reports whether there are more before those.
func (g *gatherer) back(c *chain, l link, after uint64, from ring.Position, length int) (more bool) {
	defer func() { slices.Reverse(c.pending) }()
	for {
		c.pending = append(c.pending, l)
		if l.last(after, from) {
			return false
		}
		if len(c.pending) == length {
			return true
		}
		if l = g.s.below(c.topic, l); l.gone() {
			g.lost = true
			return false
		}
	}
}
