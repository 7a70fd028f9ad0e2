package topic

import (
	"testing"

	"penstock/encode"
)

// Ids follow the clock only as far as they are reserved, whatever it does, and always increase.
func TestIDsFollowTheClockOnlyWithinTheReserve(t *testing.T) {
	now := int64(1_000_000)
	s, err := New(Options{RingSize: 64 << 10, MaxEventSize: 1 << 10, After: 2_000_000, Now: func() int64 { return now }})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(want uint64) {
		t.Helper()
		id, err := s.Publish(&Publication{Topic: "a", Event: encode.Event{Data: []byte("x")}})
		if err != nil || id != want {
			t.Fatalf("id %d, %v; want %d", id, err, want)
		}
	}
	if s.StartID() != 2_000_000 || s.NewestID() != 2_000_000 {
		t.Fatalf("starts at %d", s.StartID())
	}
	s.Reserve(3_000_000)
	publish(2_000_001) // the clock is behind
	now = 2_500_000
	publish(2_500_000)
	now = 9_000_000 // it jumps ahead
	publish(3_000_000)
	publish(3_000_001) // a publish never waits for a disk
	s.Reserve(20_000_000)
	publish(9_000_000)
	now = 5_000_000 // and back
	publish(9_000_001)
	s.Reserve(0)
	now = 30_000_000
	publish(30_000_000)
}
