package topic

// Moving to another process, and freezing for it. That nothing of the past is changed by it is
// slow_test.go's to find: its histories have upgrades.

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/encode"
	"penstock/ring"
	"penstock/server/handover"
)

// fataler is a test, or rapid's.
type fataler interface {
	Fatal(args ...any)
	Helper()
}

// moved is the sequencer in another process, with a follower.
func moved(t fataler, s *Sequencer, o Options) (*Sequencer, *Follower) {
	t.Helper()
	if err := s.Freeze(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	out := handover.NewWriter(&wire)
	s.Export().Code(out)
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	var past State
	in := handover.NewReader(&wire)
	if past.Code(in); in.Err() != nil {
		t.Fatal(in.Err())
	}
	o.Past, o.Ring = &past, copied(t, s.ring)
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := n.Follow(func() {})
	if err := n.Load(&past); err != nil {
		t.Fatal(err)
	}
	f.Done(n.ring.Head(), 0)
	return n, f
}

func copied(t fataler, r *ring.Ring) *ring.Copy {
	t.Helper()
	c, err := ring.NewCopy(r.SegmentSize())
	if err != nil {
		t.Fatal(err)
	}
	for at, b := r.Piece(0); len(b) > 0; at, b = r.Piece(at + ring.Position(len(b))) {
		if err := c.Take(at, len(b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Ids go on, keys are known, an ended topic stays ended, and a first publish of a topic is one.
func TestSequencerGoesOnInAnotherProcess(t *testing.T) {
	now := int64(5000)
	o := Options{RingSize: 64 << 10, MaxEventSize: 8 << 10, Keep: 1, Now: func() int64 { return now }}
	s := open(t, o)
	publish(t, s, "a", "1")
	id, err := s.Publish(&Publication{Topic: "a", Event: encode.Event{Data: []byte("2")}, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	s.End("b")
	end, err := s.Publish(&Publication{Topic: "b", Close: true})
	if err != nil {
		t.Fatal(err)
	}
	now = 10 // a clock that was set back meanwhile
	n, _ := moved(t, s, o)
	if got, err := n.Publish(&Publication{Topic: "a", Event: encode.Event{Data: []byte("2")}, Key: "k"}); got != id || err != nil {
		t.Errorf("published again with its key: %d %v, want %d", got, err, id)
	}
	b, _ := n.table.Lookup("b")
	if got, ok := b.Ended(); got != end || !ok {
		t.Errorf("b has ended at %d %v, want %d", got, ok, end)
	}
	if got := publish(t, n, "c", "3"); got != end+1 {
		t.Errorf("the next id is %d, want %d", got, end+1)
	}
	if n.StartID() != s.StartID() {
		t.Errorf("start %d, want %d", n.StartID(), s.StartID())
	}
	if err := n.broken(); err != nil {
		t.Error(err)
	}
	if was, is := s.Stats(), n.Stats(); is.Events != was.Events+1 || is.Topics != was.Topics+1 {
		t.Errorf("figures %+v, they were %+v", is, was)
	}
}

// Where the new settings allow less, the oldest goes, and what is kept stays a topic's newest.
func TestSequencerGoesOnInLessRoom(t *testing.T) {
	s := open(t, Options{RingSize: 1 << 20, MaxEventSize: 8 << 10, Keep: 5})
	f := s.Follow(func() {})
	for i := range 3000 {
		publish(t, s, fmt.Sprint("t.", i%100), strings.Repeat("x", 1000))
		f.Done(s.ring.Head(), 0)
	}
	n, _ := moved(t, s, Options{RingSize: 128 << 10, MaxEventSize: 8 << 10, Keep: 2, KeepSize: 50 << 10})
	if err := n.broken(); err != nil {
		t.Error(err)
	}
	if st := n.ring.Stats(); int(st.Held) > n.ring.Span() {
		t.Errorf("it holds %d bytes, of at most %d", st.Held, n.ring.Span())
	}
	if st := n.Stats(); st.KeptBytes > 50<<10 || st.KeptFrames == 0 {
		t.Errorf("%d frames of %d bytes are kept, of at most %d", st.KeptFrames, st.KeptBytes, 50<<10)
	}
}

// While it is frozen nobody publishes; batches that have begun are finished before, those who
// wait go on when it thaws.
func TestFreezeHoldsPublishersBack(t *testing.T) {
	s := open(t, Options{RingSize: 1 << 20, MaxWaiting: 100})
	f := s.Follow(func() {})
	f.Done(0, 0)
	var sent sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		sent.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ps := make([]Publication, 1+i*100)
				for j := range ps {
					ps[j] = Publication{Topic: fmt.Sprint("t.", i), Event: encode.Event{Data: make([]byte, 500)}, Key: ""}
				}
				ids := make([]uint64, len(ps))
				if _, err := s.PublishBatch(ps, ids); err != nil {
					t.Error(err)
				}
			}
		})
	}
	end := make(chan struct{})
	var shard sync.WaitGroup
	shard.Go(func() { follow(f, end) })
	for range 20 {
		if err := s.Freeze(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		head := s.ring.Head()
		if st := s.Stats(); st.Waiting != 0 {
			t.Errorf("%d wait at the gate of a frozen sequencer", st.Waiting)
		}
		own := make(chan uint64)
		go func() {
			id, _ := s.PublishOwn(&Publication{Topic: "$own"})
			own <- id
		}()
		select {
		case <-own:
			t.Error("published while frozen")
		case <-time.After(time.Millisecond):
		}
		if s.ring.Head() != head {
			t.Error("appended while frozen")
		}
		if err := s.broken(); err != nil {
			t.Error(err)
		}
		s.Thaw()
		if <-own == 0 {
			t.Error("not published after the thaw")
		}
	}
	close(stop)
	sent.Wait()
	close(end)
	shard.Wait()
}

// A batch that can't be finished in time keeps the sequencer from freezing: it goes on.
func TestFreezeGivesUp(t *testing.T) {
	s := open(t, Options{RingSize: 1 << 20, MaxEventSize: 100 << 10})
	f := s.Follow(func() {})
	f.Done(0, 0)
	done := make(chan error)
	go func() {
		ps := make([]Publication, 20)
		for i := range ps {
			ps[i] = Publication{Topic: "t", Event: encode.Event{Data: make([]byte, 60<<10)}}
		}
		_, err := s.PublishBatch(ps, make([]uint64, len(ps)))
		done <- err
	}()
	until(t, func() bool { return s.gate.waiting.Load() == 1 })
	if err := s.Freeze(time.Millisecond); err == nil || !strings.Contains(err.Error(), "1ms") {
		t.Errorf("frozen with a batch in hand: %v", err)
	}
	for {
		f.Done(s.ring.Head(), 0)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			f.Done(s.ring.Head(), 0)
			publish(t, s, "t", "after it")
			return
		case <-time.After(50 * time.Microsecond):
		}
	}
}

// Those whom a freeze holds back are refused when a drain follows it.
func TestDrainEndsAFreeze(t *testing.T) {
	s := open(t, Options{})
	if err := s.Freeze(time.Second); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error)
	go func() {
		_, err := s.Publish(&Publication{Topic: "t", Key: "k"})
		refused <- err
	}()
	until(t, func() bool { s.keys.mu.Lock(); defer s.keys.mu.Unlock(); return len(s.keys.inFlight) == 1 })
	s.Drain()
	if err := <-refused; !errors.Is(err, ErrDraining) {
		t.Errorf("%v, want %v", err, ErrDraining)
	}
}
