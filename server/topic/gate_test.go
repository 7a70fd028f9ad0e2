package topic

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/encode"
	"penstock/ring"
)

// behindBy makes a sequencer with one shard that is just so far behind that publishers wait.
func behindBy(t *testing.T, o Options) (*Sequencer, *Follower) {
	t.Helper()
	s := open(t, o)
	f := s.Follow(func() {})
	for !s.behind() {
		publish(t, s, "a", strings.Repeat("x", 100))
	}
	return s, f
}

// A publisher waits while a shard is too far behind, and goes on when it has caught up.
func TestPublisherWaitsForShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{})
		if unread := f.Unread(); unread <= 32<<10 || unread > 33<<10 {
			t.Errorf("publishers wait from %d unread bytes on, want just over 32 KiB", unread)
		}
		read := s.Ring().Head()
		done := false
		go func() {
			publish(t, s, "a", "x")
			done = true
		}()
		synctest.Wait()
		if done || s.Stats().Waiting != 1 || s.Stats().Waits != 1 {
			t.Fatalf("done %v, waiting %d, waits %d; want a publisher that waits", done, s.Stats().Waiting, s.Stats().Waits)
		}
		f.Done(0, 0) // a pass that read nothing
		synctest.Wait()
		if done {
			t.Fatal("the publisher goes on, but the shard has read nothing")
		}
		f.Done(read, 0)
		synctest.Wait()
		if !done || s.Stats().Waiting != 0 {
			t.Errorf("done %v, waiting %d; want the publisher to go on", done, s.Stats().Waiting)
		}
	})
}

// How much a shard may leave unread is its own affair, between 32 KiB and a quarter of the ring.
func TestAllowance(t *testing.T) {
	for _, c := range []struct{ ring, allowance, want int }{
		{1 << 20, 0, 32 << 10},
		{1 << 20, -1, 32 << 10},
		{1 << 20, 100 << 10, 100 << 10},
		{1 << 20, 1 << 40, 256 << 10},
		{64 << 10, 0, 16 << 10},
		{64 << 10, 1 << 40, 16 << 10},
	} {
		s := open(t, Options{RingSize: c.ring, PublishWait: 1})
		f := s.Follow(func() {})
		f.Done(0, c.allowance)
		for !s.behind() {
			publish(t, s, "a", "")
		}
		if got := int(f.Unread()); got < c.want || got > c.want+200 {
			t.Errorf("a ring of %d, allowance %d: publishers wait from %d unread bytes on, want %d", c.ring, c.allowance, got, c.want)
		}
		if _, err := s.Publish(&Publication{Topic: "a"}); err != ErrOverload {
			t.Errorf("a publisher then gets %v", err)
		}
	}
}

// A wait ends after its time, with nothing published.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := behindBy(t, Options{PublishWait: 3 * time.Second})
		events := s.Stats().Events
		start := time.Now()
		if _, err := s.Publish(&Publication{Topic: "a"}); err != ErrOverload {
			t.Errorf("waited too long: %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %s, want 3s", waited)
		}
		start = time.Now()
		if _, err := s.PublishBatch(make([]Publication, 3), make([]uint64, 3)); err != ErrOverload {
			t.Errorf("a batch that has not begun: %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %s, want 3s", waited)
		}
		if st := s.Stats(); st.Events != events || st.Overloads != 2 || st.Waiting != 0 {
			t.Errorf("%d events, %d overloads, %d waiting; want %d, 2, 0", st.Events, st.Overloads, st.Waiting, events)
		}
	})
}

// With shed nobody waits.
func TestShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{Shed: true})
		start := time.Now()
		if _, err := s.Publish(&Publication{Topic: "a"}); err != ErrOverload || time.Since(start) > 0 {
			t.Errorf("%v after %s, want to be refused at once", err, time.Since(start))
		}
		if st := s.Stats(); st.Overloads != 1 || st.Waits != 0 {
			t.Errorf("%d overloads, %d waits; want 1, 0", st.Overloads, st.Waits)
		}
		f.Done(s.Ring().Head(), 0)
		publish(t, s, "a", "x")
	})
}

// No more than so many wait; the next one is refused at once.
func TestMaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{MaxWaiting: 5})
		read := s.Ring().Head()
		for range 5 {
			go publish(t, s, "a", "x")
		}
		synctest.Wait()
		start := time.Now()
		if _, err := s.Publish(&Publication{Topic: "a"}); err != ErrOverload || time.Since(start) > 0 {
			t.Errorf("%v after %s, want to be refused at once", err, time.Since(start))
		}
		f.Done(read, 0)
		synctest.Wait()
		if waiting := s.Stats().Waiting; waiting != 0 {
			t.Errorf("%d still wait", waiting)
		}
		publish(t, s, "a", "x")
	})
}

// The server's own topics never wait.
func TestOwnTopicsNeverWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := behindBy(t, Options{})
		start := time.Now()
		if _, err := s.PublishOwn(&Publication{Topic: "$stats"}); err != nil || time.Since(start) > 0 {
			t.Errorf("%v after %s, want to publish at once", err, time.Since(start))
		}
	})
}

// Who waits longest goes first, and one pass lets in only as many as it has made room for.
func TestWaitersGoInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{})
		var mu sync.Mutex
		var order []int
		for i := range 20 {
			go func() {
				publish(t, s, "a", strings.Repeat("x", 10<<10))
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait() // in line
		}
		rounds := 0
		for s.Stats().Waiting > 0 {
			before := len(order)
			f.Done(s.Ring().Head(), 0)
			synctest.Wait()
			// 32 KiB are four of 10 KiB, however late each is with its event.
			if in := len(order) - before; in != min(4, 20-before) {
				t.Errorf("%d went in at once, want 4", in)
			}
			rounds++
		}
		for i := range order {
			// Neighbours may overtake one another between gate and lock.
			if d := order[i] - i; d < -3 || d > 3 {
				t.Errorf("the order is %d", order)
				break
			}
		}
		if rounds != 5 {
			t.Errorf("%d passes, want 5", rounds)
		}
		if granted := s.gate.granted.Load(); granted != 0 {
			t.Errorf("%d bytes stay granted", granted)
		}
	})
}

// One who gives up in the middle of the line does not break it.
func TestWaiterGivesUpInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{PublishWait: 10 * time.Second})
		read := s.Ring().Head()
		results := make([]error, 4)
		for i := range results {
			go func() {
				time.Sleep(time.Duration(i) * time.Second)
				_, results[i] = s.Publish(&Publication{Topic: "a", Event: encode.Event{}})
			}()
		}
		time.Sleep(11500 * time.Millisecond) // the first two have given up
		synctest.Wait()
		if st := s.Stats(); st.Waiting != 2 || st.Overloads != 2 {
			t.Errorf("%d wait, %d gave up; want 2, 2", st.Waiting, st.Overloads)
		}
		f.Done(read, 0)
		synctest.Wait()
		for i, err := range results {
			if want := []error{ErrOverload, ErrOverload, nil, nil}[i]; err != want {
				t.Errorf("publisher %d: %v, want %v", i, err, want)
			}
		}
		if s.gate.first != nil || s.gate.last != nil {
			t.Error("the line is empty, but it has a first or a last")
		}
	})
}

// Nobody who waits is forgotten, whoever is behind, gives up or comes in between.
func TestNobodyWaitsForEver(t *testing.T) {
	s := open(t, Options{RingSize: 64 << 10, MaxEventSize: 4 << 10, MaxWaiting: 8, PublishWait: time.Minute})
	var shards, publishers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		bell := make(chan struct{}, 1)
		f := s.Follow(func() {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
		shards.Go(func() {
			// As a shard does: passes, and sleep when there is nothing. Nobody is
			// interested, so that only a lot unread or a publisher about to wait rings.
			var read ring.Position
			for {
				head := s.Ring().Head()
				read = head
				f.Done(read, 0)
				if f.Sleep(read) {
					select {
					case <-bell:
					case <-stop:
						return
					}
				}
				f.Wake()
			}
		})
	}
	for range 8 {
		publishers.Go(func() {
			for i := range 500 {
				if i%50 == 0 {
					if _, err := s.PublishBatch([]Publication{{Topic: "a"}, {Topic: "b"}}, make([]uint64, 2)); err != nil {
						t.Error(err)
					}
				}
				publish(t, s, "a", strings.Repeat("x", 3<<10))
			}
		})
	}
	publishers.Wait()
	close(stop)
	shards.Wait()
	if st := s.Stats(); st.Waiting != 0 {
		t.Errorf("%d wait, but nobody is there", st.Waiting)
	}
}

// What a shard has read and owes counts as unread, until it is told otherwise.
func TestOwedCountsAsUnread(t *testing.T) {
	s := open(t, Options{Shed: true})
	f := s.Follow(func() {})
	f.Owe(minUnread)
	f.Done(s.Ring().Head(), 0)
	publish(t, s, "a", "x")
	if _, err := s.Publish(&Publication{Topic: "a"}); err != ErrOverload {
		t.Errorf("a publisher gets %v, and the shard owes 32 KiB beside an event", err)
	}
	f.Owe(0)
	f.Done(s.Ring().Head(), 0)
	publish(t, s, "a", "x")
}
