package fanout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"penstock/encode"
	"penstock/server/topic"
)

// Whoever lags over MaxLag, however and how often, is sent or told to have lost each event of its
// topics, never both; one gap is not followed by another without an event between them; and it is
// never further behind than MaxLag once its socket takes bytes.
func TestWhatMaxLagTakesIsNamed(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			h := newHouse(t, houseOptions{ringSize: 1 << 20, maxLag: 8 << 10, flushMax: 1 << (9 + r.IntN(8))})
			star, err := topic.ParsePattern("*")
			if err != nil {
				t.Fatal(err)
			}
			readers := []*lapsed{
				{topics: "a"}, {topics: "b"}, {topics: "ab"}, {topics: "abc"}, {topics: "abc", wild: true},
			}
			for _, l := range readers {
				sub := &Subscription{HTTP10: true}
				if l.wild {
					sub.Patterns = []topic.Pattern{star}
				} else {
					sub.Topics = strings.Split(l.topics, "")
				}
				l.socket = h.subscribe(sub)
			}
			h.settle(t)
			published := map[uint64]string{}
			for range 120 {
				for n := r.IntN(30); n > 0; n-- {
					name := string("aaabbc"[r.IntN(6)])
					published[h.publish(t, name, strings.Repeat("d", r.IntN(300)))] = name
				}
				if r.IntN(3) > 0 {
					h.pass(t)
				}
				l := readers[r.IntN(len(readers))]
				switch r.IntN(5) {
				case 0, 1:
					h.ground.take(l.socket, r.IntN(2000))
				case 2:
					h.ground.take(l.socket, -1)
				}
				h.ground.time = h.ground.time.Add(time.Duration(r.IntN(300)) * time.Millisecond)
			}
			for _, l := range readers {
				h.ground.take(l.socket, -1)
			}
			h.settle(t)
			for _, l := range readers {
				l.judge(t, published)
			}
		})
	}
}

// lapsed is a reader over MaxLag.
type lapsed struct {
	topics string
	wild   bool
	socket *socket
}

func (l *lapsed) judge(t *testing.T, published map[uint64]string) {
	t.Helper()
	_, body, _ := bytes.Cut(l.socket.wire, []byte("\r\n\r\n"))
	got, lost := map[uint64]bool{}, map[uint64]bool{}
	gaps, bare, last := 0, false, uint64(0)
	var d encode.Decoder
	err := d.Decode(body, func(e *encode.Decoded) {
		id := uint64(0)
		if e.HasID {
			id, _ = encode.ParseID(string(e.ID))
			if id < last {
				t.Errorf("%s: id %d after %d", l.topics, id, last)
			}
			last = id
		}
		switch {
		case string(e.Type) == "gap":
			var g struct {
				Topics        []string
				After, Before string
			}
			if err := json.Unmarshal(e.Data, &g); err != nil {
				t.Fatal(err)
			}
			if bare {
				t.Errorf("%s: two gaps without an event", l.topics)
			}
			gaps++
			bare = true
			after, _ := encode.ParseID(g.After)
			before, _ := encode.ParseID(g.Before)
			for id, name := range published {
				for _, named := range g.Topics {
					if (named == name || named == "*") && after < id && id < before {
						lost[id] = true
					}
				}
			}
		case e.HasData && e.HasID:
			got[id] = true
			bare = false
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range published {
		if !strings.Contains(l.topics, name) {
			continue
		}
		if !got[id] && !lost[id] {
			t.Errorf("%s (wild %v): event %d of %s is neither sent nor named as lost", l.topics, l.wild, id, name)
		}
		if got[id] && lost[id] {
			t.Errorf("%s (wild %v): event %d of %s is sent and named as lost", l.topics, l.wild, id, name)
		}
	}
	t.Logf("%s: %d events, %d gaps", l.topics, len(got), gaps)
}

// Limits that change while shards run hold for the streams that there are.
func TestLimitsChangeWhileStreamsRun(t *testing.T) {
	h := newHouse(t, houseOptions{heartbeat: time.Second})
	alice := h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true})
	bob := h.subscribe(&Subscription{Topics: []string{"a"}, HTTP10: true})
	h.settle(t)
	advance := func(d time.Duration) {
		for end := h.ground.time.Add(d); h.ground.time.Before(end); {
			h.ground.time = h.ground.time.Add(tickTime)
			h.pass(t)
		}
	}
	advance(time.Minute)
	if alice.finished {
		t.Fatal("ended without a limit")
	}
	h.ground.take(bob, 0)
	h.publish(t, "a", "x")
	h.sh.inbox.command(command{kind: commandLimit, limits: Limits{RetryMin: 7 * time.Second, RetryMax: 7 * time.Second, MaxAge: 10 * time.Second, StallTimeout: 3 * time.Second}})
	advance(5 * time.Second)
	if !bob.reset || alice.finished {
		t.Errorf("after 5 s: bob is stalled and reset: %v; alice has ended: %v", bob.reset, alice.finished)
	}
	advance(8 * time.Second)
	if !alice.finished || !bytes.HasSuffix(alice.wire, []byte("\n\nretry: 7000\n\n")) {
		t.Errorf("alice has ended: %v, with %q", alice.finished, alice.wire[max(0, len(alice.wire)-40):])
	}
}
