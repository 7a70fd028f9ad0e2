package topic

// The gates: where publishers wait, before any lock of the sequencer's: at the one for shards, and
// with a backplane at the one for what it has stored and this node has not read yet (feed.go).
//
// Publishers' goroutines; knock on the threads of those that are waited for.

import (
	"sync"
	"sync/atomic"
	"time"
)

// A gate is a line of publishers. Only the first one looks whether those it waits for have caught up;
// going, it tells the next one to look. So nobody who waits is overtaken for ever, and a pass's
// end wakes one goroutine and not hundreds.
type gate struct {
	s          *Sequencer
	behind     func() bool // whether publishers have to wait. Any goroutine
	rouse      func()      // wakes who is waited for, where that sleeps
	yields     bool        // the patient do not wait any more once the server drains
	shed       bool
	wait       time.Duration
	maxWaiting int

	waiting atomic.Int32 // in line; counted before the last look, see Follower.Done
	granted atomic.Int64 // bytes that those let in from the line have not published yet
	drain   chan struct{}

	mu          sync.Mutex
	first, last *waiter
	idle        *waiter // the ones not in use, by next
	patient     int     // of those in line, the ones of batches begun
	waits       uint64
	overloads   uint64
}

// A waiter is a publisher in line.
type waiter struct {
	look       chan struct{} // one token: you are first, look
	timer      *time.Timer
	prev, next *waiter
}

// pass returns at once when nothing is too far behind and nobody waits already. Otherwise it
// waits its turn: for as long as the options say and no longer than until the server drains, or
// without a limit if the publisher is patient (its batch has begun). Whoever waited is
// granted the bytes that it is about to publish, and gives them back by through when it
// has: so a line does not rush in on the first one's look. Any goroutine but a shard's.
func (g *gate) pass(patient bool, size int) (granted int, err error) {
	if g.open() {
		return 0, nil
	}
	if g.shed && !patient {
		if !g.behind() {
			return 0, nil // only batches wait, and not for room
		}
		g.mu.Lock()
		g.overloads++
		g.mu.Unlock()
		return 0, ErrOverload
	}
	w := g.join(patient)
	if w == nil {
		return 0, ErrOverload
	}
	if err = g.stand(w, patient); err == nil {
		granted = size
		g.granted.Add(int64(size))
	}
	g.leave(w, patient, err)
	return granted, err
}

// open tells whether a publisher passes without waiting. Any goroutine.
func (g *gate) open() bool { return g.waiting.Load() == 0 && !g.behind() }

// through gives back what pass has granted: it is in the ring, or will not be.
func (g *gate) through(granted int) {
	if granted > 0 {
		g.granted.Add(int64(-granted))
		g.knock()
	}
}

// join puts a publisher at the end of the line; nil if there is no room for one more.
func (g *gate) join(patient bool) *waiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !patient && int(g.waiting.Load())-g.patient >= g.maxWaiting {
		g.overloads++
		return nil
	}
	w := g.idle
	if w != nil {
		g.idle = w.next
	} else {
		w = &waiter{look: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
		w.timer.Stop()
	}
	w.prev, w.next = g.last, nil
	if g.last != nil {
		g.last.next = w
	} else {
		g.first = w
		w.look <- struct{}{}
	}
	g.last = w
	if patient {
		g.patient++
	}
	g.waits++
	g.waiting.Add(1)
	return w
}

// stand waits until it is w's turn and who is waited for has caught up.
func (g *gate) stand(w *waiter, patient bool) error {
	var late <-chan time.Time
	var drain, frozen <-chan struct{}
	if !patient {
		w.timer.Reset(g.wait)
		defer w.timer.Stop()
		late, frozen = w.timer.C, g.s.ice.Load().frozen
	}
	if !patient || g.yields {
		drain = g.drain
	}
	for {
		select {
		case <-drain:
			return ErrDraining
		case <-frozen:
			return errFrozen
		case <-late:
			return ErrOverload
		case <-w.look:
			if !g.behind() {
				return nil
			}
			g.rouse()
		}
	}
}

// leave takes w out of the line and lets the next one look, if w was the first.
func (g *gate) leave(w *waiter, patient bool, err error) {
	g.mu.Lock()
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		g.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		g.last = w.prev
	}
	if w.prev == nil {
		g.tellFirst()
	}
	g.waiting.Add(-1)
	if patient {
		g.patient--
	}
	if err == ErrOverload {
		g.overloads++
	}
	select {
	case <-w.look: // the next one has been told instead
	default:
	}
	w.prev, w.next = nil, g.idle
	g.idle = w
	g.mu.Unlock()
}

// tellFirst gives the first in line its token. With the gate's lock.
func (g *gate) tellFirst() {
	if g.first == nil {
		return
	}
	select {
	case g.first.look <- struct{}{}:
	default: // it has one
	}
}

// knock lets the first in line look, if it would find that it may go. Any goroutine.
func (g *gate) knock() {
	if g.waiting.Load() == 0 || g.behind() {
		return
	}
	g.mu.Lock()
	g.tellFirst()
	g.mu.Unlock()
}
