package topic

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/encode"
)

// keyedEvent is a publication with a key.
func keyedEvent(topic, key, data string) Publication {
	return Publication{Topic: topic, Key: key, Event: encode.Event{Data: []byte(data)}}
}

// once publishes with a key and tells whether that published anything.
func once(t *testing.T, s *Sequencer, topic, key, data string) (id uint64, fresh bool) {
	t.Helper()
	before := s.Stats().Events
	p := keyedEvent(topic, key, data)
	id, err := s.Publish(&p)
	if err != nil {
		t.Fatal(err)
	}
	return id, s.Stats().Events > before
}

// A second publish with a key gets the first one's id and publishes nothing, whatever its data; the
// same key on another topic is another key.
func TestKeyPublishesOnce(t *testing.T) {
	s := open(t, Options{})
	first, fresh := once(t, s, "a", "k", "x")
	if !fresh {
		t.Error("the first publish with a key published nothing")
	}
	publish(t, s, "a", "between")
	if id, fresh := once(t, s, "a", "k", "something else"); id != first || fresh {
		t.Errorf("the second: id %d, published %t, want %d and nothing", id, fresh, first)
	}
	if id, fresh := once(t, s, "b", "k", "x"); id == first || !fresh {
		t.Errorf("the same key on another topic: id %d, published %t", id, fresh)
	}
	if st := s.Stats(); st.Keys != 2 || st.Repeats != 1 {
		t.Errorf("%d keys, %d repeats, want 2 and 1", st.Keys, st.Repeats)
	}
}

// A key is remembered for two minutes, and only as long as there are not too many newer ones.
func TestKeyIsForgotten(t *testing.T) {
	s := open(t, Options{MaxKeys: 3000})
	var now time.Duration
	s.keys.now = func() time.Duration { return now }
	first, _ := once(t, s, "a", "k", "x")
	now = keyTime
	if id, fresh := once(t, s, "a", "k", "x"); fresh || id != first {
		t.Error("forgotten before two minutes were over")
	}
	now++
	again, fresh := once(t, s, "a", "k", "x")
	if !fresh || again == first {
		t.Error("not forgotten after two minutes")
	}
	for i := range 2999 {
		once(t, s, "a", fmt.Sprint(i), "x")
	}
	if id, fresh := once(t, s, "a", "k", "x"); fresh || id != again {
		t.Error("forgotten although there was room")
	}
	once(t, s, "a", "one more", "x")
	if st := s.Stats(); st.Keys != 3000 {
		t.Errorf("%d keys, want 3000", st.Keys)
	}
	if _, fresh := once(t, s, "a", "k", "x"); !fresh {
		t.Error("remembered beyond the most")
	}
	now += 3 * keyTime
	if st := s.Stats(); st.Keys != 0 || len(s.keys.queue) != 0 {
		t.Errorf("%d keys and %d chunks after their time, want none", st.Keys, len(s.keys.queue))
	}
	if _, fresh := once(t, s, "a", "k", "x"); !fresh {
		t.Error("remembered after all were forgotten")
	}
}

// In a batch each event has its own key: what is known keeps its id, what is there twice counts
// once, the rest is published.
func TestBatchWithKeys(t *testing.T) {
	s := open(t, Options{})
	known, _ := once(t, s, "a", "known", "x")
	ps := []Publication{
		keyedEvent("a", "new", "1"), keyedEvent("a", "known", "2"), keyedEvent("a", "", "3"),
		keyedEvent("a", "new", "4"), keyedEvent("b", "new", "5"), keyedEvent("a", "", "6"),
	}
	ids := make([]uint64, len(ps))
	fresh, err := s.PublishBatch(ps, ids)
	if err != nil || fresh != 4 {
		t.Fatalf("%d new events, %v; want 4", fresh, err)
	}
	if ids[1] != known || ids[3] != ids[0] {
		t.Errorf("ids %d: the second is to be %d, the fourth that of the first", ids, known)
	}
	if ids[0] >= ids[2] || ids[2] >= ids[4] || ids[4] >= ids[5] || ids[0] <= known {
		t.Errorf("ids of the new events %d do not increase", ids)
	}
	again := make([]uint64, len(ps))
	if fresh, err := s.PublishBatch(ps[:2], again); err != nil || fresh != 0 || again[0] != ids[0] || again[1] != known {
		t.Errorf("all known: %d new, %v, ids %d", fresh, err, again[:2])
	}
}

// A publish that was refused uses no key, and its error names the event by its place in the batch.
func TestRefusedPublishUsesNoKey(t *testing.T) {
	s := open(t, Options{MaxTopics: 1})
	once(t, s, "only", "known", "x")
	_, err := s.PublishBatch([]Publication{keyedEvent("only", "known", "x"), keyedEvent("only", "k", "x"), keyedEvent("other", "k", "x")}, make([]uint64, 3))
	var one *BatchError
	if !errors.As(err, &one) || one.Index != 2 || one.Err != ErrTooManyTopics {
		t.Fatalf("%v, want %v of event 3", err, ErrTooManyTopics)
	}
	if _, fresh := once(t, s, "only", "k", "x"); !fresh {
		t.Error("the key of a refused publish counts as used")
	}
	for _, key := range []string{strings.Repeat("k", MaxKey+1), "a\nb", "a\xffb", "\u0085"} {
		p := keyedEvent("only", key, "x")
		if _, err := s.Publish(&p); err == nil || !strings.Contains(err.Error(), "key") {
			t.Errorf("key %.20q: %v", key, err)
		}
	}
}

// While a publish with a key waits for shards, a second one waits for it: it gets its id, or takes
// its place when it is refused.
func TestKeyInFlightIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := behindBy(t, Options{PublishWait: time.Minute})
		var ids [3]uint64
		var errs [3]error
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				p := keyedEvent("a", "k", "x")
				ids[i], errs[i] = s.Publish(&p)
			})
			synctest.Wait()
		}
		if st := s.Stats(); st.Waiting != 1 {
			t.Fatalf("%d wait for shards, want the first one alone", st.Waiting)
		}
		time.Sleep(61 * time.Second) // the first gives up, the second takes its place
		synctest.Wait()
		if errs[0] != ErrOverload || s.Stats().Waiting != 1 {
			t.Fatalf("the first: %v; %d wait for shards, want one", errs[0], s.Stats().Waiting)
		}
		f.Done(s.Ring().Head(), 0)
		all.Wait()
		if errs[1] != nil || errs[2] != nil || ids[1] == 0 || ids[1] != ids[2] {
			t.Errorf("ids %d, errors %v: the others are to share one id", ids[1:], errs[1:])
		}
	})
}

// However many publish with the same keys at once, alone and in batches that overlap in any order,
// each key publishes one event, and everybody is told its id.
func TestConcurrentKeysPublishOnce(t *testing.T) {
	s := open(t, Options{})
	const publishers, rounds, span = 8, 200, 50
	told := make([]map[string]uint64, publishers)
	var all sync.WaitGroup
	for i := range publishers {
		told[i] = make(map[string]uint64)
		all.Go(func() {
			for n := range rounds {
				var ps []Publication
				for j := range 1 + (n+i)%5 {
					ps = append(ps, keyedEvent("a", fmt.Sprint((n*7+i*3+j*(1+i))%span), "x"))
				}
				ids := make([]uint64, len(ps))
				if _, err := s.PublishBatch(ps, ids); err != nil {
					t.Error(err)
					return
				}
				for j, p := range ps {
					if was, ok := told[i][p.Key]; ok && was != ids[j] {
						t.Errorf("key %s got id %d, then %d", p.Key, was, ids[j])
					}
					told[i][p.Key] = ids[j]
				}
			}
		})
	}
	all.Wait()
	for i := range told {
		for key, id := range told[i] {
			if id != told[0][key] {
				t.Errorf("key %s: id %d to one, %d to another", key, told[0][key], id)
			}
		}
	}
	if st := s.Stats(); st.Events != span || st.Keys != span || len(s.keys.inFlight) != 0 {
		t.Errorf("%d events, %d keys, %d in flight; want %d, %[4]d, 0", st.Events, st.Keys, len(s.keys.inFlight), span)
	}
}

func BenchmarkPublishWithKey(b *testing.B) {
	s := open(b, Options{})
	p := keyedEvent("a", "", strings.Repeat("x", 100))
	i := 0
	for b.Loop() {
		i++
		p.Key = fmt.Sprintf("%032x", i)
		if _, err := s.Publish(&p); err != nil {
			b.Fatal(err)
		}
	}
}
