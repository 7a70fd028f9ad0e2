package ring

// The ring against its slow twin, by whatever sequence of operations rapid thinks of.

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// shapes are the sizes and greatest frames of rings that tests go through: many segments, two, a
// size that is no power of two, frames much smaller than a segment, and a quarter of the ring.
var shapes = []struct{ size, maxFrame int }{
	{64 << 10, 16 << 10},
	{64 << 10, 100},
	{100_000, 1000},
	{131_071, 32_767},
	{200_000, 50_000},
	{1 << 20, 5000},
}

// Whatever is appended, dropped and read, the ring does what a slice of entries does.
func TestRingAgreesWithSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		r, err := New(shape.size, shape.maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		s := slowTwin(r)
		id := uint64(0)
		bytes := make([]byte, shape.maxFrame)
		var followers []*follower

		appendOne := func(t *rapid.T, n int) {
			id += rapid.Uint64Range(1, 1000).Draw(t, "id step")
			h := Header{
				ID: id, PrevID: rapid.Uint64().Draw(t, "prevID"), Time: rapid.Int64().Draw(t, "time"),
				Number: rapid.Uint64().Draw(t, "number"), Topic: rapid.Uint64().Draw(t, "topic"),
				Prev: Position(rapid.Uint64().Draw(t, "prev")), Skip: Position(rapid.Uint64().Draw(t, "skip")),
				Kind: Kind(rapid.IntRange(1, 254).Draw(t, "kind")), TypeEnd: rapid.IntRange(0, n).Draw(t, "type end"),
			}
			frame := bytes[:n]
			for i := range min(n, 16) {
				frame[i] = byte(id) + byte(i)
			}
			if got, want := r.Append(h, frame), s.append(h, frame); got != want {
				t.Fatalf("appended at %d, want %d", got, want)
			}
		}
		length := rapid.OneOf(rapid.IntRange(0, min(300, shape.maxFrame)), rapid.IntRange(0, shape.maxFrame))

		t.Repeat(map[string]func(*rapid.T){
			"append many": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "entries") {
					n := length.Draw(t, "length")
					for !r.Room(n) {
						r.Drop()
						s.drop()
					}
					appendOne(t, n)
					if err := s.agree(r); err != nil {
						t.Fatal(err)
					}
				}
			},
			"append one": func(t *rapid.T) {
				n := length.Draw(t, "length")
				if !r.Room(n) {
					t.Skip("no room")
				}
				appendOne(t, n)
			},
			"drop some": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "entries") {
					if s.empty() {
						break
					}
					r.Drop()
					s.drop()
				}
			},
			"drop all": func(t *rapid.T) {
				for !s.empty() {
					r.Drop()
					s.drop()
				}
			},
			"begin to read": func(t *rapid.T) { followers = append(followers, s.follow(r)) },
			"read": func(t *rapid.T) {
				if len(followers) == 0 {
					t.Skip("nobody reads")
				}
				f := rapid.SampledFrom(followers).Draw(t, "reader")
				for range rapid.IntRange(1, 50).Draw(t, "entries") {
					if err := f.step(s); err != nil {
						t.Fatal(err)
					}
				}
			},
			"": func(t *rapid.T) {
				if err := errors.Join(s.agree(r), broken(r)); err != nil {
					t.Fatal(err)
				}
			},
		})
		if err := s.agreeOnAll(r); err != nil {
			t.Fatal(err)
		}
	})
}
