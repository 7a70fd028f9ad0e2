package topic

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// One publisher, a trade of 150 bytes, a shard that reads along. The ring is full.
func BenchmarkPublish(b *testing.B) {
	for _, topics := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			s := open(b, Options{RingSize: 64 << 20, Keep: 1})
			f := s.Follow(func() {})
			p := Publication{Event: encode.Event{Data: make([]byte, 150)}}
			names := names(topics)
			for i := range 400_000 {
				p.Topic = names[i%topics]
				s.Publish(&p)
				f.Done(s.Ring().Head(), 0)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				p.Topic = names[i%topics]
				if _, err := s.Publish(&p); err != nil {
					b.Fatal(err)
				}
				if i%64 == 0 {
					f.Done(s.Ring().Head(), 0)
				}
			}
		})
	}
}

// Publishers on all processors, each with topics of its own.
func BenchmarkPublishParallel(b *testing.B) {
	s := open(b, Options{RingSize: 64 << 20, Keep: 1})
	var publishers atomic.Int32
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		p := Publication{Event: encode.Event{Data: make([]byte, 150)}, Topic: fmt.Sprintf("t.%d", publishers.Add(1))}
		for pb.Next() {
			if _, err := s.Publish(&p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Batches of 1,000 trades over 500 topics.
func BenchmarkPublishBatch(b *testing.B) {
	s := open(b, Options{RingSize: 64 << 20, Keep: 1})
	names := names(500)
	ps := make([]Publication, 1000)
	for i := range ps {
		ps[i] = Publication{Topic: names[i*7%500], Event: encode.Event{Data: make([]byte, 150)}}
	}
	ids := make([]uint64, len(ps))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.PublishBatch(ps, ids); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(ps))/b.Elapsed().Seconds(), "events/s")
}

// How long the sequencer's lock is held for one event: the time between taking it and
// giving it back, less that of a lock that nothing is done with.
func BenchmarkLock(b *testing.B) {
	s := open(b, Options{RingSize: 64 << 20, Keep: 1})
	names := names(1000)
	frame, _ := encode.AppendFrame(nil, &encode.Event{Data: make([]byte, 150)})
	frame = append(frame, make([]byte, encode.MaxIDLine)...)[:len(frame)]
	topics := make([]*Topic, len(names))
	for i := range names {
		publish(b, s, names[i], "")
		topics[i], _ = s.table.Lookup(names[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.mu.Lock()
		s.publishLocked(topics[i%len(topics)], frame, 0, int64(s.lastID))
		s.mu.Unlock()
	}
}

// Catching up, for each entry found: topics of 1,000 alike, 150 bytes an event, from so
// many events back, 64 KiB at a time.
func BenchmarkGather(b *testing.B) {
	const all = 1000
	s := open(b, Options{RingSize: 64 << 20, Keep: 1})
	names := names(all)
	rnd := rand.New(rand.NewPCG(1, 2))
	var ids []uint64
	data := string(make([]byte, 150))
	for range 250_000 {
		ids = append(ids, publish(b, s, names[rnd.IntN(all)], data))
	}
	for _, count := range []int{1, 10, 50, 300, 1000} {
		topics := make([]*Topic, count)
		for i, n := range rnd.Perm(all)[:count] {
			topics[i], _ = s.table.Lookup(names[n])
		}
		for _, back := range []int{10, 1000, 10_000, 200_000} {
			b.Run(fmt.Sprintf("topics=%d/back=%d", count, back), func(b *testing.B) {
				var dst []Found
				found := 0
				b.ReportAllocs()
				for b.Loop() {
					var next ring.Position
					for limit := s.ring.Head(); ; {
						dst, next, _ = s.Gather(dst[:0], topics, ids[len(ids)-1-back], next, limit, 64<<10)
						if found += len(dst); next == limit {
							break
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(found, 1)), "ns/entry")
				b.ReportMetric(float64(found)/float64(b.N), "entries")
			})
		}
	}
}

// The page of a table of a million topics.
func BenchmarkPage(b *testing.B) {
	s := open(b, Options{})
	for i := range 1_000_000 {
		s.table.acquire(fmt.Sprintf("t.%d", i), publishers)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(s.table.Page("t.", "t.5", 1000)); n != 1000 {
			b.Fatal(n)
		}
	}
}

// What publishers notice of a shard that only just keeps up: waiting and being let in.
func BenchmarkGate(b *testing.B) {
	s := open(b, Options{RingSize: 64 << 20, MaxWaiting: 64, PublishWait: time.Hour})
	f := s.Follow(func() {})
	stop := make(chan struct{})
	var shard sync.WaitGroup
	shard.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.Done(s.ring.Head(), 0)
				runtime.Gosched()
			}
		}
	})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		p := Publication{Topic: "t", Event: encode.Event{Data: make([]byte, 4<<10)}}
		for pb.Next() {
			if _, err := s.Publish(&p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(s.Stats().Waits)/float64(b.N), "waits/op")
	close(stop)
	shard.Wait()
}
