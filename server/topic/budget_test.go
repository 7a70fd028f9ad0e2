package topic

import (
	"runtime"
	"testing"
	"unsafe"

	"penstock/encode"
	"penstock/ring"
)

// Publishing, in batches too, allocates nothing but the ring's segments; gathering nothing at all.
func TestNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's pools forget on purpose")
	}
	// Segments come by the hundred entries: the average rounds down to none.
	s := open(t, Options{RingSize: 8 << 20, Keep: 1})
	f := s.Follow(func() {})
	names := names(100)
	ps := make([]Publication, 300)
	for i := range ps {
		ps[i] = Publication{Topic: names[i%100], Event: encode.Event{Type: "trade", Data: make([]byte, 150)}}
	}
	ids := make([]uint64, len(ps))
	n := 0
	one := func() {
		n++
		if _, err := s.Publish(&ps[n%len(ps)]); err != nil {
			t.Fatal(err)
		}
		f.Done(s.Ring().Head(), 1<<40)
	}
	for range 60_000 {
		one() // until the ring is full
	}
	if allocs := testing.AllocsPerRun(1000, one); allocs != 0 {
		t.Errorf("a publish allocates %v times", allocs)
	}
	if allocs := testing.AllocsPerRun(10, func() {
		if _, err := s.PublishBatch(ps, ids); err != nil {
			t.Fatal(err)
		}
		f.Done(s.Ring().Head(), 1<<40)
	}); allocs > 1 { // the ring's: a segment, what it has beside its bytes
		t.Errorf("a batch of %d allocates %v times", len(ps), allocs)
	}

	topics := make([]*Topic, len(names))
	for i := range topics {
		topics[i], _ = s.Table().Lookup(names[i])
	}
	oldest, _, _ := s.Ring().Oldest()
	for _, count := range []int{1, 8, 100} {
		for _, after := range []uint64{s.StartID(), oldest.ID(), s.NewestID() - 1000, s.NewestID() - 10} {
			var dst []Found
			if allocs := testing.AllocsPerRun(20, func() {
				var next ring.Position
				for limit := s.Ring().Head(); ; {
					if dst, next, _ = s.Gather(dst[:0], topics[:count], after, next, limit, 64<<10); next == limit {
						break
					}
				}
			}); allocs != 0 {
				t.Errorf("gathering %d topics after %d allocates %v times", count, after, allocs)
			}
		}
		if allocs := testing.AllocsPerRun(100, func() { s.Lost(topics[0], s.StartID()) }); allocs != 0 {
			t.Errorf("Lost allocates %v times", allocs)
		}
	}
}

// What a topic costs: 200 bytes and its name, beside its entries in two maps.
func TestTopicMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory is not what runs")
	}
	const count = 100_000
	s := open(t, Options{RingSize: 64 << 20})
	s.Follow(func() {}).Done(0, 1<<40)
	names := names(count)
	before := heap()
	topics := make([]*Topic, 0, count)
	for _, name := range names {
		p := part{topics: map[string]*Topic{}}
		topics = append(topics, s.table.makeLocked(&p, name))
	}
	alone := (heap()-before)/count - int64(unsafe.Sizeof(topics[0]))
	runtime.KeepAlive(topics)
	topics = nil
	before = heap()
	for _, name := range names {
		s.table.acquire(name, publishers)
	}
	named := (heap() - before) / count
	before = heap()
	s.mu.Lock()
	for _, name := range names {
		tp, _ := s.table.Lookup(name)
		s.claimLocked(tp)
	}
	s.mu.Unlock()
	numbered := (heap() - before) / count
	name := int64(32) // what the allocator makes of the name's 20 bytes
	t.Logf("a topic alone: %d bytes and %d for its name; %d more in the map of names, %d in the map of numbers", alone-name, name, named-alone, numbered)
	if alone-name > 200 {
		t.Errorf("a topic costs %d bytes beside its name, want at most 200", alone-name)
	}
	if named+numbered > 350 {
		t.Errorf("a topic costs %d bytes in all, want at most 350", named+numbered)
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(names)
}

// A kept frame costs 64 bytes beside its entry.
func TestKeptFrameMemory(t *testing.T) {
	if size := unsafe.Sizeof(keptFrame{}); size > 64 {
		t.Errorf("a kept frame costs %d bytes beside its entry, want at most 64", size)
	}
}

// What one lock holds up: a slice of a batch.
func TestBatchIsSliced(t *testing.T) {
	for _, size := range []int{0, 100, 2000, 10_000} {
		ps := make([]Publication, 500)
		for i := range ps {
			ps[i] = Publication{Topic: "a", Event: encode.Event{Data: make([]byte, size)}}
		}
		n, bytes := slice(ps)
		each := ring.HeaderSize + size + encode.MaxIDLine
		if want := min(sliceEvents, (sliceBytes-1)/each+1); n != want || bytes != n*each {
			t.Errorf("a slice of events of %d bytes has %d of %d bytes, want %d", size, n, bytes, want)
		}
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // pools and finalizers take more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
