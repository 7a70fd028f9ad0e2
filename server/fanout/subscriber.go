package fanout

// A subscriber: a socket, its audience, and while it lags a cursor of its own.
//
//	inbox ──> lagging ──────────────> live ──────────> gone
//	           │  ^   caught up        │   hung up       ^
//	           │  └────────────────────┘                 │
//	           │      its socket is full                 │
//	           └──────────> ending ──────────────────────┘
//	             the server ends it at a frame's border
//
// Owned by its shard, touched on the shard's thread only. It holds no closure,
// no buffer and nothing of the request that made it.

import (
	"unsafe"

	"penstock/ring"
	"penstock/server/topic"
)

type subscriberState uint8

const (
	lagging subscriberState = iota // has a lag: a cursor of its own; every stream begins so
	live                           // has been sent every byte that its audience has
	ending                         // has been sent its last byte; waits for the other end's
	gone                           // its socket is closed
)

// A subscriber is a place in an audience, and a socket.
type subscriber struct {
	audience *audience
	lag      *lag   // what only a lagging subscriber needs; nil for a live one
	told     uint64 // the newest id told to it alone: at its start, while it lagged, by a heartbeat
	fd       int32
	slot     uint32 // its place in shard.slots, and its name in the epoll set
	at       int32  // its place in audience.members
	sent     uint32 // the tick of what was last sent to it alone
	state    subscriberState
	armed    bool   // its epoll entry tells writability too: since it first lagged
	onLag    OnLag  // what it gets when it falls off the ring
	owed     bool   // is to be sent the heartbeat that its compressed audience has begun
	ticket   uint32 // what shard.gone is told; 0 for nothing
}

const _ = uint(48 - unsafe.Sizeof(subscriber{})) // budget: an idle stream's own part of the heap

// A lag is what a subscriber needs while it is not with its audience.
type lag struct {
	cursor  ring.Position // the first entry of the ring that it has not been sent
	rest    rest          // of a chunk that its socket did not take whole
	opening *Subscription // its header and first block are due; nil once they are sent
	past    past          // what it gets before it is caught up as anybody
	reason  GapReason     // what a gap found now is due to
	at      int32         // its place in shard.laggards
	known   known         // of what it lost

	// Of an audience with patterns, while something that it was not told has left the ring:
	topics    []*topic.Topic // those that match and have something newer
	fellUntil ring.Position  // they are all that matter before it
	fell      bool
	unknown   bool // one that was forgotten may have had something newer as well

	was uint64 // where ids begin anew: the last id of the old ones that it was told

	blocked bool // waits for writability
	queued  bool // waits in shard.ready
	parked  bool // ahead of its audience: waits for the audience's flush
	skim    bool // only the newest event of each topic, until it is caught up
	ending  bool // is to end once it is caught up ...
	bare    bool // was told of a gap, and of no event since

	why    Disconnect // ... for this reason
	looks  uint8      // how often its full socket was looked at since it took something
	unsent int32      // bytes that it held then

	broken bool // is to be told of a gap, whatever the ring says: see broken.go
}

// A past is what a joiner asked for of the time before it came: the zero value
// is nothing, or nothing more.
type past struct {
	until    ring.Position // where it joined: it is served up to there in any case, and by rewind and snapshot no further
	untilID  uint64        // the newest id before until
	after    uint64        // snapshot: topics with something newer have been served
	rewind   bool          // what is out of reach before until is no loss
	snapshot bool          // due once the cursor is at until
	next     int32         // snapshot: the topic whose turn it is, by its place in the audience
}

// Known is what of the past is no news to a subscriber: what was lost when it was told of a gap, or
// when its rewind began, and what it did not rewind to. It is kept while more slices of that past
// may follow, so that what is lost meanwhile, and only that, makes another gap.
type known struct {
	floors    map[*topic.Topic]uint64 // of each topic the id up to which it is known; nil: none
	forgotten uint64                  // the newest id of a topic that was forgotten before
	until     ring.Position           // all that the floors tell of was before it
}

// behind is how far, in bytes of the ring, m is behind what its shard has read.
func (sh *shard) behind(m *subscriber) uint64 {
	if m.lag == nil {
		return 0
	}
	at := m.lag.cursor
	if r := &m.lag.rest; r.size > 0 && r.first < at {
		at = r.first
	}
	return uint64(sh.read - min(at, sh.read))
}
