package backplane_test

// Streams with holes, readers that are taken away, prefixes.

import (
	"slices"
	"strconv"
	"testing"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/nats.go/jetstream"
)

// A prefix of one's own on a stream that has other subjects as well: these are no events, and the
// holes that they leave in the ids are no gaps, live, on a resume and in older history.
func TestOtherSubjectsOfTheStreamAreNoGaps(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) {
		c.Subjects, c.AllowDirect = []string{"app.events.>", "else.>"}, true
	})
	prefix := func(c *server.Config) { c.NatsSubjectPrefix = "app.events" }
	node := servertest.Start(t, On(n), small, prefix)
	alice := node.Subscribe(t, "news")
	noise := make([]byte, 2000)
	for i := range noise {
		noise[i] = 'x'
	}
	var ids []uint64
	for i := range 100 {
		if _, err := js.Publish(bounded(t), "else.news", []byte("no event")); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, node.Publish(t, "news", strconv.Itoa(i)))
		node.Publish(t, "noise", string(noise))
	}
	alice.WaitID(t, ids[99])
	fresh := servertest.Start(t, On(n), small, prefix)
	resumed := fresh.Subscribe(t, "news", servertest.After(ids[9]))
	follow(t, resumed, ids[99])
	rewound := fresh.Subscribe(t, "news", servertest.With("rewind", "90"))
	rewound.WaitID(t, ids[99])
	for _, tt := range []struct {
		who  *servertest.Subscriber
		from int
	}{{alice, 0}, {resumed, 10}, {rewound, 10}} {
		if got := idsOf(tt.who); !slices.Equal(got, ids[tt.from:]) {
			t.Errorf("%s: %d; want %d", tt.who, got, ids[tt.from:])
		}
	}
}

// A stream that keeps one message for each subject is full of holes: who resumes over one is told by a gap, and
// what there is comes.
func TestHolesInTheStreamAreGaps(t *testing.T) {
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 })
	publish := func(topic, data string) uint64 {
		ack, err := js.Publish(bounded(t), "penstock."+topic, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	publish("quiet", "first")
	for i := range 20 {
		publish("news", strconv.Itoa(i))
		publish("other", strconv.Itoa(i))
	}
	fresh := servertest.Start(t, On(n))
	who := fresh.Subscribe(t, "news", servertest.After(5))
	if gap := who.NextGap(t); gap.After != 5 || gap.Reason != "resume" {
		t.Errorf("gap %+v; want one after 5, for the resume", gap)
	}
	// Live there are no holes.
	live := fresh.Subscribe(t, "news")
	var ids []uint64
	for i := range 20 {
		ids = append(ids, fresh.Publish(t, "news", strconv.Itoa(i)))
	}
	live.WaitID(t, ids[19])
	follow(t, who, ids[19])
	if got := idsOf(live); !slices.Equal(got, ids) {
		t.Errorf("%d; want %d", got, ids)
	}
	if got := fresh.Subscribe(t, "*", servertest.With("snapshot", "true")); got.Next(t).Data != "first" {
		t.Errorf("snapshot: %v; want the quiet topic's first", got.Events())
	}
}

// A node whose reader is deleted, by somebody or because it was slow for too long, reads on behind the last
// event: nothing twice, nothing missed.
func TestReaderThatIsTakenAwayIsMadeAnew(t *testing.T) {
	n := startNATS(t)
	node := servertest.Start(t, On(n))
	alice := node.Subscribe(t, "news")
	_, js := client(t, n)
	stream, err := js.Stream(bounded(t), "PENSTOCK")
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for round := range 3 {
		names := stream.ConsumerNames(bounded(t))
		for name := range names.Name() {
			if err := stream.DeleteConsumer(bounded(t), name); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			ids = append(ids, publishUntilTaken(t, node, "news", strconv.Itoa(20*round+i)))
		}
	}
	alice.WaitID(t, ids[59])
	if got := idsOf(alice); !slices.Equal(got, ids) {
		t.Errorf("%d; want %d", got, ids)
	}
}
