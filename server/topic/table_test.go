package topic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"penstock/encode"
)

// A name that was only subscribed to is gone with its last subscriber, and takes no place.
func TestSubscribedNamesVanish(t *testing.T) {
	s := open(t, Options{MaxTopics: 1})
	s.Follow(func() {})
	s.Follow(func() {})
	tb := s.Table()
	a, again := tb.Acquire("a", 0), tb.Acquire("a", 1)
	if a != again || a.Subscribers() != 2 || tb.Len() != 1 {
		t.Fatalf("one topic %v, %d subscribers, %d topics; want one of two", a == again, a.Subscribers(), tb.Len())
	}
	for i := range 100 {
		tb.Acquire(fmt.Sprintf("other.%d", i), 0)
	}
	publish(t, s, "b", "x")
	tb.Release(a, 0)
	if got, ok := tb.Lookup("a"); !ok || got != a {
		t.Error("the topic is gone, but it has a subscriber")
	}
	tb.Release(a, 1)
	if _, ok := tb.Lookup("a"); ok {
		t.Error("the topic is there without subscribers or events")
	}
	if again := tb.Acquire("a", 0); again == a || again.Number() == a.Number() {
		t.Errorf("number %d is used again", a.Number())
	}
	if _, _, ok := a.Newest(); ok {
		t.Error("a topic without events has a newest")
	}
}

// A published topic stays without subscribers.
func TestPublishedTopicsStay(t *testing.T) {
	s := open(t, Options{})
	s.Follow(func() {})
	tp := s.Table().Acquire("a", 0)
	publish(t, s, "a", "x")
	s.Table().Release(tp, 0)
	if got, ok := s.Table().Lookup("a"); !ok || got != tp {
		t.Error("the topic is gone, but it has an event in the ring")
	}
}

// At the bound, the silent topic goes that was unpublished the longest and has no subscriber; a
// newcomer is refused when none can go.
func TestForgettingTakesTheLongestUnpublished(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, MaxTopics: 5, Keep: 1})
	f := s.Follow(func() {})
	f.Done(0, 1<<40)
	tb := s.Table()
	there := func(want ...string) {
		t.Helper()
		f.Done(s.Ring().Head(), 1<<40)
		var got []string
		for _, tp := range tb.Page("", "", 100) {
			got = append(got, tp.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("topics %q, want %q", got, want)
		}
		if err := s.broken(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		publish(t, s, n, "x")
	}
	publish(t, s, "b", "x")
	fill := func() {
		for range 8 {
			f.Done(s.Ring().Head(), 1<<40)
			for range 8 {
				publish(t, s, "z", strings.Repeat("x", 1000))
			}
		}
	}
	fill()
	there("a", "b", "c", "d", "z")
	held := tb.Acquire("a", 0)
	publish(t, s, "e", "x") // for c: a has a subscriber, b was published again
	there("a", "b", "d", "e", "z")
	publish(t, s, "f", "x")
	there("a", "b", "e", "f", "z")
	tb.Release(held, 0)
	publish(t, s, "g", "x") // a is free again, and older than b
	there("b", "e", "f", "g", "z")
	publish(t, s, "b", "x")
	if _, err := s.Publish(&Publication{Topic: "h"}); err != ErrTooManyTopics {
		t.Errorf("all have events in the ring: %v", err)
	}
	there("b", "e", "f", "g", "z")
	fill()
	publish(t, s, "h", "x")
	there("b", "f", "g", "h", "z")
	if st := s.Stats(); st.Forgotten != 4 || st.Topics != 5 {
		t.Errorf("%d forgotten, %d topics; want 4, 5", st.Forgotten, st.Topics)
	}

	// Who comes back is told what may be gone.
	c := tb.Acquire("c", 0)
	if !s.Lost(c, s.StartID()) || c.Since() <= s.StartID() || s.Lost(c, c.Since()) {
		t.Errorf("a topic forgotten and made again is known since %d, the start's %d", c.Since(), s.StartID())
	}
	tb.Release(c, 0)
	if i := tb.Acquire("i", 0); i.Since() != s.StartID() || s.Lost(i, s.StartID()) {
		t.Errorf("a new topic is known since %d, want the start's %d", i.Since(), s.StartID())
	}
}

// Many silent topics with subscribers do not hold a newcomer up: each is met once.
func TestForgettingPassesOverSubscribed(t *testing.T) {
	const many = 2000
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, MaxTopics: many + 1})
	f := s.Follow(func() {})
	tb := s.Table()
	held := make([]*Topic, many)
	for i := range held {
		held[i] = tb.Acquire(fmt.Sprintf("t.%d", i), 0)
		publish(t, s, held[i].Name(), "x")
		f.Done(s.Ring().Head(), 0)
	}
	for range 80 {
		publish(t, s, "z", strings.Repeat("x", 1000))
		f.Done(s.Ring().Head(), 0)
	}
	for range 3 {
		if _, err := s.Publish(&Publication{Topic: "new"}); err != ErrTooManyTopics {
			t.Fatalf("all have subscribers: %v", err)
		}
		if err := s.broken(); err != nil {
			t.Fatal(err)
		}
	}
	if s.silent.len != 0 {
		t.Errorf("%d topics with subscribers are looked at each time", s.silent.len)
	}
	tb.Release(held[1234], 0)
	publish(t, s, "new", "x")
	if _, ok := tb.Lookup("t.1234"); ok {
		t.Error("another topic went than the one without subscribers")
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
}

// Pages follow one another without a gap, in the order of names.
func TestPages(t *testing.T) {
	s := open(t, Options{})
	var want []string
	for i := range 5000 {
		name := fmt.Sprintf("%c.%d", 'a'+rune(i%3), rand.IntN(1_000_000))
		s.Table().acquire(name, publishers)
		want = append(want, name)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, limit := range []int{1, 7, 1000, 10_000} {
		for _, prefix := range []string{"", "b", "b.", "b.7", "c.", "d"} {
			var some []string
			for _, name := range want {
				if strings.HasPrefix(name, prefix) {
					some = append(some, name)
				}
			}
			if limit == 1 && len(some) > 300 {
				continue
			}
			var got []string
			for after := ""; ; {
				page := s.Table().Page(prefix, after, limit)
				for _, tp := range page {
					got = append(got, tp.Name())
				}
				if len(page) < limit {
					break
				}
				after = got[len(got)-1]
			}
			if !slices.Equal(got, some) {
				t.Errorf("pages of %d with prefix %q: %d topics, want %d", limit, prefix, len(got), len(some))
			}
		}
	}
	if page := s.Table().Page("", "", 0); page != nil {
		t.Errorf("a page of none has %d", len(page))
	}
}

// What a publisher passes in may be a piece of a request that is overwritten next.
func TestNamesAreCopied(t *testing.T) {
	s := open(t, Options{})
	request := []byte("a.b")
	publish(t, s, unsafe.String(&request[0], len(request)), "x")
	tp, _ := s.Table().Lookup("a.b")
	copy(request, "c.d")
	if tp.Name() != "a.b" {
		t.Errorf("the topic's name has become %q", tp.Name())
	}
}

// To release what is not held, or for a shard that is not, is our own mistake.
func TestBrokenPromisesPanic(t *testing.T) {
	s := open(t, Options{})
	s.Follow(func() {})
	tp := s.Table().Acquire("a", 0)
	s.Table().Release(tp, 0)
	for name, f := range map[string]func(){
		"Release twice":   func() { s.Table().Release(tp, 0) },
		"no such shard":   func() { s.Table().Acquire("a", 1) },
		"no room for ids": func() { s.PublishBatch(make([]Publication, 2), make([]uint64, 1)) },
	} {
		func() {
			defer func() {
				if r, ok := recover().(string); !ok || !strings.HasPrefix(r, "topic: ") {
					t.Errorf("%s: recovered %q", name, r)
				}
			}()
			f()
		}()
	}
}

// Kept frames are copies: the newest few of each topic, whatever the ring has gone through.
func TestKeptFramesOutliveTheRing(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, Keep: 3})
	var ids []uint64
	for i := range 5 {
		ids = append(ids, publish(t, s, "quiet", fmt.Sprintf("value %d", i)))
	}
	for range 100 {
		publish(t, s, "busy", strings.Repeat("x", 1000))
	}
	tp, _ := s.Table().Lookup("quiet")
	found, next, lost := s.Gather(nil, []*Topic{tp}, ids[1], 0, s.Ring().Head(), 1<<20)
	if lost || next != s.Ring().Head() || len(found) != 3 {
		t.Fatalf("%d found, next %d, lost %v; want the newest 3", len(found), next, lost)
	}
	for i, f := range found {
		want, _ := encode.AppendFrame(nil, &encode.Event{Data: []byte(fmt.Sprintf("value %d", i+2))})
		if want = encode.AppendID(want, ids[i+2]); string(f.Entry.Frame()) != string(want) {
			t.Errorf("kept frame %d is %q, want %q", i, f.Entry.Frame(), want)
		}
	}
	if s.Lost(tp, ids[1]) || !s.Lost(tp, ids[0]) {
		t.Errorf("after event 2: lost %v, after event 1: lost %v; want false, true", s.Lost(tp, ids[1]), s.Lost(tp, ids[0]))
	}
	if st := s.Stats(); st.KeptFrames < 3 || st.KeptBytes < 3*100 {
		t.Errorf("%d kept frames of %d bytes", st.KeptFrames, st.KeptBytes)
	}
}
