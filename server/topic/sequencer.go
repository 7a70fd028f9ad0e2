package topic

// The sequencer: one increasing sequence of ids over all topics.
//
// Everything exported may be called from any goroutine; what ends in Locked runs with the
// sequencer's lock, and the ring's Room, Drop and Append are called from there alone.

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// Options of a sequencer.
type Options struct {
	RingSize     int   // bytes, see ring.New
	MaxEventSize int   // bytes of the greatest frame, at most a quarter of the ring
	MaxTopics    int   // published topics at the most; 0: 1,000,000
	Keep         int   // how many of each topic's newest frames outlive the ring; 0: none
	KeepSize     int64 // bytes of all kept frames; 0: 64 MiB

	MaxKeys int // how many keys are remembered, the newest; 0: 1,000,000

	EndedKeep time.Duration // how long an ended topic is not forgotten for another one

	Shed        bool          // publishers that outrun the shards are refused instead of waiting
	PublishWait time.Duration // how long a publisher waits at the most; 0: 10 s
	MaxWaiting  int           // how many wait at the most, more are refused; 0: 1,024

	// Backplane says that events get their ids elsewhere and come by Append alone. Begin says from
	// which id on history here is complete.
	Backplane bool
	Behind    func() bool // with a backplane: whether Append is so far behind it that publishers wait; nil: never. Any goroutine

	After uint64 // ids begin after it, as well as after the present time: the newest of an earlier life; 0: unknown

	Now  func() int64 // microseconds since 1970; nil: the clock. Any goroutine
	Seed uint64       // of the hash by which names are laid down; 0: random, so that nobody can choose names that lie together

	Past *State     // of another process, to be gone on with; nil: none
	Ring *ring.Copy // the ring that belongs to it
}

// A Sequencer gives each event its id and its place in the ring, and wakes the shards.
//
// With its lock, between two events:
//
//  1. the topics' newest positions, ids and numbers are those of the ring;
//  2. every entry in the ring is of a topic in byNumber, and no entry is of a silent one;
//  3. byNumber holds the claimed topics, and they are at most maxTopics, but for the
//     server's own.
//
// Without it, a reader may see an entry in the ring before its topic speaks of it: settled is
// the position up to which the topics are right.
type Sequencer struct {
	// Never changed after New and Follow.
	ring       *ring.Ring
	table      *Table
	now        func() int64
	backplane  bool
	maxFrame   int
	maxTopics  int
	keep       int
	keepSize   int64
	endedKeep  int64 // microseconds
	leastBound int   // bytes that a shard may always leave unread
	mostBound  int   // bytes that it never may
	followers  []*Follower

	newestKnown atomic.Bool   // every topic's newest event was here, be it older than since; see Begin
	startID     atomic.Uint64 // moved on only by Restart
	base        atomic.Uint64 // the newest id while there is no entry: moved on only by Restart and Lose

	gate gate
	feed gate // of publishers whose events come by Append
	keys keys

	draining  atomic.Bool
	drainOnce sync.Once
	frozen    atomic.Bool
	ice       atomic.Pointer[ice]
	left      chan struct{} // told when the last publisher inside leaves, while draining or frozen
	drained   chan struct{} // closed when none is left

	_      [128]byte
	inside atomic.Int64 // publishers between enter and leave

	_        [128]byte
	settled  atomic.Uint64
	reserved atomic.Uint64 // see Reserve
	dropped  atomic.Uint64 // id of the newest entry that has left the ring

	_        [128]byte
	mu       sync.Mutex
	lastID   uint64
	lastTime int64
	byNumber map[uint64]*Topic
	silent   ageHeap // all that may be forgotten, and some that may not any more
	keepers  ageHeap // all that have kept frames, and some that have none any more
	leases   leases  // ended ones that would have been forgotten too early

	keptFrames, keptBytes    int64
	events, bytes, forgotten uint64
}

// New makes a sequencer with an empty ring. Its ids begin after the present time.
// The error names the option that can't be.
func New(o Options) (*Sequencer, error) {
	r, err := o.ring()
	if err != nil {
		return nil, err
	}
	if o.MaxTopics < 0 || o.Keep < 0 || o.Keep > maxKeep || o.KeepSize < 0 || o.EndedKeep < 0 || o.PublishWait < 0 || o.MaxWaiting < 0 || o.MaxKeys < 0 {
		return nil, fmt.Errorf("max topics %d, keep %d, keep size %d, ended keep %s, publish wait %s, max waiting %d, max keys %d: none may be negative, and keep at most %d",
			o.MaxTopics, o.Keep, o.KeepSize, o.EndedKeep, o.PublishWait, o.MaxWaiting, o.MaxKeys, maxKeep)
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMicro() }
	}
	start, known := max(uint64(max(o.Now(), 0)), o.After), uint64(0)
	if o.Backplane {
		start = 0
	}
	if o.Past != nil {
		start, known = o.Past.StartID, o.Past.known
	}
	quarter := r.Size() / 4
	s := &Sequencer{
		ring:       r,
		table:      newTable(max(start, known), o.Seed),
		now:        o.Now,
		backplane:  o.Backplane,
		maxFrame:   o.MaxEventSize,
		maxTopics:  or(o.MaxTopics, 1_000_000),
		keep:       o.Keep,
		keepSize:   or(o.KeepSize, 64<<20),
		endedKeep:  o.EndedKeep.Microseconds(),
		leastBound: min(minUnread, quarter),
		mostBound:  quarter,
		left:       make(chan struct{}, 1),
		drained:    make(chan struct{}),
		keys:       newKeys(or(o.MaxKeys, 1_000_000)),
		lastID:     max(start, known),
		byNumber:   make(map[uint64]*Topic),
		silent:     ageHeap{at: func(t *Topic) *aging { return &t.inSilent }},
		keepers:    ageHeap{at: func(t *Topic) *aging { return &t.inKeepers }},
	}
	s.startID.Store(start)
	s.base.Store(max(start, known))
	s.gate = gate{
		s:          s,
		behind:     s.behind,
		rouse:      s.rouseBehind,
		shed:       o.Shed,
		wait:       or(o.PublishWait, 10*time.Second),
		maxWaiting: or(o.MaxWaiting, 1024),
		drain:      make(chan struct{}),
	}
	s.feed = s.feedGate(o.Behind)
	s.ice.Store(newIce())
	if o.Past != nil {
		s.goOn(o.Past)
	}
	return s, nil
}

// ring makes the ring, or takes over that of the past.
func (o *Options) ring() (*ring.Ring, error) {
	if o.Past == nil {
		return ring.New(o.RingSize, o.MaxEventSize)
	}
	return o.Ring.Ring(o.RingSize, o.MaxEventSize, o.Past.Tail, o.Past.Head)
}

// or returns the value, or the default where it is zero.
func or[T int | int64 | time.Duration](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}

// Ring returns the ring that the events are in. Any goroutine; only the sequencer writes to it.
func (s *Sequencer) Ring() *ring.Ring { return s.ring }

// Table returns the topics. Any goroutine.
func (s *Sequencer) Table() *Table { return s.table }

// StartID returns the id after which this process's ids begin: the time of its start. What was
// before it is not known here. With a backplane it is 0, for ids do not begin with a process, or
// where the present stream begins. Any goroutine.
func (s *Sequencer) StartID() uint64 { return s.startID.Load() }

// NewestID returns the newest id there is, or the one after which ids begin as long as there is none. It is
// never less than the ids before a head that the caller has loaded earlier. Any goroutine.
func (s *Sequencer) NewestID() uint64 { return max(s.base.Load(), s.ring.NewestID()) }

// Backplane tells whether events come by Append alone. Any goroutine.
func (s *Sequencer) Backplane() bool { return s.backplane }

// BeforeID returns the id at the ring's tail, or one more than the newest where the ring is
// empty, and not less than where history begins: what a gap gives as its end. Any goroutine.
func (s *Sequencer) BeforeID() uint64 {
	if e, _, ok := s.ring.Oldest(); ok {
		return max(e.ID(), s.table.start.Load()+1)
	}
	return s.NewestID() + 1
}

// Topic returns the topic with a number that an entry of the ring bears; false when it was
// forgotten meanwhile. It takes the sequencer's lock for a moment. Any goroutine.
func (s *Sequencer) Topic(number uint64) (*Topic, bool) {
	s.mu.Lock()
	t, ok := s.byNumber[number]
	s.mu.Unlock()
	return t, ok
}

// publishLocked gives an event its id and appends it. The frame lacks its id line, for
// which its capacity has room.
func (s *Sequencer) publishLocked(t *Topic, frame []byte, typeEnd int, now int64) uint64 {
	id := s.nextIDLocked(now)
	s.appendLocked(t, ring.Event, id, now, encode.AppendID(frame, id), typeEnd)
	return id
}

// nextIDLocked is the next id at a time: the time, as far as ids are reserved, or one more than the
// last id.
func (s *Sequencer) nextIDLocked(now int64) uint64 {
	id := uint64(max(now, 0))
	if reserved := s.reserved.Load(); reserved > 0 {
		id = min(id, reserved)
	}
	return max(id, s.lastID+1)
}

// Reserve says up to which id somebody has made sure that a later life begins after it; 0: nobody
// has, and nobody cares. Ids follow the time no further than that, whatever the clock does; beyond
// it they go on one by one, for a publish must not wait for a disk: a million a second would have to
// be published for as long as the reserve lasts. Any goroutine.
func (s *Sequencer) Reserve(until uint64) { s.reserved.Store(until) }

// appendLocked appends a whole frame with its id, greater than any before, to a claimed topic.
func (s *Sequencer) appendLocked(t *Topic, kind ring.Kind, id uint64, now int64, frame []byte, typeEnd int) {
	s.makeRoomLocked(len(frame))
	s.lastID = id
	s.lastTime = max(s.lastTime, now) // in the ring's order, whoever read the clock first
	h := ring.Header{
		ID:      id,
		PrevID:  t.newest.Load(),
		Time:    s.lastTime,
		Number:  t.events.Load() + 1,
		Topic:   t.number,
		Prev:    ring.Position(t.head.Load()),
		Kind:    kind,
		TypeEnd: typeEnd,
	}
	h.Skip = s.skipTarget(h.Number, h.Prev)
	at := s.ring.Append(h, frame)

	// The head before the id: who sees that there is something newer finds it. Settled last.
	t.head.Store(uint64(at))
	if kind == ring.End {
		t.ended.Store(id)
	}
	t.newest.Store(id)
	t.events.Store(h.Number)
	t.bytes.Store(t.bytes.Load() + uint64(len(frame)))
	t.time.Store(s.lastTime)
	t.isSilent = false
	if int(t.keptCount) > s.keep && kind == ring.Event {
		s.dropOldestLocked(t) // it had ended, and kept its end as well
	}
	s.events++
	s.bytes += uint64(len(frame))
	s.settled.Store(uint64(s.ring.Head()))
}

// skipTarget returns the position of the entry n&(n-1) of the topic whose entry n-1 is at prev.
// From n-1, one skip for each trailing zero of n leads there: one look at the ring on
// the average.
func (s *Sequencer) skipTarget(n uint64, prev ring.Position) ring.Position {
	if n&(n-1) == 0 {
		return ring.None
	}
	p := prev
	for range bits.TrailingZeros64(n) {
		e, ok := s.ring.At(p)
		if !ok {
			return ring.None // so the target, which is older, is not in the ring either
		}
		p = e.Skip()
	}
	return p
}

// Drain refuses publishers from now on, those that wait for shards too; batches that have begun
// are finished, for which shards must run. It returns when no publisher is left inside: then
// nothing more is appended and no bell is rung. Any goroutine; all callers
// wait.
func (s *Sequencer) Drain() {
	s.drainOnce.Do(func() {
		s.draining.Store(true)
		close(s.gate.drain)
		for s.inside.Load() != 0 {
			<-s.left
		}
		close(s.drained)
	})
	<-s.drained
}

// Stats are the sequencer's figures, of one moment but for those of publishers.
type Stats struct {
	Events, Bytes uint64 // published, and the bytes of their frames
	Topics        int    // published ones now, at most MaxTopics but for the server's own
	Forgotten     uint64 // topics forgotten for others
	KeptFrames    int64  // frames that have outlived the ring
	KeptBytes     int64  // their memory

	Waiting   int    // publishers waiting for shards now, or for what feeds Append
	Waits     uint64 // times that one had to wait
	Overloads uint64 // times that one was refused because it outran the shards

	Keys    int    // keys of idempotent publishes that are remembered now
	Repeats uint64 // publishes that were none, for their key had been used
}

// Stats returns the sequencer's figures. It takes the locks for a moment. Any goroutine.
func (s *Sequencer) Stats() Stats {
	s.mu.Lock()
	st := Stats{
		Events:     s.events,
		Bytes:      s.bytes,
		Topics:     len(s.byNumber),
		Forgotten:  s.forgotten,
		KeptFrames: s.keptFrames,
		KeptBytes:  s.keptBytes,
	}
	s.mu.Unlock()
	for _, g := range []*gate{&s.gate, &s.feed} {
		g.mu.Lock()
		st.Waiting, st.Waits, st.Overloads = st.Waiting+int(g.waiting.Load()), st.Waits+g.waits, st.Overloads+g.overloads
		g.mu.Unlock()
	}
	st.Keys, st.Repeats = s.keys.figures()
	return st
}
