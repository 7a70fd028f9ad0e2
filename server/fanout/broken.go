package fanout

// A break in what there is: events that never came here, or ids that begin anew.
//
// Break is any goroutine's, one at a time; the rest runs on the shard's thread. It is the one time
// that shards wait, for as long as it takes to say so to the sequencer: a reader must not meet
// ids of both sides at once.

import (
	"cmp"
	"maps"
	"slices"
)

// A barrier is where the shards stand still.
type barrier struct {
	ready chan<- struct{} // one for each shard that has come; it has room
	over  <-chan struct{} // closed when they may go on
	anew  bool
}

// Break makes all shards stand still at the end of a pass, calls change, and lets them go on; every
// stream is then told of a gap before anything newer. With anew, what change has left is a
// ring that begins again with other ids (topic.Sequencer.Restart). It returns at once, without a
// call, where the shards have ended. Any goroutine but a shard's thread, one at a time.
func (s *Shards) Break(anew bool, change func()) {
	ready, over := make(chan struct{}, len(s.shards)), make(chan struct{})
	defer close(over)
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandBreak, barrier: barrier{ready, over, anew}})
		sh.wakeUp()
	}
	for _, sh := range s.shards {
		select {
		case <-ready:
		case <-sh.stopped:
			return
		}
	}
	change()
}

// standStill waits at a barrier, and then sends everybody the gap.
func (sh *shard) standStill(b *barrier) {
	// A rest that is a place in the ring has to be copied before the ring is another one.
	for i := len(sh.laggards) - 1; i >= 0 && b.anew; i-- {
		m := sh.laggards[i]
		if m.lag.rest.size == 0 {
			continue
		}
		if bytes := sh.remake(m); bytes != nil {
			sh.hold(m.lag, bytes)
		} else {
			sh.leave(m, LagMemory)
		}
	}
	b.ready <- struct{}{}
	<-b.over
	for _, a := range sh.inOrder() {
		sh.lapAudience(a)
	}
	if b.anew {
		sh.beginAnew()
	} else if sh.read == sh.ring.Head() {
		// What is lost has been read, in a way: who is told of it resumes behind it.
		sh.readID = max(sh.readID, sh.seq.NewestID())
	}
	for _, m := range sh.laggards {
		if l := m.lag; l.opening == nil || !b.anew {
			l.broken = true
		}
		if !m.lag.blocked {
			sh.wake(m)
		}
	}
}

// beginAnew forgets every id that the shard knows, for they were another stream's.
func (sh *shard) beginAnew() {
	sh.read, sh.readID = sh.ring.Head(), sh.seq.NewestID()
	sh.guarded = sh.read
	sh.bounds.marks = sh.bounds.marks[:0]
	sh.noteRead()
	sh.shared.audience = nil
	for _, a := range sh.audiences {
		a.lastID = 0
		a.set(over, false)
	}
	for _, m := range sh.laggards {
		l := m.lag
		l.was, m.told = max(l.was, m.told), sh.readID
		l.cursor, l.past = sh.read, past{}
		l.fell, l.unknown, l.topics, l.fellUntil = false, false, nil, 0
		l.skim, l.bare, l.known, l.reason = false, false, known{}, GapRestart
		if s := l.opening; s != nil && s.Resume {
			s.forgetID()
		}
	}
}

// inOrder are the audiences in an order that a simulation can repeat.
func (sh *shard) inOrder() []*audience {
	return slices.SortedFunc(maps.Values(sh.audiences), func(a, b *audience) int { return cmp.Compare(a.key, b.key) })
}

// lapAudience makes a's live members lag from where they have been served to.
func (sh *shard) lapAudience(a *audience) {
	from, told := sh.position(a), sh.servedID(a)
	if a.pace != nil && a.pace.stirred {
		sh.unschedule(a)
		a.pace.calm()
	}
	sh.lap(a, from, told)
	// Ends and new beginnings may be among what was not read.
	a.set(over, false)
	sh.ended = append(sh.ended, a)
}

// atBreak tells what a gap gives as its start: what m was told last, in the ids of that time.
func (m *subscriber) atBreak() uint64 {
	if m.lag.broken && m.lag.was > 0 {
		return m.lag.was
	}
	return m.told
}
