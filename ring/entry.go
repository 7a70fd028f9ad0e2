package ring

// Entries: the layout of the header, and views of it.
//
// Views are plain values over bytes that never change. Any goroutine.

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// A Position is a place in the ring: the number of bytes ever appended before it.
// The first entry is at 0. Positions grow for ever and are never used again.
type Position uint64

// None is the position of an entry that there is not: no previous one, no skip target.
const None = ^Position(0)

// A Kind says what an entry is.
type Kind uint8

// What an entry can be. 0 and 255 are the ring's own.
const (
	Event Kind = 1 // a published event
	End   Kind = 2 // the end of its topic
)

// pad is the kind of what fills the rest of a segment.
const pad Kind = 255

// HeaderSize is how many bytes of the ring an entry takes beside its frame,
// but for the up to 7 that round it to a multiple of 8.
const HeaderSize = 64

// The header's layout. Little endian, from a multiple of 8 on.
//
//	 0  length of the frame (4), end of its event: line (3), kind (1)
//	 8  topic      16  id        24  time       32  number
//	40  prev       48  prevID    56  skip
//
// A pad has the first 8 bytes only, and its length is what follows them.
const (
	offTopic  = 8
	offID     = 16
	offTime   = 24
	offNumber = 32
	offPrev   = 40
	offPrevID = 48
	offSkip   = 56

	align      = 8
	typeEndMax = 1<<24 - 1
)

// A Header is what the writer says of an entry.
type Header struct {
	ID      uint64   // greater than that of any entry before, so never 0
	PrevID  uint64   // id of the topic's previous entry; 0: none
	Time    int64    // when it was published, microseconds since 1970
	Number  uint64   // the entry's number within its topic, from 1
	Topic   uint64   // the topic's number, never used again for another
	Prev    Position // of the topic's previous entry; None: none
	Skip    Position // of the topic's entry with the number n&(n-1), n being Number; None where that is 0
	Kind    Kind
	TypeEnd int // where the frame's event: line ends, in bytes; 0 when it has none; below 16 MiB
}

// An Entry is a view of one entry: its header and its frame. It is one pointer,
// stays valid and unchanged as long as it is kept, and keeps the segment it
// lies in from being freed. The zero value is no entry: Valid tells, and the
// other methods panic.
type Entry struct {
	// Points at a header with its frame right behind it in the same piece of memory:
	// whoever makes an Entry has looked that the header's length stays within that.
	h *[HeaderSize]byte
}

// Valid reports whether there is an entry. Any goroutine.
func (e Entry) Valid() bool { return e.h != nil }

// ID returns the event's id. Any goroutine.
func (e Entry) ID() uint64 { return binary.LittleEndian.Uint64(e.h[offID:]) }

// PrevID returns the id of the topic's previous entry, 0 where there was none. Any goroutine.
func (e Entry) PrevID() uint64 { return binary.LittleEndian.Uint64(e.h[offPrevID:]) }

// Time returns when the event was published, in microseconds since 1970. Any goroutine.
func (e Entry) Time() int64 { return int64(binary.LittleEndian.Uint64(e.h[offTime:])) }

// Number returns the entry's number within its topic, from 1. Any goroutine.
func (e Entry) Number() uint64 { return binary.LittleEndian.Uint64(e.h[offNumber:]) }

// Topic returns the topic's number. Any goroutine.
func (e Entry) Topic() uint64 { return binary.LittleEndian.Uint64(e.h[offTopic:]) }

// Prev returns the position of the topic's previous entry, None where there was
// none. The tail may have passed it: At tells. Any goroutine.
func (e Entry) Prev() Position { return Position(binary.LittleEndian.Uint64(e.h[offPrev:])) }

// Skip returns the position of the topic's entry with the number n&(n-1), n being
// this one's; None where that is 0. The tail may have passed it: At tells. Any goroutine.
func (e Entry) Skip() Position { return Position(binary.LittleEndian.Uint64(e.h[offSkip:])) }

// Kind returns what the entry is. Any goroutine.
func (e Entry) Kind() Kind { return Kind(e.h[7]) }

// TypeEnd returns where the frame's event: line ends, in bytes; 0 when it has none. Any goroutine.
func (e Entry) TypeEnd() int { return int(binary.LittleEndian.Uint32(e.h[4:]) & typeEndMax) }

// Frame returns the frame. Its bytes belong to the ring and must never be written;
// appending to it copies. Any goroutine.
func (e Entry) Frame() []byte { return e.bytes()[HeaderSize:] }

// Size returns how many bytes of the ring the entry takes: header, frame, and what
// rounds them to a multiple of 8. Any goroutine.
func (e Entry) Size() int { return entrySize(e.length()) }

// Clone returns a copy of the entry, header and frame, in memory of its own: to
// be kept without keeping a segment. Any goroutine.
func (e Entry) Clone() Entry {
	return Entry{(*[HeaderSize]byte)(bytes.Clone(e.bytes()))}
}

// bytes returns header and frame.
func (e Entry) bytes() []byte {
	// Not e.h plus HeaderSize: behind an entry without a frame, that may point at
	// somebody else's memory.
	return unsafe.Slice(&e.h[0], HeaderSize+e.length())
}

// length returns how many bytes the frame has, as the header says.
func (e Entry) length() int { return int(binary.LittleEndian.Uint32(e.h[:])) }

// entrySize returns how many bytes of the ring an entry with a frame of n bytes takes.
func entrySize(n int) int { return (HeaderSize + n + align - 1) &^ (align - 1) }

// put writes header and frame to the front of b, which is all zero.
func (h *Header) put(b []byte, frame []byte) {
	_ = b[HeaderSize-1]
	binary.LittleEndian.PutUint64(b, uint64(h.Kind)<<56|uint64(h.TypeEnd)<<32|uint64(len(frame)))
	binary.LittleEndian.PutUint64(b[offTopic:], h.Topic)
	binary.LittleEndian.PutUint64(b[offID:], h.ID)
	binary.LittleEndian.PutUint64(b[offTime:], uint64(h.Time))
	binary.LittleEndian.PutUint64(b[offNumber:], h.Number)
	binary.LittleEndian.PutUint64(b[offPrev:], uint64(h.Prev))
	binary.LittleEndian.PutUint64(b[offPrevID:], h.PrevID)
	binary.LittleEndian.PutUint64(b[offSkip:], uint64(h.Skip))
	copy(b[HeaderSize:], frame)
}
