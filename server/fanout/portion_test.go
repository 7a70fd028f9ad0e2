package fanout

// Which streams go where.

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"penstock/server/handover"
)

// stateOf is shards with so many streams each.
func stateOf(had ...int) *State {
	st := &State{}
	for _, n := range had {
		st.shards = append(st.shards, shardState{streams: make([]streamState, n)})
	}
	return st
}

// Where there are as many shards as there were, each gets what it had if there is room for that; else
// they are filled as streams that join fill them.
func TestPortions(t *testing.T) {
	for _, tt := range []struct {
		had     []int
		rooms   Rooms
		want    string
		refused bool
	}{
		{had: []int{3, 5}, rooms: Rooms{Each: []int{9, 9}, Abreast: 1}, want: "[3 5]"},
		{had: []int{3, 5}, rooms: Rooms{Each: []int{9, 4}, Abreast: 2}, want: "[4 4]"},
		{had: []int{8}, rooms: Rooms{Each: []int{9, 9, 9}, Abreast: 3}, want: "[3 3 2]"},
		{had: []int{8}, rooms: Rooms{Each: []int{5, 5, 5}, Abreast: 1}, want: "[5 3 0]"},
		{had: []int{4, 4, 4}, rooms: Rooms{Each: []int{5, 5, 5, 5}, Abreast: 2}, want: "[5 5 1 1]"},
		{had: []int{2, 2, 2}, rooms: Rooms{Each: []int{6}, Abreast: 1}, want: "[6]"},
		{had: []int{7, 0}, rooms: Rooms{Each: []int{2, 9, 1}, Abreast: 3}, want: "[2 4 1]"},
		{had: nil, rooms: Rooms{Each: []int{2, 2}, Abreast: 1}, want: "[0 0]"},
		{had: []int{3, 4}, rooms: Rooms{Each: []int{3, 3}, Abreast: 1}, refused: true},
		{had: []int{1}, rooms: Rooms{Each: []int{0, -1}, Abreast: 1, Apart: true}, refused: true},
	} {
		got, err := stateOf(tt.had...).Portions(&tt.rooms)
		if err != nil != tt.refused || err == nil && fmt.Sprint(got) != tt.want {
			t.Errorf("%d in rooms of %d, %d abreast: %d, %v; want %s", tt.had, tt.rooms.Each, tt.rooms.Abreast, got, err, tt.want)
		}
	}
}

// However streams are divided, each goes to one place, in their order, and none beyond its room; and a
// stretch is of one shard and one portion.
func TestEveryStreamHasOnePortion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := stateOf(rapid.SliceOfN(rapid.IntRange(0, 20), 1, 6).Draw(t, "had")...)
		each := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 8).Draw(t, "each")
		rooms := &Rooms{Each: each, Abreast: rapid.IntRange(1, 9).Draw(t, "abreast")}
		portions, err := st.Portions(rooms)
		if err != nil {
			if rooms.Take(st.Streams()) == nil {
				t.Fatal(err)
			}
			return
		}
		filled := make([]int, len(portions))
		from, at := 0, 0
		for _, s := range st.stretches(portions) {
			for at == len(st.shards[from].streams) {
				from, at = from+1, 0
			}
			if s.count < 1 || s.from != from || s.at != at || s.first != filled[s.to] {
				t.Fatalf("%+v, when shard %d is divided up to %d and %d are filled", s, from, at, filled)
			}
			at += s.count
			filled[s.to] += s.count
		}
		sum := 0
		for i, n := range filled {
			sum += n
			if n != portions[i] || n > each[i] {
				t.Fatalf("%d filled, portions %d in rooms of %d", filled, portions, each)
			}
		}
		if sum != st.Streams() {
			t.Fatalf("%d streams are divided, there are %d", sum, st.Streams())
		}
	})
}

// What can't be a process's tables is not read as such.
func TestImpossibleRoomsAreRefused(t *testing.T) {
	for _, r := range []Rooms{{Abreast: 1}, {Each: []int{1, 1}, Abreast: 1}, {Each: []int{1}, Abreast: 0}} {
		var wire bytes.Buffer
		out := handover.NewWriter(&wire)
		r.Code(out)
		_ = out.Flush()
		// The writer refuses as well: what it has written up to then is no whole.
		in := handover.NewReader(&wire)
		if new(Rooms).Code(in); in.Err() == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}
