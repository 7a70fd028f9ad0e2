package topic

// Topics by name, and how they come and go.
//
// A name is looked up with one of many read locks; nobody holds one while waiting for
// anything. Acquire, Release, Lookup, Len: any goroutine. What ends in Locked, and all that
// changes what is published: with the sequencer's lock.

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"penstock/ring"
)

// A Topic is a name that was published or subscribed to. It stays the same Topic
// as long as somebody has acquired it; one that was forgotten comes back as another, with
// another number.
//
// Its figures are atomic and may be read by any goroutine; the entries they speak of are in
// the ring before they are stored here, so that a figure may be one event behind
// the ring. The fields below "with the sequencer's lock" belong to whoever holds it.
type Topic struct {
	name   string
	number uint64
	since  atomic.Uint64 // moved on only by Lose and Restart

	head   atomic.Uint64 // position of the newest entry; ring.None before the first
	newest atomic.Uint64 // its id, stored after the head; 0 before the first
	ended  atomic.Uint64 // id of the end published last, stored before newest; 0: none
	events atomic.Uint64 // its number
	bytes  atomic.Uint64 // of all frames ever
	time   atomic.Int64  // of the newest entry
	kept   atomic.Pointer[keptFrame]

	// Who holds it: counters[0] publishers that may make it new, counters[1+i] the
	// subscribers of shard i. dead once it is forgotten.
	counters []atomic.Int32
	verdicts atomic.Pointer[[]atomic.Uint32] // see Judge; nil until a shard with patterns has judged
	few      [4]atomic.Int32                 // the counters where they fit: one allocation less
	claimed  atomic.Bool                     // has a place among the published; set and reset with the sequencer's lock
	held     atomic.Uint32                   // notHeld, isHeld or released: see forget.go
	released *Topic                          // the next one on the table's stack of released topics

	// With the sequencer's lock.
	keptOldest *keptFrame
	keptCount  int32
	claims     int32 // publishers that claimed its place and have not published yet
	isSilent   bool  // was published to, and all its entries have left the ring
	isLeased   bool  // is in the sequencer's leases
	inSilent   aging // its places in the sequencer's heaps
	inKeepers  aging
}

// A topic without subscribers costs this and its name, beside map entries.
const _ = uint(192 - unsafe.Sizeof(Topic{}))

// publishers is the counter of those who publish.
const publishers = 0

// dead is the counter of a topic that nobody may acquire any more: far from both ends, so that
// a Release too many is found out.
const dead = math.MinInt32 / 2

// Name returns the topic's name. Any goroutine.
func (t *Topic) Name() string { return t.name }

// Number returns the number that the topic's entries bear in the ring, from 1. It is never
// used again, not even for the same name. Any goroutine.
func (t *Topic) Number() uint64 { return t.number }

// Since returns the id from which on the topic's history here is complete, but for what
// has left the ring: where the server started, or for a name that may have been here
// before, the newest id forgotten that could have been its own; with a backplane, where what is
// known of its stream here begins. Any goroutine.
func (t *Topic) Since() uint64 { return t.since.Load() }

// Newest returns the id of the topic's newest entry, false when there was none. The
// position is that entry's, or already a newer one's; the tail may have passed it. Any
// goroutine.
func (t *Topic) Newest() (id uint64, pos ring.Position, ok bool) {
	id = t.newest.Load() // first: the head is stored before it
	return id, ring.Position(t.head.Load()), id != 0
}

// Events returns how many events were published to the topic since it came into being. Any goroutine.
func (t *Topic) Events() uint64 { return t.events.Load() }

// Bytes returns how many bytes of frames were published to it. Any goroutine.
func (t *Topic) Bytes() uint64 { return t.bytes.Load() }

// LastTime returns when it was last published to, in microseconds since 1970; 0 for never. Any goroutine.
func (t *Topic) LastTime() int64 { return t.time.Load() }

// Subscribers returns how many times shards hold the topic for subscribers: once for each
// of them. Any goroutine.
func (t *Topic) Subscribers() int {
	n := 0
	for i := 1; i < len(t.counters); i++ {
		n += int(max(0, t.counters[i].Load()))
	}
	return n
}

// raise adds one to a counter, unless the topic is dead.
func (t *Topic) raise(counter int) bool {
	c := &t.counters[counter]
	for {
		n := c.Load()
		if n < 0 {
			return false
		}
		if c.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// wanted reports whether a shard wants to be woken for the topic: it has subscribers of it,
// or patterns that match it, or patterns by which it has not judged it yet.
func (t *Topic) wanted(f *Follower) bool {
	if t.counters[1+f.index].Load() > 0 {
		return true
	}
	round := f.round.Load()
	if round == 0 {
		return false
	}
	v := t.verdicts.Load()
	if v == nil {
		return true
	}
	verdict := (*v)[f.index].Load()
	return verdict != round<<1
}

// Judge notes whether the patterns of a shard match the topic, in the round that Patterns has
// begun: until then publishers wake the shard for it. The shard's thread.
func (t *Topic) Judge(f *Follower, round uint32, matches bool) {
	v := t.verdicts.Load()
	if v == nil {
		all := make([]atomic.Uint32, len(t.counters)-1)
		if v = &all; !t.verdicts.CompareAndSwap(nil, v) {
			v = t.verdicts.Load()
		}
	}
	verdict := round << 1
	if matches {
		verdict |= 1
	}
	(*v)[f.index].Store(verdict)
}

// Forgotten reports whether the topic was forgotten: its number will not come again. Any goroutine.
func (t *Topic) Forgotten() bool { return t.counters[0].Load() < 0 }

// idle reports whether nobody holds the topic at this moment.
func (t *Topic) idle() bool {
	for i := range t.counters {
		if t.counters[i].Load() > 0 {
			return false
		}
	}
	return true
}

// kill takes all counters from 0 to dead, or none: false when somebody holds the topic. With
// the lock of its part of the table, so that whoever finds a counter dead and
// looks the name up again waits until it is gone or back.
func (t *Topic) kill() bool {
	for i := range t.counters {
		if !t.counters[i].CompareAndSwap(0, dead) {
			t.revive(i)
			return false
		}
	}
	return true
}

// revive takes the first n counters back from dead.
func (t *Topic) revive(n int) {
	for i := range n {
		t.counters[i].Store(0)
	}
}

const (
	parts = 256     // of the table, by hash of the name
	slots = 1 << 16 // of forgotten ids, by another hash
)

// A Table has the topics by name. Its zero value is of no use: the sequencer makes it.
type Table struct {
	seed     [2]uint64     // of the hash by which names are in parts; the same in a process that takes over
	start    atomic.Uint64 // since of what was never here
	counters int           // of each topic: one for publishers, one for each shard
	numbers  atomic.Uint64
	len      atomic.Int64
	released atomic.Pointer[Topic] // stack of topics to look at again before one is forgotten

	// The newest id forgotten of the names with that hash: what a name that is not in the
	// table takes its since from.
	forgotten       *[slots]atomic.Uint64
	newestForgotten atomic.Uint64 // of all names

	parts [parts]part
}

// part is the names of one hash.
type part struct {
	mu     sync.RWMutex
	topics map[string]*Topic
	_      [128 - 32]byte // apart from its neighbours: publishers on all cores lock here
}

func newTable(start, seed uint64) *Table {
	seeds := [2]uint64{rand.Uint64(), rand.Uint64() | 1}
	if seed != 0 {
		seeds = [2]uint64{seed, fold(seed|1, 0x9e3779b97f4a7c15) | 1}
	}
	tb := &Table{seed: seeds, counters: 1, forgotten: new([slots]atomic.Uint64)}
	tb.start.Store(start)
	for i := range tb.parts {
		tb.parts[i].topics = make(map[string]*Topic)
	}
	return tb
}

func (tb *Table) part(name string) *part {
	return &tb.parts[tb.hash(name)%parts]
}

// hash multiplies and folds eight bytes at a time. Whoever does not know the seed can't choose
// names that lie in one part; that a snapshot goes on at the right part after an upgrade
// (MatchingIn) is why it is not maphash's, whose seed stays in its process.
func (tb *Table) hash(name string) uint64 {
	h := tb.seed[0] ^ uint64(len(name))
	for ; len(name) >= 8; name = name[8:] {
		h = fold(h^(uint64(name[0])|uint64(name[1])<<8|uint64(name[2])<<16|uint64(name[3])<<24|
			uint64(name[4])<<32|uint64(name[5])<<40|uint64(name[6])<<48|uint64(name[7])<<56), tb.seed[1])
	}
	rest := uint64(0)
	for i := range len(name) {
		rest |= uint64(name[i]) << (8 * i)
	}
	return fold(fold(h^rest, tb.seed[1]), tb.seed[0]|1)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// slot is where the ids of a forgotten name are remembered. FNV-1a and not the hash of
// the parts, for it has to be the same in a process that takes over.
func (tb *Table) slot(name string) *atomic.Uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return &tb.forgotten[(h^h>>32)%slots]
}

// Lookup returns the topic of that name, false when there is none. It may be forgotten the
// next moment: only Acquire holds it. Any goroutine.
func (tb *Table) Lookup(name string) (*Topic, bool) {
	p := tb.part(name)
	p.mu.RLock()
	t, ok := p.topics[name]
	p.mu.RUnlock()
	return t, ok
}

// Len returns how many topics there are, published and subscribed to. Any goroutine.
func (tb *Table) Len() int { return int(tb.len.Load()) }

// Acquire returns the topic of that name, for a subscriber of that shard; it comes into being
// where it is not there. Until as many calls of Release it is not forgotten,
// and publishers wake the shard for it. The name must be valid (ParseName). Any goroutine; a
// shard acquires before it sleeps.
func (tb *Table) Acquire(name string, shard int) *Topic {
	if uint(shard) >= uint(tb.counters-1) {
		panic("topic: Acquire: no such shard")
	}
	return tb.acquire(name, 1+shard)
}

// Release takes back one Acquire. A topic that nobody holds and nobody has published to
// vanishes. Any goroutine.
func (tb *Table) Release(t *Topic, shard int) { tb.release(t, 1+shard) }

// Hold is Acquire of a topic that the same shard has acquired and not released: for a
// further subscriber. The shard's thread.
func (t *Topic) Hold(shard int) { t.counters[1+shard].Add(1) }

func (tb *Table) acquire(name string, counter int) *Topic {
	p := tb.part(name)
	for {
		p.mu.RLock()
		t := p.topics[name]
		p.mu.RUnlock()
		if t == nil {
			p.mu.Lock()
			if t = p.topics[name]; t == nil {
				t = tb.makeLocked(p, name)
			}
			t.counters[counter].Add(1) // not dead: that takes the part's lock
			p.mu.Unlock()
			return t
		}
		if t.raise(counter) {
			return t
		}
		// Dead. It is gone as soon as the part's lock is free.
	}
}

// makeLocked makes a topic, with the part's lock.
func (tb *Table) makeLocked(p *part, name string) *Topic {
	// The caller's string may be a piece of a request.
	t := &Topic{name: strings.Clone(name), number: tb.numbers.Add(1)}
	// The slot is read with the lock that forgetting this name takes to remove it.
	t.since.Store(max(tb.start.Load(), tb.slot(name).Load()))
	return tb.addLocked(p, t)
}

// addLocked puts a new topic into its part, with the part's lock.
func (tb *Table) addLocked(p *part, t *Topic) *Topic {
	t.head.Store(uint64(ring.None))
	if tb.counters <= len(t.few) {
		t.counters = t.few[:tb.counters]
	} else {
		t.counters = make([]atomic.Int32, tb.counters)
	}
	p.topics[t.name] = t
	tb.len.Add(1)
	return t
}

func (tb *Table) release(t *Topic, counter int) {
	n := t.counters[counter].Add(-1)
	if n < 0 {
		panic("topic: Release: " + t.name + " is not held")
	}
	if n > 0 || !t.idle() {
		return
	}
	if !t.claimed.Load() {
		tb.vanish(t)
	} else {
		tb.giveBack(t)
	}
}

// vanish removes a topic that was never published to, unless somebody holds it.
func (tb *Table) vanish(t *Topic) {
	p := tb.part(t.name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.kill() {
		return // whoever holds it comes here again
	}
	// Dead, nobody can claim it any more: a claim is made by a publisher that holds it.
	if t.claimed.Load() {
		t.revive(len(t.counters))
		return
	}
	tb.removeLocked(p, t)
}

// removeLocked takes a dead topic out of the table, with the part's lock.
func (tb *Table) removeLocked(p *part, t *Topic) {
	delete(p.topics, t.name)
	tb.len.Add(-1)
}
