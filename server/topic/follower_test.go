package topic

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// Publishers ring for a shard only if it sleeps and wants the topic, and once for each sleep.
func TestBellRingsForWhoSleepsAndWantsIt(t *testing.T) {
	s := open(t, Options{})
	var rings [2]int
	var followers [2]*Follower
	for i := range followers {
		followers[i] = s.Follow(func() { rings[i]++ })
		if followers[i].Index() != i {
			t.Fatalf("follower %d has index %d", i, followers[i].Index())
		}
	}
	a, b := followers[0], followers[1]
	tp := s.Table().Acquire("a", 0)
	want := func(what string, ofA, ofB int) {
		t.Helper()
		if rings != [2]int{ofA, ofB} {
			t.Errorf("%s: %d rings, want %d and %d", what, rings, ofA, ofB)
		}
	}
	sleep := func(f *Follower) {
		t.Helper()
		f.Done(s.Ring().Head(), 0)
		if !f.Sleep(s.Ring().Head()) || !f.Asleep() {
			t.Error("the shard has read everything and does not sleep")
		}
	}
	publish(t, s, "a", "x")
	want("both awake", 0, 0)
	sleep(a)
	sleep(b)
	publish(t, s, "b", "x")
	want("nobody wants it", 0, 0)
	publish(t, s, "a", "x")
	want("one wants it", 1, 0)
	if !a.Asleep() || !b.Asleep() {
		t.Error("the bell alone wakes nobody")
	}
	publish(t, s, "a", "x")
	want("rung already", 1, 0)
	a.Wake()
	if a.Asleep() {
		t.Error("asleep after Wake")
	}
	publish(t, s, "a", "x")
	want("awake again", 1, 0)
	if a.Sleep(s.Ring().Head() - 1); a.Asleep() {
		t.Error("asleep, but something is unread")
	}
	sleep(a)
	if _, err := s.PublishBatch([]Publication{{Topic: "b"}, {Topic: "a"}, {Topic: "a"}}, make([]uint64, 3)); err != nil {
		t.Fatal(err)
	}
	want("a batch with one that it wants", 2, 0)
	a.Wake()
	s.Table().Release(tp, 0)
	sleep(a)
	publish(t, s, "a", "x")
	want("wanted no more", 2, 0)
}

// A shard that wants nothing is woken all the same once 32 KiB wait, so that it keeps up.
func TestBellRingsOnceALotIsUnread(t *testing.T) {
	s := open(t, Options{})
	rings := 0
	f := s.Follow(func() { rings++ })
	f.Done(s.Ring().Head(), 1<<20)
	if !f.Sleep(s.Ring().Head()) {
		t.Fatal("the shard does not sleep")
	}
	for f.Unread() < 32<<10 {
		if rings > 0 {
			t.Fatalf("rung at %d unread bytes", f.Unread())
		}
		publish(t, s, "a", strings.Repeat("x", 100))
	}
	if rings != 1 {
		t.Errorf("%d rings at %d unread bytes, want 1", rings, f.Unread())
	}
	for range 100 {
		publish(t, s, "a", strings.Repeat("x", 100))
	}
	if rings != 1 {
		t.Errorf("%d rings for one sleep", rings)
	}
}

// An event that comes while the shard falls asleep wakes it: the shard sees the event, or its
// publisher sees that it sleeps.
func TestEventWhileFallingAsleep(t *testing.T) {
	s := open(t, Options{})
	rings := 0
	f := s.Follow(func() { rings++ })
	tp := s.Table().Acquire("a", 0)
	defer s.Table().Release(tp, 0)
	f.pause = func() { publish(t, s, "a", "x") }
	if f.Sleep(0) && rings == 0 {
		t.Error("the shard sleeps, something is unread, and nobody has rung")
	}
}

// Followers come before topics, which have a counter for each.
func TestFollowAfterTopicPanics(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "a", "x")
	defer func() {
		if r := recover(); r == nil || !strings.HasPrefix(r.(string), "topic: ") {
			t.Errorf("recovered %v", r)
		}
	}()
	s.Follow(func() {})
}

// A sleeper is a shard that does nothing but read and sleep, as close to its publishers as
// can be: whoever publishes while it falls asleep must wake it.
type sleeper struct {
	f    *Follower
	bell chan struct{}
	stop chan struct{}
	seen atomic.Uint64 // events of wanted topics
}

func newSleeper(s *Sequencer) *sleeper {
	sl := &sleeper{bell: make(chan struct{}, 1), stop: make(chan struct{})}
	sl.f = s.Follow(func() {
		select {
		case sl.bell <- struct{}{}:
		default: // as an eventfd: it is rung already
		}
	})
	return sl
}

// run wants the topic of that name anew for each round of so many passes.
func (sl *sleeper) run(name string, round int) {
	s := sl.f.s
	var read ring.Position
	for passes := 0; ; {
		t := s.Table().Acquire(name, sl.f.Index())
		for range round {
			passes++
			rd := s.Ring().Reader(read, s.Ring().Head())
			for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
				if e.Topic() == t.Number() {
					sl.seen.Add(1)
				}
			}
			read = rd.Position()
			sl.f.Done(read, 0)
			if sl.f.Sleep(read) {
				select {
				case <-sl.bell:
				case <-sl.stop:
					s.Table().Release(t, sl.f.Index())
					return
				}
				sl.f.Wake()
			}
		}
		// Another subscriber comes before this one goes: the topic stays.
		again := s.Table().Acquire(name, sl.f.Index())
		s.Table().Release(t, sl.f.Index())
		s.Table().Release(again, sl.f.Index())
	}
}

// No wake-up is lost: each event reaches the shards that want it without anybody publishing
// another. If wake looked at the state before the event was in the ring, this would hang
// within some hundred rounds.
func TestNoWakeUpIsLost(t *testing.T) {
	s := open(t, Options{Keep: 1})
	names := []string{"a", "b"}
	sleepers := []*sleeper{newSleeper(s), newSleeper(s)}
	var shards sync.WaitGroup
	for i, sl := range sleepers {
		shards.Go(func() { sl.run(names[i], 7) })
	}
	rounds := 50_000
	if testing.Short() || raceEnabled {
		rounds = 10_000
	}
	p := Publication{Event: encode.Event{Data: []byte("x")}}
	for i := range rounds {
		p.Topic = names[i&1]
		if _, err := s.Publish(&p); err != nil {
			t.Fatal(err)
		}
		sl, want := sleepers[i&1], uint64(i/2+1)
		for deadline := time.Now().Add(5 * time.Second); sl.seen.Load() < want; {
			if time.Now().After(deadline) {
				t.Fatalf("event %d has woken nobody: %d seen of %d, asleep %v", i, sl.seen.Load(), want, sl.f.Asleep())
			}
			runtime.Gosched()
		}
	}
	for _, sl := range sleepers {
		close(sl.stop)
	}
	shards.Wait()
}
