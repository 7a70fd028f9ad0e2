package fanout

// Faults from the ground, one by one: what the kernel refuses costs the one stream and nobody else.
// The simulation has them all at once.

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A send that fails, between two frames or in the middle of a chunk, ends that stream by a reset,
// which no client takes for the end; the others go on.
func TestFailedSendResetsThatStreamAlone(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET, syscall.ENOBUFS, syscall.ENOMEM, syscall.ETIMEDOUT} {
		for _, owed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/owed=%v", errno, owed), func(t *testing.T) {
				h := newHouse(t, houseOptions{})
				alice := h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true})
				bob := h.subscribe(&Subscription{Topics: []string{"b"}, HTTP10: true})
				h.settle(t)
				if owed {
					h.ground.take(alice, 50)
				}
				h.publish(t, "a", strings.Repeat("x", 200))
				if owed {
					h.settle(t)
					h.ground.take(alice, -1)
				}
				h.ground.fail["send"] = errno
				h.settle(t)
				h.ground.fail["send"] = 0
				h.publish(t, "b", "after it")
				h.settle(t)
				if !alice.hard || alice.finished {
					t.Errorf("alice: reset %v, finished %v; want a reset", alice.hard, alice.finished)
				}
				if s := bob.read(&reading{}); bob.closed || !strings.Contains(s, "event 1002") {
					t.Errorf("bob read %q, closed %v", s, bob.closed)
				}
				if s := h.sh.stats.snapshot(); s.Disconnects[SendFailed] != 1 || s.Streams != 1 || s.LagBytes != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// A socket that the kernel does not watch (max_user_watches, no memory) is given back; those who come
// when it does again are served.
func TestUnwatchedSocketsAreGivenBack(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.ENOMEM} {
		h := newHouse(t, houseOptions{})
		bob := h.subscribe(&Subscription{Topics: []string{"a"}})
		h.settle(t)
		h.ground.fail["watch"] = errno
		alice := h.subscribe(&Subscription{Topics: []string{"a"}})
		h.settle(t)
		h.ground.fail["watch"] = 0
		carol := h.subscribe(&Subscription{Topics: []string{"a"}})
		h.settle(t)
		h.publish(t, "a", "x")
		h.settle(t)
		if !alice.closed || len(alice.wire) > 0 || bob.closed || carol.closed {
			t.Errorf("%s: closed: alice %v behind %d bytes, bob %v, carol %v", errno, alice.closed, len(alice.wire), bob.closed, carol.closed)
		}
		if s := h.sh.stats.snapshot(); s.Disconnects[JoinFailed] != 1 || s.Streams != 2 || s.Deliveries != 2 {
			t.Errorf("%s: %+v", errno, s)
		}
	}
}

// A socket that is full for ever holds a place in the ring, and nothing else; it costs the others
// no pass, and it is not tried again until the kernel says so.
func TestForeverFullSocketCostsNothing(t *testing.T) {
	h := newHouse(t, houseOptions{ringSize: 64 << 10, maxEvent: 4 << 10})
	alice := h.subscribe(&Subscription{Topics: []string{"a"}})
	bob := h.subscribe(&Subscription{Topics: []string{"a"}})
	h.settle(t)
	h.ground.take(alice, 0)
	for range 1000 {
		h.publish(t, "a", strings.Repeat("x", 1000))
		h.pass(t)
	}
	if s := h.sh.stats.snapshot(); s.LagBytes != 0 || s.Streams != 2 || s.Deliveries != 1000 {
		t.Errorf("%+v", s)
	}
	if alice.sends > 3 {
		t.Errorf("%d sends to a socket that takes nothing", alice.sends)
	}
	if n := strings.Count(string(bob.wire), "\ndata: "); n != 1000 {
		t.Errorf("bob has %d events", n)
	}
	h.ground.take(alice, -1)
	h.settle(t)
	if s := alice.read(&reading{}); !strings.Contains(s, `gap {"topics":["a"],"after":"1000"`) || !strings.Contains(s, "..2000") {
		t.Errorf("alice read %q", s)
	}
}

// A wait that a signal interrupts tells of nothing; what happened is told by the next one.
func TestInterruptedWaitLosesNothing(t *testing.T) {
	h := newHouse(t, houseOptions{})
	alice := h.subscribe(&Subscription{Topics: []string{"a"}})
	h.settle(t)
	h.ground.take(alice, 0)
	h.publish(t, "a", "x")
	h.settle(t)
	h.ground.deaf = true
	h.ground.take(alice, -1)
	h.pass(t)
	h.settle(t)
	if s := alice.read(&reading{}); !strings.Contains(s, "event 1001") {
		t.Errorf("read %q", s)
	}
}

// Whatever the clock does, ids increase and streams go on: the shards' own time does not jump.
func TestIDsIncreaseWhateverTheClockDoes(t *testing.T) {
	h := newHouse(t, houseOptions{})
	alice := h.subscribe(&Subscription{Topics: []string{"a"}, Interval: time.Second})
	h.settle(t)
	last := uint64(0)
	for i, jump := range []time.Duration{0, time.Hour, -2 * time.Hour, -24 * time.Hour, 48 * time.Hour, -365 * 24 * time.Hour} {
		h.micros += jump.Microseconds()
		for range 3 {
			id := h.publish(t, "a", "x")
			if id <= last {
				t.Fatalf("id %d after %d, with the clock at %d", id, last, h.micros)
			}
			last = id
		}
		h.ground.time = h.ground.time.Add(2 * time.Second)
		h.settle(t)
		if n := strings.Count(string(alice.wire), "\ndata: "); n != 3*(i+1) {
			t.Fatalf("alice has %d events of %d, the clock jumped by %s", n, 3*(i+1), jump)
		}
	}
}
