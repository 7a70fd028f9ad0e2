package ring

// Segments: fixed blocks of bytes, each written once from front to back and
// replaced whole by a new one.
//
// The writer makes and fills them; any goroutine reads what lies before the head.

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

const (
	// A new segment is cleared while others wait for the writer (40 us for 1 MiB), and the
	// tail's is out of use to its end: so they are small. But pads take what the
	// greatest entries leave of a segment: so there are some entries to one.
	segmentMin  = 4 << 10
	segmentMax  = 1 << 20 // but where entries are large
	segmentsFew = 32      // how many segments a ring has at the least, but where entries are large

	// A mark for so many bytes. After walks through them, but finer marks take more memory:
	// these take a 512th.
	markShift = 13
)

// A segment is one block of the ring.
//
// Its base, its first id and its slices never change. The bytes of data before
// the head never change; those behind it belong to the writer.
type segment struct {
	base    Position // of data[0]
	firstID uint64   // id of the entry at base
	data    []byte
	marks   []mark // marks[i] is of the first entry at or behind data[i<<markShift]
}

// A mark says which entry is the first from some place of a segment on. The id
// is stored last; it is 0 as long as there is no such entry.
type mark struct {
	id     atomic.Uint64
	offset atomic.Uint32
}

// segmentSize returns the size of the segments for a ring of that size: a power of
// two that holds the greatest entry.
func segmentSize(size, maxFrame int) int {
	greatest := entrySize(maxFrame)
	// Where a segment holds two of the greatest, pads take a third of the ring at the worst.
	want := min(size/segmentsFew, max(segmentMax, 4*greatest))
	return max(segmentMin, floorPower(want), ceilPower(greatest))
}

func floorPower(n int) int { return 1 << (bits.Len(uint(n)) - 1) }
func ceilPower(n int) int  { return 1 << bits.Len(uint(n-1)) }

// newSegment makes the segment of that size at base. Writer.
func newSegment(base Position, size int, firstID uint64) *segment {
	return &segment{
		base:    base,
		firstID: firstID,
		data:    make([]byte, size),
		marks:   make([]mark, (size-1)>>markShift+1),
	}
}

// entry returns the entry at the offset, and the size it takes. No entry where there is
// a pad. The offset must be that of an entry or pad before the head.
func (s *segment) entry(offset uint) (Entry, int) { return entryIn(s.data, offset) }

func entryIn(data []byte, offset uint) (Entry, int) {
	w := binary.LittleEndian.Uint64(data[offset:])
	if Kind(w>>56) == pad {
		return Entry{}, 0
	}
	size := entrySize(int(uint32(w)))
	// The one look at bounds: the header's length stays within the segment.
	return Entry{(*[HeaderSize]byte)(data[offset:][:size])}, size
}

// putPad fills the rest of the segment from the offset on. Writer.
func (s *segment) putPad(offset uint) {
	rest := s.data[offset:]
	binary.LittleEndian.PutUint64(rest, uint64(pad)<<56|uint64(len(rest)-8))
}

// before returns the offset of an entry, one of the last that are not newer than id:
// from there on, After walks. The segment's first entry must not be newer.
// Any goroutine; the entry may be ahead of the head.
func (s *segment) before(id uint64) uint {
	lo, hi := 0, len(s.marks)-1
	for lo < hi {
		mid := int(uint(lo+hi+1) / 2)
		// Marks are set in order: one without an entry is newer than all.
		if m := s.marks[mid].id.Load(); m != 0 && m <= id {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	if lo == 0 {
		return 0
	}
	return uint(s.marks[lo].offset.Load())
}
