package backplane

// How far back a stream begins: where the ring does not reach, the stream says where that is, and
// what a topic had last. Goroutines of requests; never a shard's.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"penstock/server/topic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// First returns the id after which the stream's events begin, as it was when the stream was looked at
// last: it only moves on. Any goroutine.
func (b *Backplane) First() uint64 { return b.first.Load() }

// look notes where the stream begins.
func (b *Backplane) look(info *jetstream.StreamInfo) {
	b.first.Store(max(info.State.FirstSeq, 1) - 1)
}

// IDAt returns the id after which the stream's events since a time come. Any goroutine; it waits.
func (b *Backplane) IDAt(since time.Time) (uint64, error) {
	if !b.isUp() {
		return 0, errNoConnection
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyWait)
	defer cancel()
	config := readerConfig()
	config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	consumer, err := b.js.CreateConsumer(ctx, b.o.Stream, config)
	if err != nil {
		return 0, err
	}
	defer b.forget(consumer)
	// Where it begins is where it has been delivered up to.
	if at := consumer.CachedInfo().Delivered.Stream; at > 0 || consumer.CachedInfo().NumPending > 0 {
		return at, nil
	}
	info, err := b.streamInfo(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// mostNewest is how many bytes of data Newest returns, about.
const mostNewest = 256 << 10

// Newest returns the newest n events of each topic up to an id, and its ends between them, the newest
// first; or fewer where that would be more than 256 KiB. It takes the stream's direct gets, of NATS 2.11 and newer; the error is
// topic.ErrBusy, or that. Any goroutine; it waits, once for each event.
func (b *Backplane) Newest(names []string, n int, upTo uint64) (map[string][]topic.Arrival, error) {
	select {
	case b.history.slots <- struct{}{}:
	default:
		b.count.historyRefused.Add(1)
		return nil, topic.ErrBusy
	}
	defer func() { <-b.history.slots }()
	ctx, cancel := context.WithTimeout(context.Background(), historyWait)
	defer cancel()
	all, size := make(map[string][]topic.Arrival, len(names)), 0
	for _, name := range names {
		var events []topic.Arrival
		for before, left := upTo, n; left > 0 && before > 0 && size < mostNewest; {
			a, at, err := b.lastUpTo(ctx, name, before)
			if err != nil {
				return nil, fmt.Errorf("the newest events of %s: %w", name, err)
			}
			if at == 0 {
				break
			}
			before = at - 1
			if a == nil {
				continue
			}
			if !a.End {
				left--
			}
			size += len(a.Event.Data) + len(a.Event.Type) + 64
			events = append(events, *a)
		}
		b.count.historyEvents.Add(uint64(len(events)))
		all[name] = events
	}
	b.count.histories.Add(1)
	return all, nil
}

// lastUpTo asks for a topic's newest message up to an id, and returns its id, 0 where there is none;
// the event is nil where it is none.
func (b *Backplane) lastUpTo(ctx context.Context, name string, upTo uint64) (a *topic.Arrival, at uint64, err error) {
	request, err := json.Marshal(struct {
		Last []string `json:"multi_last"`
		UpTo uint64   `json:"up_to_seq"`
	}{[]string{b.prefix + name}, upTo})
	if err != nil {
		return nil, 0, err
	}
	m, err := b.conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+b.o.Stream, request)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, 0, errors.New("the stream takes no direct gets: nats stream edit " + b.o.Stream + " --allow-direct")
	}
	if err != nil {
		return nil, 0, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, 0, nil
	default:
		return nil, 0, fmt.Errorf("NATS says %s %s", status, m.Header.Get("Description"))
	}
	at, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil || at > upTo {
		return nil, 0, fmt.Errorf("a message with the sequence %q, asked for up to %d", m.Header.Get(jetstream.SequenceHeader), upTo)
	}
	when, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return nil, 0, err
	}
	a = &topic.Arrival{ID: at, Time: when.UnixMicro()}
	if eventOf(a, b.prefix, m.Header.Get(jetstream.SubjectHeader), m.Header, m.Data) != nil ||
		b.seq.Check(&topic.Publication{Topic: a.Topic, Event: a.Event, Close: a.End}) != nil {
		return nil, at, nil
	}
	return a, at, nil
}
