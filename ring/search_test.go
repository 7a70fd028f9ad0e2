package ring

// What searching promises: by id, and along a topic's links.

import (
	"bytes"
	"strings"
	"testing"
)

// The segments of a ring have no holes and no doubles for those who search ids between them.
func TestAfterFindsEveryID(t *testing.T) {
	r := newRing(t, 256<<10, 20<<10)
	s := slowTwin(r)
	for id := uint64(10); id < 6000; id += 10 {
		frame := bytes.Repeat([]byte{'x'}, int(id*id%1500))
		for !r.Room(len(frame)) {
			r.Drop()
			s.drop()
		}
		h := Header{ID: id, Kind: Event}
		r.Append(h, frame)
		s.append(h, frame)
	}
	for id := uint64(0); id < 6020; id++ {
		if got, want := r.After(id), s.after(id); got != want {
			t.Errorf("After(%d) is %d, want %d", id, got, want)
		}
	}
}

// A mark, which says what comes first from each 8 KiB of a segment on, is never wrong.
func TestMarksPointAtEntries(t *testing.T) {
	r := newRing(t, 4<<20, 40<<10)
	for id := uint64(1); id < 500; id++ {
		add(r, id*10, strings.Repeat("x", int(id*7919%(40<<10))))
		for i := range r.segments {
			s := r.segments[i].Load()
			if s == nil {
				continue
			}
			for k := range s.marks {
				marked, offset := s.marks[k].id.Load(), s.marks[k].offset.Load()
				if marked == 0 {
					continue
				}
				e, _ := s.entry(uint(offset))
				if e.ID() != marked || int(offset) < k<<markShift {
					t.Fatalf("segment at %d, mark %d: id %d at %d", s.base, k, marked, offset)
				}
			}
		}
	}
}

// The skip link's target leads to the first entry after an id, in few steps.
func TestSkipLinksFindWhatPrevLinksFind(t *testing.T) {
	f := newFiller(t, 16<<20, 50, 3)
	for range 60000 {
		f.append(f.random.IntN(len(f.last)))
	}
	newest, _ := f.ring.At(f.last[0].prev)
	for range 300 {
		id := f.random.Uint64N(newest.ID())
		want, _ := firstAfterSlow(f.ring, newest, id)
		got, steps := firstAfter(f.ring, newest, id)
		if got != want {
			t.Errorf("first after id %d: id %d, want %d", id, got.ID(), want.ID())
		}
		if steps > 130 { // half of the square of log2(20000)
			t.Errorf("first after id %d of %d entries: %d steps", id, newest.Number(), steps)
		}
	}
}
