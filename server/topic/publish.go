package topic

// Publishing one event: what is judged before the lock, where a publisher waits, and the way
// through it. What ends in Locked runs with the sequencer's lock.

import (
	"errors"
	"fmt"

	"penstock/encode"
)

// A Publication is an event and where it goes. The sequencer keeps neither name nor data
// when it returns.
type Publication struct {
	Topic string
	Event encode.Event
	Close bool // the topic ends with it; an event without type, retry and data then is none: the end comes alone

	// Key makes it idempotent: a second publication to the topic with the same key within two
	// minutes gets the first one's id, and nothing is published. "": none. See CheckKey.
	Key string
}

// What a publisher must tell apart. With each of them nothing was published.
var (
	ErrDraining      = errors.New("the server drains: nothing more is published here")
	ErrOverload      = errors.New("publishers outrun the subscribers: nothing was published, try again later")
	ErrTooManyTopics = errors.New("too many topics, and each has subscribers, has events in the ring or has ended lately: none can be forgotten for a new one")
	ErrWouldWait     = errors.New("this publish has to wait")
	ErrOwnTopic      = errors.New("topics whose first token starts with $ are the server's own: nobody else publishes there")
)

// A FrameTooLargeError says that an event is larger than a frame may be.
type FrameTooLargeError struct {
	Size int // of the frame in bytes, with the longest id line there is
	Max  int
}

// Error names both sizes.
func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("the event takes a frame of %d bytes; at most %d", e.Size, e.Max)
}

// Publish publishes one event and returns its id: then it is in the ring, and the shards that
// want it have been woken. A publisher that finds a shard too far behind waits
// first, before any lock, for up to the options' time.
//
// Errors with which nothing was published: what encode.Event.Check and ParseName find,
// *FrameTooLargeError, ErrOwnTopic, ErrTooManyTopics, ErrOverload, ErrDraining. Any
// goroutine but a shard's thread, which must not wait for itself.
func (s *Sequencer) Publish(p *Publication) (id uint64, err error) {
	if IsOwn(p.Topic) {
		return 0, ErrOwnTopic
	}
	if p.Key != "" {
		var ids [1]uint64
		_, err := s.PublishBatch([]Publication{*p}, ids[:])
		var one *BatchError
		if errors.As(err, &one) {
			err = one.Err
		}
		return ids[0], err
	}
	return s.publish(p, waits)
}

// TryPublish is Publish for a caller that must not wait: where that would, for shards or for
// another publish with its key, the error is ErrWouldWait and nothing was published. Any
// goroutine, the accept thread above all.
func (s *Sequencer) TryPublish(p *Publication) (id uint64, err error) {
	if p.Key != "" {
		return 0, ErrWouldWait
	}
	if IsOwn(p.Topic) {
		return 0, ErrOwnTopic
	}
	return s.publish(p, tries)
}

// PublishOwn is Publish for the server's own topics ($...): it never waits for shards. A
// place among the topics it always gets. Any goroutine.
func (s *Sequencer) PublishOwn(p *Publication) (id uint64, err error) {
	return s.publish(p, passes)
}

// A patience says what a publisher does that finds a shard too far behind.
type patience uint8

const (
	waits  patience = iota // it waits
	tries                  // it gives up
	passes                 // it does not look: the server's own topics
)

func (s *Sequencer) publish(p *Publication, how patience) (id uint64, err error) {
	s.mustGiveIDs()
	size, err := s.judge(p)
	if err != nil {
		return 0, err
	}
	granted, err := s.enter(how, size)
	if err != nil {
		return 0, err
	}
	defer s.leave()
	defer s.gate.through(granted)
	sc := scratches.Get().(*scratch)
	defer sc.free()
	sc.buf = sc.buf[:0]
	f := sc.add(p)

	t, _ := s.table.Lookup(p.Topic)
	now := s.now()
	s.mu.Lock()
	if t == nil || !t.claimed.Load() {
		s.mu.Unlock()
		return s.publishNew(p.Topic, sc.buf, &f, now)
	}
	id = s.addedLocked(t, sc.buf, &f, now)
	s.mu.Unlock()
	s.wake(t)
	return id, nil
}

// publishNew is the rest of publish for a topic that has no place yet, or has just lost it.
func (s *Sequencer) publishNew(name string, buf []byte, f *frameIn, now int64) (id uint64, err error) {
	if _, err := ParseName(name); err != nil {
		return 0, err
	}
	t := s.table.acquire(name, publishers)
	defer s.table.release(t, publishers)
	for {
		s.mu.Lock()
		done, err := s.claimLocked(t)
		if done && err == nil {
			id = s.addedLocked(t, buf, f, now)
		}
		s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if done {
			s.wake(t)
			return id, nil
		}
	}
}

// judge tells what is wrong with an event, or how many bytes its frame takes at the most, that
// of the topic's end included.
func (s *Sequencer) judge(p *Publication) (size int, err error) {
	if err := p.Event.Check(); err != nil {
		return 0, err
	}
	if p.Key != "" {
		if err := CheckKey(p.Key); err != nil {
			return 0, err
		}
	}
	if size = encode.FrameSize(&p.Event) + encode.MaxIDLine; size > s.maxFrame {
		return 0, &FrameTooLargeError{size, s.maxFrame}
	}
	if p.Close {
		end := encode.EndSize(p.Topic) + encode.MaxIDLine
		if end > s.maxFrame {
			return 0, &FrameTooLargeError{end, s.maxFrame}
		}
		size += end
	}
	return size, nil
}

// enter counts a publisher in who is about to publish so many bytes, unless the server drains. All
// but the server's own wait at the gate; what that has granted goes back by gate.through. While
// the sequencer is frozen everybody waits outside. Who only tries waits for neither.
func (s *Sequencer) enter(how patience, size int) (granted int, err error) {
	for {
		s.inside.Add(1)
		// After the count: Drain and Freeze store, then wait for those that it counts.
		switch {
		case s.draining.Load():
			err = ErrDraining
		case s.frozen.Load():
			err = errFrozen
		case how == passes, how == tries && s.gate.open():
			return 0, nil
		case how == tries:
			err = ErrWouldWait
		default:
			if granted, err = s.gate.pass(false, size); err == nil {
				return granted, nil
			}
		}
		s.leave()
		switch {
		case err != errFrozen:
			return 0, err
		case how == tries:
			return 0, ErrWouldWait
		}
		s.awaitThaw()
	}
}

func (s *Sequencer) leave() {
	if s.inside.Add(-1) == 0 && (s.draining.Load() || s.frozen.Load()) {
		select {
		case s.left <- struct{}{}:
		default:
		}
	}
}
