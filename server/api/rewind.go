package api

// With a backplane: streams that are to begin further back than this node's ring does. Any goroutine
// that may wait, but for rewindsBeyond: the accept thread too.

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"penstock/server/fanout"
	"penstock/server/topic"
)

// A Past says how far back a stream can begin beyond the ring.
type Past interface {
	// First returns the id after which the events begin that it has, or a lesser one.
	First() uint64
	// IDAt returns the id after which the events since a time come. It may wait.
	IDAt(since time.Time) (uint64, error)
	// Newest returns the newest n events of each topic up to an id, and its ends, the newest first. The error is
	// topic.ErrBusy, or that it can't. It may wait.
	Newest(names []string, n int, upTo uint64) (map[string][]topic.Arrival, error)
}

// mostNewest is how many events rewind=N asks the backplane for, of all topics; more than that, the
// ring alone has to do.
const mostNewest = 1000

// rewindsBeyond tells whether a stream is to begin further back than the ring may reach.
func (a *API) rewindsBeyond(r *request, sub *fanout.Subscription) bool {
	back := sub.Rewind
	if a.o.Backplane == nil || r.head || sub.Resume || sub.BadID != "" || sub.Latest || back == (fanout.Rewind{}) {
		return false
	}
	s, first := a.o.Sequencer, a.o.Backplane.First()
	switch {
	case back.Since > 0 && s.Reaches(time.Now().Add(-back.Since).UnixMicro()):
		return false
	case back.Count > 0:
		return len(sub.Patterns) == 0 && back.Count*len(sub.Topics) <= mostNewest &&
			slices.ContainsFunc(sub.Topics, func(name string) bool { return !s.Holds(name, back.Count, first) })
	}
	return s.Misses(sub.Topics, sub.Patterns, first)
}

// rewind asks the backplane for what the ring lacks. It returns what has to be sent first, nil where
// the stream may begin; the subscription then has its past with it, or where there is none to be had
// begins with the ring.
func (a *API) rewind(sub *fanout.Subscription) (*olderStream, *failure) {
	if sub.Rewind.Count > 0 {
		return nil, a.rewindCount(sub)
	}
	b, after := a.o.Backplane, a.o.Backplane.First()
	if back := sub.Rewind.Since; back > 0 {
		var err error
		if after, err = b.IDAt(time.Now().Add(-back)); err != nil {
			return nil, nil // the ring
		}
	}
	for range mostPieces {
		p, err := b.Older(sub.Topics, sub.Patterns, after)
		switch {
		case errors.Is(err, topic.ErrBusy):
			return nil, a.unavailable(overHistory, err.Error())
		case err != nil:
			return nil, nil
		}
		p.Lost = 0 // it asked for what is there
		whole := !a.o.Sequencer.Misses(sub.Topics, sub.Patterns, p.UpTo)
		if len(p.Events) > 0 && !whole {
			sub.Resume, sub.LastID = true, p.Events[0].ID-1
			return renderOlder(sub, p), nil
		}
		if len(p.Events) > 0 {
			a.precede(sub, p.Events, min(p.UpTo, a.o.Sequencer.NewestID()))
		}
		p.Free()
		if whole {
			return nil, nil
		}
		after = p.UpTo
	}
	return nil, nil
}

// rewindCount asks for the newest events of each topic.
func (a *API) rewindCount(sub *fanout.Subscription) *failure {
	known := make([]uint64, len(sub.Topics)) // what each has had at least
	for i, name := range sub.Topics {
		if t, ok := a.o.Sequencer.Table().Lookup(name); ok {
			known[i], _, _ = t.Newest()
		}
	}
	upTo := a.o.Sequencer.NewestID() // after them
	newest, err := a.o.Backplane.Newest(sub.Topics, sub.Rewind.Count, upTo)
	switch {
	case errors.Is(err, topic.ErrBusy):
		return a.unavailable(overHistory, err.Error())
	case err != nil:
		return nil // the ring
	}
	var all []topic.Arrival
	for i, name := range sub.Topics {
		events := newest[name]
		if known[i] > 0 && (len(events) == 0 || events[0].ID < known[i]) {
			return nil // a copy of the stream that is behind this node
		}
		all = append(all, events...)
	}
	slices.SortFunc(all, func(a, b topic.Arrival) int { return cmp.Compare(a.ID, b.ID) })
	if len(all) > 0 {
		a.precede(sub, all, upTo)
	}
	return nil
}

// precede gives a stream its past, and lets it go on behind an id.
func (a *API) precede(sub *fanout.Subscription, events []topic.Arrival, upTo uint64) {
	sub.Resume, sub.LastID, sub.Start, sub.Rewound = true, upTo, min(events[0].ID-1, upTo), true
	var frame []byte
	for i := range events {
		if e := &events[i]; e.ID <= upTo {
			sub.Past, frame = appendArrival(sub.Past, frame, e, sub.Form)
		}
	}
}
