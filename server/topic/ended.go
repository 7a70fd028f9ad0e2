package topic

// Ended topics: the entry that says that a topic is over, and for how long that is known.
//
// An end is an entry of its topic like an event, of the kind ring.End: whoever catches up
// finds it in its place. A topic is ended as long as that entry is its newest one; the next
// event begins it again.
//
// End and Ended: any goroutine; what ends in Locked: with the sequencer's lock.

import (
	"errors"
	"slices"

	"penstock/encode"
	"penstock/ring"
)

// ErrUnknownTopic says that there is no such topic to end.
var ErrUnknownTopic = errors.New("the topic is not known")

// End ends a topic that somebody has published or subscribed to, and returns the id of its end:
// that of the end there is, where the topic has ended before. The errors are ErrUnknownTopic
// and those of Publish. Any goroutine but a shard's thread.
func (s *Sequencer) End(name string) (id uint64, err error) {
	if _, ok := s.table.Lookup(name); !ok {
		return 0, ErrUnknownTopic
	}
	return s.Publish(&Publication{Topic: name, Close: true})
}

// Ended returns the id of the topic's end; ok is false where it has not ended, or was begun again
// since. A shard that has read up to an id not less than this one has read the end, and all
// of the topic before it. Any goroutine.
func (t *Topic) Ended() (id uint64, ok bool) {
	// In this order: an end is stored before it is the newest, and no id comes twice.
	id = t.ended.Load()
	return id, id != 0 && t.newest.Load() == id
}

// OnlyEnds reports whether the publication is the end of its topic and nothing else. Any goroutine.
func (p *Publication) OnlyEnds() bool {
	return p.Close && p.Event.Type == "" && p.Event.Retry == 0 && len(p.Event.Data) == 0
}

// endLocked ends a claimed topic, unless it has ended, and returns the end's id. The frame
// lacks its id line, for which its capacity has room.
func (s *Sequencer) endLocked(t *Topic, frame []byte, now int64) uint64 {
	if id, ok := t.Ended(); ok {
		return id
	}
	id := s.nextIDLocked(now)
	s.appendLocked(t, ring.End, id, now, encode.AppendID(frame, id), len("event: end\n"))
	return id
}

// keepOf is how many of the topic's newest frames outlive the ring: its end beside the events.
func (s *Sequencer) keepOf(t *Topic) int {
	if _, ok := t.Ended(); ok && s.keep > 0 {
		return s.keep + 1
	}
	return s.keep
}

// A lease is an ended topic that is not to be forgotten yet.
type lease struct {
	topic *Topic
	until int64 // microseconds since 1970
}

// leases are those that a search for a place has met, in its order: about that of their
// ends. Each topic is there once at the most.
type leases struct {
	list []lease
	next int // the ones before it have ended
}

// leaseLocked reports whether t has ended too short a time ago to be forgotten. If so it is
// put aside until it may, so that a search meets it once.
func (s *Sequencer) leaseLocked(t *Topic) bool {
	if _, ok := t.Ended(); !ok || s.endedKeep == 0 {
		return false
	}
	until := t.time.Load() + s.endedKeep
	if until <= s.now() {
		return false
	}
	if !t.isLeased {
		t.isLeased = true
		l := &s.leases
		if l.next > len(l.list)/2 {
			l.list, l.next = slices.Delete(l.list, 0, l.next), 0
		}
		l.list = append(l.list, lease{t, until})
	}
	return true
}

// endLeasesLocked gives the topics back to the search whose leases have ended.
func (s *Sequencer) endLeasesLocked() {
	l := &s.leases
	for range searchSteps {
		if l.next == len(l.list) {
			*l = leases{}
			return
		}
		first := l.list[l.next]
		if first.until > s.now() {
			return
		}
		l.list[l.next] = lease{}
		l.next++
		first.topic.isLeased = false
		if first.topic.isSilent && first.topic.claimed.Load() {
			s.silent.add(first.topic)
		}
	}
}
