package topic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// all reads the ring: each entry as kind, frame.
func all(s *Sequencer) (entries []string) {
	rd := s.ring.Reader(s.ring.Tail(), s.ring.Head())
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		entries = append(entries, fmt.Sprintf("%d %s", e.Kind(), e.Frame()[:strings.LastIndex(string(e.Frame()), "id: ")]))
	}
	return entries
}

func closing(name, data string) *Publication {
	return &Publication{Topic: name, Event: encode.Event{Data: []byte(data)}, Close: true}
}

// The last event and the end come one after the other, and the next event begins the topic again.
func TestEndFollowsTheLastEvent(t *testing.T) {
	s := open(t, Options{})
	if _, err := s.End("a"); err != ErrUnknownTopic {
		t.Errorf("ending what is not there: %v", err)
	}
	id, err := s.Publish(closing("a", "last"))
	if err != nil {
		t.Fatal(err)
	}
	tp, _ := s.Table().Lookup("a")
	end, ok := tp.Ended()
	if !ok || end != id+1 || end != s.NewestID() {
		t.Errorf("ended %v at %d after the event %d", ok, end, id)
	}
	if again, err := s.End("a"); err != nil || again != end {
		t.Errorf("ended again at %d, %v; the end is %d", again, err, end)
	}
	if again, err := s.Publish(closing("a", "")); err != nil || again != end {
		t.Errorf("closed again at %d, %v; the end is %d", again, err, end)
	}
	publish(t, s, "a", "new")
	if _, ok := tp.Ended(); ok {
		t.Error("ended, though an event has begun the topic again")
	}
	if id, err := s.End("a"); err != nil || id != s.NewestID() {
		t.Errorf("ended again at %d, %v", id, err)
	}
	want := []string{"1 data: last\n", "2 event: end\ndata: {\"topic\":\"a\"}\n", "1 data: new\n", "2 event: end\ndata: {\"topic\":\"a\"}\n"}
	if got := all(s); !slices.Equal(got, want) {
		t.Errorf("the ring has %q, want %q", got, want)
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
}

// Without an event there is the end alone, for a topic that nobody has seen before too; an event
// that has anything is an event.
func TestClosingWithoutAnEventIsTheEndAlone(t *testing.T) {
	s := open(t, Options{})
	f := s.Follow(func() {})
	s.Table().Acquire("watched", f.Index())
	ps := []Publication{
		*closing("a", ""),
		{Topic: "b", Close: true, Event: encode.Event{Type: "x"}},
		{Topic: "c", Close: true, Event: encode.Event{Retry: 5}},
		{Topic: "a", Event: encode.Event{}},
		*closing("a", ""),
	}
	ids := make([]uint64, len(ps))
	if _, err := s.PublishBatch(ps, ids); err != nil {
		t.Fatal(err)
	}
	if _, err := s.End("watched"); err != nil {
		t.Errorf("ending a topic that was only subscribed to: %v", err)
	}
	var kinds []ring.Kind
	var got []uint64
	rd := s.ring.Reader(0, s.ring.Head())
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		kinds, got = append(kinds, e.Kind()), append(got, e.ID())
	}
	if want := []ring.Kind{ring.End, ring.Event, ring.End, ring.Event, ring.End, ring.Event, ring.End, ring.End}; !slices.Equal(kinds, want) {
		t.Fatalf("kinds %v, want %v", kinds, want)
	}
	if want := []uint64{got[0], got[1], got[3], got[5], got[6]}; !slices.Equal(ids, want) {
		t.Errorf("ids %v of %v, want %v: an event's own, or the end's", ids, got, want)
	}
}

// What can't be ended is refused, and nothing is published.
func TestEndIsRefusedAsAnEventIs(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 100})
	if _, err := s.End("$x"); err != ErrUnknownTopic {
		t.Errorf("$x: %v", err)
	}
	if _, err := s.PublishOwn(&Publication{Topic: "$x"}); err != nil {
		t.Error(err)
	}
	if _, err := s.End("$x"); err != ErrOwnTopic {
		t.Errorf("$x: %v", err)
	}
	var large *FrameTooLargeError
	if _, err := s.Publish(closing(strings.Repeat("x", 100), "d")); !errors.As(err, &large) || large.Max != 100 {
		t.Errorf("an end of over 100 bytes: %v", err)
	}
	if _, err := s.Publish(closing("a b", "d")); err == nil {
		t.Error("a topic with a space has ended")
	}
	if n := len(all(s)); n != 1 {
		t.Errorf("%d entries in the ring, want 1", n)
	}
	s.Drain()
	if _, err := s.Publish(closing("a", "d")); err != ErrDraining {
		t.Errorf("draining: %v", err)
	}
}

// Who wants the newest alone gets the last event and the end, each once, from the ring and when
// both have left it; and an end is not counted among the newest events.
func TestNewestOfAnEndedTopicIsItsLastEventAndItsEnd(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, Keep: 1})
	f := s.Follow(func() {})
	tp := s.Table().Acquire("a", 0)
	publish(t, s, "a", "one")
	two := publish(t, s, "a", "two")
	last, err := s.Publish(closing("a", "three"))
	if err != nil {
		t.Fatal(err)
	}
	end, _ := tp.Ended()
	check := func(where string) {
		t.Helper()
		head := s.Ring().Head()
		for _, c := range []struct {
			after uint64
			want  []uint64
		}{{0, []uint64{last, end}}, {last - 1, []uint64{last, end}}, {last, []uint64{end}}, {end, nil}} {
			found, lost := s.AppendLatest(nil, tp, head, c.after)
			var ids []uint64
			for _, f := range found {
				ids = append(ids, f.Entry.ID())
			}
			if lost || !slices.Equal(ids, c.want) {
				t.Errorf("%s: after %d: %v, lost %v; want %v", where, c.after, ids, lost, c.want)
			}
		}
		if floor := s.Floor(tp, head, 1); floor != two {
			t.Errorf("%s: the newest event comes after %d, want %d", where, floor, two)
		}
		if err := s.broken(); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	check("ring")
	for tp.kept.Load() == nil || tp.kept.Load().entry.Kind() != ring.End {
		f.Done(s.Ring().Head(), 1<<40)
		publish(t, s, "z", strings.Repeat("x", 1000))
	}
	check("kept")
	publish(t, s, "a", "begun again")
	if tp.keptCount != 1 {
		t.Errorf("%d kept, want 1 as of every topic", tp.keptCount)
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
}

// An ended topic is not forgotten for a new one before it was known for long enough; the others are,
// and it is when its time is over.
func TestEndedTopicsStayKnownForTheirTime(t *testing.T) {
	const keep = 10 * time.Minute
	now := int64(1e15)
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, MaxTopics: 4, EndedKeep: keep, Now: func() int64 { return now }})
	f := s.Follow(func() {})
	var there []string
	look := func() []string {
		there = there[:0]
		for _, tp := range s.Table().Page("", "", 100) {
			there = append(there, tp.Name())
		}
		if err := s.broken(); err != nil {
			t.Error(err)
		}
		return there
	}
	fill := func() {
		for range 100 {
			f.Done(s.Ring().Head(), 1<<40)
			publish(t, s, "z", strings.Repeat("x", 1000))
		}
	}
	for _, name := range []string{"ended.1", "ended.2"} {
		if _, err := s.Publish(closing(name, "x")); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, s, "other", "x")
	fill()
	publish(t, s, "new.1", "x")
	if got, want := look(), []string{"ended.1", "ended.2", "new.1", "z"}; !slices.Equal(got, want) {
		t.Fatalf("topics %q, want %q: of those that have left the ring, ended ones stay", got, want)
	}
	publish(t, s, "ended.2", "begun again")
	fill()
	publish(t, s, "new.2", "x") // for new.1, ended.2 is younger
	fill()
	publish(t, s, "new.3", "x") // for ended.2
	if got, want := look(), []string{"ended.1", "new.2", "new.3", "z"}; !slices.Equal(got, want) {
		t.Fatalf("topics %q, want %q", got, want)
	}
	now += keep.Microseconds() - 1_000_000
	for _, name := range []string{"new.2", "new.3"} {
		if _, err := s.End(name); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if _, err := s.Publish(closing("new.4", "x")); err != ErrTooManyTopics {
		t.Errorf("all have ended lately: %v", err)
	}
	now += 2_000_000
	publish(t, s, "new.4", "x")
	if got, want := look(), []string{"new.2", "new.3", "new.4", "z"}; !slices.Equal(got, want) {
		t.Errorf("topics %q, want %q: the first one's time is over", got, want)
	}
	if _, ok := s.Table().Lookup("ended.1"); ok || len(s.leases.list)-s.leases.next != 2 {
		t.Errorf("%d leases, want those of new.2 and new.3", len(s.leases.list)-s.leases.next)
	}
}

// Ends among many topics: whatever comes and goes, each topic has ended exactly if its last
// publication has closed it, and what it kept is its events and its end.
func TestEndsAmongManyTopics(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := int64(1e15)
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 4 << 10, MaxTopics: 40, Keep: 2, EndedKeep: time.Second, Now: func() int64 { return now }})
	f := s.Follow(func() {})
	closed := map[*Topic]bool{}
	for n := range 20_000 {
		f.Done(s.Ring().Head(), 1<<40)
		now += random.Int64N(20_000)
		p := Publication{Topic: fmt.Sprint("t.", random.IntN(60)), Close: random.IntN(3) == 0}
		if random.IntN(4) > 0 {
			p.Event.Data = []byte(strings.Repeat("x", random.IntN(1000)+1))
		}
		_, err := s.Publish(&p)
		if err != nil && err != ErrTooManyTopics {
			t.Fatal(err)
		}
		if err == nil {
			tp, _ := s.Table().Lookup(p.Topic)
			closed[tp] = p.Close
		}
		if n%500 > 0 {
			continue
		}
		if err := s.broken(); err != nil {
			t.Fatal(err)
		}
		for tp, want := range closed {
			if tp.Forgotten() {
				delete(closed, tp)
				if id, ok := tp.Ended(); ok && int64(id) > now-time.Second.Microseconds() {
					t.Fatalf("%s was forgotten too early", tp.Name())
				}
				continue
			}
			if _, ok := tp.Ended(); ok != want {
				t.Fatalf("%s has ended: %v, its last publication has closed it: %v", tp.Name(), ok, want)
			}
		}
	}
}
