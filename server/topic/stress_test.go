package topic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"penstock/encode"
	"penstock/ring"
)

// A tail is a reader that gathers what comes, as a subscriber that always lags.
type tail struct {
	topics []*Topic
	told   uint64
	cursor ring.Position
	number map[uint64]uint64 // of the last entry seen of each topic
	holes  map[uint64]bool   // topics that may go on with a hole: something was lost since then
	unseen int               // times in a row that entries came after a loss, but no hole
	losses int
	seen   int
}

// step gathers once and checks what it gets: nothing torn, nothing twice, nothing left
// out in silence, and nothing called lost that was not.
func (r *tail) step(s *Sequencer, dst []Found, maxBytes int) ([]Found, error) {
	limit := s.Ring().Head()
	found, next, lost := s.Gather(dst[:0], r.topics, r.told, r.cursor, limit, maxBytes)
	if lost {
		r.losses++
		for _, t := range r.topics {
			r.holes[t.number] = true
		}
	}
	hole := false
	for _, f := range found {
		e := f.Entry
		was, ok := r.number[e.Topic()]
		switch {
		case !ok:
			return found, fmt.Errorf("an entry of topic %d, which was not asked for", e.Topic())
		case e.ID() <= r.told:
			return found, fmt.Errorf("id %d after %d", e.ID(), r.told)
		case e.Number() <= was:
			return found, fmt.Errorf("entry %d of a topic after %d", e.Number(), was)
		case e.Number() > was+1 && !r.holes[e.Topic()]:
			return found, fmt.Errorf("entry %d of a topic after %d, and nobody says that something was lost", e.Number(), was)
		}
		hole = hole || e.Number() > was+1
		r.told = e.ID()
		r.number[e.Topic()] = e.Number()
		frame := string(e.Frame())
		if want := fmt.Sprintf("\nid: %d\n\n", e.ID()); !strings.HasPrefix(frame, "data: ") || !strings.HasSuffix(frame, want) || strings.Trim(frame[6:len(frame)-len(want)], "x") != "" {
			return found, fmt.Errorf("torn: %q", frame)
		}
	}
	if !lost {
		for _, f := range found {
			delete(r.holes, f.Entry.Topic())
		}
	}
	// What was lost may be behind what was found. Of several topics, the one concerned
	// may not have come yet; where the whole range is gone, nothing tells what was in
	// it.
	if hole || len(r.topics) > 1 || s.Ring().Tail() > limit {
		r.unseen = 0
	} else if r.holes[r.topics[0].number] && len(found) > 0 {
		if r.unseen++; r.unseen > 1 {
			return found, fmt.Errorf("nothing is missing before id %d, but it was called lost", r.told)
		}
	}
	if next == r.cursor && len(found) == 0 && next < limit {
		return found, errors.New("no progress")
	}
	r.seen += len(found)
	r.cursor = next
	return found, nil
}

// Readers that are overrun again and again get whole frames, in order, and are told of what they missed.
func TestGatherWhileTheRingIsOverwritten(t *testing.T) {
	for _, keep := range []int{0, 3} {
		t.Run(fmt.Sprintf("keep=%d", keep), func(t *testing.T) {
			s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 4 << 10, Keep: keep})
			s.Follow(func() {}).Done(0, 0)
			var all []*Topic
			for i := range 40 {
				all = append(all, s.Table().Acquire(fmt.Sprintf("t.%d", i), 0))
			}
			events := 40_000
			if raceEnabled {
				events = 8000
			}
			var publishers, readers sync.WaitGroup
			var done atomic.Bool
			for p := range 2 {
				publishers.Go(func() {
					rnd := rand.New(rand.NewPCG(1, uint64(p)))
					for range events {
						// The higher the rarer: some topics live in their kept frames.
						n := rnd.IntN(1 + rnd.IntN(1+rnd.IntN(40)))
						data := strings.Repeat("x", rnd.IntN(400))
						if _, err := s.PublishOwn(&Publication{Topic: all[n].Name(), Event: encode.Event{Data: []byte(data)}}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for i, topics := range [][]*Topic{all[:1], all[30:31], all[35:40], all} {
				readers.Go(func() {
					r := tail{topics: topics, number: map[uint64]uint64{}, holes: map[uint64]bool{}, told: s.StartID()}
					for _, tp := range topics {
						r.number[tp.Number()] = 0
					}
					rnd := rand.New(rand.NewPCG(2, uint64(i)))
					var dst []Found
					var err error
					for last := false; !last; {
						last = done.Load() && r.cursor == s.Ring().Head()
						if dst, err = r.step(s, dst, 1+rnd.IntN(20_000)); err != nil {
							t.Errorf("reader of %d topics: %v", len(topics), err)
							return
						}
						for range rnd.IntN(3) * rnd.IntN(20) {
							runtime.Gosched()
						}
					}
					t.Logf("reader of %d topics: %d events, %d losses", len(topics), r.seen, r.losses)
				})
			}
			publishers.Wait()
			done.Store(true)
			readers.Wait()
			if err := s.broken(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Topics come, are published to, held, let go and forgotten by many at once: a name has
// one topic at a time, one that is held stays, and in the end nothing is left over.
func TestTopicsComeAndGo(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 4 << 10, MaxTopics: 50, Keep: 1, KeepSize: 4 << 10})
	for range 5 { // more than fit into a topic's few counters
		s.Follow(func() {}).Done(0, 1<<40)
	}
	names := names(200)
	rounds := 20_000
	if raceEnabled {
		rounds = 4000
	}
	var all sync.WaitGroup
	for shard := range 5 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(shard)))
			for range rounds {
				name := names[rnd.IntN(1+rnd.IntN(200))]
				tp := s.Table().Acquire(name, shard)
				if rnd.IntN(4) == 0 {
					runtime.Gosched()
				}
				if got, ok := s.Table().Lookup(name); !ok || got != tp || tp.Name() != name {
					t.Errorf("%s is held, but another topic has its name", name)
				}
				s.Lost(tp, s.StartID())
				s.Table().Release(tp, shard)
			}
		})
	}
	var refused atomic.Int64
	for p := range 3 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(4, uint64(p)))
			ids := make([]uint64, 10)
			for range rounds / 4 {
				var ps []Publication
				for range 1 + rnd.IntN(10)*rnd.IntN(2) {
					ps = append(ps, Publication{Topic: names[rnd.IntN(1+rnd.IntN(200))], Event: encode.Event{Data: []byte(strings.Repeat("x", rnd.IntN(300)))}})
				}
				for _, f := range s.followers {
					f.Done(s.Ring().Head(), 1<<40)
				}
				var err error
				if len(ps) == 1 {
					_, err = s.Publish(&ps[0])
				} else {
					_, err = s.PublishBatch(ps, ids)
				}
				if errors.Is(err, ErrTooManyTopics) {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := s.broken(); err != nil {
		t.Error(err)
	}
	st := s.Stats()
	for _, tp := range s.Table().Page("", "", 1000) {
		for i := range tp.counters {
			if n := tp.counters[i].Load(); n != 0 {
				t.Errorf("counter %d of %s is %d", i, tp.Name(), n)
			}
		}
		if !tp.claimed.Load() || tp.Events() == 0 {
			t.Errorf("%s is left over: published %v, %d events", tp.Name(), tp.claimed.Load(), tp.Events())
		}
	}
	if st.Topics > 50 || st.Topics != s.Table().Len() {
		t.Errorf("%d published topics of %d, at most 50", st.Topics, s.Table().Len())
	}
	t.Logf("%d events, %d topics forgotten, %d publishes refused", st.Events, st.Forgotten, refused.Load())
}

// When Drain has returned, nothing more is appended and no bell is rung, however many were publishing.
func TestDrainAmongPublishers(t *testing.T) {
	for range 20 {
		s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 4 << 10})
		var drained atomic.Bool
		f := s.Follow(func() {
			if drained.Load() {
				t.Error("a bell is rung after Drain")
			}
		})
		f.Done(0, 1<<40)
		s.Table().Acquire("a", 0)
		var publishers sync.WaitGroup
		for range 4 {
			publishers.Go(func() {
				for {
					f.Wake()
					f.Done(s.Ring().Head(), 1<<40)
					f.Sleep(s.Ring().Head())
					if _, err := s.Publish(&Publication{Topic: "a"}); err == ErrDraining {
						return
					} else if err != nil {
						t.Error(err)
					}
				}
			})
		}
		until(t, func() bool { return s.Stats().Events > 100 })
		s.Drain()
		drained.Store(true)
		events := s.Stats().Events
		publishers.Wait()
		if now := s.Stats().Events; now != events {
			t.Errorf("%d events after Drain", now-events)
		}
	}
}
