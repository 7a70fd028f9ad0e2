package topic

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// Ids are the time in microseconds, made unique, and never go back with the clock.
func TestIDsAreTheTimeAndGrow(t *testing.T) {
	now := int64(5000)
	s := open(t, Options{Now: func() int64 { return now }})
	if s.StartID() != 5000 || s.NewestID() != 5000 || s.BeforeID() != 5001 {
		t.Errorf("at start: start %d, newest %d, before %d; want 5000, 5000, 5001", s.StartID(), s.NewestID(), s.BeforeID())
	}
	var ids []uint64
	for _, at := range []int64{5000, 5000, 6000, 5500, 6001, 7000, -1} {
		now = at
		ids = append(ids, publish(t, s, "a", "x"))
	}
	if want := []uint64{5001, 5002, 6000, 6001, 6002, 7000, 7001}; !slices.Equal(ids, want) {
		t.Errorf("ids %d, want %d", ids, want)
	}
	if s.NewestID() != 7001 || s.BeforeID() != 5001 {
		t.Errorf("newest %d, before %d; want 7001, 5001", s.NewestID(), s.BeforeID())
	}
	last := int64(0)
	rd := s.Ring().Reader(0, ring.None)
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		if e.Time() < last {
			t.Errorf("entry %d is of %d, after one of %d", e.ID(), e.Time(), last)
		}
		last = e.Time()
	}
}

// What is in the ring is what a stream sends, with the id line last.
func TestFrameInTheRing(t *testing.T) {
	s := open(t, Options{Now: func() int64 { return 41 }})
	id, err := s.Publish(&Publication{Topic: "a", Event: encode.Event{Type: "trade", Data: []byte("one\ntwo"), Retry: 7}})
	if err != nil || id != 42 {
		t.Fatalf("id %d, %v; want 42", id, err)
	}
	e, _, ok := s.Ring().Oldest()
	if !ok {
		t.Fatal("the ring is empty")
	}
	if got, want := string(e.Frame()), "event: trade\ndata: one\ndata: two\nretry: 7\nid: 42\n\n"; got != want {
		t.Errorf("frame %q, want %q", got, want)
	}
	if e.TypeEnd() != len("event: trade\n") || e.Kind() != ring.Event || e.Number() != 1 || e.Prev() != ring.None || e.PrevID() != 0 {
		t.Errorf("type end %d, kind %d, number %d, prev %d, prev id %d", e.TypeEnd(), e.Kind(), e.Number(), e.Prev(), e.PrevID())
	}
	tp, _ := s.Table().Lookup("a")
	if gotID, pos, ok := tp.Newest(); gotID != 42 || pos != 0 || !ok || tp.Events() != 1 || tp.Bytes() != uint64(len(e.Frame())) || tp.LastTime() != 41 || tp.Name() != "a" || e.Topic() != tp.Number() {
		t.Errorf("topic %q, number %d: newest %d at %d, %d events of %d bytes, the last at %d", tp.Name(), tp.Number(), gotID, pos, tp.Events(), tp.Bytes(), tp.LastTime())
	}
}

// Whatever is refused leaves nothing behind: no event, no topic.
func TestRefusedPublishLeavesNothing(t *testing.T) {
	s := open(t, Options{MaxEventSize: 1000, MaxTopics: 1})
	publish(t, s, "only", "x")
	events := s.Stats().Events
	var tooLarge *FrameTooLargeError
	for _, c := range []struct {
		p    Publication
		want func(error) bool
	}{
		{Publication{Topic: "$own"}, func(err error) bool { return errors.Is(err, ErrOwnTopic) }},
		{Publication{Topic: "a..b"}, func(err error) bool { return strings.Contains(err.Error(), "empty token at byte 2") }},
		{Publication{Topic: ""}, func(err error) bool { return strings.Contains(err.Error(), "empty") }},
		{Publication{Topic: "b", Event: encode.Event{Type: "gap"}}, func(err error) bool { return strings.Contains(err.Error(), "reserved") }},
		{Publication{Topic: "b", Event: encode.Event{Data: []byte{0xff}}}, func(err error) bool { return strings.Contains(err.Error(), "UTF-8") }},
		{Publication{Topic: "b", Event: encode.Event{Data: make([]byte, 1000)}}, func(err error) bool {
			return errors.As(err, &tooLarge) && tooLarge.Max == 1000 && tooLarge.Size == 1000+len("data: \n")+encode.MaxIDLine
		}},
		{Publication{Topic: "b"}, func(err error) bool { return errors.Is(err, ErrTooManyTopics) }},
	} {
		if _, err := s.Publish(&c.p); err == nil || !c.want(err) {
			t.Errorf("publish %.60q to %q: %v", c.p.Event.Data, c.p.Topic, err)
		}
		var bad *BatchError
		_, err := s.PublishBatch([]Publication{{Topic: "only"}, c.p}, make([]uint64, 2))
		if !errors.As(err, &bad) || bad.Index != 1 || !c.want(bad.Err) || !strings.HasPrefix(err.Error(), "event 2: ") {
			t.Errorf("publish %.60q to %q as the second of two: %v", c.p.Event.Data, c.p.Topic, err)
		}
	}
	if st := s.Stats(); st.Events != events || st.Topics != 1 || s.Table().Len() != 1 {
		t.Errorf("%d events in %d topics of %d, want %d in 1 of 1", st.Events, st.Topics, s.Table().Len(), events)
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
}

// The server's own topics are published to by the server alone, and always have a place.
func TestOwnTopicsAlwaysHaveAPlace(t *testing.T) {
	s := open(t, Options{MaxTopics: 1})
	publish(t, s, "a", "x")
	if _, err := s.PublishOwn(&Publication{Topic: "$stats"}); err != nil {
		t.Errorf("the server's own topic: %v", err)
	}
	if _, err := s.Publish(&Publication{Topic: "b"}); err != ErrTooManyTopics {
		t.Errorf("the second topic of one: %v", err)
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
}

// A frame as large as may be goes in, whatever has to go for it.
func TestGreatestFrame(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 16 << 10, Keep: 1})
	data := strings.Repeat("x", 16<<10-len("data: \n")-encode.MaxIDLine)
	for i := range 100 {
		publish(t, s, fmt.Sprintf("small.%d", i), "x")
		publish(t, s, "a", data)
		if err := s.broken(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Publish(&Publication{Topic: "a", Event: encode.Event{Data: []byte(data + "x")}}); err == nil {
		t.Error("a frame of one byte more is taken")
	}
}

// Options that can't be are named.
func TestBadOptions(t *testing.T) {
	good := Options{RingSize: 64 << 10, MaxEventSize: 1 << 10}
	for name, change := range map[string]func(*Options){
		"ring":           func(o *Options) { o.RingSize = 1 },
		"frame":          func(o *Options) { o.MaxEventSize = 64 << 10 },
		"max topics -1":  func(o *Options) { o.MaxTopics = -1 },
		"keep -1":        func(o *Options) { o.Keep = -1 },
		"keep 65537":     func(o *Options) { o.Keep = maxKeep + 1 },
		"keep size -1":   func(o *Options) { o.KeepSize = -1 },
		"max waiting -1": func(o *Options) { o.MaxWaiting = -1 },
		"wait -1s":       func(o *Options) { o.PublishWait = -time.Second },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

// A batch's events are in the ring in its order, with their ids, however many slices it takes.
func TestBatchInOrder(t *testing.T) {
	s := open(t, Options{RingSize: 1 << 20, MaxEventSize: 16 << 10})
	var ps []Publication
	for i := range 1000 {
		size := 10
		if i%50 == 0 {
			size = 10 << 10
		}
		ps = append(ps, Publication{Topic: fmt.Sprintf("t.%d", i*i%7), Event: encode.Event{Type: fmt.Sprint("n", i), Data: []byte(strings.Repeat("x", size))}})
	}
	ids := make([]uint64, len(ps))
	if _, err := s.PublishBatch(ps, ids); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublishBatch(nil, nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
	i := 0
	rd := s.Ring().Reader(0, ring.None)
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		tp, _ := s.Table().Lookup(ps[i].Topic)
		if want, _ := encode.AppendFrame(nil, &ps[i].Event); e.ID() != ids[i] || e.Topic() != tp.Number() || string(e.Frame()) != string(encode.AppendID(want, ids[i])) || e.TypeEnd() != len(ps[i].Event.Type)+8 {
			t.Fatalf("entry %d: id %d, topic %d, %.40q; want %d, %d, %.40q", i, e.ID(), e.Topic(), e.Frame(), ids[i], tp.Number(), want)
		}
		i++
	}
	if i != len(ps) {
		t.Errorf("%d entries, want %d", i, len(ps))
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
	if tp, _ := s.Table().Lookup("t.0"); tp.counters[publishers].Load() != 0 {
		t.Error("the batch still holds its topics")
	}
}

// Others get in between the slices of a batch.
func TestBatchLetsOthersIn(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 1 << 10})
	f := s.Follow(func() {})
	ps := make([]Publication, 5000)
	for i := range ps {
		ps[i].Topic = "batch"
	}
	ids := make([]uint64, len(ps))
	var batch sync.WaitGroup
	batch.Go(func() {
		if _, err := s.PublishBatch(ps, ids); err != nil {
			t.Error(err)
		}
	})
	// The shard has not read: the batch waits in its middle.
	until(t, func() bool { return s.Stats().Waiting == 1 })
	other, err := s.PublishOwn(&Publication{Topic: "$other"})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var shard sync.WaitGroup
	shard.Go(func() { follow(f, stop) })
	batch.Wait()
	close(stop)
	shard.Wait()
	if !slices.IsSorted(ids) || ids[0] > other || ids[len(ids)-1] < other {
		t.Errorf("the batch has ids %d to %d, the other event %d", ids[0], ids[len(ids)-1], other)
	}
}

// A batch that needs more places than there are is refused, and gives back those that it took.
func TestBatchOfTooManyTopics(t *testing.T) {
	s := open(t, Options{MaxTopics: 5})
	publish(t, s, "old", "x")
	batch := func(count int) error {
		ps := make([]Publication, count)
		for i := range ps {
			ps[i].Topic = fmt.Sprintf("new.%d", i)
		}
		_, err := s.PublishBatch(ps, make([]uint64, count))
		return err
	}
	var bad *BatchError
	if err := batch(5); !errors.As(err, &bad) || bad.Index != 4 || bad.Err != ErrTooManyTopics {
		t.Errorf("six topics of five: %v", err)
	}
	if err := s.broken(); err != nil {
		t.Error(err)
	}
	if s.Table().Len() != 1 || s.Stats().Topics != 1 || s.Stats().Events != 1 {
		t.Errorf("%d topics, %d of them published, %d events; want 1, 1, 1", s.Table().Len(), s.Stats().Topics, s.Stats().Events)
	}
	if err := batch(4); err != nil {
		t.Errorf("five topics of five: %v", err)
	}
}

// What is published while it drains is refused; what has begun is finished first.
func TestDrainFinishesBatches(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 1 << 10})
	f := s.Follow(func() {})
	ps := make([]Publication, 2000)
	for i := range ps {
		ps[i].Topic = "batch"
	}
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.PublishBatch(ps, make([]uint64, len(ps))); err != nil {
			t.Error(err)
		}
	})
	until(t, func() bool { return s.Stats().Waiting == 1 })
	errs := make(chan error, 1)
	all.Go(func() {
		_, err := s.Publish(&Publication{Topic: "late"})
		errs <- err
	})
	until(t, func() bool { return s.Stats().Waiting == 2 })
	all.Go(s.Drain)
	if err := <-errs; err != ErrDraining {
		t.Errorf("who waits when the drain begins gets %v", err)
	}
	if _, err := s.Publish(&Publication{Topic: "late"}); err != ErrDraining {
		t.Errorf("who comes when it drains gets %v", err)
	}
	if _, err := s.PublishOwn(&Publication{Topic: "$late"}); err != ErrDraining {
		t.Errorf("the server's own gets %v", err)
	}
	if _, err := s.PublishBatch(ps, make([]uint64, len(ps))); err != ErrDraining {
		t.Errorf("a batch gets %v", err)
	}
	stop := make(chan struct{})
	var shard sync.WaitGroup
	shard.Go(func() { follow(f, stop) })
	all.Wait()
	s.Drain() // again: nothing happens
	close(stop)
	shard.Wait()
	if events := s.Stats().Events; events != 2000 {
		t.Errorf("%d events, want the 2000 of the batch", events)
	}
}
