package loadtest

// Budgets: a stream's memory, and no allocation for an event.

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"penstock/encode"
)

const _ = uint(16 - unsafe.Sizeof(lane{})) // watchlists have fifty a subscriber

// deafReader is a reader with live streams that no socket feeds.
func deafReader(tb testing.TB, count int) *reader {
	cfg, err := Scenario("broadcast")
	if err != nil {
		tb.Fatal(err)
	}
	cfg.URL, cfg.Subscribers = "http://127.0.0.1:1", count
	p, err := newPlan(tb.Context(), cfg, 7)
	if err != nil {
		tb.Fatal(err)
	}
	p.readers = 1
	b, err := newBoard(p.lanes)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.close)
	r, err := newReader(p, b, 0, 0, count, func(*status) {})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.poll.close)
	for i := range r.subs {
		r.subs[i].state, r.subs[i].chunked = live, true
	}
	r.now = clock()
	return r
}

// wire is a chunk of n events of 150 bytes, the first one number seq.
func wire(dst []byte, seq uint32, n int) []byte {
	var payload []byte
	for i := range uint32(n) {
		payload = append(payload, "data: "...)
		payload = appendPayload(payload, stamp{7, 0, seq + i, 1}, 150)
		payload = fmt.Appendf(payload, "\nid: %d\n\n", 1763670000000000+uint64(seq+i))
	}
	return encode.AppendChunk(dst, payload)
}

func TestReceivingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := deafReader(t, 1)
	seq := uint32(1)
	var b []byte
	r.take(0, wire(b, seq, 10)) // the last id's buffer
	seq += 10
	b = wire(b[:0], seq, 10)
	next := b
	if n := testing.AllocsPerRun(100, func() {
		r.take(0, next)
	}); n != 0 {
		t.Errorf("%v allocations for ten events", n)
	}
	if r.tally.Events != 20 || r.tally.Doubled != 1000 {
		t.Errorf("%+v", r.tally)
	}
}

// 15,000 streams, with an event received by each, take less than 15 MiB of heap in all.
func TestFifteenThousandStreamsStaySmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 15_000
	r := deafReader(t, n)
	b := wire(nil, 1, 1)
	for i := range int32(n) {
		r.take(i, b)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	if each > 400 {
		t.Errorf("%d bytes of heap a stream, all in all", each)
	}
	t.Logf("%d bytes of heap a stream, all in all; a subscriber is %d", each, unsafe.Sizeof(subscriber{}))
	runtime.KeepAlive(r)
}

// What a core takes in, without the system calls: every byte dechunked, decoded, every event judged.
func BenchmarkReceive(b *testing.B) {
	for _, events := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			r := deafReader(b, 1)
			chunks := make([][]byte, 1000)
			for i := range chunks {
				chunks[i] = wire(nil, uint32(1+i*events), events)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%len(chunks) == 0 {
					r.lanes[0].begin(1)
					r.subs[0].hasID = false
				}
				r.take(0, chunks[i%len(chunks)])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/delivery")
			if r.tally.Events != uint64(b.N*events) {
				b.Errorf("%d events of %d", r.tally.Events, b.N*events)
			}
		})
	}
}
