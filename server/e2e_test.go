package server_test

// End to end, over real sockets: everything published arrives exactly once and in order, however
// often a subscriber is cut off, or it is told of the gap.

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"penstock/server"
	"penstock/server/servertest"
)

// netpoll's poller and fasthttp's clock are started once and for good.
func TestMain(m *testing.M) {
	server.BeNext()
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

const (
	publishers  = 8
	subscribers = 200
	topicCount  = 20
)

// A published event, as the server's answer says.
type published struct {
	id   uint64
	data string
}

// A ledger is what has been published, by topic and, once sorted, in order of ids.
type ledger struct {
	mu     sync.Mutex
	more   *sync.Cond
	topics map[string][]published
	count  int
	closed bool // nobody publishes any more, but the test itself
}

func (l *ledger) add(topic string, p published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic] = append(l.topics[topic], p)
	l.count++
	l.more.Broadcast()
}

// wait waits until so many more events have been published, or all are.
func (l *ledger) wait(events int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for until := l.count + events; l.count < until && !l.closed; {
		l.more.Wait()
	}
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.more.Broadcast()
}

func (l *ledger) sort() {
	for _, list := range l.topics {
		slices.SortFunc(list, func(a, b published) int {
			if a.id < b.id {
				return -1
			}
			return 1
		})
	}
}

func topicName(n int) string { return fmt.Sprintf("market.%02d", n) }

// With a ring that holds everything nothing may be missing, and nobody may be told of a gap.
func TestEveryEventArrivesExactlyOnceThroughCuts(t *testing.T) {
	missed := publishAndCut(t, 20, servertest.Shards(3), servertest.RingSize(64<<20))
	if missed > 0 {
		t.Errorf("%d events are missing, though the ring holds all", missed)
	}
}

// With a ring that holds a fraction, whoever came back too late knows exactly what is missing.
func TestWhatTheRingLostIsToldInGaps(t *testing.T) {
	missed := publishAndCut(t, 20, servertest.Shards(3), servertest.RingSize(64<<10))
	if missed == 0 {
		t.Error("nothing was lost, so that this says nothing about gaps")
	}
}

// publishAndCut publishes from several goroutines, each so many events to each topic, while half
// of the subscribers are cut at random bytes and come back. It returns how many events were
// missed by all subscribers together, each of them within a gap, and fails the test for every one
// that was not.
func publishAndCut(t *testing.T, each int, options ...servertest.Option) (missed int) {
	srv := servertest.Start(t, options...)
	book := ledger{topics: map[string][]published{}}
	book.more = sync.NewCond(&book.mu)
	var cutters sync.WaitGroup
	allOut := make(chan struct{})
	who := make([]*follower, subscribers)
	for i := range who {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		topics := make([]string, 1+random.IntN(4))
		for j, n := range random.Perm(topicCount)[:len(topics)] {
			topics[j] = topicName(n)
		}
		coding := "identity"
		if i%4 < 2 { // every other one of those who are cut, and of those who are not
			coding = "gzip"
		}
		who[i] = &follower{topics: topics, Subscriber: srv.SubscribeAll(t, topics, servertest.WithHeader("Accept-Encoding", coding))}
		who[i].start = number(who[i].LastID())
		if i%2 == 0 {
			cutters.Go(func() { who[i].cutAgainAndAgain(t, random, &book, allOut) })
		}
	}

	var writers sync.WaitGroup
	for p := range publishers {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(8, uint64(p)))
			for n := range each * topicCount {
				topic := topicName(random.IntN(topicCount))
				data := fmt.Sprintf("%s from %d: %d\n%s", topic, p, n, strings.Repeat("-", random.IntN(200)))
				id, err := srv.TryPublish(topic, data)
				if err != nil {
					t.Error(err)
					return
				}
				book.add(topic, published{id, data})
			}
		})
	}
	writers.Wait()
	book.close()
	close(allOut)
	cutters.Wait()
	// The last word in each topic: who has it has had its chance of everything before.
	for n := range topicCount {
		id := srv.Publish(t, topicName(n), "last")
		book.add(topicName(n), published{id, "last"})
	}
	book.sort()
	if t.Failed() {
		return 0
	}
	for _, w := range who {
		w.Resume(t) // those that were cut have to, the others may
		last := uint64(0)
		for _, topic := range w.topics {
			list := book.topics[topic]
			last = max(last, list[len(list)-1].id)
		}
		w.WaitID(t, last)
		missed += w.check(t, &book)
	}
	return missed
}

// A follower is a subscriber and what it must have got.
type follower struct {
	*servertest.Subscriber
	topics []string
	start  uint64 // the id of its first block
}

// cutAgainAndAgain cuts the connection after a random number of bytes, mostly within a frame, and
// resumes, mostly at once and sometimes after hundreds of events, until done.
func (f *follower) cutAgainAndAgain(t *testing.T, random *rand.Rand, book *ledger, done <-chan struct{}) {
	for {
		select {
		case <-f.CutAfter(1 + random.IntN(20_000)):
		case <-done:
			return
		}
		if random.IntN(4) == 0 {
			book.wait(random.IntN(1000))
		}
		if err := f.TryResume(); err != nil {
			t.Error(err)
			return
		}
	}
}

// check holds what the follower got against what was published: each event of its topics after
// its start once, in order and with its data, or within a gap that names its topic.
func (f *follower) check(t *testing.T, book *ledger) (missed int) {
	t.Helper()
	var gaps []servertest.Gap
	got := map[uint64]string{}
	newest := f.start
	for _, e := range f.Events() {
		if e.Type == "gap" {
			g, err := servertest.ParseGap(e.Data)
			if err != nil {
				t.Fatalf("%s: gap %q: %v", f, e.Data, err)
			}
			gaps = append(gaps, g)
			continue
		}
		if e.ID <= newest {
			t.Fatalf("%s: id %d after id %d", f, e.ID, newest)
		}
		newest = e.ID
		got[e.ID] = e.Data
	}
	for _, topic := range f.topics {
		for _, p := range book.topics[topic] {
			data, ok := got[p.id]
			delete(got, p.id)
			switch {
			case p.id <= f.start:
				t.Fatalf("%s: published %d before the stream's start %d", f, p.id, f.start)
			case ok && data != p.data:
				t.Fatalf("%s: id %d has data %q, want %q", f, p.id, data, p.data)
			case !ok && !slices.ContainsFunc(gaps, func(g servertest.Gap) bool {
				return g.After < p.id && p.id < g.Before && slices.Contains(g.Topics, topic)
			}):
				t.Fatalf("%s: id %d of %s is missing and in none of the gaps %v", f, p.id, topic, gaps)
			case !ok:
				missed++
			}
		}
	}
	if len(got) > 0 {
		t.Fatalf("%s: %d events that were never published to its topics", f, len(got))
	}
	return missed
}

// number reads an id.
func number(id string) (n uint64) {
	_, _ = fmt.Sscan(id, &n)
	return n
}

// What is sent first to whom asked first: a publish reaches a subscriber that was idle.
func TestIdleSubscriberGetsALoneEvent(t *testing.T) {
	srv := servertest.Start(t)
	alice := srv.Subscribe(t, "news")
	id := srv.Publish(t, "news", "one\ntwo")
	if e := alice.Next(t); e.ID != id || e.Data != "one\ntwo" {
		t.Errorf("got %+v, want id %d", e, id)
	}
}

// A reader that stopped reading is told what it missed, then goes on live.
func TestLappedSubscriberGetsGapThenLive(t *testing.T) {
	srv := servertest.Start(t, servertest.RingSize(64<<10))
	alice := srv.Subscribe(t, "ticks")
	alice.StopReading()
	lost := srv.PublishUntilLapped(t, "ticks", alice)
	alice.Read()

	gap := alice.NextGap(t)
	if gap.After >= lost.First || gap.Before <= lost.Last || gap.Reason != "lag" {
		t.Errorf("gap %+v, want it around the lost %+v for lag", gap, lost)
	}
	live := srv.Publish(t, "ticks", "live")
	alice.WaitID(t, live)
}

// A server that goes down ends its streams cleanly, at a frame's border.
func TestDrainEndsStreamsCleanly(t *testing.T) {
	srv := servertest.Start(t)
	var all []*servertest.Subscriber
	for range 20 {
		all = append(all, srv.Subscribe(t, "news"))
	}
	id := srv.Publish(t, "news", "the last")
	srv.Drain()
	for _, s := range all {
		if err := s.WaitEnd(t); err != nil {
			t.Errorf("%s: ended with %v, want a last chunk", s, err)
		}
		s.WaitID(t, id)
	}
	if _, err := srv.TryPublish("news", "too late"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("publishing while draining: %v, want 503", err)
	}
}

// Two servers in one process know nothing of each other.
func TestTwoServersBesideEachOther(t *testing.T) {
	one, two := servertest.Start(t), servertest.Start(t, func(c *server.Config) { c.Shards = 2 })
	a, b := one.Subscribe(t, "news"), two.Subscribe(t, "news")
	one.Publish(t, "news", "one")
	two.Publish(t, "news", "two")
	if e := a.Next(t); e.Data != "one" {
		t.Errorf("got %+v of the first server", e)
	}
	if e := b.Next(t); e.Data != "two" {
		t.Errorf("got %+v of the second server", e)
	}
}
