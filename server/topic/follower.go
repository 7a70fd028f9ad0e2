package topic

// Shards as the sequencer sees them: how far each has read, whether it sleeps, its bell.
//
// The order that loses no wake-up: a publisher stores the ring's head, then loads the
// follower's state and the topic's counter; a shard raises the counter, stores
// "asleep", then loads the head. Whatever the interleaving, one sees the other.

import (
	"sync/atomic"

	"penstock/ring"
)

// minUnread is how many bytes of the ring a shard may always leave unread before
// publishers wait for it, and with how many it is woken whether it wants them or not.
const minUnread = 32 << 10

const (
	awake  uint32 = iota
	asleep        // nothing but its own descriptors wakes it
	rung          // asleep, and its bell has been or is just being rung
)

// A Follower is one shard: it reads the whole ring in its own time.
//
// Sleep, Wake and Done belong to the shard's thread; everything else may be called
// from any goroutine.
type Follower struct {
	s     *Sequencer
	index int
	bell  func()
	pause func() // tests: what happens between Sleep's two steps

	_     [128]byte // stored by the shard for each pass, loaded by each publisher
	state atomic.Uint32
	read  atomic.Uint64
	bound atomic.Uint64 // how many bytes it may leave unread before publishers wait
	owed  atomic.Uint64 // what it has read and most of those who wait for it have not got
	round atomic.Uint32 // in which it judges topics by its patterns; 0: it has none
	_     [128]byte
}

// Follow makes a follower for a shard. bell wakes the shard's thread if it waits: it is
// called by publishers, without a lock, at most once for each sleep, and must neither
// block nor allocate. All followers are made before the first topic. It panics when one
// is made later: topics have a counter for each. One goroutine.
func (s *Sequencer) Follow(bell func()) *Follower {
	if s.table.numbers.Load() != 0 {
		panic("topic: Follow after the first topic was made")
	}
	f := &Follower{s: s, index: len(s.followers), bell: bell}
	f.bound.Store(uint64(s.leastBound))
	s.followers = append(s.followers, f)
	s.table.counters = 1 + len(s.followers)
	return f
}

// Index returns the shard's number as Table.Acquire takes it: 0, 1, 2 in the order of Follow.
func (f *Follower) Index() int { return f.index }

// Sleep tells that the shard, which has read up to that position, is about to wait: from
// here on publishers ring for what it wants. False: the ring has moved on,
// the shard is awake and makes a pass. After true the shard looks into its inbox, calls Wake if
// that is not empty, and waits otherwise. The shard's thread.
func (f *Follower) Sleep(read ring.Position) bool {
	f.state.Store(asleep)
	if f.pause != nil {
		f.pause()
	}
	// After the state: see the file's head.
	if f.s.ring.Head() == read {
		return true
	}
	f.state.Store(awake)
	return false
}

// Wake tells that the shard does not wait any more: nobody rings. The shard's thread.
func (f *Follower) Wake() { f.state.Store(awake) }

// Asleep reports whether the shard is between Sleep and Wake. Whoever has put something
// into its inbox and then finds it asleep rings its bell. Any goroutine.
func (f *Follower) Asleep() bool { return f.state.Load() != awake }

// Owe tells, before Done, how many bytes of the ring the shard has read and not sent yet to most of
// the streams that could take them: they count as unread until the next call. The shard's thread.
func (f *Follower) Owe(bytes uint64) { f.owed.Store(bytes) }

// Done ends a pass: the shard has read up to that position, and from now on may be that many
// bytes behind the head before publishers wait for it: about what it sends in 100 ms.
// Less than 32 KiB is taken as that, more than a quarter of the ring as a
// quarter. Publishers that wait go on where there is room again. The shard's thread.
func (f *Follower) Done(read ring.Position, allowance int) {
	f.bound.Store(uint64(max(f.s.leastBound, min(allowance, f.s.mostBound))))
	f.read.Store(uint64(read))
	// After the position: a publisher counts itself as waiting, then looks at it once more.
	f.s.gate.knock()
}

// Patterns begins a new round of judging topics: the shard's patterns have changed, and
// publishers wake it for each topic until it has judged that anew. 0 ends judging: the
// shard has no patterns. As with Table.Acquire, what was published before is ahead of
// the shard's read position. The shard's thread.
func (f *Follower) Patterns(round uint32) { f.round.Store(round) }

// Unread returns how many bytes of the ring the shard had not read at the end of its
// last pass, or since then. Any goroutine.
func (f *Follower) Unread() uint64 {
	read := f.read.Load() // first, so that it is not ahead of the head
	return uint64(f.s.ring.Head()) - read
}

// behind reports whether publishers have to wait for the shard.
func (f *Follower) behind() bool {
	granted := f.s.gate.granted.Load() // first: what has been published since is counted twice, not left out
	return f.Unread()+f.owed.Load()+uint64(granted) > f.bound.Load()
}

// rouse rings the bell if the shard sleeps. One ring for each sleep: the bell stays
// rung until the shard has seen it.
func (f *Follower) rouse() {
	if f.state.Load() == asleep && f.state.CompareAndSwap(asleep, rung) {
		f.bell()
	}
}

// wake rings for the shards that sleep and want one of the topics, and for those that
// have slept through a lot. Without the lock, after the topics' events are in the ring.
func (s *Sequencer) wake(topics ...*Topic) {
	for _, f := range s.followers {
		if f.state.Load() != asleep {
			continue
		}
		if f.Unread() >= uint64(s.leastBound) {
			f.rouse()
			continue
		}
		for _, t := range topics {
			if t.wanted(f) {
				f.rouse()
				break
			}
		}
	}
}

// behind reports whether any shard is too far behind for a publisher to go on.
func (s *Sequencer) behind() bool {
	for _, f := range s.followers {
		if f.behind() {
			return true
		}
	}
	return false
}

// rouseBehind rings for each shard that publishers wait for, so that no wait depends
// on another publisher.
func (s *Sequencer) rouseBehind() {
	for _, f := range s.followers {
		if f.behind() {
			f.rouse()
		}
	}
}
