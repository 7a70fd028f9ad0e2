package ring

// A ring in another process is the same ring: whatever is asked of it, at whatever position.

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// same tells in what two rings differ.
func same(t *rapid.T, a, b *Ring) {
	if a.Head() != b.Head() || a.Tail() != b.Tail() || a.NewestID() != b.NewestID() {
		t.Fatalf("tail %d head %d newest %d, copied: tail %d head %d newest %d", a.Tail(), a.Head(), a.NewestID(), b.Tail(), b.Head(), b.NewestID())
	}
	from, to := a.Reader(a.Tail(), None), b.Reader(b.Tail(), None)
	for id := uint64(0); ; {
		if pa, pb := a.After(id), b.After(id); pa != pb {
			t.Fatalf("After(%d): %d, copied: %d", id, pa, pb)
		}
		x, p, ok := from.Next()
		y, q, too := to.Next()
		if ok != too || p != q || ok && !bytes.Equal(x.Bytes(), y.Bytes()) {
			t.Fatalf("at %d and %d: %v %v", p, q, ok, too)
		}
		if !ok {
			return
		}
		if z, ok := b.At(p); !ok || z.ID() != x.ID() {
			t.Fatalf("At(%d) of the copy: %v", p, ok)
		}
		id = x.ID() + uint64(rapid.IntRange(0, 1).Draw(t, "id"))
	}
}

// A copy that is taken while the writer goes on is the ring, and goes on like it.
func TestCopyIsTheRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxFrame := rapid.SampledFrom([]int{100, 3000, 16 << 10}).Draw(t, "greatest")
		size := rapid.SampledFrom([]int{64 << 10, 200 << 10, 1 << 20}).Draw(t, "size")
		r, err := New(size, maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		id := uint64(1000)
		add := func(rings ...*Ring) {
			for n := rapid.IntRange(0, 60).Draw(t, "entries"); n > 0; n-- {
				frame := bytes.Repeat([]byte{byte(id)}, rapid.IntRange(0, maxFrame).Draw(t, "frame"))
				id += uint64(rapid.IntRange(1, 3).Draw(t, "id"))
				for _, r := range rings {
					for !r.Room(len(frame)) {
						r.Drop()
					}
					r.Append(Header{ID: id, Number: 1, Topic: 7, Prev: None, Skip: None, Kind: Event}, frame)
				}
			}
		}
		for range rapid.IntRange(0, 5).Draw(t, "begin") {
			add(r)
		}
		c, err := NewCopy(r.SegmentSize())
		if err != nil {
			t.Fatal(err)
		}
		at := Position(0)
		copySome := func() bool {
			p, b := r.Piece(at)
			if len(b) == 0 {
				return false
			}
			if err := c.Take(p, len(b), bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			c.Drop(r.Tail())
			at = p + Position(len(b))
			return true
		}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			copySome()
			add(r)
		}
		for copySome() {
		}
		b, err := c.Ring(size, maxFrame, r.Tail(), r.Head())
		if err != nil {
			t.Fatal(err)
		}
		same(t, r, b)
		for range 5 {
			add(r, b)
			same(t, r, b)
		}
		if r.Stats() != b.Stats() {
			t.Fatalf("figures: %+v, copied: %+v", r.Stats(), b.Stats())
		}
	})
}

// A ring of another size takes over what a ring held, and comes to its own size as it drops.
func TestCopyIntoAnotherSize(t *testing.T) {
	r, _ := New(1<<20, 4<<10)
	id := uint64(0)
	add := func(r *Ring) {
		for id++; !r.Room(3000); {
			r.Drop()
		}
		r.Append(Header{ID: id, Number: id, Topic: 1, Prev: None, Skip: None, Kind: Event}, make([]byte, 3000))
	}
	for range 1000 {
		add(r)
	}
	for _, size := range []int{128 << 10, 8 << 20} {
		c, _ := NewCopy(r.SegmentSize())
		for at := r.Tail(); at < r.Head(); {
			p, b := r.Piece(at)
			if err := c.Take(p, len(b), bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			at = p + Position(len(b))
		}
		b, err := c.Ring(size, 4<<10, r.Tail(), r.Head())
		if err != nil {
			t.Fatal(err)
		}
		if b.Head() != r.Head() || b.Tail() != r.Tail() {
			t.Errorf("size %d: from %d to %d, want %d to %d", size, b.Tail(), b.Head(), r.Tail(), r.Head())
		}
		for range 2000 {
			add(b)
		}
		if held := b.Stats().Held; int(held) > b.Span() || int(held) < b.Span()/2 || b.Size() > size {
			t.Errorf("size %d: holds %d, span %d, size %d", size, held, b.Span(), b.Size())
		}
		id = r.NewestID()
	}
}

// What can't be a piece, an entry or a copy of a ring is refused, whatever the bytes.
func TestCopyRefusesWhatIsNoRing(t *testing.T) {
	r, _ := New(64<<10, 4<<10)
	r.Append(Header{ID: 5, Number: 1, Topic: 1, Prev: None, Skip: None, Kind: Event}, []byte("data: x\n\n"))
	_, good := r.Piece(0)
	for _, tt := range []struct {
		name   string
		at     Position
		change func(b []byte) []byte
		want   string
	}{
		{"not from a border", 4, func(b []byte) []byte { return b }, "a piece"},
		{"over a segment's end", Position(r.SegmentSize() - 8), func(b []byte) []byte { return b }, "a piece"},
		{"half an entry", 0, func(b []byte) []byte { return b[:8] }, "half an entry"},
		{"an entry that is too long", 0, func(b []byte) []byte { b[0] = 255; return b }, "no entry"},
		{"kind 0", 0, func(b []byte) []byte { b[7] = 0; return b }, "no entry"},
		{"id 0", 0, func(b []byte) []byte { b[offID] = 0; return b }, "no entry"},
		{"a pad in the middle", 0, func(b []byte) []byte { b[7] = byte(pad); return b }, "a pad"},
	} {
		c, _ := NewCopy(r.SegmentSize())
		b := tt.change(slices.Clone(good))
		if err := c.Take(tt.at, len(b), bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if tt.at == 0 {
			if _, err := EntryOf(b); err == nil && tt.name != "half an entry" {
				t.Errorf("%s: EntryOf takes it", tt.name)
			}
		}
	}
	c, _ := NewCopy(r.SegmentSize())
	if _, err := c.Ring(64<<10, 4<<10, 0, r.Head()); err == nil || !strings.Contains(err.Error(), "lacks a piece") {
		t.Errorf("an empty copy of a ring with entries: %v", err)
	}
	if _, err := c.Ring(1<<20, 256<<10, 0, 0); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("frames that are greater than segments: %v", err)
	}
	for _, size := range []int{0, 4095, 12 << 10} {
		if _, err := NewCopy(size); err == nil {
			t.Errorf("segments of %d bytes are taken", size)
		}
	}
}
