package ring

// Walking through the ring, entry by entry. A Reader belongs to the goroutine that
// made it.

// A Reader walks through the entries between two positions, oldest first. It is a plain value:
// made by Ring.Reader, used by one goroutine at a time, dropped without ceremony.
// While it is kept, it keeps the segment that it is in.
type Reader struct {
	ring   *Ring
	data   []byte   // of the segment that pos is in, once it is opened
	pos    Position // of the next entry
	limit  Position // where data or the walk ends; pos itself while no segment is open
	to     Position
	lapped bool
}

// Reader returns a reader of the entries from one position to before another. Both must be
// borders of entries: positions of entries, or of the head once. The walk goes no further
// than the head is now, so that None means all there is. Any goroutine.
func (r *Ring) Reader(from, to Position) Reader {
	return Reader{ring: r, pos: from, limit: from, to: min(to, r.Head())}
}

// Next returns the next entry and its position; false at the end of the walk, or when the
// tail has passed the place before it could be read: Lapped tells. A segment that the reader is
// in it reads to its end, be the tail where it may.
func (rd *Reader) Next() (Entry, Position, bool) {
	for {
		if rd.pos >= rd.limit && !rd.open() {
			return Entry{}, rd.pos, false
		}
		e, size := entryIn(rd.data, uint(rd.pos)&uint(len(rd.data)-1))
		p := rd.pos
		if size == 0 {
			// A pad: on to the segment's end.
			rd.pos = (p>>rd.ring.shift + 1) << rd.ring.shift
			continue
		}
		rd.pos = p + Position(size)
		return e, p, true
	}
}

// open opens the segment that the reader has come to. False at the end, or if it is gone.
func (rd *Reader) open() bool {
	if rd.pos >= rd.to {
		return false
	}
	s := rd.ring.at(rd.pos)
	if s == nil || rd.pos < rd.ring.Tail() {
		rd.data = nil
		rd.lapped = true
		return false
	}
	rd.data = s.data
	rd.limit = min(rd.to, s.base+Position(len(s.data)))
	return true
}

// Position returns where the reader goes on: behind the last entry it returned. After
// Lapped it is the place that the tail has passed.
func (rd *Reader) Position() Position { return rd.pos }

// Lapped reports whether the reader has stopped because the tail has passed the place where
// it was to go on: the entries from Position to the tail are lost to it.
func (rd *Reader) Lapped() bool { return rd.lapped }
