package topic

import (
	"sync"
	"testing"

	"penstock/encode"
	"penstock/ring"
)

// Whatever is before a head that was loaded, Latest finds it, be its publisher still on its way.
func TestLatestMissesNothingThatIsInTheRing(t *testing.T) {
	s, err := New(Options{RingSize: 1 << 20, MaxEventSize: 4 << 10, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.Follow(func() {})
	tp := s.Table().Acquire("a", 0)
	const n = 20_000
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for range n {
			if _, err := s.PublishOwn(&Publication{Topic: "a", Event: encode.Event{Data: []byte("x")}}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for seen := uint64(0); seen < n; {
		newest := uint64(0)
		if e, ok := s.Ring().Newest(); ok {
			newest = e.Number() // at most one ahead of the head
		}
		f, ok, lost := s.Latest(tp, s.Ring().Head())
		if lost {
			t.Fatal("the newest event is kept, and was said to be lost")
		}
		if !ok {
			continue
		}
		if number := f.Entry.Number(); number < seen || number+1 < newest {
			t.Fatalf("number %d, after %d, while the ring's newest was %d", number, seen, newest)
		} else {
			seen = number
		}
	}
	wg.Wait()
	if f, ok, _ := s.Latest(tp, ring.None); !ok || f.Entry.Number() != n {
		t.Errorf("the last one is not the latest")
	}
}
