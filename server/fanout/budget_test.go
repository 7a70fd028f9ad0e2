package fanout

import (
	"strings"
	"testing"
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
