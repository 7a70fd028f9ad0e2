package ring

// Moving a ring into another process: its bytes as they lie there, at the positions where they
// lie, so that every position that anybody knows stays what it is.
//
// Piece: any goroutine, while the writer goes on. A Copy belongs to one goroutine.

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Layout is the version of what lies in a segment: header, pads, alignment. Bytes of another
// layout can't be taken over.
const Layout = 1

// SegmentSize returns how many bytes a segment has: no entry spans two, so that a copy must have
// segments of the same size.
func (r *Ring) SegmentSize() int { return 1 << r.shift }

// Piece returns bytes of the ring from a position on, entries and pads: to the head, or to the
// end of a segment. The position must be a border of entries, or a former head. at is where the
// bytes begin: further on where the tail has passed the position. At the head there are none.
// The bytes belong to the ring and must never be written. Any goroutine.
func (r *Ring) Piece(from Position) (at Position, bytes []byte) {
	for {
		tail := r.Tail() // first, so that it is not behind the head
		head := r.Head()
		at = max(from, tail)
		if at >= head {
			return at, nil
		}
		if s := r.at(at); s != nil {
			end := min(head, s.base+Position(len(s.data)))
			return at, s.data[at-s.base : end-s.base]
		}
		// The tail has overtaken us.
	}
}

// A Copy is a ring that comes in pieces. It is used until Ring has made one of it.
type Copy struct {
	shift    uint
	segments []*segment // one behind the other; the first ones may have been dropped
	first    Position   // where the pieces that are there begin
	head     Position
	newest   *[HeaderSize]byte
	marks    writer // marked, of the last segment
}

// NewCopy makes a copy of a ring with segments of that size, which must be one that New
// chooses: a power of two.
func NewCopy(segmentSize int) (*Copy, error) {
	if segmentSize < segmentMin || segmentSize > ceilPower(2*MaxFrame) || segmentSize&(segmentSize-1) != 0 {
		return nil, fmt.Errorf("ring segments of %d bytes: must be a power of two, %d to %d", segmentSize, segmentMin, ceilPower(2*MaxFrame))
	}
	return &Copy{shift: uint(ceilLog(segmentSize))}, nil
}

func ceilLog(n int) (log int) {
	for 1<<log < n {
		log++
	}
	return log
}

// Take reads a piece of n bytes that begins at a position: where the last one ended, or further
// on, where the tail has passed what is between; what came before is forgotten then. The error is
// the reader's, or says what is wrong with the bytes; the copy is of no use after it.
func (c *Copy) Take(at Position, n int, from io.Reader) error {
	size := Position(1) << c.shift
	base := at &^ (size - 1)
	if at < c.head || at%align != 0 || n <= 0 || n%align != 0 || at+Position(n) > base+size {
		return fmt.Errorf("ring: a piece of %d bytes at %d, after %d, in segments of %d", n, at, c.head, size)
	}
	if at > c.head {
		c.segments, c.first = nil, at
	}
	var s *segment
	if last := len(c.segments) - 1; last >= 0 && c.segments[last].base == base {
		s = c.segments[last]
	} else {
		s = newSegment(base, int(size), 0)
		c.segments = append(c.segments, s)
		c.marks.marked = 0
	}
	b := s.data[at-base:][:n]
	if _, err := io.ReadFull(from, b); err != nil {
		return err
	}
	c.head = at + Position(n)
	return c.look(s, uint(at-base), uint(at-base)+uint(n))
}

// look looks at the entries between two offsets of a segment, and marks them.
func (c *Copy) look(s *segment, offset, end uint) error {
	for offset < end {
		rest := s.data[offset:end]
		if len(rest) >= 8 && Kind(rest[7]) == pad {
			if end != uint(len(s.data)) {
				return fmt.Errorf("ring: a pad at %d that does not end its segment", s.base+Position(offset))
			}
			return nil
		}
		if len(rest) < HeaderSize {
			return fmt.Errorf("ring: half an entry at %d", s.base+Position(offset))
		}
		h := (*[HeaderSize]byte)(rest)
		e := Entry{h}
		if size := e.Size(); size > len(rest) || e.Kind() == 0 || e.TypeEnd() > size-HeaderSize ||
			c.newest != nil && e.ID() <= (Entry{c.newest}).ID() || e.ID() == 0 {
			return fmt.Errorf("ring: no entry that can be at %d: %d bytes, kind %d, id %d", s.base+Position(offset), e.Size(), e.Kind(), e.ID())
		}
		if s.firstID == 0 {
			s.firstID = e.ID()
		}
		if offset>>markShift >= c.marks.marked {
			c.marks.mark(s, e.ID(), offset)
		}
		c.newest = h
		offset += uint(e.Size())
	}
	return nil
}

// Drop forgets the segments that a tail has passed.
func (c *Copy) Drop(tail Position) {
	n := 0
	for n < len(c.segments) && c.segments[n].base+1<<c.shift <= tail {
		n++
	}
	c.segments = slices.Delete(c.segments, 0, n)
}

// Ring makes a ring of what has come, with the tail and the head of the one that was copied. Size
// and maxFrame are as in New; the ring may hold more than Span until something is dropped. The
// copy must not be used any more.
//
// Errors: those of New; a greatest frame for which the segments are too small; a piece that is
// missing.
func (c *Copy) Ring(size, maxFrame int, tail, head Position) (*Ring, error) {
	r, err := New(size, maxFrame)
	if err != nil {
		return nil, err
	}
	one := 1 << c.shift
	if entrySize(maxFrame) > one {
		return nil, fmt.Errorf("the ring that is taken over has segments of %d bytes, too small for frames of up to %d", one, maxFrame)
	}
	if head == 0 && tail == 0 && len(c.segments) == 0 {
		return r, nil // nothing was ever published
	}
	c.Drop(tail)
	if c.head != head || tail >= head || len(c.segments) == 0 || c.first > tail || c.segments[0].base > tail || c.newest == nil {
		return nil, errors.New("ring: a copy that lacks a piece")
	}
	count := max(2, size/one)
	r.shift = c.shift
	r.limit = Position((count - 1) * one)
	r.segments = newDirectory(max(count, len(c.segments)))
	for _, s := range c.segments {
		r.segments[uint64(s.base)>>r.shift&uint64(len(r.segments)-1)].Store(s)
		r.allocated.Add(int64(one))
	}
	r.w = writer{head: head, tail: tail, newestID: Entry{c.newest}.ID()}
	if last := c.segments[len(c.segments)-1]; head < last.base+Position(one) {
		r.w.open, r.w.marked = last, c.marks.marked
	}
	r.newest.Store(c.newest)
	r.tail.Store(uint64(tail))
	r.head.Store(uint64(head))
	return r, nil
}

// Over reports whether the ring holds more than Span, as one may that was copied from a greater
// one: until as much has been dropped. A single entry may be more. Writer.
func (r *Ring) Over() bool {
	e, _, ok := r.Oldest()
	return ok && r.w.head-r.w.tail > r.limit && e.ID() != r.w.newestID
}

// Bytes returns the entry's header and frame, as EntryOf takes them. They belong to the ring and
// must never be written. Any goroutine.
func (e Entry) Bytes() []byte { return e.bytes() }

// EntryOf returns a view of an entry in memory of its own, which Entry.Bytes of the same Layout
// gave and nobody writes any more. The error says that it is none. Any goroutine.
func EntryOf(b []byte) (Entry, error) {
	if len(b) >= HeaderSize {
		if e := (Entry{(*[HeaderSize]byte)(b)}); HeaderSize+e.length() == len(b) && e.ID() != 0 && e.Kind() != 0 && e.Kind() != pad && e.TypeEnd() <= len(b)-HeaderSize {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("ring: %d bytes that are no entry", len(b))
}
