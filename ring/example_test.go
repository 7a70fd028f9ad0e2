package ring_test

import (
	"fmt"

	"penstock/ring"
)

// The writer makes room, then appends; a reader walks from where it stopped to the head.
func Example() {
	r, err := ring.New(64<<10, 16<<10)
	if err != nil {
		fmt.Println(err)
		return
	}
	prev, prevID := ring.None, uint64(0)
	for number, data := range []string{"one", "two", "three"} {
		frame := []byte("data: " + data + "\n\n")
		for !r.Room(len(frame)) {
			r.Drop()
		}
		id := uint64(100 + 10*number)
		prev = r.Append(ring.Header{
			ID: id, PrevID: prevID, Number: uint64(number + 1), Topic: 7,
			Prev: prev, Skip: ring.None, Kind: ring.Event,
		}, frame)
		prevID = id
	}

	// A subscriber has seen id 100: it goes on behind it.
	rd := r.Reader(r.After(100), r.Head())
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		fmt.Printf("%d %q\n", e.ID(), e.Frame())
	}

	// A topic's past is a chain, newest first.
	for e, ok := r.At(prev); ok; e, ok = r.At(e.Prev()) {
		fmt.Println("number", e.Number(), "after id", e.PrevID())
	}
	// Output:
	// 110 "data: two\n\n"
	// 120 "data: three\n\n"
	// number 3 after id 110
	// number 2 after id 100
	// number 1 after id 0
}
