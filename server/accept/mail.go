package accept

// What other goroutines leave for the accept thread: sockets that come back to it, and what it is
// to do.

import "sync"

// mail is what other goroutines leave for the accept thread.
type mail struct {
	bell   int
	mu     sync.Mutex
	linger []int32 // sockets that netpoll has left, answered
	idle   []kept  // connections that go back to the quick way
	drain  bool
	stop   bool
	asked  []func()
	closed bool // the thread has ended
}

// leave changes the mail and rings; false when nobody reads it any more.
func (m *mail) leave(put func(*mail)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	put(m)
	ring(m.bell)
	return true
}

func (m *mail) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.linger) == 0 && len(m.idle) == 0
}

// readMail does what other goroutines have left.
func (a *Acceptor) readMail() {
	m := &a.mail
	m.mu.Lock()
	linger, idle, drain, stop := m.linger, m.idle, m.drain, m.stop
	asked := m.asked
	m.linger, m.idle, m.drain, m.stop, m.asked = nil, nil, false, false, nil
	m.mu.Unlock()
	for _, fd := range linger {
		a.finish(fd, nowhere)
	}
	for _, k := range idle {
		switch {
		case a.draining.Load():
			a.finish(k.fd, nowhere)
		case a.frozen:
			a.back = append(a.back, k)
		default:
			a.keep(k.fd, k.from, nowhere)
		}
	}
	for _, do := range asked {
		do()
	}
	if drain || stop {
		a.endIdleHere()
		a.endIdle()
	}
	if stop && a.closeAt == 0 {
		a.stopListening()
	}
}
