package backplane_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// small is a node whose ring holds little.
func small(c *server.Config) { servertest.RingSize(64 << 10)(c) }

// fillUp publishes numbered events of a topic, with noise between them that fills rings.
func fillUp(t testing.TB, node *servertest.Server, topic string, n int) (ids []uint64) {
	t.Helper()
	noise := strings.Repeat("x", 2000)
	for i := range n {
		last := node.PublishLines(t, fmt.Sprintf(`{"topic":%q,"data":"%d"}`, topic, i), fmt.Sprintf(`{"topic":"noise","data":"%s"}`, noise))
		ids = append(ids, last-1)
	}
	return ids
}

// follow reads a stream that may be made of several, until it has an id.
func follow(t testing.TB, who *servertest.Subscriber, id uint64) {
	t.Helper()
	for {
		servertest.WaitUntil(t, "an end or the last event", func() bool {
			last, _ := strconv.ParseUint(who.LastID(), 10, 64)
			return last >= id || who.Ended()
		})
		if last, _ := strconv.ParseUint(who.LastID(), 10, 64); last >= id {
			return
		}
		who.Resume(t)
	}
}

// What has left a node's ring, or was never in a fresh one's, is fetched from the stream for whoever
// comes back for it.
func TestOlderHistoryComesFromTheStream(t *testing.T) {
	n := startNATS(t)
	a := servertest.Start(t, On(n), small)
	ids := fillUp(t, a, "news", 200)
	fresh := servertest.Start(t, On(n), small)
	for _, node := range []*servertest.Server{a, fresh} {
		if node.BeforeID() <= ids[10] {
			t.Fatalf("the ring begins with %d and still has %d", node.BeforeID(), ids[10])
		}
		for _, topics := range [][]string{{"news"}, {"news", "other"}, {"news", "o.>"}} {
			who := node.SubscribeAll(t, topics, servertest.After(ids[9]), servertest.WithHeader("Accept-Encoding", "gzip"))
			follow(t, who, ids[199])
			got := who.Events()
			if !slices.Equal(data(got)[:190], numbers(10, 199)) || got[0].ID != ids[10] || got[189].ID != ids[199] {
				t.Errorf("%s: %d events, the first %.100v; want 10 to 199 and no gap", who, len(got), got)
			}
			follow(t, who, node.Publish(t, "news", "live"))
			if got := data(who.Events()); got[len(got)-1] != "live" {
				t.Errorf("%s does not go on live", who)
			}
			who.Cut()
		}
	}
}

// Who asked for a pattern, for the topic's name or for an envelope gets the past in the same form.
func TestOlderHistoryHasTheForm(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small)
	ids := fillUp(t, node, "a.b", 100)
	who := node.Subscribe(t, "a.*", servertest.After(ids[9]), servertest.With("envelope", "true"))
	follow(t, who, ids[99])
	if got := who.Events(); len(got) != 90 || got[0].Data != `{"topic":"a.b","data":10}` || got[89].Data != `{"topic":"a.b","data":99}` {
		t.Errorf("%d events, the first %v", len(got), got[:min(3, len(got))])
	}
}

// A quiet topic of which nothing is missing has no gap, be the rest of the stream long gone from the ring.
func TestNothingOlderIsNoGap(t *testing.T) {
	n := startNATS(t)
	a := servertest.Start(t, On(n), small)
	first := a.Publish(t, "quiet", "one")
	fillUp(t, a, "news", 100)
	fresh := servertest.Start(t, On(n), small)
	who := fresh.Subscribe(t, "quiet", servertest.After(first))
	id := a.Publish(t, "quiet", "two")
	who.WaitID(t, id)
	if got := who.Events(); len(got) != 1 || got[0].Data != "two" {
		t.Errorf("%v; want two alone", got)
	}
}

// The newest of the stream may be no event: nobody waits for its id, and nobody is told that it can't
// be.
func TestHistoryEndsWhereTheNodeIs(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small)
	first := node.Publish(t, "quiet", "one")
	ids := fillUp(t, node, "news", 100)
	conn, _ := client(t, n)
	none := &nats.Msg{Subject: "penstock.news", Header: nats.Header{"Penstock-Retry": {"soon"}}, Data: []byte("no event")}
	if _, err := conn.RequestMsg(none, patience); err != nil {
		t.Fatal(err)
	}
	quiet := node.Subscribe(t, "quiet", servertest.After(first))
	news := node.Subscribe(t, "news", servertest.After(ids[9]))
	follow(t, news, ids[99])
	servertest.WaitUntil(t, "the end of the piece", news.Ended)
	news.Resume(t)
	id := node.PublishLines(t, `{"topic":"quiet","data":"two"}`, `{"topic":"news","data":"100"}`)
	quiet.WaitID(t, id-1)
	news.WaitID(t, id)
	if got := quiet.Events(); len(got) != 1 || got[0].Data != "two" {
		t.Errorf("%v; want two alone", got)
	}
	if got := data(news.Events()); !slices.Equal(got, numbers(10, 100)) {
		t.Errorf("%d events, the first %v; want 10 to 100", len(got), got[:min(3, len(got))])
	}
}

// What the stream has lost is told by a gap, before what it still has.
func TestOlderThanTheStreamIsAGap(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs = 300 })
	node := servertest.Start(t, On(n), small)
	ids := fillUp(t, node, "news", 200)
	who := node.Subscribe(t, "news", servertest.After(ids[9]))
	follow(t, who, ids[199])
	gap := who.NextGap(t)
	if gap.After != ids[9] || gap.Before != 101 || gap.Reason != "resume" {
		t.Errorf("gap %+v; want one after %d and before 101", gap, ids[9])
	}
	if got := data(who.Events()); !slices.Equal(got, numbers(50, 199)) {
		t.Errorf("%d events, the first %v; want 50 to 199", len(got), got[:min(3, len(got))])
	}
}

// Where single events were deleted from the stream nobody knows which: the gap is of all that the piece
// spans, and what there still is follows it.
func TestHistoryWithHolesIsAGapOfItsWhole(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	stream := makeStream(t, js, nil)
	node := servertest.Start(t, On(n), small)
	ids := fillUp(t, node, "news", 100)
	if err := stream.DeleteMsg(bounded(t), ids[50]); err != nil {
		t.Fatal(err)
	}
	who := node.Subscribe(t, "news", servertest.After(ids[9]))
	gap := who.NextGap(t)
	follow(t, who, ids[99])
	if gap.After != ids[9] || gap.Before <= ids[50] || gap.Reason != "resume" {
		t.Errorf("gap %+v; want one from %d to behind %d", gap, ids[9], ids[50])
	}
	if got := data(who.Events()); !slices.Equal(got, append(numbers(10, 49), numbers(51, 99)...)) {
		t.Errorf("%d events, the first %v; want 10 to 99 without 50", len(got), got[:min(3, len(got))])
	}
}

// More subscribers than may be given history at once are told to come back, and lose nothing.
func TestOlderHistoryIsBounded(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n), small, func(c *server.Config) { c.HistoryStreams = 1 })
	ids := fillUp(t, node, "news", 200)
	var all []*servertest.Subscriber
	for range 8 {
		all = append(all, node.Subscribe(t, "news", servertest.After(ids[9]), servertest.WithHeader("Accept", "text/event-stream")))
	}
	for _, who := range all {
		follow(t, who, ids[199])
		if got := data(who.Events()); !slices.Equal(got, numbers(10, 199)) {
			t.Errorf("%s: %d events", who, len(got))
		}
	}
}
