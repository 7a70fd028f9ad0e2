package topic

// Freezing: for a moment nothing is published, and everybody who would waits.
//
// Freeze and Thaw: one goroutine at a time, and not while Drain is called; the rest on publishers'
// goroutines.

import (
	"errors"
	"fmt"
	"time"
)

// errFrozen sends a publisher from the gate to wait for the thaw.
var errFrozen = errors.New("frozen")

// ice is one frost: those who wait for it to come, and those who wait for its end.
type ice struct {
	frozen, thawed chan struct{}
}

func newIce() *ice { return &ice{frozen: make(chan struct{}), thawed: make(chan struct{})} }

// Freeze holds publishers back, those that wait for shards too; batches that have begun are
// finished, for which shards must run. It returns when nobody is inside: until Thaw nothing is
// appended, no bell is rung, and no topic comes or goes but by Acquire and Release. The error says
// that this has taken longer than it may; then nothing is frozen.
func (s *Sequencer) Freeze(atMost time.Duration) error {
	s.frozen.Store(true)
	close(s.ice.Load().frozen)
	late := time.NewTimer(atMost)
	defer late.Stop()
	for s.inside.Load() != 0 {
		select {
		case <-s.left:
		case <-late.C:
			s.Thaw()
			return fmt.Errorf("publishing did not come to rest within %s", atMost)
		}
	}
	return nil
}

// Thaw lets those go on whom Freeze has held back.
func (s *Sequencer) Thaw() {
	was := s.ice.Load()
	// In this order: who finds it frozen after having loaded the ice waits for the right one.
	s.frozen.Store(false)
	s.ice.Store(newIce())
	close(was.thawed)
}

// awaitThaw waits until the sequencer is not frozen, or drains.
func (s *Sequencer) awaitThaw() {
	ice := s.ice.Load()
	if !s.frozen.Load() {
		return
	}
	select {
	case <-ice.thawed:
	case <-s.gate.drain:
	}
}
