package fanout

// That a storm waits for those who stay, and not they for it.

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"penstock/server/topic"
)

// While thousands hang up, come and come back at once, a pass takes on only so much of it as its time
// allows: what is published meanwhile goes out first, in every pass. Nobody is forgotten.
func TestStormIsServedBetweenFlushes(t *testing.T) {
	h := newHouse(t, houseOptions{ringSize: 1 << 20, keep: 1})
	const many = 1000
	var leave, stay []*socket
	for i := range many {
		leave = append(leave, h.subscribe(&Subscription{Topics: []string{fmt.Sprint("b.", i)}, HTTP10: true}))
	}
	for range 3 {
		stay = append(stay, h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true}))
	}
	h.settle(t)
	from := h.publish(t, "a", "first")
	h.settle(t)

	for _, s := range leave {
		h.ground.hangUp(s)
	}
	come := make([]*socket, many)
	for i := range come {
		come[i] = h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true, Resume: true, LastID: from - 1})
	}
	h.ground.crawl = mostChores / 8 // a chore's time is that of some looks at the clock
	passes, last := 0, uint64(0)
	for ; ; passes++ {
		last = h.publish(t, "a", fmt.Sprint("live ", passes))
		began, sends := h.ground.time, h.sh.stats.joins.Load()
		h.pass(t)
		h.ground.time = began.Add(mostChores)
		for _, s := range stay {
			if !has(s, last) {
				t.Fatalf("pass %d: what was published before it has not gone to those who stay", passes)
			}
		}
		if joined := h.sh.stats.joins.Load() - sends; joined > 8*choresAtOnce {
			t.Fatalf("pass %d: %d joined, and its time was over", passes, joined)
		}
		if !h.sh.chores.left {
			break
		}
	}
	if passes < 10 {
		t.Errorf("it took %d passes; nothing was left for the next one", passes)
	}
	h.ground.crawl = 0
	h.settle(t)
	for i := range many {
		if !leave[i].closed {
			t.Fatalf("number %d has hung up, and its socket is open", i)
		}
		if come[i].closed || !has(come[i], from) || !has(come[i], last) {
			t.Fatalf("number %d has come back: closed %t, what it had missed %t, what is live %t", i, come[i].closed, has(come[i], from), has(come[i], last))
		}
	}
	if n := h.sh.stats.streams.Load(); n != many+3 {
		t.Errorf("%d streams, want %d", n, many+3)
	}
}

// The place of one who has left is nobody else's as long as an event that names it waits.
func TestPlaceWaitsForItsEvents(t *testing.T) {
	h := newHouse(t, houseOptions{})
	for range 4 * choresAtOnce {
		h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true})
	}
	old := h.subscribe(&Subscription{Topics: []string{"b"}, HTTP10: true})
	h.settle(t)
	for i := range 4 * choresAtOnce {
		h.ground.pending = append(h.ground.pending, event{slot: uint32(i), writable: true}) // tells a live one nothing
	}
	h.ground.hangUp(old)
	old.broken = true
	h.publish(t, "b", "x")
	h.ground.crawl = time.Second
	h.pass(t)
	if !old.closed || len(h.sh.events) == 0 {
		t.Fatalf("it has left by a send %t, and %d events wait; want it gone, and some", old.closed, len(h.sh.events))
	}
	s := h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true})
	for h.pass(t) && len(h.sh.events) > 0 {
	}
	h.ground.crawl = 0
	h.settle(t)
	if s.closed {
		t.Error("the end of another's connection has ended a stream")
	}
}

// has tells whether a socket got an event.
func has(s *socket, id uint64) bool {
	return bytes.Contains(s.wire, fmt.Appendf(nil, "id: %d\n\n", id))
}

// Chores have their time at a full load too: as much as flushing took.
func TestChoresHaveTheirTime(t *testing.T) {
	for _, c := range []struct{ interval, flushing, want time.Duration }{
		{10 * time.Millisecond, time.Millisecond, 10 * time.Millisecond},
		{10 * time.Millisecond, 70 * time.Millisecond, 70 * time.Millisecond},
		{0, 0, time.Millisecond},
		{time.Second, 0, 10 * time.Millisecond},
	} {
		h := newHouse(t, houseOptions{})
		h.sh.choreTime = choreTime(c.interval)
		h.sh.clock = h.ground.time
		h.ground.time = h.ground.time.Add(c.flushing)
		h.sh.beginChores()
		for _, kind := range []choreKind{hangUps, joins, catchUps} {
			part := c.want * time.Duration(kind) / 3
			h.ground.time = h.sh.chores.from.Add(part - 1)
			if h.sh.late(kind) {
				t.Errorf("interval %s, flushing took %s: kind %d is late before %s", c.interval, c.flushing, kind, part)
			}
			h.ground.time = h.sh.chores.from.Add(part)
			if !h.sh.late(kind) {
				t.Errorf("interval %s, flushing took %s: kind %d is not late after %s", c.interval, c.flushing, kind, part)
			}
		}
	}
}

// Publishers wait for a shard that has no time for most of those who could take what they lack, as they
// do for one that does not read; never for full sockets, and never for those who resume.
func TestPublishersWaitForThoseWhoWaitForTheShard(t *testing.T) {
	h := newHouse(t, houseOptions{ringSize: 4 << 20, keep: 1})
	const many = 160
	var all []*socket
	for range many {
		all = append(all, h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true}))
	}
	h.settle(t)
	h.sh.catchUpBudget = 256 << 10
	events := func() {
		for range 50 {
			h.publish(t, "a", strings.Repeat("x", 4000))
		}
	}
	overloaded := func() bool {
		_, err := h.seq.Publish(&topic.Publication{Topic: "b"})
		if err != nil && err != topic.ErrOverload {
			t.Fatal(err)
		}
		return err == topic.ErrOverload
	}

	from := h.publish(t, "a", "x")
	for _, s := range all {
		h.ground.take(s, 0)
	}
	events()
	h.pass(t)
	if n := len(h.sh.laggards); n != many || h.sh.owes != 0 || overloaded() {
		t.Fatalf("%d lag, whose sockets are full, and the shard owes %d bytes; want %d and none", n, h.sh.owes, many)
	}
	for _, s := range all {
		h.ground.take(s, -1)
	}
	h.pass(t)
	if h.sh.owes < 100<<10 || !overloaded() {
		t.Errorf("%d wait for the shard, which owes %d bytes; publishers do not wait for it", len(h.sh.ready), h.sh.owes)
	}
	h.settle(t)
	if h.sh.owes != 0 || overloaded() {
		t.Errorf("all are live, and the shard owes %d bytes", h.sh.owes)
	}

	for range 4 * many {
		all = append(all, h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true, Resume: true, LastID: from}))
	}
	for busy := true; busy; {
		busy = h.pass(t)
		if h.sh.owes != 0 {
			t.Fatalf("%d resume, and publishers are to wait for %d bytes", len(h.sh.ready), h.sh.owes)
		}
	}

	for _, s := range all[:many] { // the fewer part
		h.ground.take(s, 0)
	}
	events()
	h.pass(t)
	for _, s := range all[:many] {
		h.ground.take(s, -1)
	}
	for busy := true; busy; {
		busy = h.pass(t)
		if h.sh.owes != 0 {
			t.Fatalf("%d of %d lag, and publishers are to wait for %d bytes", len(h.sh.laggards), len(all), h.sh.owes)
		}
	}
	for i, s := range all {
		if n := bytes.Count(s.wire, []byte("id: ")); n < 101 {
			t.Errorf("number %d got %d events", i, n)
		}
	}
}
