package server

// The collector's pace: so that a full ring is not paid for twice.
//
// The ring lives on Go's heap, in segments without pointers: cheap to mark, but counted. With
// GOGC=100 the heap may grow to twice what is alive before a collection, and 256 MiB of ring would
// let another 256 MiB of garbage lie about. What garbage there may be should follow from the part
// of the heap that a collection costs something for: the part beside the ring. So after each
// collection the percentage is set anew, such that until the next one may be allocated
//
//	as much as is alive beside the ring, and 32 MiB at least,
//	but no more than a quarter of the ring and 8 MiB, or a quarter of what is beside it.
//
// With a full ring of 256 MiB that is between 32 and 72 MiB, not 256. The last line is for many
// streams beside a small ring: their heap is walked, and not for every few MiB.
//
// Runs on the runtime's cleanup goroutines, a moment after each collection; touches no lock.

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
)

// percentMost bounds the percentage for a small heap: the runtime's least heap is 4 MiB x GOGC/100.
const percentMost = 800

// garbageAllowed is how many bytes may be allocated between two collections, for a heap of live
// bytes of which the ring has some.
func garbageAllowed(live, ring int64) int64 {
	beside := max(0, live-ring)
	return max(beside/4, min(max(beside, 32<<20), ring/4+8<<20))
}

// collectorPercent is what GOGC has to be for that.
func collectorPercent(live, ring int64) int {
	return int(min(percentMost, max(1, garbageAllowed(live, ring)*100/max(live, 1))))
}

// SetRuntime tells Go's runtime what --gomaxprocs, --gogc and --gomemlimit say, each of which beats
// its environment variable. It changes settings of the whole process and so is the program's to
// call, before New, and not New's. undo sets them back. c has passed Check.
func (c *Config) SetRuntime() (undo func()) {
	var all []func()
	if n := c.GoMaxProcs; n > 0 {
		before := runtime.GOMAXPROCS(n)
		all = append(all, func() { runtime.GOMAXPROCS(before) })
	}
	if limit := int64(c.GoMemLimit); limit > 0 {
		before := debug.SetMemoryLimit(limit)
		all = append(all, func() { debug.SetMemoryLimit(before) })
	}
	if percent, err := parseGC(c.GoGC); err == nil && percent != paced {
		before := debug.SetGCPercent(percent)
		all = append(all, func() { debug.SetGCPercent(before) })
	}
	return func() {
		for _, f := range all {
			f()
		}
	}
}

// What --gogc may be beside a percentage.
const (
	paced       = 0  // auto: see PaceCollector
	noCollector = -1 // off, which debug.SetGCPercent takes for it
)

// parseGC reads --gogc: a percentage, auto or off.
func parseGC(text string) (percent int, err error) {
	switch text {
	case "auto":
		return paced, nil
	case "off":
		return noCollector, nil
	}
	if percent, err = strconv.Atoi(text); err != nil || percent < 1 || percent > 10_000 {
		return 0, fmt.Errorf("--gogc %q: allowed are auto, off and 1 to 10000", text)
	}
	return percent, nil
}

// PaceCollector makes the collector's pace fit the server's ring until stop is called. It changes
// settings of the whole process (debug.SetGCPercent, debug.SetMemoryLimit) and so is the program's
// to call, once, and not New's. Where the user has set GOGC, GOMEMLIMIT or --gogc it does nothing;
// below --gomemlimit it paces. Any goroutine.
func (s *Server) PaceCollector() (stop func()) {
	if s.config.GoGC != "auto" || os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" && s.config.GoMemLimit == 0 {
		return func() {}
	}
	p := &pacer{ring: func() int64 { return s.sequencer.Ring().Stats().Allocated }}
	p.percent = percentMost
	before := debug.SetGCPercent(p.percent)
	// Near --memory-limit the collector works harder before anybody is refused. Where the ring alone
	// may be more it would work for nothing.
	most := int64(math.MaxInt64)
	if limit := s.memory.limit.Load(); limit > s.config.memoryBound() {
		most = limit / 20 * 19
	}
	if n := int64(s.config.GoMemLimit); n > 0 {
		most = n
	}
	mostBefore := debug.SetMemoryLimit(most)
	p.arm()
	return func() {
		if !p.stopped.Swap(true) {
			debug.SetGCPercent(before)
			debug.SetMemoryLimit(mostBefore)
		}
	}
}

// A pacer sets the percentage after each collection. One cleanup at a time owns it.
type pacer struct {
	ring    func() int64
	percent int
	stopped atomic.Bool
}

// arm sees to it that the next collection is noticed: it finds an object that nobody refers to.
func (p *pacer) arm() {
	type bait struct{ _ *int } // a pointer keeps it out of the blocks that tiny objects share
	runtime.AddCleanup(new(bait), (*pacer).collected, p)
}

func (p *pacer) collected() {
	if p.stopped.Load() {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	percent := collectorPercent(int64(sample[0].Value.Uint64()), p.ring())
	// Setting it stops the world for some microseconds: not for a change that nobody notices.
	if change := percent - p.percent; max(change, -change)*10 > p.percent {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
	p.arm()
}
