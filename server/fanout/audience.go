package fanout

// Audiences, and the index from a topic to the audiences that receive it.
//
// Everything here runs on the shard's thread.

import (
	"slices"
	"unsafe"

	"penstock/encode"
	"penstock/server/topic"
)

// An audience is the set of a shard's subscribers that receive the same bytes.
//
// Owned by its shard, touched on the shard's thread only. Between two passes:
//
//  1. each live member has been sent every frame of the audience's topics before
//     the audience's position (since it became live), and no other: that is
//     where the shard has read, or what a pace holds back;
//  2. there is at least one member: the last one out removes the audience;
//  3. it has no batch;
//  4. lastID is at most the newest id that the shard has read;
//  5. if it compresses, its live members are in its shared stream, and no other.
//
// broken tells which of these does not hold; tests call it after each pass.
type audience struct {
	key     string         // what its members have in common (Subscription.appendKey)
	topics  []*topic.Topic // those asked for by name, which it holds, then those that match its patterns
	places  []int32        // where each topic's audiences list this one
	members []*subscriber  // in no order
	batch   *batch         // what is due to the members in this pass; nil between passes
	pace    *pace          // nil where everything is flushed in the pass that reads it
	wild    *wild          // nil where no patterns are asked for
	packed  *packed        // nil where nothing is compressed
	lastID  uint64         // of the last event flushed
	flushed uint32         // the tick of the last flush
	traits  traits
	form    encode.Form
}

const _ = uint(136 - unsafe.Sizeof(audience{})) // budget: people with their own list are audiences of one

// traits are what else there is to say of an audience, a bit each.
type traits uint8

const (
	http10     traits = 1 << iota // close-delimited
	beatEvents                    // heartbeats are events
	over                          // all its topics have ended, as far as the shard has read; see close.go
)

func (a *audience) is(t traits) bool { return a.traits&t != 0 }

// set sets traits or takes them away.
func (a *audience) set(t traits, on bool) {
	if a.traits &^= t; on {
		a.traits |= t
	}
}

// An interest is a topic as a shard sees it: who wants it.
type interest struct {
	topic     *topic.Topic
	audiences []listing
	round     uint32 // of patterns in which it was judged; see pattern.go
	judged    bool   // is in shard.judged
}

// A listing is an audience in a topic's list, with the topic's place in the
// audience's own list: so that an audience that leaves is taken out of each of
// its topics' lists without a search.
type listing struct {
	audience *audience
	topic    int32
}

// enter makes m a member of its subscription's audience, which it makes if it
// is the first.
func (sh *shard) enter(m *subscriber, s *Subscription) {
	sh.key = s.appendKey(sh.key[:0])
	a := sh.audiences[string(sh.key)]
	if a == nil {
		a = sh.newAudience(s)
	} else {
		for _, t := range a.held() {
			t.Hold(sh.follower.Index())
		}
	}
	m.audience, m.at = a, int32(len(a.members))
	a.members = push(a.members, m)
	if a.packed != nil {
		a.packed.places = push(a.packed.places, encode.Place{})
	}
}

// push is append that doubles: of lists that hold every stream, growing by
// quarters would leave four times as much garbage behind as they are long.
func push[T any](list []T, v T) []T {
	if len(list) == cap(list) {
		list = slices.Grow(list, max(1, len(list)))
	}
	return append(list, v)
}

// newAudience makes the audience of a subscription whose key is in sh.key, and holds its
// topics for the first member.
func (sh *shard) newAudience(s *Subscription) *audience {
	a := &audience{
		key:     string(sh.key),
		topics:  make([]*topic.Topic, len(s.Topics)),
		places:  make([]int32, len(s.Topics)),
		form:    s.Form,
		flushed: sh.tick,
	}
	a.set(http10, s.HTTP10)
	a.set(beatEvents, s.HeartbeatEvent)
	a.pace = newPace(s, a.key)
	if s.Coding == encode.Gzip {
		a.packed = new(packed)
	}
	for i, name := range s.Topics {
		// From here on publishers ring for this topic. What they published
		// before without ringing is in the ring ahead of our read position: a
		// shard goes to sleep only when it has read all.
		t := sh.seq.Table().Acquire(name, sh.follower.Index())
		in := sh.index[t.Number()]
		if in == nil {
			in = &interest{topic: t}
			sh.index[t.Number()] = in
		}
		a.topics[i], a.places[i] = t, int32(len(in.audiences))
		in.audiences = append(in.audiences, listing{a, int32(i)})
	}
	if len(s.Patterns) > 0 {
		sh.newWild(a, s)
	}
	a.set(over, sh.isOver(a))
	sh.audiences[a.key] = a
	sh.stats.audiences.Add(1)
	return a
}

// remove takes m out of its audience; the last one out removes the audience.
// The last member takes m's place: whoever walks the members while some leave
// walks from the end.
func (sh *shard) remove(m *subscriber) {
	a, last := m.audience, len(m.audience.members)-1
	moved := a.members[last]
	a.members[m.at], moved.at = moved, m.at
	a.members[last] = nil
	a.members = a.members[:last]
	if a.packed != nil {
		a.packed.move(m, last)
		if last <= sh.packShare/2 {
			a.packed.shared.KeepWindow(false)
		}
	}
	if last == 0 {
		sh.dissolve(a)
	}
	for _, t := range a.held() {
		sh.seq.Table().Release(t, sh.follower.Index())
	}
}

// held are the topics that a holds for its members: those asked for by name.
func (a *audience) held() []*topic.Topic {
	if a.wild == nil {
		return a.topics
	}
	return a.topics[:a.wild.held]
}

// dissolve takes a, which has no member left, out of the index.
func (sh *shard) dissolve(a *audience) {
	for i, t := range a.topics {
		in := sh.index[t.Number()]
		last := len(in.audiences) - 1
		moved := in.audiences[last]
		in.audiences[a.places[i]] = moved
		moved.audience.places[moved.topic] = a.places[i]
		in.audiences[last] = listing{}
		in.audiences = in.audiences[:last]
		if last == 0 && !sh.keeps(in) {
			delete(sh.index, t.Number())
		}
	}
	if a.wild != nil {
		sh.dropWild(a)
	}
	if a.pace != nil && a.pace.stirred {
		sh.unschedule(a)
		a.pace.stirred = false
	}
	delete(sh.audiences, a.key)
	sh.stats.audiences.Add(-1)
}
