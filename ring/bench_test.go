package ring

// What the ring costs: ns an entry, GB/s of ring bytes (headers included).

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A filler appends entries of many topics, with true links, dropping old ones as a
// sequencer does.
type filler struct {
	ring   *Ring
	frame  []byte
	last   []link
	id     uint64
	random *rand.Rand
}

// A link is what a filler knows of a topic: how many entries it has, the newest's id,
// and the positions that skip links can point to: at[i] is of the newest number whose
// lowest i bits are 0.
type link struct {
	number, id uint64
	prev       Position
	at         [48]Position
}

func newFiller(t testing.TB, size, frame, topics int) *filler {
	r, err := New(size, min(size/16, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	f := &filler{ring: r, frame: make([]byte, frame), last: make([]link, topics), random: rand.New(rand.NewPCG(1, 2))}
	for i := range f.last {
		f.last[i].prev = None
	}
	return f
}

// append appends one entry of the topic, dropping as many as it takes.
func (f *filler) append(topic int) Position {
	for !f.ring.Room(len(f.frame)) {
		f.ring.Drop()
	}
	l := &f.last[topic]
	f.id++
	l.number++
	h := Header{
		ID: f.id, PrevID: l.id, Time: int64(f.id), Number: l.number, Topic: uint64(topic),
		Prev: l.prev, Skip: l.skip(), Kind: Event,
	}
	p := f.ring.Append(h, f.frame)
	l.appended(f.id, p)
	return p
}

// skip returns the position of the number n&(n-1), n being number.
func (l *link) skip() Position {
	target := l.number & (l.number - 1)
	if target == 0 {
		return None
	}
	for i := range l.at {
		if target&(1<<i) != 0 {
			return l.at[i]
		}
	}
	return None
}

// appended notes the entry just appended.
func (l *link) appended(id uint64, p Position) {
	l.id, l.prev = id, p
	for i := range l.at {
		l.at[i] = p
		if l.number&(1<<i) != 0 {
			break
		}
	}
}

// fill appends until the ring is full.
func (f *filler) fill() {
	for f.ring.Room(len(f.frame)) {
		f.append(f.random.IntN(len(f.last)))
	}
}

// BenchmarkAppend: an entry appended to a full ring, and as much dropped.
func BenchmarkAppend(b *testing.B) {
	for _, frame := range []int{50, 200, 2000, 20000} {
		b.Run(fmt.Sprintf("frame=%dB", frame), func(b *testing.B) {
			f := newFiller(b, 64<<20, frame, 1)
			f.fill()
			b.SetBytes(int64(entrySize(frame)))
			h := Header{ID: f.id, Prev: None, Skip: None, Kind: Event}
			for b.Loop() {
				for !f.ring.Room(frame) {
					f.ring.Drop()
				}
				h.ID++
				f.ring.Append(h, f.frame)
			}
		})
	}
}

// BenchmarkRead: a walk over a full ring, looking at each header; with frame=copied, as an
// audience gathers its batch.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 20} {
		for _, copied := range []bool{false, true} {
			b.Run(fmt.Sprintf("ring=%dMiB/frame=200B/copied=%t", size>>20, copied), func(b *testing.B) {
				f := newFiller(b, size, 200, 100)
				f.fill()
				b.SetBytes(int64(entrySize(200)))
				rd := f.ring.Reader(f.ring.Tail(), None)
				var sum uint64
				batch := make([]byte, 0, 64<<10)
				for b.Loop() {
					e, _, ok := rd.Next()
					if !ok {
						rd = f.ring.Reader(f.ring.Tail(), None)
						continue
					}
					sum += e.ID() + e.Topic()
					if copied {
						if len(batch)+200 > cap(batch) {
							batch = batch[:0]
						}
						batch = append(batch, e.Frame()...)
					}
				}
				if sum == 0 {
					b.Error("nothing read")
				}
			})
		}
	}
}

// BenchmarkReadWhileWritten: one writer as fast as it can, and readers that follow it,
// entry by entry or in passes over at least 32 KiB, as shards do that rest in between.
// ns/op is the writer's; the reads are of all readers together.
func BenchmarkReadWhileWritten(b *testing.B) {
	for _, least := range []int{1, 32 << 10} {
		for _, readers := range []int{1, 4, 8} {
			b.Run(fmt.Sprintf("pass=%dB/readers=%d/frame=200B", least, readers), func(b *testing.B) {
				benchmarkReadWhileWritten(b, readers, Position(least))
			})
		}
	}
}

func benchmarkReadWhileWritten(b *testing.B, readers int, least Position) {
	f := newFiller(b, 64<<20, 200, 1)
	f.fill()
	b.SetBytes(int64(entrySize(200)))
	var (
		over         atomic.Bool
		read, lapped atomic.Int64
		all          sync.WaitGroup
	)
	for range readers {
		all.Go(func() {
			n, lost := int64(0), int64(0)
			at := f.ring.Head()
			var sum uint64
			for !over.Load() {
				head := f.ring.Head()
				if head-at < least {
					runtime.Gosched()
					continue
				}
				rd := f.ring.Reader(at, head)
				for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
					sum += e.Topic()
					n++
				}
				if at = rd.Position(); rd.Lapped() {
					lost++
					at = f.ring.Tail()
				}
			}
			read.Add(n + int64(sum)) // all of topic 0
			lapped.Add(lost)
		})
	}
	h := Header{ID: f.id, Prev: None, Skip: None, Kind: Event}
	for b.Loop() {
		for !f.ring.Room(200) {
			f.ring.Drop()
		}
		h.ID++
		f.ring.Append(h, f.frame)
	}
	over.Store(true)
	elapsed := b.Elapsed().Seconds()
	all.Wait()
	b.ReportMetric(float64(read.Load())/elapsed/1e6, "Mreads/s")
	b.ReportMetric(float64(lapped.Load())/elapsed, "laps/s")
}

// BenchmarkAfter: the search for ids all over a full ring.
func BenchmarkAfter(b *testing.B) {
	for _, size := range []int{1 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("ring=%dMiB/frame=200B", size>>20), func(b *testing.B) {
			f := newFiller(b, size, 200, 1)
			f.fill()
			oldest, _, _ := f.ring.Oldest()
			first, n := oldest.ID(), f.id-oldest.ID()
			for b.Loop() {
				id := first + f.random.Uint64N(n)
				if e, ok := f.ring.At(f.ring.After(id)); !ok || e.ID() != id+1 {
					b.Fatalf("After(%d) is %d", id, e.ID())
				}
			}
		})
	}
}

// BenchmarkSkip: the first of a topic's entries after an id, by the links from its newest one,
// skipped and, for comparison, one by one.
func BenchmarkSkip(b *testing.B) {
	for _, entries := range []int{100, 10000, 100000} {
		f := newFiller(b, 256<<20, 100, 10)
		for range 10 * entries {
			f.append(f.random.IntN(len(f.last)))
		}
		newest, _ := f.ring.At(f.last[0].prev)
		for _, way := range []struct {
			name  string
			first func(*Ring, Entry, uint64) (Entry, int)
		}{{"skip", firstAfter}, {"prev", firstAfterSlow}} {
			if way.name == "prev" && entries > 10000 {
				continue
			}
			b.Run(fmt.Sprintf("entries=%d/%s", entries, way.name), func(b *testing.B) {
				steps := 0
				for b.Loop() {
					_, n := way.first(f.ring, newest, f.random.Uint64N(newest.ID()))
					steps += n
				}
				b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
			})
		}
	}
}

// firstAfter finds the oldest entry of a topic in the ring with an id greater than the given one, from its
// newest one, which must be such. Wherever the skip link's target is still newer than the id,
// all between need no look; else the previous one is next, whose links are finer.
func firstAfter(r *Ring, newest Entry, id uint64) (first Entry, steps int) {
	e := newest
	for {
		steps++
		if next, ok := r.At(e.Skip()); ok && next.ID() > id {
			e = next
			continue
		}
		if e.PrevID() <= id {
			return e, steps
		}
		next, ok := r.At(e.Prev())
		if !ok {
			return e, steps
		}
		e = next
	}
}

// firstAfterSlow is firstAfter the naive way.
func firstAfterSlow(r *Ring, newest Entry, id uint64) (first Entry, steps int) {
	for e := newest; ; {
		steps++
		next, ok := r.At(e.Prev())
		if !ok || next.ID() <= id {
			return e, steps
		}
		e = next
	}
}
