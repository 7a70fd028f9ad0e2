package backplane

// How far this node's reading is behind its stream, by this node's clock alone. Marks are set by
// publishers, whose acknowledgements say how far the stream is, and by the reading itself, which
// sees how much is left; the reading passes them. Any goroutine.

import (
	"sync"
	"sync/atomic"
	"time"
)

// A mark says that the stream had come to a sequence at some time, and the reading to another.
type mark struct {
	seq  uint64
	at   time.Time // not later than it was known
	read uint64    // then
}

// mostMarks bounds the marks; one that is set later is as coarse as it takes.
const mostMarks = 64

// behind is what the stream is known to have and was not read here yet.
//
// Who sets a mark stores it, then looks how far the reading is; the reading stores how far it is,
// then looks at the first mark. So whatever the order, no mark stays that was passed.
type behind struct {
	base time.Time
	read atomic.Uint64 // the newest sequence that was read
	next atomic.Uint64 // the first mark's sequence; the greatest number: there is none
	at   atomic.Int64  // its time, nanoseconds after base; 0: there is none

	mu     sync.Mutex
	marks  []mark        // that were not passed, ascending in both
	least  time.Duration // between two marks; what comes sooner moves the newest one
	apart  time.Duration // the same while there are many
	passed func()        // called without the lock after something was read
}

const noMark = ^uint64(0)

func (h *behind) begin(least time.Duration, passed func()) {
	h.next.Store(noMark)
	h.base = time.Now().Add(-time.Second) // no mark's time is 0
	h.least, h.apart, h.passed = least, least, passed
}

// known sets a mark: now the stream has come at least to seq. Any goroutine.
func (h *behind) known(seq uint64, now time.Time) {
	if seq <= h.read.Load() {
		return
	}
	h.mu.Lock()
	h.add(seq, now)
	h.first()
	h.mu.Unlock()
	if read := h.read.Load(); read >= seq {
		h.forget(func(m mark) bool { return m.seq <= read })
	}
}

// add adds a mark. With the lock.
func (h *behind) add(seq uint64, now time.Time) {
	n := len(h.marks)
	if n > 0 && seq <= h.marks[n-1].seq {
		return
	}
	if n > 0 && now.Sub(h.marks[n-1].at) < h.apart {
		h.marks[n-1].seq = seq
		return
	}
	if n == mostMarks {
		// Half as many, twice as coarse: the older time with the newer sequence.
		for i := range n / 2 {
			h.marks[i] = mark{h.marks[2*i+1].seq, h.marks[2*i].at, h.marks[2*i].read}
		}
		h.marks, h.apart = h.marks[:n/2], 2*h.apart
	}
	h.marks = append(h.marks, mark{seq, now, h.read.Load()})
}

// pass says that the stream was read up to seq. The reading's goroutine; it takes no lock where no
// mark is passed.
func (h *behind) pass(seq uint64) {
	h.read.Store(seq)
	if seq >= h.next.Load() {
		h.forget(func(m mark) bool { return m.seq <= seq })
		return
	}
	h.passed()
}

// over says that nothing is left to be read of what was known at a time. Any goroutine.
func (h *behind) over(then time.Time) {
	h.forget(func(m mark) bool { return !m.at.After(then) })
}

// anew says that it is another stream, read up to seq. The reading's goroutine.
func (h *behind) anew(seq uint64) {
	h.read.Store(seq)
	h.forget(func(mark) bool { return true })
}

// forget takes out the marks from the first on for which gone holds.
func (h *behind) forget(gone func(mark) bool) {
	h.mu.Lock()
	n := 0
	for n < len(h.marks) && gone(h.marks[n]) {
		n++
	}
	h.marks = h.marks[:copy(h.marks, h.marks[n:])]
	if len(h.marks) == 0 {
		h.apart = h.least
	}
	h.first()
	h.mu.Unlock()
	h.passed()
}

// first shows the first mark to those who look without the lock. With the lock.
func (h *behind) first() {
	next, at := noMark, int64(0)
	if len(h.marks) > 0 {
		next, at = h.marks[0].seq, int64(h.marks[0].at.Sub(h.base))
	}
	h.at.Store(at)
	h.next.Store(next)
}

// by is how long ago the stream had what was not read yet; 0 where all that is known was read. Any
// goroutine.
func (h *behind) by(now time.Time) time.Duration {
	at := h.at.Load()
	if at == 0 {
		return 0
	}
	return max(0, now.Sub(h.base)-time.Duration(at))
}

// exceeds tells whether what was not read is older than a time, or will be when it is read at the pace of
// late: else publishers would fill the stream for that time as fast as it takes it, before they are held
// back by what shards send at a fraction of it. Any goroutine.
func (h *behind) exceeds(most time.Duration, now time.Time) bool {
	age := h.by(now)
	if age <= most/paceAfter || age > most {
		return age > most
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.marks) == 0 {
		return false
	}
	read, first := h.read.Load(), h.marks[0]
	left, done := h.marks[len(h.marks)-1].seq-read, read-first.read // sequences of others are in both
	return float64(left)*float64(now.Sub(first.at)) > float64(done)*float64(most)
}

// paceAfter is the part of the time that is allowed after which the reading's pace can be told.
const paceAfter = 4

// Behind tells whether this node has not read yet what the stream had Options.MaxBehind ago, or is about to
// come to that: publishers here wait then. Not while NATS is gone: they wait for that, and hear it. Any goroutine.
func (b *Backplane) Behind() bool {
	return b.o.MaxBehind > 0 && b.behind.exceeds(b.o.MaxBehind, time.Now()) && b.reading.Load() && b.isUp()
}

// window is how many events of a batch are sent at once: few where the reading is not at the stream's end.
func (b *Backplane) window() int {
	if b.behind.by(time.Now()) > b.o.MaxBehind/paceAfter {
		return lateWindow
	}
	return maxWindow
}

// moved tells publishers who wait that they may look again.
func (b *Backplane) moved() {
	if s := b.follows.Load(); s != nil {
		s.FeedMoved()
	}
}
