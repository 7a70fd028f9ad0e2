package ring

// After: the first entry with a greater id. By segment, then by the segment's
// marks, then a short walk. Any goroutine.

// After returns the position of the first entry in the ring with an id greater than the
// given one, and the head's where there is none: what is just being appended goes there,
// whatever its id, so that who walks on from there looks at the ids. By the time it returns, the
// tail may have passed that entry, and the writer appended others: who walks on
// from there with a Reader is told of the one and sees the other. Any goroutine.
func (r *Ring) After(id uint64) Position {
	for {
		tail := r.Tail() // first, so that it is not behind the head
		head := r.Head()
		// The newest id last: if it is not greater, none before the head is.
		if tail == head || id >= r.NewestID() {
			return head
		}
		if p, ok := r.after(id, tail, head); ok {
			return p
		}
		// The tail has overtaken us, or the head has moved on: once more from where they are.
	}
}

// after is After between a tail and a head, tail < head. False when the tail has moved
// on over what it had to look at, or the head while nothing was found.
func (r *Ring) after(id uint64, tail, head Position) (Position, bool) {
	// The last segment that begins with an id not greater; the tail's where none does.
	lo, hi := tail>>r.shift, (head-1)>>r.shift
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		// One that is gone is behind the tail, and what we look for is not.
		if s := r.at(mid << r.shift); s != nil && s.firstID > id {
			hi = mid - 1
		} else {
			lo = mid
		}
	}
	s := r.at(lo << r.shift)
	if s == nil {
		return 0, false
	}
	rd := r.Reader(max(s.base+Position(s.before(id)), tail), head)
	for {
		e, p, ok := rd.Next()
		if !ok {
			// What has come behind the head meanwhile may begin with ids not greater.
			return head, !rd.Lapped() && r.Head() == head
		}
		if e.ID() > id {
			return p, true
		}
	}
}
