package topic

// Events that a backplane has given their ids: into the ring as they are, in their order.
//
// Append, Lose and Restart belong to the one goroutine that the backplane's events come by; it is
// no shard's. Shards must stand still during Restart (fanout.Shards.Restart sees to that).

import (
	"penstock/encode"
	"penstock/ring"
)

// An Arrival is an event, or the end of a topic, with the id and the time that the backplane gave
// it.
type Arrival struct {
	Topic string
	Event encode.Event
	End   bool // the topic ends with it; Event is of no matter

	ID   uint64
	Time int64 // microseconds since 1970
}

// Check tells what is wrong with an event that is to be published, as Publish and PublishBatch
// would. Any goroutine.
func (s *Sequencer) Check(p *Publication) error {
	if IsOwn(p.Topic) {
		return ErrOwnTopic
	}
	if _, err := s.judge(p); err != nil {
		return err
	}
	if _, ok := s.table.Lookup(p.Topic); ok {
		return nil
	}
	_, err := ParseName(p.Topic)
	return err
}

// Draining tells whether Drain was called: nothing more is to be published. Any goroutine.
func (s *Sequencer) Draining() bool { return s.draining.Load() }

// Append appends what has arrived to the ring and wakes the shards. What is not newer than the
// newest there is was here already, and is left out. Each event must have passed Check.
//
// It waits for shards that are far behind, without a limit: what comes after it stays with the
// backplane meanwhile, and nothing is lost. The error is ErrDraining. It keeps nothing of the
// arrivals.
func (s *Sequencer) Append(arrivals []Arrival) error {
	if !s.backplane {
		panic("topic: Append: there is no backplane")
	}
	if _, err := s.enter(passes, 0); err != nil {
		return err
	}
	defer s.leave()
	sc := scratches.Get().(*scratch)
	defer sc.free()
	for len(arrivals) > 0 {
		n, size := 0, 0
		for n < min(len(arrivals), sliceEvents) && size < sliceBytes {
			a := &arrivals[n]
			size += ring.HeaderSize + len(a.Event.Type) + len(a.Event.Data) + len(a.Topic) + encode.MaxIDLine
			n++
		}
		granted, _ := s.gate.pass(true, size) // patient: never an error
		s.appendSlice(sc, arrivals[:n])
		s.gate.through(granted)
		arrivals = arrivals[n:]
	}
	return nil
}

// appendSlice appends a few arrivals under one lock.
func (s *Sequencer) appendSlice(sc *scratch, arrivals []Arrival) {
	sc.buf, sc.topics = sc.buf[:0], sc.topics[:0]
	defer s.letGo(sc)
	for i := range arrivals {
		a, f := &arrivals[i], &sc.frames[i]
		s.holdArrived(sc, a.Topic)
		*f = frameIn{from: len(sc.buf)}
		if a.End {
			sc.buf, f.typeEnd = encode.AppendEnd(sc.buf, a.Topic)
		} else {
			sc.buf, f.typeEnd = encode.AppendFrame(sc.buf, &a.Event)
		}
		sc.buf = encode.AppendID(sc.buf, a.ID)
		f.to = len(sc.buf)
	}
	s.mu.Lock()
	for i := range arrivals {
		a, f, t := &arrivals[i], &sc.frames[i], sc.topics[i]
		kind := ring.Event
		if a.End {
			kind = ring.End
			if _, ended := t.Ended(); ended {
				continue // two nodes have ended it at once
			}
		}
		if a.ID > s.lastID {
			s.appendLocked(t, kind, a.ID, a.Time, sc.buf[f.from:f.to], f.typeEnd)
		}
	}
	s.mu.Unlock()
	s.wake(sc.topics...)
}

// holdArrived holds the topic of the next arrival until letGo, with a place for it.
func (s *Sequencer) holdArrived(sc *scratch, name string) {
	if n := len(sc.topics); n > 0 && sc.topics[n-1].name == name {
		sc.topics = append(sc.topics, sc.topics[n-1])
		return
	}
	t := s.table.acquire(name, publishers)
	sc.topics = append(sc.topics, t)
	for done := t.claimed.Load(); !done; { // held, it keeps its place
		s.mu.Lock()
		done, _ = s.claimLocked(t)
		s.mu.Unlock()
	}
}

// Begin says that history begins after an id, what was appended before being each topic's newest
// event before it; with newest no topic's is missing, so that who wants the newest alone misses
// nothing, whenever it was here last. Call it once, before anybody else knows the sequencer.
func (s *Sequencer) Begin(since uint64, newest bool) {
	s.Lose(since, since)
	s.newestKnown.Store(newest)
}

// MissesNewest tells of somebody who wants each topic's newest event alone, and was told all up to
// an id, whether the topic may have had a newer one that is not known here. Any goroutine.
func (s *Sequencer) MissesNewest(t *Topic, after uint64) bool {
	since := t.Since()
	if after >= since {
		return false
	}
	// What it has had is known; one that was forgotten has its own since.
	return !s.newestKnown.Load() || t.newest.Load() == 0 && since > s.table.start.Load()
}

// ForgotNewest is NewestForgotten for who wants each topic's newest event alone. Any goroutine.
func (s *Sequencer) ForgotNewest() uint64 {
	if s.newestKnown.Load() {
		return s.table.newestForgotten.Load()
	}
	return s.table.NewestForgotten()
}

// Lose says that of the events up to an id some are gone that were never here: the history of every
// topic is complete only after it. reached is an id that the stream has come to without them, 0 for
// none: what arrives is newer. Those who live on what was before are told by fanout.Shards.Break.
func (s *Sequencer) Lose(id, reached uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newestKnown.Store(false)
	if s.table.start.Load() < id {
		s.table.start.Store(id) // first: a topic made from here on has it
	}
	for i := range s.table.parts {
		p := &s.table.parts[i]
		p.mu.Lock()
		for _, t := range p.topics {
			if t.since.Load() < id {
				t.since.Store(id)
			}
		}
		p.mu.Unlock()
	}
	s.base.Store(max(s.base.Load(), reached))
	s.lastID = max(s.lastID, reached)
}

// Restart forgets every event: the stream that they came from is gone, and in the one in its place ids
// begin anew, after the given one. Topics stay.
func (s *Sequencer) Restart(after uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		e, _, ok := s.ring.Oldest()
		if !ok {
			break
		}
		s.byNumber[e.Topic()].isSilent = true
		s.ring.Drop()
	}
	s.newestKnown.Store(false)
	s.table.start.Store(after)
	s.table.newestForgotten.Store(0)
	for i := range s.table.forgotten {
		s.table.forgotten[i].Store(0)
	}
	for i := range s.table.parts {
		p := &s.table.parts[i]
		p.mu.Lock()
		for _, t := range p.topics {
			t.since.Store(after)
		}
		p.mu.Unlock()
	}
	for _, t := range s.byNumber {
		s.dropKeptLocked(t)
		s.keepers.remove(t)
		s.silent.remove(t)
		t.newest.Store(0)
		t.head.Store(uint64(ring.None))
		t.ended.Store(0)
		t.events.Store(0)
		if t.isSilent {
			s.silent.add(t)
		}
	}
	s.ring.Restart()
	s.dropped.Store(0)
	s.lastID = after
	s.startID.Store(after)
	s.base.Store(after)
	s.settled.Store(uint64(s.ring.Head()))
}

// IDAt returns an id after which the events since a time come, as far as they are in the ring;
// the time is in microseconds since 1970. Any goroutine.
func (s *Sequencer) IDAt(time int64) uint64 {
	if !s.backplane {
		return uint64(max(0, time)) // ids are times
	}
	oldest, _, ok := s.ring.Oldest()
	if !ok {
		return s.NewestID()
	}
	// The greatest id behind which everything is of that time or later.
	low, high := oldest.ID()-1, s.ring.NewestID()
	for low < high {
		mid := low + (high-low)/2
		switch e, ok := s.ring.At(s.ring.After(mid)); {
		case !ok: // the tail has just passed it
			low = mid + 1
		case e.Time() < time:
			low = e.ID()
		default:
			high = mid
		}
	}
	return low
}

// Reaches tells whether all events since a time, in microseconds since 1970, are in the ring. It errs
// on the side of no. Any goroutine.
func (s *Sequencer) Reaches(time int64) bool {
	e, _, ok := s.ring.Oldest()
	id := s.IDAt(time)
	return ok && id >= e.ID() && id > s.table.start.Load()
}

// Holds tells whether a topic's newest n events are in reach, or all that it has had after an id are.
// It errs on the side of no. Any goroutine.
func (s *Sequencer) Holds(name string, n int, after uint64) bool {
	start := s.table.start.Load()
	t, ok := s.table.Lookup(name)
	if !ok {
		since := max(start, s.table.slot(name).Load())
		return after >= since || s.newestKnown.Load() && since <= start // nothing
	}
	l := s.newestBefore(t, ring.None)
	switch {
	case l.none():
		return !s.MissesNewest(t, after)
	case l.gone():
		return false
	}
	top := l.entry.Number()
	if l.entry.Kind() == ring.End {
		n++
	}
	if top >= uint64(n) {
		if first := s.numbered(t, l, top-uint64(n)+1); !first.gone() {
			return true
		}
	}
	return !s.Lost(t, after)
}

// Misses tells whether something of the topics and patterns newer than an id may be out of reach
// here, so that an older history has to be asked. It errs on the side of asking. Any goroutine.
func (s *Sequencer) Misses(names []string, patterns []Pattern, after uint64) bool {
	if after >= s.dropped.Load() && after >= s.table.start.Load() {
		return false
	}
	if len(patterns) > 0 {
		return true
	}
	for _, name := range names {
		if IsOwn(name) {
			continue // nothing of these is stored anywhere
		}
		t, ok := s.table.Lookup(name)
		if ok && s.Lost(t, after) || !ok && after < max(s.table.start.Load(), s.table.slot(name).Load()) {
			return true
		}
	}
	return false
}

// mustGiveIDs panics where ids are given elsewhere.
func (s *Sequencer) mustGiveIDs() {
	if s.backplane {
		panic("topic: Publish: with a backplane events come by Append alone")
	}
}
