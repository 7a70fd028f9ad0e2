package accept

// Hands: the goroutines that first requests on the long way are served by.
//
// A goroutine begins with a small stack, and parsing makes it grow, which costs more than the parsing
// does. So one that has served a connection's first requests waits a while for another connection.
// What is here runs on the accept thread but for hand.

import "sync/atomic"

// handsMost is how many goroutines may wait.
const handsMost = 64

type hands struct {
	next    chan *long   // nil and the end of it: go home
	waiting atomic.Int32 // or about to
	lent    bool         // since the last sweep
}

// lend has a goroutine serve what was taken out of l's socket.
func (a *Acceptor) lend(l *long) {
	a.hands.lent = true
	select {
	case a.hands.next <- l:
	default:
		go a.hand(l)
	}
}

// hand is the goroutine.
func (a *Acceptor) hand(l *long) {
	h := &a.hands
	for l != nil {
		if l.taken(); !l.attached.Load() {
			spareLongs.Put(l)
		}
		if h.waiting.Add(1) > handsMost {
			h.waiting.Add(-1)
			return
		}
		l = <-h.next
		h.waiting.Add(-1)
	}
}

// sendHome ends the goroutines that wait, if nobody has needed one since the last time. It tells
// whether there are any left.
func (h *hands) sendHome() (left bool) {
	if h.lent {
		h.lent = false
		return h.waiting.Load() > 0
	}
	for {
		select {
		case h.next <- nil:
		default:
			return h.waiting.Load() > 0
		}
	}
}
