package ring

// The ring against its slow twin, by sequences of appends, drops and reads made from bytes.

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzRing reads operations from bytes: the ring does what a slice of entries does.
func FuzzRing(f *testing.F) {
	f.Add(byte(0), []byte{})
	f.Add(byte(0), bytes.Repeat([]byte{0, 0xff, 0xff}, 20))             // the greatest frames
	f.Add(byte(1), bytes.Repeat([]byte{1, 0, 0}, 900))                  // empty frames
	f.Add(byte(2), bytes.Repeat([]byte{2, 3, 231, 5, 6, 7}, 120))       // with drops and a reader
	f.Add(byte(3), bytes.Repeat([]byte{0, 0x7f, 0xff, 4, 0, 9}, 30))    // forced and unforced
	f.Add(byte(4), bytes.Repeat([]byte{0, 0xc3, 0x50, 5, 6, 7, 15}, 9)) // down to nothing and up again
	f.Fuzz(func(t *testing.T, shape byte, ops []byte) {
		if len(ops) > 3000 {
			return // no more of the same
		}
		size := shapes[int(shape)%len(shapes)]
		r, err := New(size.size, size.maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		s := slowTwin(r)
		fill := make([]byte, size.maxFrame)
		id := uint64(0)
		follower := s.follow(r)
		for len(ops) > 0 {
			op := ops[0]
			ops = ops[1:]
			switch op % 8 {
			case 0, 1, 2, 3, 4: // append; 4 only if there is room
				if len(ops) < 2 {
					return
				}
				n := int(binary.BigEndian.Uint16(ops)) % (size.maxFrame + 1)
				if op%8 != 0 {
					n %= 500 // mostly small ones: the twin keeps them all
				}
				ops = ops[2:]
				if op%8 == 4 && !r.Room(n) {
					continue
				}
				for !r.Room(n) {
					r.Drop()
					s.drop()
				}
				id += 1 + uint64(op>>3)
				h := Header{
					ID: id, PrevID: id - 1, Time: -int64(id), Number: id << 32, Topic: id << 7, Prev: None,
					Skip: Position(id), Kind: Event + Kind(op>>7), TypeEnd: n / 2,
				}
				frame := fill[:n]
				for i := range min(n, 8) {
					frame[i], frame[n-1-i] = byte(id), byte(id)
				}
				if got, want := r.Append(h, frame), s.append(h, frame); got != want {
					t.Fatalf("appended at %d, want %d", got, want)
				}
			case 5:
				for range 1 + int(op>>3) {
					if !s.empty() {
						r.Drop()
						s.drop()
					}
				}
			case 6:
				follower = s.follow(r)
			case 7:
				for range 1 + int(op>>3) {
					if err := follower.step(s); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.agree(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.agreeOnAll(r); err != nil {
			t.Fatal(err)
		}
	})
}
