package topic

// Kept frames: the newest entries of each topic outlive the ring.
//
// With the sequencer's lock; readers on any goroutine follow kept and older.

import (
	"sync/atomic"
	"unsafe"

	"penstock/ring"
)

// A keptFrame is a copy of an entry that the tail has passed.
//
// A topic's kept frames are one stretch of its entries without holes, and the newest of them is
// the one right before its oldest entry in the ring, or its newest ever where none is there:
// the topic's chain goes on through them.
type keptFrame struct {
	entry ring.Entry
	at    ring.Position // where it was in the ring
	older atomic.Pointer[keptFrame]
	newer *keptFrame // with the sequencer's lock
}

// size is what the kept frame costs, about: the allocator rounds up.
func (k *keptFrame) size() int64 {
	return int64(unsafe.Sizeof(*k)) + int64(k.entry.Size())
}

// maxKeep is the greatest --keep: what readers walk through.
const maxKeep = 1 << 16

// evictSteps is how many topics are looked at for each entry that is kept: so the lock stays
// short, and the size is over its bound for a moment at most.
const evictSteps = 32

// keepLocked keeps a copy of t's entry e, which the tail is about to pass, if it is one of
// the topic's newest, and lets go of what is not any more. After it, the tail may move.
func (s *Sequencer) keepLocked(t *Topic, e ring.Entry, at ring.Position) {
	keep := s.keepOf(t)
	if t.events.Load()-e.Number() >= uint64(keep) || int64(e.Size()) > s.keepSize {
		// The next one in reach is newer than this one: what was kept ends before a hole.
		s.dropKeptLocked(t)
		return
	}
	s.addKeptLocked(t, &keptFrame{entry: e.Clone(), at: at})
	for int(t.keptCount) > keep {
		s.dropOldestLocked(t)
	}
	s.keepers.add(t)
	s.evictLocked()
}

// addKeptLocked makes k the newest of what t keeps.
func (s *Sequencer) addKeptLocked(t *Topic, k *keptFrame) {
	last := t.kept.Load()
	k.older.Store(last)
	if last != nil {
		last.newer = k
	} else {
		t.keptOldest = k
	}
	t.kept.Store(k)
	t.keptCount++
	s.keptFrames++
	s.keptBytes += k.size()
}

// dropOldestLocked lets go of the oldest of several kept frames.
func (s *Sequencer) dropOldestLocked(t *Topic) {
	k := t.keptOldest
	t.keptOldest = k.newer
	t.keptOldest.older.Store(nil)
	t.keptCount--
	s.keptFrames--
	s.keptBytes -= k.size()
}

// dropKeptLocked lets go of all that t has kept.
func (s *Sequencer) dropKeptLocked(t *Topic) {
	if t.keptOldest == nil {
		return
	}
	for k := t.keptOldest; k != nil; k = k.newer {
		s.keptBytes -= k.size()
	}
	s.keptFrames -= int64(t.keptCount)
	t.kept.Store(nil)
	t.keptOldest, t.keptCount = nil, 0
}

// evictLocked takes the kept frames of the topics longest unpublished, until the others'
// are within their bound.
func (s *Sequencer) evictLocked() {
	for range evictSteps {
		if s.keptBytes <= s.keepSize {
			return
		}
		t, fresh := s.keepers.first()
		if t == nil {
			return
		}
		if fresh {
			s.dropKeptLocked(t)
			s.keepers.remove(t)
		}
	}
}

// makeRoomLocked moves the tail on until a frame of n bytes has room.
func (s *Sequencer) makeRoomLocked(n int) {
	for !s.ring.Room(n) {
		s.dropLocked()
	}
}

// dropLocked drops the ring's oldest entry, and keeps what is to outlive it.
func (s *Sequencer) dropLocked() {
	e, at, ok := s.ring.Oldest()
	if !ok {
		panic("topic: an empty ring has no room for a frame of the size that it was made for")
	}
	t := s.byNumber[e.Topic()]
	s.keepLocked(t, e, at)
	if e.Number() == t.events.Load() {
		t.isSilent = true
		s.silent.add(t)
	}
	s.dropped.Store(e.ID()) // before the tail moves: see Dropped
	s.ring.Drop()
}
