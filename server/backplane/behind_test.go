package backplane_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/encode"
	"penstock/server"
	"penstock/server/backplane"
	"penstock/server/servertest"
	"penstock/server/topic"

	"github.com/nats-io/nats.go/jetstream"
)

// A ring is a sink without shards but those that the test holds.
type ring struct{ *topic.Sequencer }

func (ring) Restart(uint64) {}

// held is a sequencer on a stream, with a shard that reads only when the test says so.
func held(t *testing.T, n *natsd, change func(*backplane.Options, *topic.Options)) (*backplane.Backplane, *topic.Sequencer, *topic.Follower) {
	t.Helper()
	p := backplane.Options{
		Servers: []string{n.url()}, Stream: "PENSTOCK", Prefix: "auto", PublishTimeout: patience,
		MaxEventSize: 64 << 10, RingSize: 8 << 20, MaxBehind: 50 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	o := topic.Options{RingSize: 8 << 20, MaxEventSize: 64 << 10, Backplane: true, PublishWait: 20 * time.Millisecond}
	if change != nil {
		change(&p, &o)
	}
	b, err := backplane.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	o.Behind = b.Behind
	s, err := topic.New(o)
	if err != nil {
		t.Fatal(err)
	}
	shard := s.Follow(func() {})
	b.Attach(s, ring{s})
	b.Start(false)
	t.Cleanup(func() {
		shard.Done(s.Ring().Head(), 1<<30)
		s.Drain()
		b.Close()
	})
	<-b.Filled()
	return b, s, shard
}

func event(data string) *topic.Publication {
	return &topic.Publication{Topic: "news", Event: encode.Event{Data: []byte(data)}}
}

// publishUntilRefused publishes until the node is too far behind, and returns how much was stored.
func publishUntilRefused(t *testing.T, b *backplane.Backplane) (stored int) {
	t.Helper()
	data := strings.Repeat("x", 4000)
	for late := time.Now().Add(patience); time.Now().Before(late); {
		switch _, err := b.Publish(event(data)); {
		case errors.Is(err, topic.ErrOverload):
			return stored
		case err != nil:
			t.Fatal(err)
		}
		stored++
	}
	t.Fatal("a node whose shard does not read takes events without end")
	return 0
}

// drained lets the shard read until the ring has as many events.
func drained(t *testing.T, b *backplane.Backplane, s *topic.Sequencer, shard *topic.Follower, events int) {
	t.Helper()
	servertest.WaitUntil(t, "all events", func() bool {
		shard.Done(s.Ring().Head(), 0)
		return s.Stats().Events >= uint64(events)
	})
}

// While a shard is held the reading waits and leaves the rest with the stream, and publishers here are
// slowed, then refused; when it goes on, everything comes, and publishers too.
func TestPublishersAreHeldBackByANodeThatIsBehind(t *testing.T) {
	n := startNATS(t)
	b, s, shard := held(t, n, nil)
	stored := publishUntilRefused(t, b)
	st := b.Stats()
	if in := s.Stats().Events; in >= uint64(stored) || s.Stats().Overloads == 0 {
		t.Errorf("%d of %d events are in the ring, %d overloads; want fewer, and some", in, stored, s.Stats().Overloads)
	}
	if st.Behind == 0 || st.MaxBehind != 0.05 {
		t.Errorf("behind by %v s, at most %v", st.Behind, st.MaxBehind)
	}
	// Who waits longer than that goes on when the node has caught up.
	drained(t, b, s, shard, stored)
	if _, err := b.Publish(event("more")); err != nil {
		t.Error(err)
	}
	drained(t, b, s, shard, stored+1)
	if st := b.Stats(); st.Behind != 0 || st.LastID != s.NewestID() || st.Restarts != 0 {
		t.Errorf("at the end: %+v", st)
	}
}

// A publisher that waits goes on as soon as the node has caught up, and a batch that has begun is finished.
func TestPublishersThatWaitGoOn(t *testing.T) {
	n := startNATS(t)
	b, s, shard := held(t, n, func(_ *backplane.Options, o *topic.Options) { o.PublishWait = patience })
	var taken sync.WaitGroup
	batch := make([]topic.Publication, 1200)
	for i := range batch {
		batch[i] = *event(strings.Repeat("y", 1000))
	}
	taken.Go(func() {
		if fresh, err := b.PublishBatch(batch, make([]uint64, len(batch))); fresh != len(batch) || err != nil {
			t.Errorf("%d of a batch, %v", fresh, err)
		}
	})
	// The others publish until they have to wait: how much that takes is up to the machine.
	var stored atomic.Int64
	var enough atomic.Bool
	defer enough.Store(true)
	for range 8 {
		taken.Go(func() {
			for !enough.Load() {
				if _, err := b.Publish(event(strings.Repeat("x", 1000))); err != nil {
					t.Error(err)
					return
				}
				stored.Add(1)
			}
		})
	}
	servertest.WaitUntil(t, "publishers that wait", func() bool { return s.Stats().Waiting > 2 }) // the reading is one
	enough.Store(true)
	through := make(chan struct{})
	go func() {
		taken.Wait()
		close(through)
	}()
	servertest.WaitUntil(t, "publishers to go on", func() bool {
		shard.Done(s.Ring().Head(), 0)
		select {
		case <-through:
			return true
		default:
			return false
		}
	})
	drained(t, b, s, shard, len(batch)+int(stored.Load()))
}

// With --overload shed they are refused at once.
func TestPublishersAreShedByANodeThatIsBehind(t *testing.T) {
	n := startNATS(t)
	b, _, _ := held(t, n, func(_ *backplane.Options, o *topic.Options) { o.Shed, o.PublishWait = true, time.Hour })
	publishUntilRefused(t, b)
}

// What was deleted before it was read holds nobody back for ever.
func TestPurgedStreamHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	b, s, shard := held(t, n, func(o *backplane.Options, _ *topic.Options) { o.MaxBehind = time.Hour })
	_, js := client(t, n)
	// More than the reading asks for at once.
	for range 3000 {
		if _, err := js.PublishAsync("penstock.news", []byte(strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	last, err := b.Publish(event("last"))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(bounded(t), "PENSTOCK")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(bounded(t)); err != nil {
		t.Fatal(err)
	}
	servertest.WaitUntil(t, "nothing to be behind by", func() bool {
		shard.Done(s.Ring().Head(), 0)
		return b.Stats().Behind == 0
	})
	if s.NewestID() >= last {
		t.Error("the last event was read before it was deleted")
	}
}

// Over HTTP it is a 503 with Retry-After, as for shards; drain ends the wait.
func TestNodeThatIsBehindAnswers503(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	node := servertest.Start(t, On(n), func(c *server.Config) {
		c.NatsMaxBehind, c.PublishWait = time.Millisecond, time.Millisecond
	})
	_, js := client(t, n)
	filler := []byte(strings.Repeat("x", 400))
	var refused *http.Response
	servertest.WaitUntil(t, "a refusal", func() bool {
		var last jetstream.PubAckFuture
		for range 2000 {
			last, _ = js.PublishAsync("penstock.news", filler)
		}
		<-last.Ok()
		resp, err := http.Post(node.URL+"/publish/news", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		refused = resp
		return resp.StatusCode != 200
	})
	if refused.StatusCode != 503 || refused.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", refused.Status, refused.Header.Get("Retry-After"))
	}
	if _, _, body := get(t, node.URL+"/metrics"); !strings.Contains(body, `penstock_refusals_total{reason="overload"} 1`) || !strings.Contains(body, "penstock_backplane_behind_seconds") {
		t.Error("the metrics do not tell")
	}
}
