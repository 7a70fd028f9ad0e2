package fanout

// The door: what the rest of the server knows of the shards.

import (
	"cmp"
	"errors"
	"fmt"
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

// Options say what New makes. All are required but Version and Gone.
type Options struct {
	Shards             int                     // threads with their own subscribers, at least 1
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
}

// Shards send the ring's events to their subscribers, each shard on a thread of
// its own.
type Shards struct {
	shards   []*shard
	draining atomic.Bool
}

// New makes shards and starts their threads. Errors are those of opening epoll
// sets. Close ends them.
func New(o Options) (*Shards, error) {
	if o.Shards < 1 {
		return nil, fmt.Errorf("%d shards; at least 1", o.Shards)
	}
	systems := make([]system, 0, o.Shards)
	for range o.Shards {
		p, err := newEpoll()
		if err != nil {
			for _, p := range systems {
				p.release()
			}
			return nil, err
		}
		systems = append(systems, p)
	}
	s := &Shards{}
	for _, p := range systems {
		s.shards = append(s.shards, newShard(&o, p))
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
// The one error is ErrDraining; fd then stays the caller's. Any goroutine.
func (s *Shards) Join(fd int, sub *Subscription) error {
	sh := s.shards[0]
	for _, other := range s.shards[1:] {
		if other.stats.streams.Load() < sh.stats.streams.Load() {
			sh = other
		}
	}
	sh.stats.streams.Add(1)
	if s.draining.Load() || !sh.inbox.join(joiner{int32(fd), sub}) {
		sh.stats.streams.Add(-1)
		return ErrDraining
	}
	sh.wakeUp()
	return nil
}

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
	for _, sh := range s.shards {
		sh.inbox.command(command{kind: commandStop})
		sh.wakeUp()
	}
	for _, sh := range s.shards {
		<-sh.stopped
	}
}
