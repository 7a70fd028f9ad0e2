package accept

// Time on the long way. The accept thread looks at every connection there now and then: many
// deadlines, but none that has to be met to the millisecond, and no timer for any of them.

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How often the thread looks. While requests are in hand it also looks for clients that send on
// and on: the tick bounds what they can put into netpoll's buffers meanwhile.
const (
	sweepIdle = 50 * time.Millisecond
	sweepBusy = 20 * time.Millisecond
)

// longs are the connections on the long way. Any goroutine.
type longs struct {
	mu     sync.Mutex
	oldest *long
	newest *long
	size   int
}

func (s *longs) add(l *long) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.older = s.newest; l.older == nil {
		s.oldest = l
	} else {
		l.older.newer = l
	}
	s.newest = l
	s.size++
}

func (s *longs) remove(l *long) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.older == nil {
		s.oldest = l.newer
	} else {
		l.older.newer = l.newer
	}
	if l.newer == nil {
		s.newest = l.older
	} else {
		l.newer.older = l.older
	}
	l.older, l.newer = nil, nil
	s.size--
}

func (s *longs) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// pick appends those that which chooses.
func (s *longs) pick(dst []*long, which func(*long) bool) []*long {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := s.oldest; l != nil; l = l.newer {
		if which(l) {
			dst = append(dst, l)
		}
	}
	return dst
}

// sweep ends what is over on the long way. The accept thread.
func (a *Acceptor) sweep() {
	began := a.clock()
	a.due = a.longs.pick(a.due[:0], func(l *long) bool {
		d := l.deadline.Load()
		return d != 0 && d <= began || l.floods()
	})
	for _, l := range a.due {
		l.expire(began)
	}
	clear(a.due)
	if a.sweepAt = 0; !a.hands.sendHome() && a.longs.len() == 0 && a.closeAt == 0 {
		return
	}
	// Looking takes at most a hundredth of the thread's time.
	now := a.clock()
	a.sweepAt = now + max(int64(a.sweepEvery()), 100*(now-began))
}

func (a *Acceptor) sweepEvery() time.Duration {
	every := sweepIdle
	for i := range a.count.inHand {
		if a.count.inHand[i].Load() > 0 {
			every = sweepBusy
		}
	}
	if a.closeAt != 0 {
		every = sweepBusy
	}
	shortest := min(a.o.HandshakeTimeout, a.o.BodyTimeout, a.o.IdleTimeout, a.o.LingerTimeout)
	return max(time.Millisecond, min(every, shortest/4))
}

// floods tells whether far more waits in netpoll's buffer than a request may have, and nobody
// reads it.
func (l *long) floods() bool {
	return (l.handling.Load() || l.writing.Load()) && l.attached.Load() && l.np.Reader().Len() > l.a.o.MaxBodySize+floodMost
}

// expire ends a connection, or what it is at, because its time is up. The accept thread.
func (l *long) expire(now int64) {
	a := l.a
	l.mu.Lock()
	d := l.deadline.Load()
	late := d != 0 && d <= now
	closeIt := false
	switch {
	case l.phase == serving && l.floods():
		a.count.floods.Add(1)
		shut(l.fd, unix.SHUT_RDWR)
	case !late:
	case l.phase == between && l.requests > 0:
		l.phase = ended
		closeIt = true
	case l.phase == between || l.phase == partial:
		// No goroutine is in it, and none will do more than linger from here.
		a.count.timeouts.Add(1)
		send(l.fd, a.o.Handler.Error(nil, nil, lateHead.status, lateHead.text))
		shut(l.fd, unix.SHUT_WR)
		l.phase = ended
		l.deadline.Store(now + int64(a.lingerTimeout()))
	case l.phase == ended:
		closeIt = true
	case l.phase == serving:
		// The goroutine in it closes. netpoll's Close would do so at once while
		// onRequest is not set; a shutdown only ends what the goroutine waits for.
		a.count.timeouts.Add(1)
		l.deadline.Store(0)
		l.expired.Store(true)
		if l.writing.Load() {
			shut(l.fd, unix.SHUT_RDWR)
		} else {
			shut(l.fd, unix.SHUT_RD) // it can still answer
		}
	}
	l.mu.Unlock()
	if closeIt {
		l.np.Close()
	}
}

// endIdle closes the connections that no request is in hand on.
func (a *Acceptor) endIdle() {
	a.due = a.longs.pick(a.due[:0], func(l *long) bool { return true })
	for _, l := range a.due {
		l.mu.Lock()
		idle := l.phase == between
		if idle {
			l.phase = ended
		}
		l.mu.Unlock()
		if idle {
			l.np.Close()
		}
	}
	clear(a.due)
	a.sweepAt = a.now
}

// cutAll ends all connections that there are, now.
func (a *Acceptor) cutAll() {
	a.due = a.longs.pick(a.due[:0], func(l *long) bool { return true })
	for _, l := range a.due {
		l.mu.Lock()
		switch l.phase {
		case gone:
			l.mu.Unlock()
		case serving:
			shut(l.fd, unix.SHUT_RDWR)
			l.mu.Unlock()
		default:
			l.phase = ended
			l.mu.Unlock()
			l.np.Close()
		}
	}
	clear(a.due)
}
