package topic

// What the tests of this package share: helpers, and checks of the promises in the
// types' comments.

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"penstock/encode"
	"penstock/ring"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// open makes a sequencer for a test, with small defaults for what o leaves open.
func open(t testing.TB, o Options) *Sequencer {
	t.Helper()
	o.RingSize = or(o.RingSize, 1<<20)
	o.MaxEventSize = or(o.MaxEventSize, 16<<10)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publish publishes what must be taken. Any goroutine.
func publish(t testing.TB, s *Sequencer, name, data string) uint64 {
	t.Helper()
	id, err := s.Publish(&Publication{Topic: name, Event: encode.Event{Data: []byte(data)}})
	if err != nil {
		t.Error(err)
	}
	return id
}

func names(count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("stocks.nasdaq.%06d", i)
	}
	return names
}

// follow reads along as a shard without subscribers.
func follow(f *Follower, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Microsecond):
			f.Done(f.s.ring.Head(), 0)
		}
	}
}

// until waits for a condition.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
		<-time.After(50 * time.Microsecond)
	}
}

const keptOverhead = int64(unsafe.Sizeof(keptFrame{}))

// broken tells which of a sequencer's invariants does not hold. Nobody else may be at work.
func (s *Sequencer) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	type seen struct {
		count  uint64
		id     uint64
		at     ring.Position
		number uint64
	}
	inRing := map[uint64]seen{}
	rd := s.ring.Reader(s.ring.Tail(), ring.None)
	for e, at, ok := rd.Next(); ok; e, at, ok = rd.Next() {
		was := inRing[e.Topic()]
		if was.count > 0 && (e.Prev() != was.at || e.PrevID() != was.id || e.Number() != was.number+1) {
			return fmt.Errorf("entry %d of topic %d at %d follows %d at %d, but it is %d at %d before", e.Number(), e.Topic(), at, e.PrevID(), e.Prev(), was.id, was.at)
		}
		if n := e.Number(); e.Skip() != ring.None {
			to, ok := s.ring.At(e.Skip())
			if ok && (to.Topic() != e.Topic() || to.Number() != n&(n-1)) {
				return fmt.Errorf("entry %d of topic %d skips to entry %d of topic %d", n, e.Topic(), to.Number(), to.Topic())
			}
		} else if n&(n-1) != 0 && was.count > 0 && was.number-was.count < n&(n-1) {
			return fmt.Errorf("entry %d of topic %d does not skip to %d, which is in the ring", n, e.Topic(), n&(n-1))
		}
		inRing[e.Topic()] = seen{was.count + 1, e.ID(), at, e.Number()}
	}
	if len(inRing) > 0 && rd.Lapped() {
		return fmt.Errorf("somebody else is publishing")
	}
	var keptFrames, keptBytes int64
	for number, t := range s.byNumber {
		if t.number != number || !t.claimed.Load() {
			return fmt.Errorf("topic %d is in the place of %d, claimed: %v", t.number, number, t.claimed.Load())
		}
		got, ok := inRing[number]
		delete(inRing, number)
		if ok == t.isSilent || !ok && t.events.Load() > 0 && t.inSilent == 0 && t.held.Load() == notHeld && !t.isLeased {
			return fmt.Errorf("%s: in the ring %v, silent %v, in the heap %d", t.name, ok, t.isSilent, t.inSilent)
		}
		if want := (seen{got.count, t.newest.Load(), ring.Position(t.head.Load()), t.events.Load()}); ok && got != want {
			return fmt.Errorf("%s: newest in the ring is %+v, the topic says %+v", t.name, got, want)
		}
		oldest := t.events.Load() - got.count + 1
		n := int32(0)
		for k := t.kept.Load(); k != nil; k = k.older.Load() {
			if oldest--; k.entry.Number() != oldest || k.entry.Topic() != number {
				return fmt.Errorf("%s: kept entry %d of topic %d, want %d", t.name, k.entry.Number(), k.entry.Topic(), oldest)
			}
			if older := k.older.Load(); older != nil && older.newer != k || older == nil && t.keptOldest != k {
				return fmt.Errorf("%s: kept entry %d is not linked back", t.name, k.entry.Number())
			}
			n++
			keptFrames++
			keptBytes += k.size()
		}
		if n != t.keptCount || n > int32(s.keepOf(t)) || n > 0 && t.inKeepers == 0 {
			return fmt.Errorf("%s: %d kept, counted %d, in the heap %d", t.name, n, t.keptCount, t.inKeepers)
		}
	}
	if len(inRing) > 0 {
		return fmt.Errorf("in the ring but not among the topics: %v", inRing)
	}
	if keptFrames != s.keptFrames || keptBytes != s.keptBytes {
		return fmt.Errorf("%d frames of %d bytes are kept, counted %d of %d", keptFrames, keptBytes, s.keptFrames, s.keptBytes)
	}
	for _, h := range []*ageHeap{&s.silent, &s.keepers} {
		for i := range h.len {
			e := h.entry(i)
			if int(*h.at(e.topic)) != i+1 || i > 0 && h.entry((i-1)/4).id > e.id || e.id > e.topic.newest.Load() {
				return fmt.Errorf("heap of %d: entry %d of %s does not belong there", h.len, i, e.topic.name)
			}
		}
	}
	if head := uint64(s.ring.Head()); s.settled.Load() != head {
		return fmt.Errorf("settled at %d, head %d", s.settled.Load(), head)
	}
	return nil
}
