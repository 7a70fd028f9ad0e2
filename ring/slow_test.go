package ring

// The slow twin: a slice of entries, the judge of the ring.

import (
	"bytes"
	"fmt"
)

// slow is what a Ring does, the naive way: it keeps all entries ever appended.
type slow struct {
	segment, maxFrame, limit uint64
	head, tail               uint64
	entries                  []slowEntry
	gone                     int // how many of them are dropped
}

type slowEntry struct {
	at, size uint64
	header   Header
	frame    []byte
}

// slowTwin returns the twin of an empty ring.
func slowTwin(r *Ring) *slow {
	one := uint64(1) << r.shift
	return &slow{segment: one, maxFrame: uint64(r.maxFrame), limit: uint64(r.Size()) - one}
}

func (s *slow) empty() bool { return s.gone == len(s.entries) }

func (s *slow) place(frame int) (at, size uint64) {
	size = HeaderSize + uint64(frame)
	for size%8 != 0 {
		size++
	}
	at = s.head
	for at/s.segment != (at+size-1)/s.segment {
		at++
	}
	return at, size
}

func (s *slow) room(frame int) bool {
	at, size := s.place(frame)
	return uint64(frame) <= s.maxFrame && (s.empty() || at+size-s.tail <= s.limit)
}

func (s *slow) append(h Header, frame []byte) Position {
	at, size := s.place(len(frame))
	s.entries = append(s.entries, slowEntry{at, size, h, bytes.Clone(frame)})
	s.head = at + size
	return Position(at)
}

func (s *slow) drop() {
	s.tail = s.entries[s.gone].at + s.entries[s.gone].size
	s.gone++
}

func (s *slow) newestID() uint64 {
	if len(s.entries) == 0 {
		return 0
	}
	return s.entries[len(s.entries)-1].header.ID
}

func (s *slow) after(id uint64) Position {
	for _, e := range s.entries[s.gone:] {
		if e.header.ID > id {
			return Position(e.at)
		}
	}
	return Position(s.head)
}

// is tells how an entry differs from the twin's.
func (s *slowEntry) is(e Entry, p Position) error {
	if p != Position(s.at) {
		return fmt.Errorf("entry at %d, want it at %d", p, s.at)
	}
	if got := headerOf(e); got != s.header {
		return fmt.Errorf("entry at %d: header %+v, want %+v", p, got, s.header)
	}
	if !bytes.Equal(e.Frame(), s.frame) {
		return fmt.Errorf("entry at %d: frame %q, want %q", p, e.Frame(), s.frame)
	}
	if e.Size() != int(s.size) {
		return fmt.Errorf("entry at %d: size %d, want %d", p, e.Size(), s.size)
	}
	return nil
}

func headerOf(e Entry) Header {
	return Header{
		ID: e.ID(), PrevID: e.PrevID(), Time: e.Time(), Number: e.Number(), Topic: e.Topic(),
		Prev: e.Prev(), Skip: e.Skip(), Kind: e.Kind(), TypeEnd: e.TypeEnd(),
	}
}

// agree tells in what a ring differs from its twin, at a glance: both ends.
func (s *slow) agree(r *Ring) error {
	if r.Head() != Position(s.head) || r.Tail() != Position(s.tail) {
		return fmt.Errorf("from tail %d to head %d, want %d to %d", r.Tail(), r.Head(), s.tail, s.head)
	}
	if r.NewestID() != s.newestID() {
		return fmt.Errorf("newest id %d, want %d", r.NewestID(), s.newestID())
	}
	e, p, ok := r.Oldest()
	if ok == s.empty() {
		return fmt.Errorf("an oldest entry: %t, want %t", ok, !s.empty())
	}
	if ok {
		if err := s.entries[s.gone].is(e, p); err != nil {
			return fmt.Errorf("oldest: %w", err)
		}
	}
	for _, n := range []int{0, 100, int(s.maxFrame) / 2, int(s.maxFrame), int(s.maxFrame) + 1} {
		if r.Room(n) != s.room(n) {
			return fmt.Errorf("room for %d bytes: %t, want %t", n, r.Room(n), s.room(n))
		}
	}
	return nil
}

// agreeOnAll tells in what a ring differs from its twin, entry by entry.
func (s *slow) agreeOnAll(r *Ring) error {
	if err := s.agree(r); err != nil {
		return err
	}
	if err := broken(r); err != nil {
		return err
	}
	for i, want := range s.entries {
		e, ok := r.At(Position(want.at))
		if ok != (i >= s.gone) {
			return fmt.Errorf("entry at %d, tail %d: found: %t", want.at, s.tail, ok)
		}
		if ok {
			if err := want.is(e, Position(want.at)); err != nil {
				return err
			}
		}
		if i%(len(s.entries)/300+1) != 0 {
			continue // searching them all would take the naive way too long
		}
		for _, id := range []uint64{want.header.ID - 1, want.header.ID, want.header.ID + 1} {
			if got := r.After(id); got != s.after(id) {
				return fmt.Errorf("after id %d: position %d, want %d", id, got, s.after(id))
			}
		}
	}
	for _, id := range []uint64{0, 1, ^uint64(0)} {
		if got := r.After(id); got != s.after(id) {
			return fmt.Errorf("after id %d: position %d, want %d", id, got, s.after(id))
		}
	}
	if _, ok := r.At(Position(s.head)); ok {
		return fmt.Errorf("an entry at the head, %d", s.head)
	}
	if _, ok := r.At(None); ok {
		return fmt.Errorf("an entry at None")
	}
	rd := r.Reader(r.Tail(), None)
	for _, want := range s.entries[s.gone:] {
		e, p, ok := rd.Next()
		if !ok {
			return fmt.Errorf("reader ends at %d, want it to come to %d", rd.Position(), want.at)
		}
		if err := want.is(e, p); err != nil {
			return fmt.Errorf("reader: %w", err)
		}
	}
	if _, p, ok := rd.Next(); ok || p != Position(s.head) || rd.Lapped() {
		return fmt.Errorf("reader goes on at %d (lapped: %t), want it to end at %d", p, rd.Lapped(), s.head)
	}
	return nil
}

// A follower is a reader beside its twin: it reads on while the ring moves.
type follower struct {
	rd   Reader
	to   uint64
	next int // index of the entry that it reads next
}

// follow begins at the twin's tail, and ends at its head.
func (s *slow) follow(r *Ring) *follower {
	return &follower{rd: r.Reader(Position(s.tail), Position(s.head)), to: s.head, next: s.gone}
}

// step reads one entry, and tells what is wrong with it.
func (f *follower) step(s *slow) error {
	before := f.rd.Position()
	e, p, ok := f.rd.Next()
	end := f.next == len(s.entries) || s.entries[f.next].at >= f.to
	switch {
	case ok && end:
		return fmt.Errorf("reader to %d returned the entry at %d", f.to, p)
	case ok:
		want := s.entries[f.next]
		f.next++
		if err := want.is(e, p); err != nil {
			return err
		}
		if f.rd.Position() != Position(want.at+want.size) {
			return fmt.Errorf("after the entry at %d reader goes on at %d, want %d", p, f.rd.Position(), want.at+want.size)
		}
		if uint64(p)%s.segment == 0 && uint64(p) < s.tail {
			return fmt.Errorf("reader opened the segment at %d after the tail had passed it, to %d", p, s.tail)
		}
	case f.rd.Lapped():
		if end || uint64(f.rd.Position()) >= s.tail {
			return fmt.Errorf("reader to %d lapped at %d by a tail at %d", f.to, f.rd.Position(), s.tail)
		}
		if uint64(before)%s.segment != 0 && f.rd.data != nil {
			return fmt.Errorf("reader lapped at %d, in the midst of a segment that it held", before)
		}
	case !end:
		return fmt.Errorf("reader to %d ended at %d", f.to, f.rd.Position())
	}
	return nil
}
