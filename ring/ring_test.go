package ring

// What the ring promises, one test for each promise.

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"
)

// broken tells which of the Ring's invariants does not hold. Writer.
func broken(r *Ring) error {
	head, tail := r.Head(), r.Tail()
	if head != r.w.head || tail != r.w.tail {
		return fmt.Errorf("the writer is at %d to %d, the ring shows %d to %d", r.w.tail, r.w.head, tail, head)
	}
	want := map[Position]bool{}
	for at := tail >> r.shift; at<<r.shift < head; at++ {
		want[at<<r.shift] = true
	}
	for i := range r.segments {
		s := r.segments[i].Load()
		if s == nil {
			continue
		}
		if !want[s.base] {
			return fmt.Errorf("the segment at %d is held, between tail %d and head %d", s.base, tail, head)
		}
		delete(want, s.base)
		if e, _ := s.entry(0); e.ID() != s.firstID {
			return fmt.Errorf("the segment at %d: first id %d, its entry's is %d", s.base, s.firstID, e.ID())
		}
		if r.at(s.base) != s {
			return fmt.Errorf("the segment at %d is not found", s.base)
		}
	}
	if len(want) != 0 {
		return fmt.Errorf("segments not there, between tail %d and head %d: %v", tail, head, want)
	}
	if st := r.Stats(); st.Allocated > st.Size || st.Held > st.Allocated || st.Size != int64(r.Size()) {
		return fmt.Errorf("figures: %+v", st)
	}
	ids, entries := uint64(0), 0
	rd := r.Reader(tail, None)
	for e, p, ok := rd.Next(); ok; e, p, ok = rd.Next() {
		if e.ID() <= ids {
			return fmt.Errorf("id %d at %d after id %d", e.ID(), p, ids)
		}
		ids = e.ID()
		entries++
	}
	if rd.Lapped() || rd.Position() != head || (entries > 1 && head-tail > r.limit) {
		return fmt.Errorf("the way from tail %d to head %d, %d entries, ends at %d", tail, head, entries, rd.Position())
	}
	return nil
}

func newRing(t testing.TB, size, maxFrame int) *Ring {
	t.Helper()
	r, err := New(size, maxFrame)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// add appends an event with that id and frame, dropping as much as it takes.
func add(r *Ring, id uint64, frame string) Position {
	for !r.Room(len(frame)) {
		r.Drop()
	}
	return r.Append(Header{ID: id, Time: int64(id), Prev: None, Skip: None, Kind: Event}, []byte(frame))
}

// All that the writer says of an entry is read from it.
func TestEntryKeepsItsHeaderAndFrame(t *testing.T) {
	r := newRing(t, 64<<10, 16<<10)
	for _, h := range []Header{
		{ID: 1, Kind: Event},
		{ID: 1 << 63, PrevID: 1, Time: -1, Number: 1<<64 - 1, Topic: 1<<63 + 1, Prev: None, Skip: None, Kind: End, TypeEnd: 9},
		{ID: 1<<64 - 1, PrevID: 1<<64 - 2, Time: 1<<63 - 1, Number: 7, Topic: 8, Prev: 9, Skip: 10, Kind: 254, TypeEnd: 10},
	} {
		frame := []byte("event: a\n\n")
		e, ok := r.At(r.Append(h, frame))
		if !ok || !e.Valid() || headerOf(e) != h || string(e.Frame()) != "event: a\n\n" || e.Size() != 80 {
			t.Errorf("%+v, frame %q, size %d (found: %t), want %+v", headerOf(e), e.Frame(), e.Size(), ok, h)
		}
		frame[0] = 'x' // the caller's own again
		if e.Frame()[0] != 'e' {
			t.Error("the ring holds the caller's bytes")
		}
	}
}

// The event: line may end anywhere in 24 bits, beside the kind in the same word.
func TestTypeEndHas24Bits(t *testing.T) {
	r := newRing(t, 128<<20, 32<<20)
	frame := make([]byte, 17<<20)
	e, _ := r.At(r.Append(Header{ID: 1, Kind: End, TypeEnd: 1<<24 - 1}, frame))
	if e.TypeEnd() != 1<<24-1 || e.Kind() != End || len(e.Frame()) != 17<<20 {
		t.Errorf("type end %d, kind %d, frame of %d bytes", e.TypeEnd(), e.Kind(), len(e.Frame()))
	}
	wantPanic(t, "ring: Append: kind 1, type end 16777216 in a frame of 17825792 bytes", func() {
		r.Append(Header{ID: 2, Kind: Event, TypeEnd: 1 << 24}, frame)
	})
}

// A frame that is appended to does not grow into the next entry.
func TestAppendingToAFrameCopies(t *testing.T) {
	r := newRing(t, 64<<10, 16<<10)
	p := add(r, 1, "one")
	q := add(r, 2, "two")
	e, _ := r.At(p)
	_ = append(e.Frame(), strings.Repeat("x", 200)...)
	if next, ok := r.At(q); !ok || next.ID() != 2 || string(next.Frame()) != "two" {
		t.Error("the next entry was overwritten")
	}
}

// A size is at least 64 KiB, a frame at most a quarter of it; the error says so.
func TestNewRefusesSizes(t *testing.T) {
	for _, c := range []struct {
		size, maxFrame int
		want           string
	}{
		{0, 1, "ring size 0: must be at least 65536 bytes"},
		{64<<10 - 1, 1, "ring size 65535: must be at least 65536 bytes"},
		{64 << 10, 0, "ring of 65536 bytes for frames of up to 0: the greatest frame must be 1 to 16384 bytes, a quarter of the ring"},
		{64 << 10, 16<<10 + 1, "ring of 65536 bytes for frames of up to 16385: the greatest frame must be 1 to 16384 bytes, a quarter of the ring"},
		{8 << 30, 1<<30 + 1, "ring of 8589934592 bytes for frames of up to 1073741825: the greatest frame must be 1 to 1073741824 bytes, a quarter of the ring"},
	} {
		if r, err := New(c.size, c.maxFrame); err == nil || r != nil || err.Error() != c.want {
			t.Errorf("New(%d, %d): %v, want %s", c.size, c.maxFrame, err, c.want)
		}
	}
}

// Whatever its sizes, a ring has at least two segments that hold the greatest entry, and hardly loses
// anything of its size to rounding.
func TestNewRoundsSizes(t *testing.T) {
	for size := MinSize; size < 1<<33; size += size/3 + 1 {
		for _, maxFrame := range []int{1, 100, 4096, 1 << 20, size / 64, size / 16, size / 4} {
			maxFrame = max(1, min(maxFrame, size/4, MaxFrame))
			r := newRing(t, size, maxFrame)
			one := 1 << r.shift
			if one < entrySize(maxFrame) {
				t.Errorf("size %d, frames of %d: segments of %d bytes are too small", size, maxFrame, one)
			}
			if r.Size() < 2*one || r.Size() > size+4*(HeaderSize+align) || r.Size() <= size-one {
				t.Errorf("size %d, frames of %d: %d bytes of segments of %d", size, maxFrame, r.Size(), one)
			}
			if maxFrame <= size/256 && r.Size() <= size-size/segmentsFew {
				t.Errorf("size %d, frames of %d: only %d bytes", size, maxFrame, r.Size())
			}
		}
	}
}

// An empty ring has no oldest entry, and its head is where everything leads.
func TestEmptyRing(t *testing.T) {
	r := newRing(t, 64<<10, 16<<10)
	check := func(head Position, newest uint64) {
		t.Helper()
		if r.Head() != head || r.Tail() != head || r.NewestID() != newest {
			t.Errorf("from %d to %d, newest id %d, want all at %d, newest id %d", r.Tail(), r.Head(), r.NewestID(), head, newest)
		}
		if _, ok := r.At(r.Head()); ok {
			t.Error("an entry at the head")
		}
		if _, p, ok := r.Oldest(); ok || p != head {
			t.Errorf("an oldest entry at %d", p)
		}
		if p := r.After(0); p != head {
			t.Errorf("After(0) is %d", p)
		}
		rd := r.Reader(r.Tail(), None)
		if _, _, ok := rd.Next(); ok || rd.Lapped() {
			t.Error("something to read")
		}
		wantPanic(t, "ring: Drop: the ring is empty", r.Drop)
		if st := r.Stats(); st.Held != 0 || st.Oldest != 0 || st.Newest != int64(newest) {
			t.Errorf("figures: %+v", st)
		}
	}
	check(0, 0)
	if _, ok := r.Newest(); ok {
		t.Error("a newest entry before the first")
	}
	add(r, 5, "five")
	r.Drop()
	check(72, 5)
	if e, ok := r.Newest(); !ok || e.ID() != 5 {
		t.Error("the newest entry ever is forgotten once it is dropped")
	}
}

// The writer's broken promises are panics that say what was wrong.
func TestAppendPanics(t *testing.T) {
	r := newRing(t, 64<<10, 16<<10)
	wantPanic(t, "ring: Append: id 0 after id 0", func() { r.Append(Header{Kind: Event}, nil) })
	add(r, 9, "nine")
	wantPanic(t, "ring: Append: id 7 after id 9", func() { r.Append(Header{ID: 7, Kind: Event}, nil) })
	wantPanic(t, "ring: Append: id 9 after id 9", func() { r.Append(Header{ID: 9, Kind: Event}, nil) })
	wantPanic(t, "ring: Append: kind 0, type end 0 in a frame of 0 bytes", func() { r.Append(Header{ID: 10}, nil) })
	wantPanic(t, "ring: Append: kind 255, type end 0 in a frame of 0 bytes", func() { r.Append(Header{ID: 10, Kind: 255}, nil) })
	wantPanic(t, "ring: Append: kind 1, type end 3 in a frame of 2 bytes", func() { r.Append(Header{ID: 10, Kind: Event, TypeEnd: 3}, []byte("ab")) })
	wantPanic(t, "ring: Append: kind 1, type end -1 in a frame of 0 bytes", func() { r.Append(Header{ID: 10, Kind: Event, TypeEnd: -1}, nil) })
	wantPanic(t, "ring: Append: no room for a frame of 16385 bytes between tail 0 and head 72", func() { r.Append(Header{ID: 10, Kind: Event}, make([]byte, 16<<10+1)) })
	add(r, 10, strings.Repeat("x", 16<<10))
	wantPanic(t, "ring: Append: no room for a frame of 16384 bytes between tail 0 and head 16520", func() { r.Append(Header{ID: 11, Kind: Event}, make([]byte, 16<<10)) })
	if err := broken(r); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// A ring with the greatest frames allowed goes on for ever, with at least one of them in it.
func TestGreatestFramesFit(t *testing.T) {
	for _, shape := range shapes {
		r := newRing(t, shape.size, shape.maxFrame)
		frame := strings.Repeat("x", shape.maxFrame)
		for id := uint64(1); id < 50; id++ {
			if p := add(r, id, frame); r.After(id-1) != p {
				t.Errorf("ring of %d: id %d is not found at %d", shape.size, id, p)
			}
			if err := broken(r); err != nil {
				t.Fatalf("ring of %d with frames of %d: %v", shape.size, shape.maxFrame, err)
			}
		}
	}
}

// The tail moves by entries: for one appended, about one of the same size goes.
func TestTailMovesByEntries(t *testing.T) {
	r := newRing(t, 1<<20, 1000)
	frame := strings.Repeat("x", 200)
	full := false
	for id := uint64(1); id < 20000; id++ {
		dropped := 0
		for ; !r.Room(len(frame)); dropped++ {
			r.Drop()
		}
		full = full || dropped > 0
		if dropped > 2 || full && r.Head()-r.Tail() < r.limit-1000 {
			t.Fatalf("%d entries dropped for id %d; the ring holds %d of %d", dropped, id, r.Head()-r.Tail(), r.limit)
		}
		add(r, id, frame)
	}
}

// Memory is allocated as the ring fills, never more than its size, and goes as it empties.
func TestMemoryFollowsTheRing(t *testing.T) {
	r := newRing(t, 1<<20, 1000)
	if n := r.Stats().Allocated; n != 0 {
		t.Errorf("an empty ring has allocated %d bytes", n)
	}
	id := uint64(1)
	for add(r, id, "first"); r.Room(1000); id++ {
		add(r, id+1, strings.Repeat("x", 1000))
		st := r.Stats()
		if st.Allocated > st.Held+2<<r.shift {
			t.Fatalf("%d bytes allocated for %d", st.Allocated, st.Held)
		}
	}
	if st := r.Stats(); st.Allocated < st.Size-1<<r.shift || st.Oldest != 1 || st.Newest != int64(id) {
		t.Errorf("figures of a full ring: %+v, newest id %d", st, id)
	}
	for r.Head() != r.Tail() {
		r.Drop()
	}
	if n := r.Stats().Allocated; n > 1<<r.shift {
		t.Errorf("an emptied ring holds on to %d bytes", n)
	}
}

// An entry stays what it is as long as it is kept, however often the ring goes round;
// when it is let go, its segment is freed. A clone keeps no segment.
func TestEntryOutlivesTheRing(t *testing.T) {
	r := newRing(t, 64<<10, 1000)
	e, _ := r.At(add(r, 1, "kept"))
	clone := e.Clone()
	segment := weak.Make(e.h)
	for id := uint64(2); id < 1000; id++ {
		add(r, id, strings.Repeat("x", 1000))
	}
	runtime.GC()
	if _, ok := r.At(0); ok || e.ID() != 1 || string(e.Frame()) != "kept" || segment.Value() == nil {
		t.Errorf("kept entry: id %d, frame %q", e.ID(), e.Frame())
	}
	if clone.h == e.h || headerOf(clone) != headerOf(e) || string(clone.Frame()) != "kept" || clone.Size() != e.Size() {
		t.Errorf("clone: %+v %q, want %+v %q", headerOf(clone), clone.Frame(), headerOf(e), e.Frame())
	}
	runtime.KeepAlive(e)
	// The collector decides when; two rounds find everything.
	for range 2 {
		runtime.GC()
	}
	if segment.Value() != nil {
		t.Error("the segment of an entry that was let go is still there")
	}
	if clone.ID() != 1 {
		t.Error("the clone went with its segment")
	}
}

// A reader that the tail overtakes reads the segment it is in to its end, then learns that it is lapped.
func TestLappedReaderLearnsIt(t *testing.T) {
	r := newRing(t, 64<<10, 1000)
	frame := strings.Repeat("x", 500)
	id := uint64(0)
	next := func() { id++; add(r, id, frame) }
	for range 10 {
		next()
	}
	begun, unbegun := r.Reader(0, None), r.Reader(0, None)
	e, _, ok := begun.Next()
	if !ok || e.ID() != 1 {
		t.Fatal("nothing to read")
	}
	for r.Tail() < 3<<r.shift {
		next()
	}
	ids := e.ID()
	for e, _, ok := begun.Next(); ok; e, _, ok = begun.Next() {
		if ids++; e.ID() != ids || string(e.Frame()) != frame {
			t.Errorf("id %d after %d", e.ID(), ids-1)
		}
	}
	if p := begun.Position(); !begun.Lapped() || p != 1<<r.shift {
		t.Errorf("reader ends at %d, lapped: %t; want it lapped at its segment's end, %d", p, begun.Lapped(), 1<<r.shift)
	}
	if _, _, ok := begun.Next(); ok || !begun.Lapped() {
		t.Error("a lapped reader goes on")
	}
	if _, p, ok := unbegun.Next(); ok || p != 0 || !unbegun.Lapped() {
		t.Errorf("a reader overtaken before it began goes on at %d", p)
	}
	if _, ok := r.At(0); ok {
		t.Error("an entry behind the tail is found")
	}
}

// A place of the directory that holds a newer segment is not taken for the one sought: readers
// come there with positions that they found good a moment ago.
func TestDirectoryKnowsItsSegments(t *testing.T) {
	r := newRing(t, 64<<10, 1000)
	for id := uint64(1); r.Head() < Position(3*r.Size()); id++ {
		add(r, id, "frame")
	}
	for p := Position(0); p < r.Head()+Position(r.Size()); p += 1 << r.shift {
		there := p>>r.shift >= r.Tail()>>r.shift && p < r.Head()
		if s := r.at(p + 100); (s != nil) != there || s != nil && s.base != p {
			t.Errorf("segment at %d found: %t, want %t", p, s != nil, there)
		}
	}
}

// A reader ends where it is told to, and no further than the head was when it was made.
func TestReaderEndsWhereItShould(t *testing.T) {
	r := newRing(t, 64<<10, 1000)
	var at []Position
	for id := uint64(1); id <= 10; id++ {
		at = append(at, add(r, id, "frame"))
	}
	all := r.Reader(at[0], None)
	add(r, 11, "later")
	for _, c := range []struct {
		name     string
		rd       Reader
		from, to uint64 // ids
		end      Position
	}{
		{"some", r.Reader(at[2], at[5]), 3, 6, at[5]},
		{"to the head as it was", all, 1, 11, at[9] + 72},
		{"none", r.Reader(at[4], at[4]), 5, 5, at[4]},
		{"backwards", r.Reader(at[4], at[2]), 5, 5, at[4]},
		{"at the head", r.Reader(r.Head(), None), 12, 12, r.Head()},
	} {
		id := c.from
		for e, p, ok := c.rd.Next(); ok; e, p, ok = c.rd.Next() {
			if e.ID() != id || id <= 10 && p != at[id-1] {
				t.Errorf("%s: id %d at %d, want id %d", c.name, e.ID(), p, id)
			}
			id++
		}
		if id != c.to || c.rd.Position() != c.end || c.rd.Lapped() {
			t.Errorf("%s: ends before id %d at %d, want before %d at %d", c.name, id, c.rd.Position(), c.to, c.end)
		}
	}
}

// A cursor at the head goes on from there, though the next entry goes to the next segment and
// all before it are dropped: nothing was lost to it.
func TestCursorAtTheHeadMeetsAPad(t *testing.T) {
	for _, emptied := range []bool{false, true} {
		r := newRing(t, 64<<10, 16<<10)
		add(r, 1, strings.Repeat("x", 16<<10))
		add(r, 2, strings.Repeat("x", 10<<10))
		cursor := r.Head()
		if emptied {
			r.Drop()
			r.Drop()
		}
		p := add(r, 3, strings.Repeat("x", 16<<10))
		if !emptied {
			r.Drop()
			if r.Tail() != cursor {
				r.Drop()
			}
		}
		if p == cursor || r.Tail() != cursor {
			t.Fatalf("emptied %t: the third entry is at %d, the head was at %d, the tail is at %d", emptied, p, cursor, r.Tail())
		}
		if _, ok := r.At(cursor); ok {
			t.Errorf("emptied %t: a pad is an entry", emptied)
		}
		rd := r.Reader(cursor, None)
		if e, at, ok := rd.Next(); !ok || e.ID() != 3 || at != p || rd.Position() != r.Head() {
			t.Errorf("emptied %t: the reader got an entry at %d, want the one at %d", emptied, at, p)
		}
		if e, at, ok := r.Oldest(); !ok || e.ID() != 3 || at != p {
			t.Errorf("emptied %t: the oldest entry is at %d, want it at %d", emptied, at, p)
		}
		r.Drop() // the pad and the entry
		if r.Tail() != r.Head() {
			t.Errorf("emptied %t: the tail is at %d, want it at the head, %d", emptied, r.Tail(), r.Head())
		}
		if err := broken(r); err != nil {
			t.Error(err)
		}
	}
}

func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got != want {
			t.Errorf("panic %v, want %s", got, want)
		}
	}()
	f()
}

// A ring that begins anew takes any ids, and finds nothing of the old ones.
func TestRestart(t *testing.T) {
	for _, fill := range []int{0, 1, 100, 3000} {
		r, err := New(MinSize, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		appendIDs := func(from, n int) {
			for id := from; id < from+n; id++ {
				for !r.Room(100) {
					r.Drop()
				}
				r.Append(Header{ID: uint64(id), Kind: Event, Prev: None, Skip: None, Number: 1, Topic: 1}, make([]byte, 100))
			}
		}
		appendIDs(1_000_000, fill)
		before := r.Head()
		r.Restart()
		if _, _, ok := r.Oldest(); ok || r.Tail() != r.Head() || r.Head() < before || r.NewestID() != 0 {
			t.Fatalf("after %d entries: tail %d, head %d (was %d), newest %d; want an empty ring further on", fill, r.Tail(), r.Head(), before, r.NewestID())
		}
		appendIDs(1, fill)
		for _, id := range []uint64{0, uint64(fill) / 2, uint64(fill)} {
			e, ok := r.At(r.After(id))
			if newest := uint64(fill); ok != (id < newest) || ok && e.ID() <= id {
				t.Errorf("after %d entries: the one after %d: %t", fill, id, ok)
			}
		}
	}
}
