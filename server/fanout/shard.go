package fanout

// A shard: its state and its thread.

import (
	"math"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/topic"
)

// A shard owns subscribers, alone: none of its state is shared but what stands
// first here. It is stepped by pass (pass.go), by run on its own locked thread or by hand
// in a test, and takes time from nowhere but its system.
type shard struct {
	// Safe from any goroutine.
	inbox    inbox
	stats    counters
	follower *topic.Follower
	drained  chan struct{} // closed when the last stream has ended after a drain
	stopped  chan struct{} // closed when the thread has ended
	room     atomic.Int64  // streams that it takes at the most
	door     int32         // where its descriptor table is its own: sockets sent into it arrive there

	// Set once.
	sys                system
	seq                *topic.Sequencer
	ring               *ring.Ring
	slack              ring.Position // see guard
	heartbeat          time.Duration
	flushInterval      time.Duration
	flushMaxBytes      int
	passBytes          ring.Position // bounds of a pass's work: mostRead, mostJoiners, mostSlice, mostCatchUp
	passJoiners        int
	sliceBytes         int
	catchUpBudget      int
	choreTime          time.Duration
	memory             *lagMemory // of all shards
	retryMin, retryMax time.Duration
	version            string
	packShare          int          // members from which on an audience keeps a window
	packLevel          encode.Level // the most that compression may cost
	gone               func(uint32)
	network            func(uint32) netip.Addr
	enterNetwork       func(netip.Addr) uint32
	ticksRound         uint32 // ticks in a heartbeat time
	core               int    // where its thread stays, or anyCore
	owner              owner  // race build: the only thread that may touch what follows

	// The shard's thread only, from here on.
	clock     time.Time     // when the pass began
	read      ring.Position // everything before it has been read
	readID    uint64        // of the last entry read
	audiences map[string]*audience
	index     map[uint64]*interest // from a topic's number to who wants it
	paced     []*audience          // a heap: something is due to them at their own time
	due       []*audience          // have a batch in this pass
	full      []*audience          // have a full one now
	ended     []*audience          // have read the end of a topic in this pass

	patterns topic.Trie[*audience]
	wilds    int         // audiences with patterns
	round    uint32      // of judging topics by them; 0: there are none
	rounds   uint32      // the newest round ever
	mark     uint64      // of the newest judgement
	judged   []*interest // topics that were
	swept    int         // of them, in this round of sweeping

	slots     []*subscriber
	freeSlots []uint32
	leftSlots []uint32 // free after this pass: an event in hand may still name them

	laggards []*subscriber
	ready    []*subscriber // laggards that can go on, in their order
	turn     int           // whose turn it is of ready, in a pass
	shared   shared
	guarded  ring.Position // the read position when guard looked last

	bounds    bounds
	lingering []lingerer
	draining  drain
	frost     frost
	empty     bool // has let go of its streams: whoever still comes is closed
	chores    chores
	stop      bool

	tick     uint32
	nextTick time.Time
	beats    [2][2]*beat // made last, by kind of heartbeat (comment, event), and by whether it says an id

	eased    encode.Level  // how far compression has stepped down under overload
	packing  int           // plain bytes that catching up has compressed in this pass
	packTime time.Duration // that compressing has taken in this pass
	costly   bool          // that was a part of the time of the last pass that read something

	owes uint64  // bytes of the ring: see owed
	pace float64 // bytes of the ring read in a second, as the last passes measured it

	// Scratch, kept from pass to pass.
	events     []event
	joiners    []joiner
	arrived    []int32 // sockets that have come with those that were due
	received   uint64  // sockets ever
	commands   []command
	found      []topic.Found
	scratch    []byte
	plain      []byte
	packs      [2 * encode.Reaches][]byte // see flushPacked
	key        []byte
	formed     [3]formed // by encode.Form
	spare      []*batch
	spareBytes int
	spareLags  []*lag
	dateText   []byte
	dateSecond int64
}

// newShard makes a shard that nobody steps yet.
func newShard(o *Options, sys system) *shard {
	sh := &shard{
		drained: make(chan struct{}), stopped: make(chan struct{}),
		sys: sys, seq: o.Sequencer, ring: o.Sequencer.Ring(), slack: slackOf(o.Sequencer.Ring()),
		heartbeat: o.Heartbeat, flushInterval: o.FlushInterval, flushMaxBytes: o.FlushMaxBytes,
		memory: o.memory, retryMin: o.RetryMin, retryMax: o.RetryMax,
		passBytes: mostRead, passJoiners: mostJoiners, sliceBytes: mostSlice, catchUpBudget: mostCatchUp,
		choreTime: choreTime(o.FlushInterval),
		packShare: o.CompressShare, packLevel: o.CompressLevel,
		core: anyCore, version: o.Version, gone: o.Gone, network: o.Network, enterNetwork: o.Enter, ticksRound: ticksOf(o.Heartbeat),
		audiences: make(map[string]*audience), index: make(map[uint64]*interest),
	}
	if sh.memory == nil {
		sh.memory = newLagMemory(o.LagMemory, o.Shards)
	}
	sh.stats.passSeconds = newHistogram(secondsBounds)
	sh.stats.publishToSend = newHistogram(secondsBounds)
	sh.stats.batchBytes = newHistogram(bytesBounds)
	sh.follower = o.Sequencer.Follow(sys.ring)
	sh.read, sh.readID = sh.ring.Head(), o.Sequencer.NewestID()
	sh.clock = sys.now()
	sh.nextTick = sh.clock
	sh.obeyLimits(&Limits{RetryMin: o.RetryMin, RetryMax: o.RetryMax, MaxLag: o.MaxLag, MaxAge: o.MaxAge, StallTimeout: o.StallTimeout})
	sh.tick = sh.ticksRound // so that nothing is older than the clock
	sh.frost.frozen = o.Frozen
	sh.room.Store(math.MaxInt64)
	return sh
}

// run is the shard's thread: pass, rest, pass, and sleep when a pass found
// nothing. It ends on commandStop.
func (sh *shard) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	sh.pin()
	sh.take()
	defer close(sh.stopped)
	defer sh.sys.release()
	for !sh.stop {
		began := sh.sys.now()
		if sh.pass(began) {
			sh.rest(began)
		} else {
			sh.sleep()
		}
	}
}

// rest waits until the next pass is due: at this one's start and min(4 times
// its duration, the flush interval), at once if that is past. What happens
// meanwhile is kept for the pass. Publishers ring no bell: the shard is awake.
//
// So a lone event after quiet waits for nothing, a small audience next to
// nothing, and a sweep over thousands at most the interval, while what is published
// meanwhile goes out with one send for many events. Where chores were left over there is no rest.
func (sh *shard) rest(began time.Time) {
	if sh.chores.left {
		if len(sh.events) == 0 {
			sh.events = sh.sys.wait(sh.events, 0)
		}
		return
	}
	now := sh.sys.now()
	until := began.Add(min(4*now.Sub(began), sh.flushInterval))
	if !now.Before(until) {
		sh.events = sh.sys.wait(sh.events, 0)
		return
	}
	for now.Before(until) && len(sh.events) < maxEvents {
		sh.events = sh.sys.wait(sh.events, until.Sub(now))
		now = sh.sys.now()
	}
}

// maxEvents is how many events a pass takes on: the kernel keeps the others.
const maxEvents = 4096

// sleep waits for an event, a bell or the next tick.
//
// The order loses no wake-up. A publisher stores the head, then loads the
// shard's state; we store "asleep", then load the head (Sleep). Whoever puts something into the
// inbox stores it, then loads the state; we look into the inbox after Sleep.
func (sh *shard) sleep() {
	if !sh.follower.Sleep(sh.read) {
		return
	}
	if sh.inbox.empty() || sh.frost.frozen && sh.inbox.orderless() {
		sh.events = sh.sys.wait(sh.events, sh.untilTimer())
	}
	sh.follower.Wake()
}

// untilTimer is how long the shard may sleep.
func (sh *shard) untilTimer() time.Duration {
	switch {
	case sh.frost.frozen:
		return time.Minute
	case !sh.draining.from.IsZero():
		return time.Millisecond
	case sh.stats.streams.Load() == 0:
		return time.Minute
	}
	next := sh.nextTick
	if len(sh.paced) > 0 && sh.paced[0].pace.due.Before(next) {
		next = sh.paced[0].pace.due
	}
	return max(next.Sub(sh.sys.now()), time.Microsecond)
}

// wakeUp makes sure that the shard sees what was put into its inbox. Any
// goroutine.
func (sh *shard) wakeUp() {
	if sh.follower.Asleep() {
		sh.sys.ring()
	}
}
