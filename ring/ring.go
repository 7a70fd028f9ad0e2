package ring

// The ring: a directory of segments between tail and head.
//
// Room, Drop, Restart and Append are the writer's, one goroutine at a time. All else:
// any goroutine.

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

const (
	// MinSize is the least size of a ring, in bytes.
	MinSize = 64 << 10

	// MaxFrame is the greatest frame that any ring takes, in bytes.
	MaxFrame = 1 << 30
)

// Two cache lines: processors fetch them in pairs.
const apart = 128

// A Ring holds the newest entries in a bounded number of bytes. See the package's
// picture. At any time:
//
//  1. tail and head are where an entry ended, so that a pad may follow;
//  2. tail <= head <= tail + limit, or there is but one entry, behind a pad;
//  3. the directory holds exactly the segments with bytes between tail and head, and
//     the one that the head is in; they are at most Size bytes;
//  4. ids grow from tail to head.
//
// Make one by New.
type Ring struct {
	// Never changed.
	shift    uint // a segment has 1<<shift bytes
	maxFrame int
	limit    Position // head-tail at the most
	segments []atomic.Pointer[segment]

	_    [apart]byte
	head atomic.Uint64 // stored for each entry, loaded by each reader for each pass
	// The newest entry. Stored before the head.
	newest atomic.Pointer[[HeaderSize]byte]

	_         [apart]byte
	tail      atomic.Uint64
	allocated atomic.Int64 // bytes of the directory's segments

	_ [apart]byte
	w writer
	_ [apart]byte
}

// writer is what the writer alone knows.
type writer struct {
	head, tail Position
	newestID   uint64
	open       *segment // that the head is in; nil where the head is at a segment's border
	marked     uint     // how many marks of open are set
}

// New makes a ring of that size for frames of up to maxFrame bytes. The ring's memory
// is allocated as it fills.
//
// The size is in bytes, at least MinSize, and is rounded down to whole segments (by
// less than a 32nd where frames are much smaller than the ring; Size tells). A frame
// may take up to a quarter of it, and at most MaxFrame.
func New(size, maxFrame int) (*Ring, error) {
	if size < MinSize {
		return nil, fmt.Errorf("ring size %d: must be at least %d bytes", size, MinSize)
	}
	if maxFrame < 1 || maxFrame > size/4 || maxFrame > MaxFrame {
		return nil, fmt.Errorf("ring of %d bytes for frames of up to %d: the greatest frame must be 1 to %d bytes, a quarter of the ring",
			size, maxFrame, min(size/4, MaxFrame))
	}
	one := segmentSize(size, maxFrame)
	// At least two: the header can make the greatest entry a bit more than a quarter.
	count := max(2, size/one)
	r := &Ring{
		shift:    uint(bits.TrailingZeros(uint(one))),
		maxFrame: maxFrame,
		limit:    Position((count - 1) * one),
		segments: newDirectory(count),
	}
	return r, nil
}

// newDirectory makes a directory with room for so many segments.
func newDirectory(count int) []atomic.Pointer[segment] {
	return make([]atomic.Pointer[segment], ceilPower(count))
}

// Size returns how many bytes of segments the ring holds at the most.
func (r *Ring) Size() int { return int(r.limit) + 1<<r.shift }

// Span is how many bytes of entries the ring holds at the most: the tail is never
// further behind the head. It is less than Size by a segment, which has room for the
// greatest frame. Any goroutine.
func (r *Ring) Span() int { return int(r.limit) }

// Head returns the position behind the newest entry, where the next one goes (or
// a bit further on, where a segment ends). Any goroutine.
func (r *Ring) Head() Position { return Position(r.head.Load()) }

// Tail returns the position behind the newest entry that was dropped, where the oldest one in
// the ring begins (or a bit further on, where a segment ends); the head's in an empty ring.
// Any goroutine.
func (r *Ring) Tail() Position { return Position(r.tail.Load()) }

// NewestID returns the id of the newest entry ever appended, 0 when there was none.
// It is never less than the ids before a head that the caller has loaded earlier.
// Any goroutine.
func (r *Ring) NewestID() uint64 {
	if h := r.newest.Load(); h != nil {
		return Entry{h}.ID()
	}
	return 0
}

// Newest returns the newest entry ever appended, be it dropped since; false when there
// was none. Any goroutine.
func (r *Ring) Newest() (Entry, bool) {
	h := r.newest.Load()
	return Entry{h}, h != nil
}

// at returns the segment that holds the position, which must be before the head;
// nil when the tail has passed the whole of it.
func (r *Ring) at(p Position) *segment {
	s := r.segments[uint64(p)>>r.shift&uint64(len(r.segments)-1)].Load()
	if s == nil || s.base != p>>r.shift<<r.shift {
		return nil
	}
	return s
}

// At returns the entry at the position, false when the tail has passed it or the
// head has not come there. The position must be one where an entry begins, as
// Append, Reader, After and Oldest give them. That of a head or tail may turn out to be a
// pad's, false: walk on from there with a Reader. Any goroutine.
func (r *Ring) At(p Position) (Entry, bool) {
	if p >= r.Head() || p < r.Tail() {
		return Entry{}, false
	}
	s := r.at(p)
	if s == nil {
		return Entry{}, false
	}
	e, _ := s.entry(uint(p - s.base))
	return e, e.Valid()
}

// Oldest returns the entry at the tail and its position, false when the ring is empty.
// Any goroutine.
func (r *Ring) Oldest() (Entry, Position, bool) {
	for {
		tail := r.Tail()
		rd := r.Reader(tail, None)
		if e, p, ok := rd.Next(); ok {
			return e, p, true
		}
		if !rd.Lapped() {
			return Entry{}, rd.Position(), false
		}
	}
}

// Stats are figures of a ring. Taken while it moves on, they may be of slightly
// different moments.
type Stats struct {
	Size      int64 // bytes of segments at the most
	Allocated int64 // bytes of segments now, without those only kept by readers
	Held      int64 // bytes between tail and head
	Oldest    int64 // time of the oldest entry, microseconds since 1970; 0 in an empty ring
	Newest    int64 // time of the newest entry ever, microseconds since 1970; 0 when there was none
}

// Stats returns the ring's figures. Any goroutine.
func (r *Ring) Stats() Stats {
	tail := r.Tail() // first, so that it is not behind the head
	st := Stats{
		Size:      int64(r.Size()),
		Allocated: r.allocated.Load(),
		Held:      int64(r.Head() - tail),
	}
	if e, _, ok := r.Oldest(); ok {
		st.Oldest = e.Time()
	}
	if e, ok := r.Newest(); ok {
		st.Newest = e.Time()
	}
	return st
}

// Room reports whether an entry with a frame of n bytes can be appended without moving
// the tail on. An empty ring has room for any frame of up to its maxFrame
// bytes, and none has room for a greater one. Writer.
func (r *Ring) Room(n int) bool {
	if n > r.maxFrame {
		return false
	}
	if r.w.head == r.w.tail {
		return true
	}
	size := entrySize(n)
	return r.place(size)+Position(size)-r.w.tail <= r.limit
}

// place returns where an entry of that size goes: to the head, or behind the pad that
// fills the head's segment. Writer.
func (r *Ring) place(size int) Position {
	p := r.w.head
	if end := (p>>r.shift + 1) << r.shift; p+Position(size) > end {
		return end
	}
	return p
}

// Drop moves the tail past the oldest entry. Views of it stay what they are. It panics
// when the ring is empty. Writer.
func (r *Ring) Drop() {
	if r.w.head == r.w.tail {
		panic("ring: Drop: the ring is empty")
	}
	p := r.w.tail
	s := r.at(p)
	_, size := s.entry(uint(p - s.base))
	if size == 0 { // a pad; behind one there is always an entry
		p = s.base + Position(len(s.data))
		_, size = r.at(p).entry(0)
	}
	p += Position(size)

	// No further than that: a reader at this place has lost nothing, be there a pad.
	old := r.w.tail
	r.w.tail = p
	r.tail.Store(uint64(p))
	for ; old>>r.shift < p>>r.shift; old += 1 << r.shift {
		r.segments[uint64(old)>>r.shift&uint64(len(r.segments)-1)].Store(nil)
		r.allocated.Add(-1 << r.shift)
	}
}

// Restart drops every entry and forgets the ids: the next one may have any. Positions go on, so
// that a reader finds out that it was overtaken; those who search by id must stand still
// meanwhile. Writer.
func (r *Ring) Restart() {
	for r.w.head != r.w.tail {
		r.Drop()
	}
	if s := r.w.open; s != nil {
		// Its marks are of the ids that were.
		s.putPad(uint(r.w.head - s.base))
		r.w.head = s.base + Position(len(s.data))
		r.w.tail = r.w.head
		r.head.Store(uint64(r.w.head))
		r.tail.Store(uint64(r.w.tail))
		r.segments[uint64(s.base)>>r.shift&uint64(len(r.segments)-1)].Store(nil)
		r.allocated.Add(-1 << r.shift)
		r.w.open = nil
	}
	r.w.newestID = 0
	r.newest.Store(nil)
}

// Append appends an entry with a copy of the frame and returns its position. Readers see it
// as soon as the head is behind it, which is before Append returns.
//
// It panics when the ring has no Room for the frame, when the id is not greater than
// that of every entry before, or when kind or type end is out of its range:
// those are the caller's promises. Writer.
func (r *Ring) Append(h Header, frame []byte) Position {
	if h.ID <= r.w.newestID {
		panic(fmt.Sprintf("ring: Append: id %d after id %d", h.ID, r.w.newestID))
	}
	if h.Kind == 0 || h.Kind == pad || uint(h.TypeEnd) > uint(min(len(frame), typeEndMax)) {
		panic(fmt.Sprintf("ring: Append: kind %d, type end %d in a frame of %d bytes", h.Kind, h.TypeEnd, len(frame)))
	}
	if !r.Room(len(frame)) {
		panic(fmt.Sprintf("ring: Append: no room for a frame of %d bytes between tail %d and head %d", len(frame), r.w.tail, r.w.head))
	}
	size := entrySize(len(frame))
	p := r.place(size)
	s := r.w.open
	if s == nil || p != r.w.head {
		if s != nil {
			s.putPad(uint(r.w.head - s.base))
		}
		s = r.begin(p, h.ID)
	}
	offset := uint(p - s.base)
	if offset>>markShift >= r.w.marked {
		r.w.mark(s, h.ID, offset)
	}
	b := s.data[offset:][:size]
	h.put(b, frame)

	// From here on others see it, in this order.
	r.w.newestID = h.ID
	r.w.head = p + Position(size)
	r.newest.Store((*[HeaderSize]byte)(b))
	r.head.Store(uint64(r.w.head))
	if offset+uint(size) == uint(len(s.data)) {
		r.w.open = nil
	}
	return p
}

// begin makes the segment at the position, whose first entry has that id. Writer.
func (r *Ring) begin(p Position, id uint64) *segment {
	s := newSegment(p, 1<<r.shift, id)
	r.segments[uint64(p)>>r.shift&uint64(len(r.segments)-1)].Store(s)
	r.allocated.Add(1 << r.shift)
	r.w.open = s
	r.w.marked = 0
	return s
}

// mark sets all marks up to the offset to the entry there. Writer.
func (w *writer) mark(s *segment, id uint64, offset uint) {
	for ; w.marked <= offset>>markShift; w.marked++ {
		m := &s.marks[w.marked]
		m.offset.Store(uint32(offset))
		m.id.Store(id) // last: who sees it sees the offset
	}
}
