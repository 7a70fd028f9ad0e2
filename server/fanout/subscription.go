package fanout

// What is asked for: the plain data that crosses from HTTP into a shard.
//
// Written by api on the accept thread or a request's goroutine, read on the
// shard's thread after the inbox has handed it over, never changed in between.

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// MaxGapTopics is how many topics a gap names at the most; one of more topics
// names the subscription's own list instead.
const MaxGapTopics = 100

// A Subscription is what one stream asks for. It is plain data: no closures, no
// connection, nothing that a shard would have to wait for.
//
// Topics and patterns are valid, sorted, without doubles, and at least one of either.
type Subscription struct {
	Topics   []string        // plain names
	Patterns []topic.Pattern // with wildcards

	Resume bool   // go on after LastID
	LastID uint64 // the client's last event id; only with Resume
	BadID  string // what the client sent as its last event id where that can't be one; "" otherwise

	// With Rewound the ring does not reach back far enough: the stream begins after Start, with Past, the
	// frames of the events up to LastID, and with Resume goes on from there.
	Rewound bool
	Start   uint64
	Past    []byte

	Rewind   Rewind // where a stream without an id starts
	Snapshot bool   // the newest event of each topic comes first, if nothing else of it does
	OnLag    OnLag  // what it gets when it falls off the ring
	Hello    bool   // the first block also is an event

	Latest   bool          // only the newest event of each topic when it is due
	Interval time.Duration // the shortest time between two flushes; 0: none

	HTTP10         bool          // close-delimited instead of chunked
	Coding         encode.Coding // how the stream's bytes are coded
	Form           encode.Form   // what a frame says beside the data
	HeartbeatEvent bool          // heartbeats are events, for clients that can't see comments
	Ticket         uint32        // what Options.Gone is told of this stream; 0 for nothing
	Origin         string        // the allowed origin that the response names; "" for none
}

var subscriptions = sync.Pool{New: func() any { return new(Subscription) }}

// NewSubscription returns an empty Subscription: one whose stream has begun, so
// that streams leave no garbage behind. Any goroutine.
func NewSubscription() *Subscription {
	s := subscriptions.Get().(*Subscription)
	*s = Subscription{Topics: s.Topics[:0], Patterns: s.Patterns[:0]}
	return s
}

// free gives s back to NewSubscription. Nothing of it may be referred to any
// more, but for the strings in it.
func (s *Subscription) free() {
	clear(s.Topics)
	clear(s.Patterns)
	s.Past = nil
	subscriptions.Put(s)
}

// forgetID makes its last id one that can't be.
func (s *Subscription) forgetID() {
	s.Resume, s.BadID = false, strconv.FormatUint(s.LastID, 10)
	s.Rewound, s.Past = false, nil
}

// A Rewind is how far back a stream without an id starts; the zero value is
// live. At most one field is set.
type Rewind struct {
	All   bool          // with the oldest event that there is
	Count int           // with the newest Count events of each topic
	Since time.Duration // with the events of so long ago
}

// OnLag says what a subscriber gets that has fallen off the ring.
type OnLag uint8

const (
	OnLagGap    OnLag = iota // the gap event, then what is left
	OnLagLatest              // the gap event, then only the newest event of each topic
	OnLagClose               // the end of the stream
)

// appendKey appends what makes two subscriptions one audience: everything that
// changes a byte of what they receive after their first block.
func (s *Subscription) appendKey(dst []byte) []byte {
	flags := byte(0)
	if s.HTTP10 {
		flags |= 1
	}
	if s.HeartbeatEvent {
		flags |= 2
	}
	if s.Latest {
		flags |= 4
	}
	dst = append(dst, '0'+flags, '0'+byte(s.Coding), '0'+byte(s.Form))
	if s.Interval > 0 {
		dst = strconv.AppendInt(dst, int64(s.Interval), 10)
	}
	for _, t := range s.Topics {
		// No name holds a control character, so that the key is unambiguous.
		dst = append(dst, 0)
		dst = append(dst, t...)
	}
	for _, p := range s.Patterns {
		dst = append(dst, 1)
		dst = append(dst, p.String()...)
	}
	return dst
}

// names are the topics and patterns asked for.
func (s *Subscription) names() []string {
	names := slices.Clone(s.Topics)
	for _, p := range s.Patterns {
		names = append(names, p.String())
	}
	return names
}
