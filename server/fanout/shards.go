package fanout

// The door: what the rest of the server knows of the shards.

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// ErrDraining is the answer to a Join once Drain was called. The socket stays
// the caller's.
var ErrDraining = errors.New("the server is draining and takes no new streams")

// ErrFull is the answer to a Join when the shards' descriptor tables hold as many streams as they
// can. The socket stays the caller's.
var ErrFull = errors.New("every shard's descriptor table is full")

// ErrNoTables is wrapped by NewTables' error when shards can't have descriptor tables of their own: the
// kernel, or a container's filter, refuses, or the limit of open files is too low for any.
var ErrNoTables = errors.New("no descriptor tables for shards")

// Options say what New makes. All are required but Tables, Abreast, Version and Gone.
type Options struct {
	Shards             int                     // threads with their own subscribers, at least 1; with Tables as many as those
	Tables             *Tables                 // each shard has one of them; nil: all use the process's
	Abreast            int                     // with Tables: streams are spread over so many shards until those are full, then over the next ones; 0: over all
	Pin                bool                    // each thread stays on one core
	Sequencer          *topic.Sequencer        // whose ring is sent
	Heartbeat          time.Duration           // how long a stream may be idle, at least 10 ms
	FlushInterval      time.Duration           // the longest rest between two passes; 0 for none
	FlushMaxBytes      int                     // a batch that reaches it is flushed at once, in bytes
	LagMemory          int64                   // bytes held for lagging streams, over all shards
	RetryMin, RetryMax time.Duration           // each stream is told a time between them to wait before it comes back
	MaxLag             int64                   // see Limits; 0: none
	MaxAge             time.Duration           // see Limits; 0: none
	StallTimeout       time.Duration           // see Limits; 0: none
	CompressShare      int                     // members from which on a compressed audience keeps a window, at least 1
	CompressLevel      encode.Level            // the most that compressing may cost
	Version            string                  // of the server, for those who ask for hello; may be empty
	Frozen             bool                    // nothing is done before Thaw: streams are to be adopted
	Network            func(uint32) netip.Addr // for whom a Ticket counts. On the shard's thread, like those that follow: they must not wait
	Enter              func(netip.Addr) uint32 // the Ticket of one who is adopted
	Gone               func(uint32)            // called with the Ticket of a stream that has one, once its socket is closed

	pins   []int      // with Pin: the cores to choose from
	memory *lagMemory // of all shards; nil for one that a test steps alone
}

// Shards send the ring's events to their subscribers, each shard on a thread of
// its own.
type Shards struct {
	shards   []*shard
	abreast  int
	draining atomic.Bool
	porter   porter
}

// New makes shards and starts their threads. Errors are those of opening epoll
// sets, and with Pin of a kernel that lets nobody choose a core; whatever was opened is closed then,
// o.Tables too. Close ends them.
func New(o Options) (*Shards, error) {
	if o.Tables == nil && o.Shards < 1 {
		return nil, fmt.Errorf("%d shards; at least 1", o.Shards)
	}
	if o.Pin {
		var err error
		if o.pins, err = cores(); err != nil {
			if o.Tables != nil {
				o.Tables.Close()
			}
			return nil, err
		}
	}
	s := &Shards{porter: porter{stop: make(chan struct{})}}
	if o.Tables != nil {
		o.Shards = len(o.Tables.threads)
	}
	o.memory = newLagMemory(o.LagMemory, o.Shards)
	s.abreast = o.Shards
	if o.Tables != nil {
		s.startApart(&o)
		if o.Abreast > 0 {
			s.abreast = min(o.Abreast, o.Shards)
		}
		return s, nil
	}
	systems := make([]*epoll, 0, o.Shards)
	for range o.Shards {
		p, err := newEpoll(false)
		if err == nil {
			systems = append(systems, p)
			err = p.open()
		}
		if err != nil {
			for _, p := range systems {
				p.release()
			}
			return nil, err
		}
	}
	for _, p := range systems {
		sh := newShard(&o, p)
		sh.core = o.core(len(s.shards))
		s.shards = append(s.shards, sh)
	}
	for _, sh := range s.shards {
		go sh.run()
	}
	return s, nil
}

// Join makes a stream of a socket. From here on the socket is the shard's: it
// writes the first byte and closes it. fd must be a non-blocking stream socket.
// The subscription is the shard's too, and will be used again: the caller must not look
// at it any more.
//
// The errors are ErrDraining and ErrFull; fd then stays the caller's. Any goroutine, but not a
// shard's thread.
func (s *Shards) Join(fd int, sub *Subscription) error {
	err := s.Enlist(fd, sub)
	if err == nil {
		s.HandOver()
	}
	return err
}

// Enlist is Join for whoever makes many streams in a row: a shard that sleeps is not woken before
// HandOver, which wakes it once for all that were enlisted; and where shards have descriptor tables
// of their own, the sockets stay in the process's table until then and are sent together. Each Enlist
// must be followed by a HandOver soon. Any goroutine, but not a shard's thread.
func (s *Shards) Enlist(fd int, sub *Subscription) error {
	if s.draining.Load() {
		return ErrDraining
	}
	sh := s.place()
	if sh == nil {
		return ErrFull
	}
	if s.draining.Load() || !sh.inbox.join(joiner{int32(fd), sub}) {
		sh.stats.streams.Add(-1)
		return ErrDraining
	}
	return nil
}

// place finds a shard for a stream and counts it there; nil where there is no room. It is the one
// with the fewest streams, of the first ones that stand abreast and have room.
func (s *Shards) place() *shard {
	for i := 0; i < len(s.shards); i += s.abreast {
		row := s.shards[i:min(i+s.abreast, len(s.shards))]
		for {
			least := row[0]
			for _, sh := range row[1:] {
				if sh.stats.streams.Load() < least.stats.streams.Load() {
					least = sh
				}
			}
			n := least.stats.streams.Load()
			if n >= least.room.Load() {
				break
			}
			if least.stats.streams.CompareAndSwap(n, n+1) {
				return least
			}
		}
	}
	return nil
}

// Room is how many streams there may be at once: math.MaxInt where nothing here bounds them. Any
// goroutine.
func (s *Shards) Room() int {
	n := 0
	for _, sh := range s.shards {
		if sh.inbox.apart {
			n += int(sh.room.Load())
		} else {
			return math.MaxInt
		}
	}
	return n
}

// Enlisted is how many streams there are whose sockets have not left the process's descriptor table
// for that of their shard. Any goroutine.
func (s *Shards) Enlisted() int {
	n := 0
	for _, sh := range s.shards {
		n += sh.inbox.unsent()
	}
	return n
}

// Shards is how many there are. Any goroutine.
func (s *Shards) Shards() int { return len(s.shards) }

// Streams is how many streams there are, those in an inbox included. Any
// goroutine.
func (s *Shards) Streams() int {
	n := 0
	for _, sh := range s.shards {
		n += int(sh.stats.streams.Load())
	}
	return n
}

// Stats is a snapshot of each shard's counters. Any goroutine.
func (s *Shards) Stats() []ShardStats {
	all := make([]ShardStats, len(s.shards))
	for i, sh := range s.shards {
		all[i] = sh.stats.snapshot()
		all[i].Unread = sh.follower.Unread()
		if p := sh.pair(); p != nil {
			all[i].DescriptorLimit = p.limit
			all[i].Descriptors = p.files + all[i].Streams - sh.inbox.unsent()
		}
	}
	return all
}

// Laggards describes the n streams that are furthest behind, the furthest
// first. It waits for each shard's next pass. Any goroutine, but not a shard's
// thread.
func (s *Shards) Laggards(n int) []StreamInfo {
	answer := make(chan []StreamInfo, len(s.shards))
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandLaggards, n: n, answer: answer})
		sh.wakeUp()
	}
	var all []StreamInfo
	for _, sh := range s.shards {
		select {
		case infos := <-answer:
			all = append(all, infos...)
		case <-sh.stopped:
		}
	}
	slices.SortFunc(all, func(a, b StreamInfo) int { return cmp.Compare(b.Lag, a.Lag) })
	return all[:min(n, len(all))]
}

// Drain refuses new streams and ends those there are at a frame's border,
// spread over the given time so that their clients do not all come back at
// once. It returns when the last one has ended (a client that neither reads nor
// hangs up is reset two seconds after the others) or when done is closed. A second call
// only waits.
func (s *Shards) Drain(spread time.Duration, done <-chan struct{}) {
	s.draining.Store(true)
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandDrain, spread: spread})
		sh.wakeUp()
	}
	for _, sh := range s.shards {
		select {
		case <-sh.drained:
		case <-sh.stopped:
		case <-done:
			return
		}
	}
}

// Close ends the shards' threads and gives their descriptors back. Streams that
// are still live are not ended: Drain comes first. Call it once.
func (s *Shards) Close() {
	s.draining.Store(true)
	s.porter.close()
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandStop})
		sh.wakeUp()
	}
	for _, sh := range s.shards {
		<-sh.stopped
		if sh.inbox.apart {
			s.closeApart(sh)
		}
	}
}
