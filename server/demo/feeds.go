package demo

// Feeds: two sources of events, and the loop that publishes each when it is due.
// Run's goroutine owns the sources; nothing here is shared.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"penstock/server/topic"
)

// Publisher is the door that anyone's events take; *topic.Sequencer is one.
type Publisher interface {
	// Publish gives the event an id and makes it visible to subscribers. It may wait.
	// It keeps nothing of p.
	Publish(p *topic.Publication) (id uint64, err error)
}

// A Clock is where the feeds take time from.
type Clock interface {
	// Now is the present time, wall clock and monotonic.
	Now() time.Time
	// WaitUntil returns nil at t or later, or the context's error once it has ended.
	WaitUntil(ctx context.Context, t time.Time) error
}

// Options are what New needs and may be given. The zero value of all but Publisher is a good choice.
type Options struct {
	Publisher Publisher // required
	Seed      uint64    // of the simulated stocks: the same seed and clock, the same trades
	Clock     Clock     // nil: the machine's
}

// quakeSpeed is how many times faster than they happened the recorded quakes are replayed:
// a week in ten minutes, some three a second.
const quakeSpeed = 1000

// maxBehind is how late the feeds may be before they skip the time they have lost. A laptop
// that slept, or publishers made to wait, must not end in a flood of overdue events.
const maxBehind = time.Second

// A source is an endless series of events, each due some time after the start.
type source interface {
	// due is when the next event is to be published, since the start. It never decreases.
	due() time.Duration
	// next fills in the event that is due and moves on; p.Event.Data is valid until the next call.
	// now goes into what is simulated.
	next(now time.Time, p *topic.Publication)
}

// Feeds is the demo: its sources and where they publish.
type Feeds struct {
	publisher Publisher
	clock     Clock
	sources   []source
	refused   uint64
}

// New prepares the feeds and publishes nothing yet. An error means that the recorded quakes
// in this build cannot be read. Any goroutine.
func New(o Options) (*Feeds, error) {
	if o.Publisher == nil {
		panic("demo: New: no Publisher")
	}
	if o.Clock == nil {
		o.Clock = machineClock{}
	}
	quakes, err := newReplay(recording, quakeSpeed)
	if err != nil {
		return nil, err
	}
	return &Feeds{publisher: o.Publisher, clock: o.Clock, sources: []source{quakes, newTicker(o.Seed)}}, nil
}

// Run publishes until the context ends or the server drains, and then returns nil. An event
// refused because the server is overloaded or its backplane gone, or has no place for its topic, is left out and
// the feed goes on; any other refusal is the error. One goroutine, once.
func (f *Feeds) Run(ctx context.Context) error {
	start := f.clock.Now()
	var p topic.Publication
	for {
		s := f.sources[0]
		for _, other := range f.sources[1:] {
			if other.due() < s.due() {
				s = other
			}
		}
		due := start.Add(s.due())
		if err := f.clock.WaitUntil(ctx, due); err != nil {
			return nil
		}
		now := f.clock.Now()
		if late := now.Sub(due); late > maxBehind {
			start = start.Add(late)
		}
		s.next(now, &p)
		switch _, err := f.publisher.Publish(&p); {
		case err == nil:
		case errors.Is(err, topic.ErrDraining):
			return nil
		case errors.Is(err, topic.ErrOverload), errors.Is(err, topic.ErrTooManyTopics), errors.As(err, new(*topic.UnavailableError)):
			f.refused++
		default:
			return fmt.Errorf("demo: publish to %s: %w", p.Topic, err)
		}
	}
}

// machineClock is the machine's clock.
type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) WaitUntil(ctx context.Context, t time.Time) error {
	if err := ctx.Err(); err != nil {
		return err // also where nothing is to be waited for, or an overdue feed would never stop
	}
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
