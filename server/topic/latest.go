package topic

// The present: the newest entry of a topic.
//
// No locks. Any goroutine; the topics must be held (Acquire).

import "penstock/ring"

// Latest returns the topic's newest entry before a position that the ring's head once was: in
// the ring or a kept copy. found is false when there is none in reach. lost then tells whether
// there was one and nothing newer has come behind the position: who asks will
// never get to know the topic's newest event. Any goroutine.
func (s *Sequencer) Latest(t *Topic, limit ring.Position) (f Found, found, lost bool) {
	// Up to settled, the topic speaks of all that is in the ring; what is behind it
	// is an event or a batch that is just being published.
	if settled := ring.Position(s.settled.Load()); settled < limit {
		rd := s.ring.Reader(settled, ring.None)
		for rd.Position() < limit {
			e, at, ok := rd.Next()
			if !ok || at >= limit {
				break
			}
			if e.Topic() == t.number {
				f, found = Found{e, at}, true
			}
		}
		if found {
			return f, true, false
		}
	}
	l := s.newestBefore(t, limit)
	switch {
	case l.none():
		return Found{}, false, false
	case l.gone():
		return Found{}, false, l.at < limit && t.newest.Load() == l.id
	case l.kept != nil:
		return Found{l.entry, ring.None}, true, false
	}
	return Found{l.entry, l.at}, true, false
}

// Floor returns the id after which the topic's newest n entries before a position come, as far
// as they are in reach. Any goroutine.
func (s *Sequencer) Floor(t *Topic, limit ring.Position, n int) (id uint64) {
	l := s.newestBefore(t, limit)
	if l.none() || l.gone() || n == 0 {
		return l.id
	}
	number := uint64(1)
	if top := l.entry.Number(); top > uint64(n) {
		number = top - uint64(n) + 1
	}
	first := s.numbered(t, l, number)
	if first.gone() {
		first, _ = s.oldest(t, l, 0, 0)
	}
	return first.entry.PrevID()
}
