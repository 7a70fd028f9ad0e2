package backplane_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/nats.go/jetstream"
)

// A told is what was published, by topic.
type told map[string][]uint64

// newest are the newest n ids of each topic, in order.
func (h told) newest(n int) (all []uint64) {
	for _, ids := range h {
		all = append(all, ids[max(0, len(ids)-n):]...)
	}
	slices.Sort(all)
	return all
}

// idsOf are the ids of a subscriber's events.
func idsOf(who *servertest.Subscriber) (ids []uint64) {
	for _, e := range who.Events() {
		if e.Type != "hello" {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// rewound is a stream on which small nodes, one that has published all of it and a fresh one, look back further than their
// rings.
func rewound(t *testing.T, n *natsd) (nodes []*servertest.Server, history told) {
	t.Helper()
	a := servertest.Start(t, On(n), small)
	history = told{"news": fillUp(t, a, "news", 200), "other": fillUp(t, a, "other", 3)}
	history["news"] = append(history["news"], fillUp(t, a, "news", 2)...)
	nodes = []*servertest.Server{a, servertest.Start(t, On(n), small)}
	for _, node := range nodes {
		if node.BeforeID() <= history["news"][150] {
			t.Fatal("the ring holds all")
		}
	}
	return nodes, history
}

// rewind=N goes back into the stream where the ring does not have as many, and goes on live without an
// end.
func TestRewindByNumberReachesIntoTheStream(t *testing.T) {
	nodes, history := rewound(t, startNATS(t))
	for _, node := range nodes {
		for _, asks := range [][]servertest.Ask{
			nil,
			{servertest.With("snapshot", "true"), servertest.WithHeader("Accept-Encoding", "gzip")},
			{servertest.With("envelope", "true"), servertest.With("hello", "true")},
		} {
			who := node.SubscribeAll(t, []string{"news", "other", "never"}, append(asks, servertest.With("rewind", "100"))...)
			want := history.newest(100)
			live := node.Publish(t, "news", "live")
			history["news"] = append(history["news"], live)
			who.WaitID(t, live)
			if got := idsOf(who); !slices.Equal(got, append(want, live)) {
				t.Errorf("%s: %d events, %d; want the %d newest of each topic and the live one: %d", who, len(got), got, 100, want)
			}
			if who.Ended() {
				t.Errorf("%s has ended", who)
			}
			who.Cut()
		}
	}
}

// rewind=all and a time go back to the stream's beginning and to that time; what is more than a piece is
// several streams, what is less goes on live without an end.
func TestRewindByTimeReachesIntoTheStream(t *testing.T) {
	nodes, history := rewound(t, startNATS(t))
	for _, node := range nodes {
		for coding, back := range map[string]string{"identity": "all", "gzip": "1h"} {
			for _, topics := range [][]string{{"news", "other"}, {"*"}} {
				who := node.SubscribeAll(t, topics, servertest.With("rewind", back), servertest.With("hello", "true"), servertest.WithHeader("Accept-Encoding", coding))
				live := node.Publish(t, "other", "live")
				history["other"] = append(history["other"], live)
				if topics[0] != "*" && who.Ended() {
					t.Errorf("%s, %s: the stream has ended", who, back)
				}
				follow(t, who, live)
				got := idsOf(who)
				if hello := who.Events()[0]; hello.Type != "hello" || hello.ID != got[0]-1 {
					t.Errorf("%s, %s: %v; want that it starts before %d", who, back, hello, got[0])
				}
				if topics[0] == "*" { // the noise as well
					got = slices.DeleteFunc(got, func(id uint64) bool { return !slices.Contains(history.newest(1000), id) })
				}
				if want := history.newest(1000); !slices.Equal(got, want) {
					t.Errorf("%s, %s: %d events; want %d", who, back, len(got), len(want))
				}
				who.Cut()
			}
		}
		// A time between two events, and a little more for the way there.
		begin := time.Now()
		var want []uint64
		for _, id := range fillUp(t, node, "news", 60) {
			history["news"], want = append(history["news"], id), append(want, id)
		}
		who := node.Subscribe(t, "news", servertest.With("rewind", (time.Since(begin)+20*time.Millisecond).String()))
		who.WaitID(t, want[59])
		if got := idsOf(who); !slices.Equal(got, want) {
			t.Errorf("%s: %d; want %d", who, got, want)
		}
	}
}

// An ended topic's events come with its end, and the end of the stream.
func TestRewindOfAnEndedTopic(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small)
	ids := fillUp(t, node, "match", 150)
	node.End(t, "match")
	fillUp(t, node, "other", 10)
	for _, back := range []string{"100", "all"} {
		who := node.Subscribe(t, "match", servertest.With("rewind", back))
		if err := who.WaitEnd(t); err != nil {
			t.Errorf("rewind=%s: %v", back, err)
		}
		got := who.Events()
		if back == "all" {
			back = "150"
		}
		if len(got) == 0 || got[len(got)-1].Type != "end" || strconv.Itoa(len(got)-1) != back || got[len(got)-2].ID != ids[149] {
			t.Errorf("rewind=%s: %d events, the last %v", back, len(got), got[max(0, len(got)-2):])
		}
	}
}

// Where the stream takes no direct gets, the newest events are those that the ring has; and as many at
// a time as may be are looked for.
func TestRewindWithoutDirectGetsIsTheRings(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	node := servertest.Start(t, On(n), small)
	ids := fillUp(t, node, "news", 200)
	who := node.Subscribe(t, "news", servertest.With("rewind", "100"))
	who.WaitID(t, ids[199])
	if got := idsOf(who); len(got) < 5 || len(got) >= 100 || !slices.Equal(got, ids[200-len(got):]) {
		t.Errorf("%d events; want what the ring has", len(got))
	}
}

// Subscribers who look back while as many as may be are given history are told to come back, and get it.
func TestRewindIsBounded(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small, func(c *server.Config) { c.HistoryStreams = 1 })
	ids := fillUp(t, node, "news", 150)
	var all []*servertest.Subscriber
	for range 6 {
		all = append(all, node.Subscribe(t, "news", servertest.With("rewind", "100"), servertest.WithHeader("Accept", "text/event-stream")))
	}
	for _, who := range all {
		follow(t, who, ids[149])
		if got := idsOf(who); !slices.Equal(got, ids[50:]) {
			t.Errorf("%s: %d events", who, len(got))
		}
	}
	if _, _, body := get(t, node.URL+"/stats"); !strings.Contains(body, `"histories":`) {
		t.Error(body)
	}
}
