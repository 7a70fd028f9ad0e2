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
	l := s.latest(t, limit)
	switch {
	case l.none():
		return Found{}, false, false
	case l.gone():
		return Found{}, false, l.at < limit && t.newest.Load() == l.id
	}
	return l.found(), true, false
}

// latest returns the topic's newest entry before a position that the ring's head once was.
func (s *Sequencer) latest(t *Topic, limit ring.Position) (l link) {
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
				l = link{e, at, e.ID(), nil}
			}
		}
		if !l.none() {
			return l
		}
	}
	return s.newestBefore(t, limit)
}

// AppendLatest appends the topic's newest event before a position that the ring's head once was,
// and the topic's end where that has come after it: each if it is newer than an id. It is
// what a reader gets who wants the newest event alone, for whom an end must not take
// the last event's place. lost is that of Latest, of either. Any goroutine.
func (s *Sequencer) AppendLatest(dst []Found, t *Topic, limit ring.Position, after uint64) (found []Found, lost bool) {
	l := s.latest(t, limit)
	switch {
	case l.none() || l.id <= after:
		return dst, false
	case l.gone():
		return dst, l.at < limit && (t.newest.Load() == l.id || s.endsWith(t, l.id))
	}
	if l.entry.Kind() == ring.End && l.entry.PrevID() > after {
		if event := s.below(t, l); !event.gone() {
			dst = append(dst, event.found())
		} else {
			lost = t.newest.Load() == l.id
		}
	}
	return append(dst, l.found()), lost
}

// endsWith reports whether the topic has ended with that entry as the last before its end.
func (s *Sequencer) endsWith(t *Topic, id uint64) bool {
	if _, ok := t.Ended(); !ok {
		return false
	}
	end := s.newestOf(t)
	return !end.none() && (end.gone() || end.entry.PrevID() == id)
}

// found is the link as Gather gives it.
func (l *link) found() Found {
	if l.kept != nil {
		return Found{l.entry, ring.None}
	}
	return Found{l.entry, l.at}
}

// Floor returns the id after which the topic's newest n events before a position come, as far
// as they are in reach; an end after them does not count. Any goroutine.
func (s *Sequencer) Floor(t *Topic, limit ring.Position, n int) (id uint64) {
	l := s.newestBefore(t, limit)
	if l.none() || l.gone() || n == 0 {
		return l.id
	}
	if l.entry.Kind() == ring.End {
		n++
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
