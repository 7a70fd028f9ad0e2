package backplane_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What is published at one node reaches the subscribers of another, with the stream's sequence as
// its id, and so does a plain NATS message.
func TestNodesServeTheSameTopics(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	alice, bob := a.Subscribe(t, "news"), b.Subscribe(t, "news")
	id := a.Publish(t, "news", "one")
	conn, js := client(t, n)
	ack, err := js.PublishMsg(bounded(t), &nats.Msg{Subject: "penstock.news", Data: []byte("two\nlines"),
		Header: nats.Header{"Penstock-Event": {"flash"}, "Penstock-Retry": {"1234"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Publish("penstock.news", []byte("three")); err != nil {
		t.Fatal(err)
	}
	if ack.Sequence != id+1 {
		t.Errorf("the stream's sequence is %d after the id %d", ack.Sequence, id)
	}
	for _, who := range []*servertest.Subscriber{alice, bob} {
		who.WaitID(t, id+2)
		got := who.Events()
		want := []servertest.Event{{Data: "one", ID: id, HasID: true, Type: "message"}, {Type: "flash", Data: "two\nlines", ID: id + 1, HasID: true}, {Data: "three", ID: id + 2, HasID: true, Type: "message"}}
		for i := range got {
			if got[i].Type == "" {
				got[i].Type = "message"
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s got %v, want %v", who, got, want)
		}
	}
}

// A client that goes to another node, or to a fresh one, goes on exactly where it was.
func TestClientResumesOnAnotherNode(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	alice := a.Subscribe(t, "news")
	var last uint64
	for i := range 50 {
		last = a.Publish(t, "news", strconv.Itoa(i))
	}
	alice.WaitID(t, last)
	a.Server.Close()
	for i := 50; i < 100; i++ {
		last = b.Publish(t, "news", strconv.Itoa(i))
	}
	fresh := servertest.Start(t, On(n))
	for _, node := range []*servertest.Server{b, fresh} {
		from, err := strconv.ParseUint(alice.LastID(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		again := node.Subscribe(t, "news", servertest.After(from))
		again.WaitID(t, last)
		if got := data(again.Events()); !slices.Equal(got, numbers(50, 99)) || len(again.Events()) != 50 {
			t.Errorf("%s: %v; want 50 to 99 and no gap", again, again.Events())
		}
	}
}

// A node that was just behind knows an id that a client brings from elsewhere a moment later; one that no event
// has is told as such.
func TestIDOfAnotherNodeIsAwaited(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	for range 20 {
		id := a.Publish(t, "news", "x")
		who := b.Subscribe(t, "news", servertest.After(id))
		next := a.Publish(t, "news", "y")
		who.WaitID(t, next)
		if got := data(who.Events()); !slices.Equal(got, []string{"y"}) || len(who.Events()) != 1 {
			t.Fatalf("%v; want y alone", who.Events())
		}
		who.Cut()
	}
	bad := b.Subscribe(t, "news", servertest.After(1<<62))
	if gap := bad.NextGap(t); gap.Reason != "unknown-id" {
		t.Errorf("gap %+v; want unknown-id", gap)
	}
}

// A stream that is there already and has its own subjects needs no prefix, and topics outside of
// them can't be published.
func TestStreamOfOthersHasNoPrefix(t *testing.T) {
	n := startNATS(t)
	conn, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.Subjects = []string{"stocks.>"} })
	node := servertest.Start(t, On(n), func(c *server.Config) { c.PublishTimeout = 300e6 })
	alice := node.Subscribe(t, "stocks.AAPL")
	if err := conn.Publish("stocks.AAPL", []byte(`{"p":1}`)); err != nil {
		t.Fatal(err)
	}
	alice.WaitID(t, 1)
	if id := node.Publish(t, "stocks.AAPL", "2"); id != 2 {
		t.Errorf("id %d; want 2", id)
	}
	if _, err := node.TryPublish("news", "x"); err == nil {
		t.Error("an event outside of the stream's subjects was taken")
	}
}

// Any node tells the figures of all.
func TestStatsOfAllNodes(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	a.Subscribe(t, "news")
	b.Publish(t, "news", "x")
	var answer struct {
		Nodes []struct {
			Node        string
			Connections struct{ Streams int }
			Backplane   struct{ Stream string }
		}
	}
	status, _, body := get(t, b.URL+"/stats?cluster=true")
	if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil {
		t.Fatalf("%d, %v: %s", status, err, body)
	}
	streams := 0
	for _, node := range answer.Nodes {
		streams += node.Connections.Streams
		if node.Node == "" || node.Backplane.Stream != "PENSTOCK" {
			t.Errorf("a node says %+v", node)
		}
	}
	if len(answer.Nodes) != 2 || streams != 1 {
		t.Errorf("%d nodes with %d streams; want 2 with 1", len(answer.Nodes), streams)
	}
	alone := servertest.Start(t)
	if status, _, body := get(t, alone.URL+"/stats?cluster=true"); status != 400 {
		t.Errorf("a node that is alone: %d %s", status, body)
	}
}

// A stream that Penstock makes is as it wants it; of another one it says what to set.
func TestInspectStream(t *testing.T) {
	n := startNATS(t)
	servertest.Start(t, On(n))
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) {
		c.Name, c.Subjects, c.Discard, c.MaxMsgsPerSubject = "OTHER", []string{"other.>"}, jetstream.DiscardNew, 1
	})
	for stream, want := range map[string][]string{"PENSTOCK": nil, "OTHER": {"discard", "limits", "messages for each subject", "first sequence"}} {
		c := server.DefaultConfig()
		On(n)(&c)
		c.NatsStream = stream
		findings, err := server.InspectStream(c)
		if err != nil {
			t.Fatal(err)
		}
		var bad []string
		for _, f := range findings {
			if f.Want != "" {
				bad = append(bad, f.Setting)
			}
		}
		if !slices.Equal(bad, want) {
			t.Errorf("%s: %q should be others; want %q", stream, bad, want)
		}
	}
}

// A mirror of the stream, as a region has one, has the same ids: a client goes on there, and what is
// published there goes to the origin.
func TestMirrorHasTheSameIDs(t *testing.T) {
	n := startNATS(t)
	middle := servertest.Start(t, On(n))
	_, js := client(t, n)
	if _, err := js.CreateStream(bounded(t), jetstream.StreamConfig{Name: "REGION", Storage: jetstream.FileStorage, Mirror: &jetstream.StreamSource{Name: "PENSTOCK"}}); err != nil {
		t.Fatal(err)
	}
	first := middle.Publish(t, "news", "one")
	region := servertest.Start(t, On(n), func(c *server.Config) { c.NatsStream = "REGION" })
	alice := region.Subscribe(t, "news", servertest.After(first))
	second := region.Publish(t, "news", "two")
	alice.WaitID(t, second)
	if got := alice.Events(); len(got) != 1 || got[0].Data != "two" || got[0].ID != first+1 {
		t.Errorf("%v; want two, with the id %d", got, first+1)
	}
	bob := middle.Subscribe(t, "news", servertest.After(first))
	if e := bob.Next(t); e.ID != second {
		t.Errorf("%v in the middle; want the id %d", e, second)
	}
}

// Two publishes with one key are one event, whichever nodes they come to.
func TestKeysAreKnownToAllNodes(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	first := a.PublishLines(t, `{"topic":"news","data":"one","key":"k 1"}`)
	second := b.PublishLines(t, `{"topic":"news","data":"one again","key":"k 1"}`)
	other := b.PublishLines(t, `{"topic":"other","data":"two","key":"k 1"}`)
	if first != second || other != first+1 {
		t.Errorf("ids %d, %d and, on another topic, %d; want the same, and the next", first, second, other)
	}
}

// The end of a topic ends its streams on every node.
func TestEndReachesEveryNode(t *testing.T) {
	n := startNATS(t)
	a, b := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	alice, bob := a.Subscribe(t, "match"), b.Subscribe(t, "match")
	a.PublishLines(t, `{"topic":"match","data":"goal"}`, `{"topic":"match","data":"over","close":true}`)
	for _, who := range []*servertest.Subscriber{alice, bob} {
		if err := who.WaitEnd(t); err != nil {
			t.Errorf("%s: %v", who, err)
		}
		if got := who.Events(); len(got) != 3 || got[2].Type != "end" || got[1].Data != "over" {
			t.Errorf("%s got %v", who, got)
		}
	}
	b.End(t, "match") // a second end is none
}

// What cannot be an event is left out, and what follows it comes.
func TestWhatIsNoEventIsLeftOut(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n))
	conn, _ := client(t, n)
	alice := node.Subscribe(t, ">")
	for _, m := range []*nats.Msg{
		{Subject: "penstock.news", Data: []byte{0xff, 0xfe}},
		{Subject: "penstock.a/b", Data: []byte("no topic")},
		{Subject: "penstock.$own", Data: []byte("the server's own")},
		{Subject: "penstock.news", Data: []byte("x"), Header: nats.Header{"Penstock-Event": {"gap"}}},
		{Subject: "penstock.news", Data: []byte("x"), Header: nats.Header{"Penstock-Retry": {"soon"}}},
	} {
		if err := conn.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Publish("penstock.news", []byte("good")); err != nil {
		t.Fatal(err)
	}
	if e := alice.Next(t); e.Data != "good" {
		t.Errorf("got %v first", e)
	}
}
