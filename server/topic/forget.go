package topic

// Places among the published topics: who gets one, and who goes for it.
//
// The bound is on topics that were published to. One may go when it has no entry in the
// ring and nobody holds it; of those, the one longest unpublished goes. With the
// sequencer's lock, but for giveBack: any goroutine.

// What a topic that is silent (no entry in the ring) but has subscribers goes through,
// so that looking for one that may go does not meet it again and again: found in the
// heap and taken out (isHeld); left by its last holder, who puts it on the table's
// stack (released); put back into the heap by the next search (notHeld).
const (
	notHeld uint32 = iota
	isHeld
	released
)

// searchSteps is how many topics one search looks at before the lock is given to others.
const searchSteps = 256

// claimLocked gives t a place among the published, if it has none. done is false
// when that has taken long enough, and the caller lets others have the lock and calls
// again. The server's own topics get a place where there is none, and so do those of a backplane:
// their events are published already, and the ring bounds how many they are. The caller holds t.
func (s *Sequencer) claimLocked(t *Topic) (done bool, err error) {
	if !t.claimed.Load() {
		if len(s.byNumber) >= s.maxTopics && !IsOwn(t.name) {
			if done, err = s.makePlaceLocked(); !done || err != nil && !s.backplane {
				return done, err
			}
		}
		t.claimed.Store(true)

		s.byNumber[t.number] = t
	}
	return true, nil
}

// unclaimLocked takes a claim back: nothing came of it, unless another publisher's did.
func (s *Sequencer) unclaimLocked(t *Topic) {
	t.claims--
	if t.claims > 0 || t.events.Load() > 0 {
		return
	}
	t.claimed.Store(false)

	delete(s.byNumber, t.number)
}

// makePlaceLocked forgets the topic that was longest unpublished of those that may go. done
// is false where it has not found it yet; the error says that there is none.
func (s *Sequencer) makePlaceLocked() (done bool, err error) {
	s.takeBackLocked()
	s.endLeasesLocked()
	for range searchSteps {
		t, fresh := s.silent.first()
		switch {
		case t == nil:
			if !s.takeBackLocked() {
				return true, ErrTooManyTopics
			}
		case !fresh:
		case !t.isSilent || s.leaseLocked(t):
			s.silent.remove(t)
		case s.forgetLocked(t):
			return true, nil
		default:
			s.silent.remove(t)
			// Its last holder may have left before it could see isHeld. If so one of
			// the two, we or it, wins the swap and puts it back.
			if t.held.CompareAndSwap(notHeld, isHeld) && t.idle() && t.held.CompareAndSwap(isHeld, notHeld) {
				s.silent.add(t)
			}
		}
	}
	return false, nil
}

// takeBackLocked puts the released topics back into the heap; false if there are none.
func (s *Sequencer) takeBackLocked() bool {
	t := s.table.released.Swap(nil)
	if t == nil {
		return false
	}
	for t != nil {
		next := t.released
		t.released = nil
		t.held.Store(notHeld) // from here on it may be released again
		if t.isSilent && t.claimed.Load() {
			s.silent.add(t)
		}
		t = next
	}
	return true
}

// giveBack tells the next search that nobody holds t any more, if a search has passed it over.
func (tb *Table) giveBack(t *Topic) {
	if !t.held.CompareAndSwap(isHeld, released) {
		return
	}
	for {
		t.released = tb.released.Load()
		if tb.released.CompareAndSwap(t.released, t) {
			return
		}
	}
}

// forgetLocked forgets a silent topic with what it kept, unless somebody holds it.
func (s *Sequencer) forgetLocked(t *Topic) bool {
	p := s.table.part(t.name)
	p.mu.Lock()
	if !t.kill() {
		p.mu.Unlock()
		return false
	}
	// Before the name is free: whoever makes it again takes its since from here.
	if slot := s.table.slot(t.name); slot.Load() < t.newest.Load() {
		slot.Store(t.newest.Load())
	}
	s.table.newestForgotten.Store(max(s.table.newestForgotten.Load(), t.newest.Load()))
	s.table.removeLocked(p, t)
	p.mu.Unlock()

	t.claimed.Store(false)

	s.forgotten++
	delete(s.byNumber, t.number)
	s.dropKeptLocked(t)
	s.silent.remove(t)
	s.keepers.remove(t)
	return true
}
