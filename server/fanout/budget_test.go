package fanout

import (
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"penstock/encode"
)

// A flush allocates nothing for a subscriber, nor for an audience or a pass once
// they are warm; and neither do a heartbeat and a stall that ends.
func TestFlushPathAllocatesNothing(t *testing.T) {
	if poolsForget {
		t.Skip("the race detector's pools forget")
	}
	h := newHouse(t, houseOptions{ringSize: 1 << 20})
	h.sh.sys = deaf{h.ground}
	for i := range 300 {
		h.subscribe(&Subscription{Topics: []string{"a", string(rune('b' + i%20))}, HTTP10: i%2 == 0})
	}
	passesAllocateNothing(t, h)
}

// Neither does a compressed audience's, once its members have caught up with the
// shared stream; and a member takes less than 64 bytes more there.
func TestCompressedFlushAllocatesNothing(t *testing.T) {
	if poolsForget {
		t.Skip("the race detector's pools forget")
	}
	h := newHouse(t, houseOptions{ringSize: 1 << 20})
	h.sh.sys = deaf{h.ground}
	for i := range 300 {
		h.subscribe(&Subscription{Topics: []string{string(rune('a' + i%3))}, Coding: encode.Gzip, HTTP10: i%2 == 0})
	}
	passesAllocateNothing(t, h)
	for _, a := range h.sh.audiences {
		if n := cap(a.packed.places) * int(unsafe.Sizeof(a.packed.places[0])); n >= 64*len(a.members) {
			t.Errorf("%d members take %d bytes more", len(a.members), n)
		}
	}
}

// passesAllocateNothing publishes to topics a to j of a house whose sockets take everything, and
// holds against it what the passes allocate, those that send nothing but heartbeats too.
func passesAllocateNothing(t *testing.T, h *house) {
	t.Helper()
	h.settle(t)
	data := strings.Repeat("x", 200)
	publish := func() {
		for i := range 10 {
			h.publish(t, string(rune('a'+i)), data)
		}
	}
	for range 200 {
		publish()
		h.sh.pass(h.ground.time)
	}
	alone := testing.AllocsPerRun(200, publish)
	both := testing.AllocsPerRun(200, func() {
		publish()
		h.sh.pass(h.ground.time)
	})
	if both > alone {
		t.Errorf("publishing allocates %.1f times, with the pass %.1f", alone, both)
	}
	beats := testing.AllocsPerRun(20, func() {
		for range h.sh.ticksRound {
			h.ground.time = h.ground.time.Add(tickTime)
			h.sh.pass(h.ground.time)
		}
	})
	if beats > 0 {
		t.Errorf("a round of heartbeats allocates %.1f times", beats)
	}
}

// On the heap, all in all, a stream of a shared audience takes less than 64 bytes
// more where it is compressed: its place, and its part of the window and of the
// compressors.
func TestCompressedStreamTakesLessThan64BytesMore(t *testing.T) {
	if poolsForget {
		t.Skip("the race detector takes memory of its own")
	}
	const streams = 10_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	each := func(coding encode.Coding) float64 {
		h := newHouse(t, houseOptions{ringSize: 1 << 20})
		h.sh.sys = deaf{h.ground}
		before := heap()
		for range streams {
			h.subscribe(&Subscription{Topics: []string{"a"}, Coding: coding})
		}
		for range 200 {
			h.publish(t, "a", strings.Repeat("x", 100))
			h.sh.pass(h.ground.time)
		}
		after := heap()
		if n := h.sh.stats.lagging.Load(); n != 0 || len(h.sh.audiences) != 1 {
			t.Fatalf("%d lag, in %d audiences", n, len(h.sh.audiences))
		}
		runtime.KeepAlive(h)
		return float64(after-before) / streams
	}
	plain, packed := each(encode.Identity), each(encode.Gzip)
	t.Logf("%.0f bytes of heap a stream with its test socket, compressed %.0f", plain, packed)
	if packed-plain >= 64 {
		t.Errorf("%.0f bytes more", packed-plain)
	}
}

// An audience of few keeps no window, nor one that has become one of few.
func TestWindowIsKeptForThoseWhoShareIt(t *testing.T) {
	h := newHouse(t, houseOptions{share: 8})
	var sockets []*socket
	for n := 1; n <= 8; n++ {
		sockets = append(sockets, h.subscribe(&Subscription{Topics: []string{"a"}, Coding: encode.Gzip}))
		h.publish(t, "a", "something")
		h.settle(t)
		h.publish(t, "a", "something")
		h.settle(t)
		for _, a := range h.sh.audiences {
			if a.packed.shared.KeepsWindow() != (n == 8) {
				t.Errorf("%d members: keeps a window: %v", n, a.packed.shared.KeepsWindow())
			}
		}
	}
	for n := 7; n > 0; n-- {
		h.ground.hangUp(sockets[n])
		h.settle(t)
		for _, a := range h.sh.audiences {
			if a.packed.shared.KeepsWindow() != (n > 4) {
				t.Errorf("%d members are left: keeps a window: %v", n, a.packed.shared.KeepsWindow())
			}
		}
	}
}

// slowly is a deaf system whose clock goes on by 50 ms each time that it is asked:
// compressing takes as long, and a pass a few times that.
type slowly struct{ deaf }

func (s slowly) now() time.Time {
	s.ground.time = s.ground.time.Add(50 * time.Millisecond)
	return s.ground.time
}

// Under overload compression steps down where it takes a part of the time, and
// comes back; where it takes none it stays as it is, for what is not compressed
// takes longer to send.
func TestCompressionStepsDownUnderOverload(t *testing.T) {
	for name, slow := range map[string]bool{"costly": true, "cheap": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, houseOptions{ringSize: 1 << 20})
			h.sh.sys = deaf{h.ground}
			for range 300 {
				h.subscribe(&Subscription{Topics: []string{"a"}, Coding: encode.Gzip})
			}
			h.settle(t)
			if slow {
				h.sh.sys = slowly{deaf{h.ground}}
			}
			level := func() encode.Level { return h.sh.level(10_000, 1000, true) }
			publish := func(n int) {
				for range n {
					h.publish(t, "a", strings.Repeat("x", 15<<10))
				}
				h.pass(t)
			}
			publish(1) // after which it is known what compressing takes
			if level() != encode.Best {
				t.Fatalf("at rest: %d", level())
			}
			for want := encode.Good; ; want-- {
				publish(3)
				if slow && level() != want || !slow && level() != encode.Best {
					t.Errorf("under overload: %d, want %d", level(), want)
				}
				if want == encode.Stored {
					break
				}
			}
			for range 3 {
				h.publish(t, "a", "x")
				h.pass(t)
			}
			if level() != encode.Best {
				t.Errorf("at rest again: %d", level())
			}
		})
	}
}
