package topic

import (
	"testing"

	"penstock/encode"
	"penstock/ring"
)

// arrive appends events of a topic with the ids given; an event's time is ten times its id.
func arrive(t testing.TB, s *Sequencer, name string, ids ...uint64) {
	t.Helper()
	var all []Arrival
	for _, id := range ids {
		all = append(all, Arrival{Topic: name, Event: encode.Event{Data: []byte("x")}, ID: id, Time: int64(10 * id)})
	}
	if err := s.Append(all); err != nil {
		t.Fatal(err)
	}
}

// inRing are the ids in the ring.
func inRing(s *Sequencer) (ids []uint64) {
	rd := s.Ring().Reader(s.Ring().Tail(), ring.None)
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		ids = append(ids, e.ID())
	}
	return ids
}

// What arrives keeps its id and time; what was here already is left out.
func TestArrivalsKeepTheirIDs(t *testing.T) {
	s := open(t, Options{Backplane: true})
	s.Begin(4, false)
	if s.NewestID() != 4 || s.StartID() != 0 || s.BeforeID() != 5 {
		t.Errorf("at start: newest %d, start %d, before %d; want 4, 0, 5", s.NewestID(), s.StartID(), s.BeforeID())
	}
	arrive(t, s, "a", 5, 6, 9)
	arrive(t, s, "a", 6, 9, 10)
	if got := inRing(s); !equalIDs(got, 5, 6, 9, 10) {
		t.Errorf("in the ring: %d; want 5 6 9 10", got)
	}
	e, _, _ := s.Ring().Oldest()
	if e.Time() != 50 || string(e.Frame()) != "data: x\nid: 5\n\n" {
		t.Errorf("time %d, frame %q; want 50 and the id 5", e.Time(), e.Frame())
	}
	tp, _ := s.Table().Lookup("a")
	if s.Lost(tp, 3) != true || s.Lost(tp, 4) || s.NewestID() != 10 {
		t.Errorf("lost after 3: %t, after 4: %t; newest %d; history here begins after 4", s.Lost(tp, 3), s.Lost(tp, 4), s.NewestID())
	}
}

func equalIDs(got []uint64, want ...uint64) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] {
			return false
		}
	}
	return true
}

// An end that arrives ends the topic; a second one, of another node, is none.
func TestArrivalEndsTopicOnce(t *testing.T) {
	s := open(t, Options{Backplane: true})
	if err := s.Append([]Arrival{{Topic: "a", Event: encode.Event{Data: []byte("x")}, ID: 1}, {Topic: "a", End: true, ID: 2}, {Topic: "a", End: true, ID: 3}}); err != nil {
		t.Fatal(err)
	}
	tp, _ := s.Table().Lookup("a")
	if id, ended := tp.Ended(); id != 2 || !ended {
		t.Errorf("ended with %d, %t; want 2", id, ended)
	}
	if got := inRing(s); !equalIDs(got, 1, 2) {
		t.Errorf("in the ring: %d; want 1 2", got)
	}
}

// Arrivals wake the shards that want them, as publishing does.
func TestArrivalsWakeShards(t *testing.T) {
	s := open(t, Options{Backplane: true})
	rings := 0
	f := s.Follow(func() { rings++ })
	s.Table().Acquire("a", 0)
	f.Done(s.Ring().Head(), 0)
	if !f.Sleep(s.Ring().Head()) {
		t.Fatal("the shard does not sleep")
	}
	arrive(t, s, "b", 1)
	if rings != 0 {
		t.Error("rung for a topic that nobody wants")
	}
	arrive(t, s, "a", 2)
	if rings != 1 {
		t.Errorf("%d rings; want 1", rings)
	}
}

// An event that the backplane has stored always gets a place for its topic.
func TestArrivalIsNeverRefusedForTooManyTopics(t *testing.T) {
	s := open(t, Options{Backplane: true, MaxTopics: 1})
	arrive(t, s, "a", 1)
	arrive(t, s, "b", 2)
	if got := inRing(s); !equalIDs(got, 1, 2) {
		t.Errorf("in the ring: %d; want 1 2", got)
	}
}

// After a loss the history of each topic, known or to come, begins behind it.
func TestLossMovesSince(t *testing.T) {
	s := open(t, Options{Backplane: true})
	arrive(t, s, "a", 1, 2)
	s.Lose(7, 7)
	if s.NewestID() != 7 {
		t.Errorf("newest %d; want 7", s.NewestID())
	}
	arrive(t, s, "a", 9)
	arrive(t, s, "b", 10)
	for _, name := range []string{"a", "b"} {
		tp, _ := s.Table().Lookup(name)
		if !s.Lost(tp, 6) || s.Lost(tp, 7) {
			t.Errorf("%s: lost after 6: %t, after 7: %t; want true, false", name, s.Lost(tp, 6), s.Lost(tp, 7))
		}
	}
	if !s.Misses([]string{"c"}, nil, 6) || s.Misses([]string{"c"}, nil, 7) {
		t.Error("a name that was never here: its history begins behind the loss too")
	}
}

// When ids begin anew nothing of the old ones is found, and everything of the new ones.
func TestRestartBeginsIDsAnew(t *testing.T) {
	s := open(t, Options{Backplane: true, Keep: 2, RingSize: ring.MinSize, MaxEventSize: 1 << 10})
	var ids []uint64
	for id := uint64(5000); id < 6000; id++ {
		ids = append(ids, id)
	}
	arrive(t, s, "quiet", 4000)
	arrive(t, s, "a", ids...)
	s.Restart(2)
	if s.NewestID() != 2 || s.StartID() != 2 || s.BeforeID() != 3 {
		t.Errorf("newest %d, start %d, before %d; want 2, 2, 3", s.NewestID(), s.StartID(), s.BeforeID())
	}
	arrive(t, s, "a", 3, 4)
	arrive(t, s, "quiet", 5)
	if got := inRing(s); !equalIDs(got, 3, 4, 5) {
		t.Errorf("in the ring: %d; want 3 4 5", got)
	}
	for name, want := range map[string]int{"a": 2, "quiet": 1} {
		tp, _ := s.Table().Lookup(name)
		found, _, lost := s.Gather(nil, []*Topic{tp}, 2, 0, s.Ring().Head(), 1<<20)
		if len(found) != want || lost || !s.Lost(tp, 1) {
			t.Errorf("%s: %d entries, lost %t; want %d and nothing lost since 2", name, len(found), lost, want)
		}
	}
	// The ring goes round in the new ids too.
	for i := range ids {
		ids[i] = uint64(100 + i)
	}
	arrive(t, s, "a", ids...)
	if at := s.Ring().After(1098); at == ring.None {
		t.Error("the newest entry is not found")
	} else if e, ok := s.Ring().At(at); !ok || e.ID() != 1099 {
		t.Errorf("after 1098 comes %v", ok)
	}
}

// Ids are no times with a backplane: what was since a moment is found by the entries' own times.
func TestIDAtTime(t *testing.T) {
	s := open(t, Options{Backplane: true})
	if got := s.IDAt(5); got != 0 {
		t.Errorf("in an empty ring: %d; want 0", got)
	}
	arrive(t, s, "a", 10, 11, 20, 4000)
	for time, want := range map[int64]uint64{0: 9, 100: 9, 101: 10, 110: 10, 200: 11, 201: 20, 39999: 20, 40000: 20, 40001: 4000} {
		if got := s.IDAt(time); got != want {
			t.Errorf("since %d: after id %d; want %d", time, got, want)
		}
	}
}

// A topic's newest event that was here before history begins is known to who wants the newest alone;
// nothing else of it is.
func TestNewestFromBeforeHistoryIsNotMissed(t *testing.T) {
	s := open(t, Options{Backplane: true})
	s.Follow(func() {})
	arrive(t, s, "quiet", 5)
	s.Begin(100, true)
	arrive(t, s, "busy", 101)
	quiet, _ := s.Table().Lookup("quiet")
	other := s.Table().Acquire("other", 0)
	if s.MissesNewest(quiet, 3) || s.MissesNewest(other, 3) || !s.Lost(quiet, 3) || !s.Misses([]string{"quiet"}, nil, 3) || s.ForgotNewest() != 0 {
		t.Error("the newest of a quiet topic is missed, or its history is not")
	}
	if got := inRing(s); !equalIDs(got, 5, 101) || s.BeforeID() != 101 {
		t.Errorf("in the ring: %d, before %d; want 5 and 101, before 101", got, s.BeforeID())
	}
	s.Lose(150, 0)
	if !s.MissesNewest(quiet, 3) || !s.MissesNewest(other, 149) || s.MissesNewest(other, 150) || s.ForgotNewest() != 150 {
		t.Error("what was lost may have been the newest")
	}
}
