package server

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// The garbage allowed follows from what is alive beside the ring, within its bounds.
func TestGarbageFollowsWhatLivesBesideTheRing(t *testing.T) {
	const MiB = 1 << 20
	for _, c := range []struct{ live, ring, want int64 }{
		{4 * MiB, 0, 8 * MiB},              // a small heap, no ring yet
		{270 * MiB, 256 * MiB, 32 * MiB},   // a full ring and little else
		{316 * MiB, 256 * MiB, 60 * MiB},   // as much again as is beside it
		{500 * MiB, 256 * MiB, 72 * MiB},   // but no more than a quarter of the ring and 8 MiB
		{1256 * MiB, 256 * MiB, 250 * MiB}, // or a quarter of what is beside it
		{70 * MiB, 64 * MiB, 24 * MiB},     // a smaller ring
		{3 * MiB, 4 * MiB, 9 * MiB},        // a ring that grew since the collection
	} {
		if got := garbageAllowed(c.live, c.ring); got != c.want {
			t.Errorf("%d MiB alive, ring %d MiB: %d MiB of garbage, want %d", c.live/MiB, c.ring/MiB, got/MiB, c.want/MiB)
		}
	}
}

// The percentage keeps the resident memory of a full ring within its bound.
func TestPercentKeepsAFullRingWithinItsBound(t *testing.T) {
	const MiB = 1 << 20
	for _, ring := range []int64{1 * MiB, 64 * MiB, 256 * MiB, 4096 * MiB} {
		live := ring + 10*MiB
		percent := collectorPercent(live, ring)
		if heap, bound := live+live*int64(percent)/100, ring*13/10+50*MiB; heap > bound || percent < 1 {
			t.Errorf("ring %d MiB: %d%% lets the heap grow to %d MiB, want at most %d", ring/MiB, percent, heap/MiB, bound/MiB)
		}
	}
}

// What the settings say of the runtime beats the environment, and is undone.
func TestRuntimeSettingsAreSetAndUndone(t *testing.T) {
	t.Setenv("GOGC", "200")
	c := DefaultConfig()
	c.GoMaxProcs, c.GoGC, c.GoMemLimit = runtime.GOMAXPROCS(0)+1, "50", 1<<40
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	has := func() [3]int64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
		metrics.Read(sample)
		return [3]int64{int64(runtime.GOMAXPROCS(0)), int64(sample[0].Value.Uint64()), int64(sample[1].Value.Uint64())}
	}
	before := has()
	undo := c.SetRuntime()
	if got := has(); got != [3]int64{before[0] + 1, 50, 1 << 40} {
		t.Errorf("set: %v", got)
	}
	undo()
	if got := has(); got != before {
		t.Errorf("undone: %v, was %v", got, before)
	}
	c = DefaultConfig()
	c.SetRuntime()()
	if got := has(); got != before {
		t.Errorf("the defaults have changed %v to %v", before, got)
	}
}
