package topic

// What a sequencer and its table hand to another process: everything but the ring's bytes, which
// go by themselves (ring.Copy). Positions and numbers stay what they are.
//
// Export: while the sequencer is frozen and the shards rest. goOn and Load: before anybody else
// knows the sequencer.

import (
	"errors"
	"fmt"
	"time"

	"penstock/ring"
	"penstock/server/handover"
)

// A State is what a sequencer and its table are at one moment, beside the ring.
type State struct {
	StartID    uint64 // see Sequencer.StartID
	LastID     uint64 // given last
	LastTime   int64  // the newest entry's, microseconds since 1970
	Dropped    uint64 // see Sequencer.Dropped
	Tail, Head ring.Position

	Events, Bytes, Lost uint64 // published, and topics forgotten for others, since the first start

	seed            [2]uint64
	numbers         uint64
	newestForgotten uint64
	known           uint64 // the id from which on names that were never here are known
	newestKnown     bool
	slots           []forgottenSlot
	topics          []topicState
	keys            []keyState
}

// A keyState is a key that is known.
type keyState struct {
	hash keyHash
	id   uint64
	age  time.Duration
}

// A forgottenSlot is the newest id forgotten of the names with some hash.
type forgottenSlot struct {
	slot int32
	id   uint64
}

// A topicState is a Topic.
type topicState struct {
	name              string
	number, since     uint64
	head              ring.Position
	newest, ended     uint64
	events, bytes     uint64
	time              int64
	published, silent bool
	kept              []keptState // the oldest first
}

// A keptState is a kept frame.
type keptState struct {
	at    ring.Position
	bytes []byte // ring.Entry.Bytes
}

// Export returns the state. The sequencer must be frozen, and no shard may acquire or release a
// topic meanwhile.
func (s *Sequencer) Export() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.table
	st := &State{
		StartID: s.startID.Load(), known: tb.start.Load(), newestKnown: s.newestKnown.Load(), LastID: s.lastID, LastTime: s.lastTime, Dropped: s.dropped.Load(),
		Tail: s.ring.Tail(), Head: s.ring.Head(),
		Events: s.events, Bytes: s.bytes, Lost: s.forgotten,
		seed: tb.seed, numbers: tb.numbers.Load(), newestForgotten: tb.newestForgotten.Load(),
		topics: make([]topicState, 0, tb.Len()),
	}
	for i := range tb.forgotten {
		if id := tb.forgotten[i].Load(); id != 0 {
			st.slots = append(st.slots, forgottenSlot{int32(i), id})
		}
	}
	for i := range tb.parts {
		p := &tb.parts[i]
		p.mu.RLock()
		for _, t := range p.topics {
			st.topics = append(st.topics, t.export())
		}
		p.mu.RUnlock()
	}
	st.keys = s.keys.export(nil)
	return st
}

func (t *Topic) export() topicState {
	st := topicState{
		name: t.name, number: t.number, since: t.since.Load(),
		head: ring.Position(t.head.Load()), newest: t.newest.Load(), ended: t.ended.Load(),
		events: t.events.Load(), bytes: t.bytes.Load(), time: t.time.Load(),
		published: t.claimed.Load(), silent: t.isSilent,
	}
	for k := t.keptOldest; k != nil; k = k.newer {
		st.kept = append(st.kept, keptState{k.at, k.entry.Bytes()})
	}
	return st
}

// Code writes or reads the state.
func (st *State) Code(c *handover.Coder) {
	c.Word("sequencer")
	for _, v := range []*uint64{&st.StartID, &st.LastID, &st.Dropped, &st.Events, &st.Bytes, &st.Lost, &st.seed[0], &st.seed[1], &st.numbers, &st.newestForgotten, &st.known} {
		handover.Num(c, v)
	}
	c.Bool(&st.newestKnown)
	handover.Num(c, &st.LastTime)
	handover.Num(c, &st.Tail)
	handover.Num(c, &st.Head)
	handover.List(c, &st.slots, func(f *forgottenSlot) {
		handover.Num(c, &f.slot)
		handover.Num(c, &f.id)
	})
	handover.List(c, &st.topics, func(t *topicState) {
		c.String(&t.name)
		for _, v := range [...]*uint64{&t.number, &t.since, &t.newest, &t.ended, &t.events, &t.bytes} {
			handover.Num(c, v)
		}
		handover.Num(c, &t.head)
		handover.Num(c, &t.time)
		c.Bool(&t.published)
		c.Bool(&t.silent)
		handover.List(c, &t.kept, func(k *keptState) {
			handover.Num(c, &k.at)
			c.Bytes(&k.bytes)
		})
	})
	handover.List(c, &st.keys, func(k *keyState) {
		for i := range k.hash {
			handover.Num(c, &k.hash[i])
		}
		handover.Num(c, &k.id)
		handover.Num(c, &k.age)
	})
}

// goOn takes over what is no topic's.
func (s *Sequencer) goOn(st *State) {
	s.lastID, s.lastTime = st.LastID, st.LastTime
	s.events, s.bytes, s.forgotten = st.Events, st.Bytes, st.Lost
	s.dropped.Store(st.Dropped)
	s.newestKnown.Store(st.newestKnown)
	s.base.Store(st.LastID)
	s.settled.Store(uint64(st.Head))
	s.table.seed = st.seed
}

// Load takes over the topics of the past that New was given: after the last Follow, and before
// anything is published or acquired. The error says what can't be.
func (s *Sequencer) Load(st *State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb := s.table
	tb.numbers.Store(st.numbers)
	tb.newestForgotten.Store(st.newestForgotten)
	for _, f := range st.slots {
		if uint(f.slot) >= slots {
			return fmt.Errorf("the state of a sequencer has a slot %d of %d", f.slot, slots)
		}
		tb.forgotten[f.slot].Store(f.id)
	}
	for i := range st.topics {
		if err := s.loadLocked(&st.topics[i]); err != nil {
			return err
		}
	}
	rd := s.ring.Reader(s.ring.Tail(), ring.None)
	for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
		if s.byNumber[e.Topic()] == nil {
			return errors.New("the state of a sequencer lacks a topic that is in the ring")
		}
	}
	s.keys.load(st.keys)
	// Where the ring or what is kept has less room than it had.
	for s.ring.Over() {
		s.dropLocked()
	}
	for s.keptBytes > s.keepSize && s.keepers.len > 0 {
		s.evictLocked()
	}
	return nil
}

// loadLocked makes a topic of its state.
func (s *Sequencer) loadLocked(st *topicState) error {
	if _, err := ParseName(st.name); err != nil {
		return err
	}
	tb := s.table
	p := tb.part(st.name)
	p.mu.Lock()
	if p.topics[st.name] != nil || st.number == 0 || st.number > tb.numbers.Load() || s.byNumber[st.number] != nil {
		p.mu.Unlock()
		return fmt.Errorf("the state of a sequencer has topic %q with the number %d twice, or beyond %d", st.name, st.number, tb.numbers.Load())
	}
	t := &Topic{name: st.name, number: st.number}
	t.since.Store(st.since)
	tb.addLocked(p, t)
	p.mu.Unlock()
	t.head.Store(uint64(st.head))
	t.newest.Store(st.newest)
	t.ended.Store(st.ended)
	t.events.Store(st.events)
	t.bytes.Store(st.bytes)
	t.time.Store(st.time)
	if !st.published {
		return nil
	}
	t.claimed.Store(true)
	s.byNumber[t.number] = t
	if t.isSilent = st.silent; t.isSilent {
		s.silent.add(t)
	}
	keep := st.kept
	if most := s.keepOf(t); len(keep) > most {
		keep = keep[len(keep)-most:]
	}
	for _, k := range keep {
		e, err := ring.EntryOf(k.bytes)
		if err != nil {
			return fmt.Errorf("kept of topic %q: %w", st.name, err)
		}
		s.addKeptLocked(t, &keptFrame{entry: e, at: k.at})
	}
	if len(keep) > 0 {
		s.keepers.add(t)
	}
	return nil
}

// Settle lets those topics go that nobody holds and nobody has published to: once those who held
// them have acquired them again, or have not. Any goroutine.
func (s *Sequencer) Settle() {
	tb := s.table
	for i := range tb.parts {
		p := &tb.parts[i]
		var idle []*Topic
		p.mu.RLock()
		for _, t := range p.topics {
			if !t.claimed.Load() && t.idle() {
				idle = append(idle, t)
			}
		}
		p.mu.RUnlock()
		for _, t := range idle {
			tb.vanish(t)
		}
	}
}
