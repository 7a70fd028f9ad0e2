package topic

// Publishing many events with one call, and the scratch memory of publishers.
//
// Publishers' goroutines.

import (
	"fmt"
	"slices"
	"sync"

	"penstock/encode"
	"penstock/ring"
)

// A BatchError says which event of a batch can't be published. None was.
type BatchError struct {
	Index int // of the event, from 0
	Err   error
}

// Error names the event, counted from 1.
func (e *BatchError) Error() string { return fmt.Sprintf("event %d: %v", e.Index+1, e.Err) }

// Unwrap returns what is wrong with the event.
func (e *BatchError) Unwrap() error { return e.Err }

// What is appended under one lock, at the most (but for one frame): others get in between.
const (
	sliceEvents = 64
	sliceBytes  = 64 << 10
)

// PublishBatch publishes the events in their order and stores their ids in ids, which
// is at least as long as ps. It is judged as a whole: with an error, nothing was
// published; which event is to blame is told by a *BatchError around one of Publish's
// errors. It waits for shards as Publish does, and anew for each slice that it appends;
// but what has begun is finished, without a limit to its wait and while the server
// drains. Others' events may come in between. fresh is how many events are new: all, but for
// those whose key has been used. Any goroutine but a shard's thread.
func (s *Sequencer) PublishBatch(ps []Publication, ids []uint64) (fresh int, err error) {
	if len(ids) < len(ps) {
		panic(fmt.Sprintf("topic: PublishBatch: room for %d ids of %d events", len(ids), len(ps)))
	}
	if len(ps) == 0 {
		return 0, nil
	}
	keyed := false
	for i := range ps {
		_, err := s.judge(&ps[i])
		if IsOwn(ps[i].Topic) {
			err = ErrOwnTopic
		}
		if err != nil {
			return 0, &BatchError{i, err}
		}
		keyed = keyed || ps[i].Key != ""
	}
	if keyed {
		return s.publishKeyed(ps, ids)
	}
	if err := s.publishBatch(ps, ids, nil); err != nil {
		return 0, err
	}
	return len(ps), nil
}

// publishBatch publishes a judged batch of one event or more, whatever its keys. Those of keyed, if
// there is one, are known before a Freeze finds this publisher outside.
func (s *Sequencer) publishBatch(ps []Publication, ids []uint64, keyed *keyed) error {
	s.mustGiveIDs()
	n, size := slice(ps)
	granted, err := s.enter(waits, size)
	if err != nil {
		return err
	}
	defer s.leave()
	sc := scratches.Get().(*scratch)
	defer sc.free()
	defer s.letGo(sc)
	for i := range ps {
		if err := s.hold(sc, ps[i].Topic); err != nil {
			s.unclaim(sc)
			s.gate.through(granted)
			return &BatchError{i, err}
		}
	}
	for done := 0; ; {
		s.publishSlice(sc, ps[done:done+n], sc.topics[done:done+n], ids[done:done+n])
		s.gate.through(granted)
		if done += n; done == len(ps) {
			if keyed != nil {
				s.keys.settle(keyed, ids)
			}
			return nil
		}
		n, size = slice(ps[done:])
		granted, _ = s.gate.pass(true, size)
	}
}

// slice tells how many of the events make the next slice, and about how many bytes of the ring.
func slice(ps []Publication) (n, size int) {
	for n < min(len(ps), sliceEvents) && size < sliceBytes {
		e := &ps[n].Event
		size += ring.HeaderSize + len(e.Type) + len(e.Data) + encode.MaxIDLine
		if ps[n].Close {
			size += ring.HeaderSize + encode.EndSize(ps[n].Topic) + encode.MaxIDLine
		}
		n++
	}
	return n, size
}

// hold holds the topic of a batch's next event until letGo, with a place for it.
func (s *Sequencer) hold(sc *scratch, name string) error {
	if n := len(sc.topics); n > 0 && sc.topics[n-1].name == name {
		sc.topics = append(sc.topics, sc.topics[n-1])
		return nil
	}
	t, ok := s.table.Lookup(name)
	if !ok || !t.raise(publishers) {
		if _, err := ParseName(name); err != nil {
			return err
		}
		t = s.table.acquire(name, publishers)
	}
	sc.topics = append(sc.topics, t)
	if t.events.Load() > 0 {
		return nil // it has its place, and keeps it while it is held
	}
	for {
		s.mu.Lock()
		done, err := s.claimLocked(t)
		if done && err == nil {
			t.claims++
			sc.claimed = append(sc.claimed, t)
		}
		s.mu.Unlock()
		if done {
			return err
		}
	}
}

// unclaim gives the places back that hold has claimed.
func (s *Sequencer) unclaim(sc *scratch) {
	s.mu.Lock()
	for _, t := range sc.claimed {
		s.unclaimLocked(t)
	}
	s.mu.Unlock()
}

// letGo releases what hold holds.
func (s *Sequencer) letGo(sc *scratch) {
	for i, t := range sc.topics {
		if i == 0 || t != sc.topics[i-1] {
			s.table.release(t, publishers)
		}
	}
}

// publishSlice publishes a slice of a batch to its topics, which are held, and stores the ids.
func (s *Sequencer) publishSlice(sc *scratch, ps []Publication, topics []*Topic, ids []uint64) {
	sc.buf = sc.buf[:0]
	for i := range ps {
		sc.frames[i] = sc.add(&ps[i])
	}
	now := s.now()
	s.mu.Lock()
	for i, t := range topics {
		ids[i] = s.addedLocked(t, sc.buf, &sc.frames[i], now)
	}
	s.mu.Unlock()
	s.wake(topics...)
}

// scratch is what a publisher encodes into: it is copied into the ring under the lock.
type scratch struct {
	buf     []byte
	frames  [sliceEvents]frameIn
	topics  []*Topic // of a batch's events
	claimed []*Topic // those of them that it claimed a place for
}

// frameIn says where in buf a publication's frames lie, without their id lines.
type frameIn struct {
	from, to, typeEnd int // its event; from == to: it has none
	end, endTo        int // the end of its topic; endTo 0: it has none
}

// add encodes a publication's frames into buf, each with room for its id line behind it.
func (sc *scratch) add(p *Publication) (f frameIn) {
	f.from, f.to = len(sc.buf), len(sc.buf)
	if !p.OnlyEnds() {
		sc.buf, f.typeEnd = encode.AppendFrame(sc.buf, &p.Event)
		f.to = len(sc.buf)
		sc.buf = slices.Grow(sc.buf, encode.MaxIDLine)[:f.to+encode.MaxIDLine]
	}
	if p.Close {
		f.end = len(sc.buf)
		sc.buf, _ = encode.AppendEnd(sc.buf, p.Topic)
		f.endTo = len(sc.buf)
		sc.buf = slices.Grow(sc.buf, encode.MaxIDLine)[:f.endTo+encode.MaxIDLine]
	}
	return f
}

// addedLocked publishes what add has encoded, and returns the id of the event, or that of the end
// where there is none.
func (s *Sequencer) addedLocked(t *Topic, buf []byte, f *frameIn, now int64) (id uint64) {
	if f.to > f.from {
		id = s.publishLocked(t, buf[f.from:f.to:f.to+encode.MaxIDLine], f.typeEnd, now)
	}
	if f.endTo > 0 {
		end := s.endLocked(t, buf[f.end:f.endTo:f.endTo+encode.MaxIDLine], now)
		if id == 0 {
			id = end
		}
	}
	return id
}

// scratchMax is how much memory one scratch may keep, in bytes of frames or in topics.
const scratchMax = 4 * sliceBytes

var scratches = sync.Pool{New: func() any { return &scratch{buf: make([]byte, 0, 1<<10)} }}

// free gives the scratch back.
func (sc *scratch) free() {
	clear(sc.topics)
	clear(sc.claimed)
	sc.topics, sc.claimed = sc.topics[:0], sc.claimed[:0]
	if cap(sc.buf) > scratchMax || cap(sc.topics) > scratchMax {
		return
	}
	scratches.Put(sc)
}
