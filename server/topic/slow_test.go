package topic

// The slow twin: what a sequencer must say about the past, found by looking at everything that
// was ever published. The fast way is compared with it over random sequences.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"penstock/encode"
	"penstock/ring"
)

// A slowEntry is one published event.
type slowEntry struct {
	id     uint64
	number uint64
	at     ring.Position
	size   int // of the entry in the ring
	frame  string
	kept   bool
}

// A slowTopic is a topic of the twin, from its first event until it is forgotten.
type slowTopic struct {
	name    string
	since   uint64
	entries []slowEntry // all of them
	held    int
}

func (t *slowTopic) newest() uint64 {
	if len(t.entries) == 0 {
		return 0
	}
	return t.entries[len(t.entries)-1].id
}

// slow is the twin.
type slow struct {
	s         *Sequencer
	now       int64
	topics    map[string]*slowTopic
	forgotten map[string]uint64 // newest id by name
	tail      ring.Position
}

func newSlow(s *Sequencer, now int64) *slow {
	return &slow{s: s, now: now, topics: map[string]*slowTopic{}, forgotten: map[string]uint64{}}
}

func (m *slow) topic(name string) *slowTopic {
	t := m.topics[name]
	if t == nil {
		t = &slowTopic{name: name, since: max(m.s.StartID(), m.forgotten[name])}
		m.topics[name] = t
	}
	return t
}

// inRing reports whether an entry is.
func (m *slow) inRing(e *slowEntry) bool { return e.at >= m.tail }

func (m *slow) silent(t *slowTopic) bool {
	return len(t.entries) > 0 && !m.inRing(&t.entries[len(t.entries)-1])
}

// claim is what a first publish to the topic does: false if it must be refused.
func (m *slow) claim(t *slowTopic) bool {
	if len(t.entries) > 0 {
		return true
	}
	published := 0
	var oldest *slowTopic
	for _, u := range m.topics {
		if len(u.entries) == 0 {
			continue
		}
		published++
		if m.silent(u) && u.held == 0 && (oldest == nil || u.newest() < oldest.newest()) {
			oldest = u
		}
	}
	if published < m.s.maxTopics {
		return true
	}
	if oldest == nil {
		return false
	}
	delete(m.topics, oldest.name)
	m.forgotten[oldest.name] = oldest.newest()
	return true
}

// published notes an event that the sequencer has taken, and what it did to the past:
// before the event, the tail passed those from the old one to the new.
func (m *slow) published(t *slowTopic, id uint64, at ring.Position, size int, frame string) {
	tail := m.s.ring.Tail()
	for {
		var next *slowEntry
		var of *slowTopic
		for _, u := range m.topics {
			for i := range u.entries {
				if e := &u.entries[i]; m.inRing(e) && e.at < tail && (next == nil || e.at < next.at) {
					next, of = e, u
				}
			}
		}
		if next == nil {
			break
		}
		if newest := of.entries[len(of.entries)-1].number; newest-next.number < uint64(m.s.keep) && int64(next.size) <= m.s.keepSize {
			next.kept = true
			for i := range of.entries {
				if of.entries[i].number+uint64(m.s.keep) <= next.number {
					of.entries[i].kept = false
				}
			}
			m.evict()
		} else {
			for i := range of.entries {
				of.entries[i].kept = false
			}
		}
		m.tail = next.at + 1
	}
	m.tail = tail
	t.entries = append(t.entries, slowEntry{id: id, number: uint64(len(t.entries)) + 1, at: at, size: size, frame: frame})
}

func (m *slow) keptBytes() (bytes, frames int64) {
	for _, t := range m.topics {
		for i := range t.entries {
			if t.entries[i].kept {
				bytes += int64(t.entries[i].size) + keptOverhead
				frames++
			}
		}
	}
	return bytes, frames
}

func (m *slow) evict() {
	for {
		if bytes, _ := m.keptBytes(); bytes <= m.s.keepSize {
			return
		}
		var oldest *slowTopic
		for _, t := range m.topics {
			if slices.ContainsFunc(t.entries, func(e slowEntry) bool { return e.kept }) && (oldest == nil || t.newest() < oldest.newest()) {
				oldest = t
			}
		}
		for i := range oldest.entries {
			oldest.entries[i].kept = false
		}
	}
}

func (m *slow) lost(t *slowTopic, after uint64) bool {
	return after < t.since || slices.ContainsFunc(t.entries, func(e slowEntry) bool {
		return e.id > after && !m.inRing(&e) && !e.kept
	})
}

// gather is Gather without a limit of bytes.
func (m *slow) gather(names []string, after uint64, from, limit ring.Position) (found []slowEntry, lost bool) {
	for _, name := range names {
		t := m.topics[name]
		lost = lost || from == 0 && after < t.since
		for _, e := range t.entries {
			switch {
			case e.id <= after || e.at < from || e.at >= limit:
			case m.inRing(&e) || e.kept:
				found = append(found, e)
			default:
				lost = true
			}
		}
	}
	slices.SortFunc(found, func(a, b slowEntry) int { return cmp.Compare(a.id, b.id) })
	return found, lost
}

// The sequencer agrees with its slow twin about everything past, whatever was
// published, kept, held and forgotten before.
func TestPastAgreesWithTheSlowTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var m *slow
		o := Options{
			RingSize: 64 << 10, MaxEventSize: 8 << 10,
			MaxTopics: rapid.IntRange(2, 40).Draw(rt, "max topics"),
			Keep:      rapid.SampledFrom([]int{0, 1, 1, 2, 7, 100}).Draw(rt, "keep"),
			KeepSize:  rapid.SampledFrom([]int64{1 << 10, 4 << 10, 16 << 10, 1 << 30}).Draw(rt, "keep size"),
			Now: func() int64 {
				if m == nil {
					return 1000
				}
				return m.now
			},
		}
		s, err := New(o)
		if err != nil {
			rt.Fatal(err)
		}
		f := s.Follow(func() {})
		m = newSlow(s, 1000)
		sizes := rapid.SampledFrom([][]int{{0, 10, 300, 2000, 6000}, {0, 30}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 7000}}).Draw(rt, "sizes")
		count := rapid.SampledFrom([]int{1, 3, 10, 50}).Draw(rt, "names")
		name := rapid.Custom(func(t *rapid.T) string {
			// The lower the more often.
			return fmt.Sprintf("t.%d", rapid.IntRange(0, rapid.IntRange(0, count-1).Draw(t, "up to")).Draw(t, "name"))
		})
		held := map[string][]*Topic{}
		limits := []ring.Position{0} // heads there were
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				if err := s.broken(); err != nil {
					rt.Fatal(err)
				}
				bytes, frames := m.keptBytes()
				if st := s.Stats(); st.KeptBytes != bytes || st.KeptFrames != frames {
					rt.Fatalf("%d frames of %d bytes are kept, want %d of %d", st.KeptFrames, st.KeptBytes, frames, bytes)
				}
			},
			"publish": func(rt *rapid.T) {
				for range rapid.SampledFrom([]int{1, 2, 5, 20, 100}).Draw(rt, "events") {
					n := name.Draw(rt, "topic")
					m.now += rapid.Int64Range(-2, 3).Draw(rt, "time goes by")
					data := strings.Repeat("x", rapid.SampledFrom(sizes).Draw(rt, "size"))
					_, ok := m.topics[n]
					mt := m.topic(n)
					if !m.claim(mt) {
						if _, err := s.Publish(&Publication{Topic: n}); err != ErrTooManyTopics {
							rt.Fatalf("publish to a topic too many: %v", err)
						}
						if !ok {
							delete(m.topics, n)
						}
						continue
					}
					id, err := s.Publish(&Publication{Topic: n, Event: encode.Event{Data: []byte(data)}})
					if err != nil {
						rt.Fatal(err)
					}
					tp, _ := s.table.Lookup(n)
					at := ring.Position(tp.head.Load())
					e, _ := s.ring.At(at)
					if e.ID() != id {
						rt.Fatalf("the entry at the topic's head has id %d, want %d", e.ID(), id)
					}
					m.published(mt, id, at, e.Size(), string(e.Frame()))
					limits = append(limits, s.ring.Head())
					f.Done(s.ring.Head(), 0)
				}
			},
			"subscribe": func(rt *rapid.T) {
				n := name.Draw(rt, "topic")
				held[n] = append(held[n], s.table.Acquire(n, 0))
				m.topic(n).held++
			},
			"upgrade": func(rt *rapid.T) {
				s, f = moved(rt, s, o)
				m.s = s
				for n, topics := range held {
					for i := range topics {
						topics[i] = s.table.Acquire(n, 0)
					}
				}
				s.Settle()
			},
			"leave": func(rt *rapid.T) {
				n := name.Draw(rt, "topic")
				if len(held[n]) == 0 {
					return
				}
				s.table.Release(held[n][0], 0)
				held[n] = held[n][1:]
				mt := m.topics[n]
				if mt.held--; mt.held == 0 && len(mt.entries) == 0 {
					delete(m.topics, n)
				}
			},
			"look": func(rt *rapid.T) {
				var names []string
				for n := range m.topics {
					names = append(names, n)
				}
				slices.Sort(names)
				for n := range m.forgotten {
					if _, ok := s.table.Lookup(n); ok != (m.topics[n] != nil) {
						rt.Fatalf("%s is there: %v", n, ok)
					}
				}
				after := m.someID(rt)
				for _, n := range names {
					tp, ok := s.table.Lookup(n)
					if !ok {
						rt.Fatalf("%s is not there", n)
					}
					if tp.Since() != m.topics[n].since {
						rt.Fatalf("%s is known since %d, want %d", n, tp.Since(), m.topics[n].since)
					}
					if got, want := s.Lost(tp, after), m.lost(m.topics[n], after); got != want {
						rt.Fatalf("%s has lost something since %d: %v, want %v", n, after, got, want)
					}
				}
				if len(names) == 0 {
					return
				}
				names = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, len(names), rapid.ID).Draw(rt, "topics")
				from := rapid.SampledFrom(append(limits, 0, 0, 0, m.tail)).Draw(rt, "from")
				limit := rapid.SampledFrom(append(limits[len(limits)*3/4:], s.ring.Head())).Draw(rt, "limit")
				if limit < max(from, m.tail) {
					limit = s.ring.Head()
				}
				size := rapid.SampledFrom([]int{1, 100, 3000, 1 << 20, 1 << 62}).Draw(rt, "max bytes")
				m.compare(rt, names, after, from, limit, size)
			},
		})
	})
}

// someID draws an id to resume from.
func (m *slow) someID(rt *rapid.T) uint64 {
	ids := []uint64{0, m.s.StartID(), m.s.NewestID()}
	for _, t := range m.topics {
		for _, e := range t.entries {
			ids = append(ids, e.id)
		}
	}
	slices.Sort(ids)
	return rapid.SampledFrom(ids).Draw(rt, "after")
}

// compare gathers in as many calls as it takes.
func (m *slow) compare(rt *rapid.T, names []string, after uint64, from, limit ring.Position, size int) {
	var topics []*Topic
	for _, n := range names {
		tp, _ := m.s.table.Lookup(n)
		topics = append(topics, tp)
	}
	want, _ := m.gather(names, after, from, limit)
	var found []Found
	for {
		_, lost := m.gather(names, after, from, limit)
		n := len(found)
		var next ring.Position
		var gotLost bool
		found, next, gotLost = m.s.Gather(found, topics, after, from, limit, size)
		if gotLost != lost {
			rt.Fatalf("Gather(after %d, from %d, limit %d) lost something: %v, want %v", after, from, limit, gotLost, lost)
		}
		if next < from || next > limit {
			rt.Fatalf("Gather(from %d, limit %d) goes on at %d", from, limit, next)
		}
		bytes := 0
		for _, f := range found[n:] {
			bytes += len(f.Entry.Frame())
		}
		if bytes > size && len(found) > n+1 {
			rt.Fatalf("%d entries of %d bytes, want at most %d", len(found)-n, bytes, size)
		}
		if len(found) == n && next < limit {
			rt.Fatalf("Gather(from %d, limit %d) found nothing and goes on at %d", from, limit, next)
		}
		if next >= limit {
			break
		}
		from = next
		if rapid.Bool().Draw(rt, "after moves on") {
			after = found[len(found)-1].Entry.ID()
		}
	}
	if len(found) != len(want) {
		rt.Fatalf("%d entries, want %d", len(found), len(want))
	}
	for i, f := range found {
		w := &want[i]
		at := w.at
		if !m.inRing(w) {
			at = ring.None
		}
		if f.Entry.ID() != w.id || f.Entry.Number() != w.number || string(f.Entry.Frame()) != w.frame || f.Position != at {
			rt.Fatalf("entry %d: id %d, number %d at %d; want %d, %d at %d", i, f.Entry.ID(), f.Entry.Number(), f.Position, w.id, w.number, at)
		}
	}
}
