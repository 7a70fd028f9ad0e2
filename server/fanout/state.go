package fanout

// What shards hand to another process beside the sockets: plain data, and its format.
//
// Positions, ids and topics' numbers are the sequencer's and hold in the other process as well.
// Times are told as durations: how long ago, or until when. No thread in particular.

import (
	"fmt"
	"net/netip"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/handover"
	"penstock/server/topic"
)

// A State is the streams of all shards, at a moment when they were frozen.
type State struct {
	shards []shardState
}

// Streams is how many streams, and so sockets, there are.
func (st *State) Streams() int {
	n := 0
	for i := range st.shards {
		n += len(st.shards[i].streams)
	}
	return n
}

// A shardState is one shard's audiences and streams.
type shardState struct {
	audiences []audienceState
	chunks    [][]byte // those that some stream has a rest of, each once
	streams   []streamState
}

// An audienceState is what the members of an audience have in common. There is no shared gzip
// stream in it: each member goes on with blocks of its own, and enters that of its new audience.
type audienceState struct {
	subscription Subscription
	matched      []uint64 // numbers of the topics that its patterns have met

	// Of a paced one.
	flushed  time.Duration // how long ago it was flushed last
	stirred  bool          // the rest is only then
	cursor   ring.Position
	beforeID uint64
	changed  []uint64 // the topics' numbers
	due      time.Duration
}

// A streamState is a subscriber, but for its socket. There are as many as streams, in both processes
// at the same time: what only some have stands elsewhere.
type streamState struct {
	fd       int32      // of the process that wrote this; it does not travel
	audience int32      // its place in shardState.audiences; -1: it is ending
	network  netip.Addr // for whom it counts; the zero value where nobody counts
	told     uint64
	idle     time.Duration // since something was last sent to it, as far as heartbeats care
	turn     time.Duration // until its heartbeat's turn; of an ending one, until it is closed
	crc      uint32        // of a compressed one: encode.Place's Totals
	size     uint32
	onLag    OnLag
	lag      *lagState // nil: it is live, or ending
}

// A lagState is the lag of one that lags, or is catching up.
type lagState struct {
	cursor    ring.Position
	rest      restState
	opening   *Subscription
	past      past
	known     knownState
	reason    GapReason
	topics    []uint64 // lag.topics by number
	fellUntil ring.Position
	fell      bool
	unknown   bool
	skim      bool
	bare      bool
	broken    bool
	was       uint64
}

// A restState is a rest. The chunk always travels; where it can be made again it is compared with
// what the new process makes of the same entries.
type restState struct {
	chunk      int32 // its place in shardState.chunks, plus one; 0: no rest
	sent       int   // of it
	again      bool  // the rest is only then
	first, end ring.Position
	after      uint64
}

// A knownState is what a known is, its topics by number.
type knownState struct {
	known     bool // there are floors
	floors    []floorState
	forgotten uint64
	until     ring.Position
}

type floorState struct{ topic, id uint64 }

// Code writes or reads the state.
func (st *State) Code(c *handover.Coder) {
	c.Word("streams")
	handover.List(c, &st.shards, func(s *shardState) {
		handover.List(c, &s.audiences, func(a *audienceState) { a.code(c) })
		handover.List(c, &s.chunks, c.Bytes)
		handover.List(c, &s.streams, func(m *streamState) { m.code(c) })
		for i := range s.streams {
			if n := s.streams[i].audience; n < -1 || int(n) >= len(s.audiences) {
				c.Fail(fmt.Errorf("a stream is of audience %d of %d", n, len(s.audiences)))
			}
			l := s.streams[i].lag
			if l == nil {
				continue
			}
			if r := &l.rest; r.chunk < 0 || int(r.chunk) > len(s.chunks) || r.chunk > 0 && uint(r.sent) >= uint(len(s.chunks[r.chunk-1])) {
				c.Fail(fmt.Errorf("a stream has a rest of chunk %d of %d, from byte %d on", r.chunk, len(s.chunks), r.sent))
			}
		}
	})
}

func (a *audienceState) code(c *handover.Coder) {
	a.subscription.code(c)
	handover.Numbers(c, &a.matched)
	handover.Num(c, &a.flushed)
	c.Bool(&a.stirred)
	handover.Num(c, &a.cursor)
	handover.Num(c, &a.beforeID)
	handover.Numbers(c, &a.changed)
	handover.Num(c, &a.due)
}

func (m *streamState) code(c *handover.Coder) {
	handover.Num(c, &m.audience)
	network := m.network.AsSlice()
	c.Bytes(&network)
	m.network, _ = netip.AddrFromSlice(network)
	handover.Num(c, &m.told)
	handover.Num(c, &m.onLag)
	handover.Num(c, &m.idle)
	handover.Num(c, &m.turn)
	handover.Num(c, &m.crc)
	handover.Num(c, &m.size)
	lags := m.lag != nil
	if c.Bool(&lags); !lags {
		return
	}
	if c.Reads() {
		m.lag = new(lagState)
	}
	m.lag.code(c)
}

func (l *lagState) code(c *handover.Coder) {
	handover.Num(c, &l.cursor)
	handover.Num(c, &l.rest.chunk)
	handover.Num(c, &l.rest.sent)
	c.Bool(&l.rest.again)
	handover.Num(c, &l.rest.first)
	handover.Num(c, &l.rest.end)
	handover.Num(c, &l.rest.after)
	opening := l.opening != nil
	if c.Bool(&opening); opening {
		if c.Reads() {
			l.opening = new(Subscription)
		}
		l.opening.code(c)
	}
	l.past.code(c)
	c.Bool(&l.known.known)
	handover.List(c, &l.known.floors, func(f *floorState) {
		handover.Num(c, &f.topic)
		handover.Num(c, &f.id)
	})
	handover.Num(c, &l.known.forgotten)
	handover.Num(c, &l.known.until)
	handover.Num(c, &l.reason)
	handover.Numbers(c, &l.topics)
	handover.Num(c, &l.fellUntil)
	c.Bool(&l.fell)
	c.Bool(&l.unknown)
	c.Bool(&l.skim)
	c.Bool(&l.bare)
	c.Bool(&l.broken)
	handover.Num(c, &l.was)
}

func (p *past) code(c *handover.Coder) {
	handover.Num(c, &p.until)
	handover.Num(c, &p.untilID)
	handover.Num(c, &p.after)
	c.Bool(&p.rewind)
	c.Bool(&p.snapshot)
	handover.Num(c, &p.next)
}

// code codes all that is asked for.
func (s *Subscription) code(c *handover.Coder) {
	handover.List(c, &s.Topics, c.String)
	handover.List(c, &s.Patterns, func(p *topic.Pattern) {
		text := p.String()
		c.String(&text)
		if c.Reads() && c.Err() == nil {
			var err error
			if *p, err = topic.ParsePattern(text); err != nil {
				c.Fail(err)
			}
		}
	})
	c.Bool(&s.Resume)
	handover.Num(c, &s.LastID)
	c.Bool(&s.Rewound)
	handover.Num(c, &s.Start)
	c.Bytes(&s.Past)
	c.String(&s.BadID)
	c.Bool(&s.Rewind.All)
	handover.Num(c, &s.Rewind.Count)
	handover.Num(c, &s.Rewind.Since)
	c.Bool(&s.Snapshot)
	handover.Num(c, &s.OnLag)
	c.Bool(&s.Hello)
	c.Bool(&s.Latest)
	handover.Num(c, &s.Interval)
	c.Bool(&s.HTTP10)
	handover.Num(c, &s.Coding)
	handover.Num(c, &s.Form)
	c.Bool(&s.HeartbeatEvent)
	c.String(&s.Origin)
	for _, name := range s.Topics {
		if _, err := topic.ParseName(name); c.Reads() && err != nil {
			c.Fail(err)
		}
	}
	if s.Coding > encode.Gzip || s.Form > encode.FormEnvelope || s.OnLag > OnLagClose || s.Interval < 0 {
		c.Fail(fmt.Errorf("a subscription with coding %d, form %d, on lag %d, interval %s", s.Coding, s.Form, s.OnLag, s.Interval))
	}
}
