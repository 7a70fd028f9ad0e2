package backplane

// Publishing: into the stream, whose acknowledgement has the id. Publishers' goroutines; each waits
// for its own events, and many are in flight.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"penstock/server/topic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The headers of a message that is an event.
const (
	headerEvent = "Penstock-Event" // its type
	headerRetry = "Penstock-Retry" // its reconnection time in milliseconds
	headerEnd   = "Penstock-End"   // "true": the end of its topic, and no event
)

const (
	maxInFlight = 16384 // messages that the stream has not acknowledged, of all publishers
	maxWindow   = 512   // of them, of one batch ...
	lateWindow  = 64    // ... while this node is behind
)

// Publish stores an event and returns its id: then it is on its way to every node. The errors are
// those of topic.Sequencer.Check and AwaitFeed, *topic.UnavailableError, and what is wrong with the event for NATS. Any goroutine.
func (b *Backplane) Publish(p *topic.Publication) (id uint64, err error) {
	var ids [1]uint64
	_, err = b.PublishBatch([]topic.Publication{*p}, ids[:])
	var one *topic.BatchError
	if errors.As(err, &one) {
		err = one.Err
	}
	return ids[0], err
}

// PublishBatch stores events in their order and puts their ids into ids, which is at least as long. It waits
// while this node is too far behind the stream, anew for each window, as publishers wait for shards.
// Which one can't be published is told by a *topic.BatchError, and then none was; an *topic.UnavailableError
// says how many of them are stored. fresh is how many are new, and no repeats by their keys. Any
// goroutine.
func (b *Backplane) PublishBatch(ps []topic.Publication, ids []uint64) (fresh int, err error) {
	<-b.started // until then another process publishes
	if b.seq.Draining() {
		return 0, topic.ErrDraining
	}
	for i := range ps {
		if err := b.check(&ps[i]); err != nil {
			return 0, &topic.BatchError{Index: i, Err: err}
		}
	}
	for done := 0; done < len(ps); {
		if err := b.seq.AwaitFeed(done > 0); err != nil {
			return 0, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), b.o.PublishTimeout)
		n, more, err := b.publishSome(ctx, ps[done:min(done+b.window(), len(ps))], ids[done:])
		cancel()
		fresh += more
		done += n
		b.count.published.Add(uint64(n))
		if err != nil {
			e := &topic.UnavailableError{Stored: done, Err: err}
			if e.Unsure = !errors.Is(err, errNoConnection) && !errors.Is(err, errNoStream); e.Unsure {
				b.count.unsure.Add(1)
			} else {
				b.count.failed.Add(1)
			}
			return fresh, e
		}
	}
	return fresh, nil
}

// End ends a topic that is known here, and returns the id of its end. Any goroutine.
func (b *Backplane) End(name string) (id uint64, err error) {
	t, ok := b.seq.Table().Lookup(name)
	if !ok {
		return 0, topic.ErrUnknownTopic
	}
	if id, ended := t.Ended(); ended {
		return id, nil
	}
	return b.Publish(&topic.Publication{Topic: name, Close: true})
}

// check judges an event as the sequencer would, and what NATS can't carry.
func (b *Backplane) check(p *topic.Publication) error {
	if err := b.seq.Check(p); err != nil {
		return err
	}
	if t := p.Event.Type; t != strings.TrimSpace(t) {
		return fmt.Errorf("event type %q: begins or ends with a space, which the header of a NATS message does not carry", t)
	}
	if size, most := len(p.Event.Data)+len(p.Event.Type)+len(p.Topic)+512, b.conn.MaxPayload(); int64(size) > most && most > 0 {
		return &topic.FrameTooLargeError{Size: size, Max: int(most)}
	}
	return nil
}

var errNoStream = errors.New("no stream takes it")

// flights are the messages of one event.
type flights struct{ event, end jetstream.PubAckFuture }

// publishSome sends a window of events and waits for all of them. n is how many of the first ones are
// stored.
func (b *Backplane) publishSome(ctx context.Context, ps []topic.Publication, ids []uint64) (n, fresh int, err error) {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		n, fresh, err = b.tryPublish(ctx, ps, ids)
		// Nobody took the first one: so it is not stored, and may be sent again. A batch of which some is stored
		// goes no further.
		if n > 0 || err == nil || !errors.Is(err, errNoStream) && !errors.Is(err, errNoConnection) {
			return n, fresh, err
		}
		if sleep(ctx, min(wait, 250*time.Millisecond)) != nil {
			return n, fresh, err
		}
	}
}

func (b *Backplane) tryPublish(ctx context.Context, ps []topic.Publication, ids []uint64) (n, fresh int, err error) {
	if err := b.awaitUp(ctx); err != nil {
		return 0, 0, err
	}
	sent := make([]flights, 0, len(ps))
	var sendErr error
	for i := range ps {
		f, err := b.send(&ps[i])
		if err != nil {
			sendErr = err
			break
		}
		sent = append(sent, f)
	}
	broken, last := false, uint64(0)
	for i, f := range sent {
		id, duplicate, err2 := await(ctx, f)
		if err2 != nil {
			if err == nil {
				err = err2
			}
			broken = true
			continue // the others' answers are of use to nobody, but they must be known
		}
		if broken {
			// Stored behind one that is not: the batch's order is gone, and the publisher must know.
			err = fmt.Errorf("events behind one that was not stored are: %w", err)
			break
		}
		ids[i] = id
		last = max(last, id)
		n++
		if !duplicate {
			fresh++
		}
	}
	if last > 0 {
		b.behind.known(last, time.Now())
	}
	if err == nil {
		err = sendErr
	}
	return n, fresh, err
}

// send sends the messages of an event.
func (b *Backplane) send(p *topic.Publication) (f flights, err error) {
	ends := p.Close
	if !p.OnlyEnds() {
		m := &nats.Msg{Subject: b.prefix + p.Topic, Data: p.Event.Data}
		if p.Event.Type != "" || p.Event.Retry > 0 || p.Key != "" {
			m.Header = nats.Header{}
		}
		if p.Event.Type != "" {
			m.Header[headerEvent] = []string{p.Event.Type}
		}
		if p.Event.Retry > 0 {
			m.Header[headerRetry] = []string{strconv.Itoa(p.Event.Retry)}
		}
		if p.Key != "" {
			// Keys are a topic's, NATS's ids are the stream's. No topic has a space in it.
			m.Header[jetstream.MsgIDHeader] = []string{p.Topic + " " + p.Key}
		}
		if f.event, err = b.sendMessage(m); err != nil {
			return f, err
		}
	}
	if ends {
		m := &nats.Msg{Subject: b.prefix + p.Topic, Header: nats.Header{headerEnd: []string{"true"}}}
		if p.Key != "" {
			m.Header[jetstream.MsgIDHeader] = []string{"> " + p.Topic + " " + p.Key} // no topic begins so
		}
		f.end, err = b.sendMessage(m)
	}
	return f, err
}

func (b *Backplane) sendMessage(m *nats.Msg) (jetstream.PubAckFuture, error) {
	f, err := b.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0), jetstream.WithStallWait(b.o.PublishTimeout))
	switch {
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionReconnecting):
		return nil, errNoConnection
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return nil, fmt.Errorf("the stream is slow: %d messages are in flight: %w", maxInFlight, errNoConnection)
	}
	return f, err
}

// await waits for the acknowledgements of an event.
func await(ctx context.Context, f flights) (id uint64, duplicate bool, err error) {
	for _, one := range []jetstream.PubAckFuture{f.event, f.end} {
		if one == nil {
			continue
		}
		select {
		case ack := <-one.Ok():
			if id == 0 {
				id, duplicate = ack.Sequence, ack.Duplicate
			}
		case err := <-one.Err():
			if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
				return 0, false, errNoStream
			}
			return 0, false, err
		case <-ctx.Done():
			return 0, false, errors.New("the stream did not answer in time")
		}
	}
	return id, duplicate, nil
}
