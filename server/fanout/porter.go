package fanout

// Porters: how a socket gets from the process's descriptor table into the table of its shard.
//
//	Join, Enlist ──> inbox: joiner 7 ───────────────────────────> the shard takes as many as were sent
//	HandOver ──────> the pair: a message with the sockets 7.. ──> and receives them
//	                 then they are closed here
//
// Whoever hands over is the porter: the accept thread after each round of events, the goroutine of
// a request. It never waits. Where the pair is full, or too many descriptors are in flight for
// this user, a goroutine of its own tries again until all are sent, and ends.
//
// A shard's room is counted before it is given a socket (place), so that its table is never full.
// Should it be so all the same (the limit of open files was lowered while the server runs), the
// kernel drops and so closes what does not fit: the label of the message says how many there were, the
// others are counted as lost, and the shard takes no more streams than it has.

import (
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// porter is what hands over where tables are private.
type porter struct {
	mu      sync.Mutex
	trying  bool // there is a goroutine that tries again
	again   bool // somebody has had to wait since it began to look
	closed  bool
	stop    chan struct{}
	retries sync.WaitGroup
}

// How long the goroutine waits before it tries again: from the first to the last, doubled each time.
const (
	firstRetry = time.Millisecond
	lastRetry  = 64 * time.Millisecond
)

// HandOver sends what Enlist has left, and wakes the shards that it is for. It never waits. Any
// goroutine, but not a shard's thread.
func (s *Shards) HandOver() {
	if !s.handOver() {
		s.tryAgain()
	}
}

// handOver tells whether nothing has to be tried again.
func (s *Shards) handOver() bool {
	all := true
	for _, sh := range s.shards {
		if !sh.inbox.apart {
			if sh.inbox.waits() {
				sh.wakeUp()
			}
		} else if !sh.handOver() {
			all = false
		}
	}
	return all
}

// handOver sends the shard its sockets; false when some have to wait.
func (sh *shard) handOver() bool {
	in := &sh.inbox
	var room [mostFiles]int32
	for limit := mostFiles; ; {
		fds, first := in.beginSending(room[:0], limit)
		if len(fds) == 0 {
			return true
		}
		l := newLabel(first, len(fds))
		errno := in.out.send(sh.door, l[:], fds)
		switch errno {
		case 0:
		case syscall.EAGAIN, syscall.ETOOMANYREFS, syscall.ENOBUFS, syscall.ENOMEM:
			in.endSending(0)
			return false
		default:
			// One of them is no descriptor. Alone, it is told with a message without
			// any, so that those behind it do not wait for it.
			if len(fds) > 1 {
				in.endSending(0)
				limit = 1
				continue
			}
			if in.out.send(sh.door, l[:], nil) != 0 {
				in.endSending(0)
				return false
			}
		}
		in.endSending(len(fds))
		sh.wakeUp()
		// Now the message holds them.
		for _, fd := range fds {
			unix.Close(int(fd))
		}
	}
}

// tryAgain sees to it that a goroutine does, until all are sent.
func (s *Shards) tryAgain() {
	p := &s.porter
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = true
	if p.trying || p.closed {
		return
	}
	p.trying = true
	p.retries.Go(func() {
		for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
			select {
			case <-p.stop:
				return
			case <-time.After(pause):
			}
			p.mu.Lock()
			p.again = false
			p.mu.Unlock()
			sent := s.handOver()
			p.mu.Lock()
			p.trying = !sent || p.again
			over := !p.trying
			p.mu.Unlock()
			if over {
				return
			}
		}
	})
}

// close ends the goroutine.
func (p *porter) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.stop)
	}
	p.mu.Unlock()
	p.retries.Wait()
}

// receive gives joiners their sockets. The shard's thread.
func (sh *shard) receive(joiners []joiner) {
	for len(sh.arrived) < len(joiners) {
		if !sh.receiveSome() {
			panic("fanout: receive: the inbox says that a socket was sent, and it was not")
		}
	}
	for i := range joiners {
		joiners[i].fd = sh.arrived[i]
	}
	rest := copy(sh.arrived, sh.arrived[len(joiners):])
	sh.arrived = sh.arrived[:rest]
}

// receiveSome takes what came with one message; false when there is none. The shard's thread.
func (sh *shard) receiveSome() bool {
	before := len(sh.arrived)
	first, fds, ok := sh.sys.receive(sh.arrived)
	switch {
	case !ok:
		return false
	case first == lent:
		sh.frost.lent = append(sh.frost.lent, fds[before:]...)
	case first != sh.received:
		panic("fanout: receive: sockets of other joiners than those that are due")
	default:
		sh.received += uint64(len(fds) - before)
		sh.arrived = fds
	}
	return true
}

// lent is the label of a descriptor that is no joiner's: the shard is to send its sockets there (give).
const lent = ^uint64(0)

// lend gives the shard a descriptor of the process's table, beside the joiners; it closes it when it
// has used it. Not the shard's thread.
func (sh *shard) lend(fd int32, until time.Time) error {
	var p parcel
	l := newLabel(lent, 1)
	for {
		switch errno := p.send(sh.door, l[:], []int32{fd}); errno {
		case 0:
			return nil
		case syscall.EAGAIN, syscall.ETOOMANYREFS, syscall.ENOBUFS, syscall.ENOMEM:
			sh.sys.ring() // a frozen shard takes what came, but has to be awake for it
			if err := await(-1, 0, until); err != nil {
				return err
			}
		default:
			return fmt.Errorf("lend a shard a descriptor: %w", errno)
		}
	}
}

// lost ends a stream whose socket was lost on the way, before it began.
func (sh *shard) lost(j joiner) {
	ticket := j.subscription.Ticket
	j.subscription.free()
	add(&sh.stats.lost, 1)
	n := sh.stats.streams.Add(-1)
	// What there is is all that the table holds.
	sh.room.Store(min(sh.room.Load(), max(1, n)))
	if ticket != 0 {
		sh.gone(ticket)
	}
}

// A label is what a message with joiners says of them: which is the first, by its number in the
// shard's inbox, and how many they are. The receiver can't tell from the descriptors alone what was cut.
type label [12]byte

func newLabel(first uint64, count int) (l label) {
	binary.NativeEndian.PutUint64(l[:], first)
	binary.NativeEndian.PutUint32(l[8:], uint32(count))
	return l
}

func (l *label) read() (first uint64, count int) {
	return binary.NativeEndian.Uint64(l[:]), int(binary.NativeEndian.Uint32(l[8:]))
}
