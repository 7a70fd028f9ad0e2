package backplane

// Older histories: what a node's ring no longer has, or never had, and the stream still does. Read
// for one subscriber at a time, in pieces of bounded size. Goroutines of requests; never a shard's.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"penstock/server/topic"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	historyBytes = 1 << 20 // of messages in one piece, at about
	historyMost  = 10_000  // messages of one piece
	histories    = 64      // pieces in hand, where the options do not say
	historyWait  = 5 * time.Second
)

// history bounds the pieces in hand.
type history struct{ slots chan struct{} }

func (h *history) begin(n int) {
	if n == 0 {
		n = histories
	}
	h.slots = make(chan struct{}, n)
}

// Older reads what the stream has of the topics and patterns behind an id: a piece that ends where
// it is large enough, or at the stream's end. Nothing of it refers to the connection. The error is
// topic.ErrBusy, or why the stream could not be read. Any goroutine; it waits.
func (b *Backplane) Older(names []string, patterns []topic.Pattern, after uint64) (*topic.Piece, error) {
	select {
	case b.history.slots <- struct{}{}:
	default:
		b.count.historyRefused.Add(1)
		return nil, topic.ErrBusy
	}
	free := func() { <-b.history.slots }
	ctx, cancel := context.WithTimeout(context.Background(), historyWait)
	defer cancel()
	p, err := b.older(ctx, names, patterns, after)
	if err != nil {
		free()
		return nil, err
	}
	p.Free = free
	b.count.histories.Add(1)
	b.count.historyEvents.Add(uint64(len(p.Events)))
	return p, nil
}

func (b *Backplane) older(ctx context.Context, names []string, patterns []topic.Pattern, after uint64) (*topic.Piece, error) {
	if !b.isUp() {
		return nil, errNoConnection
	}
	info, err := b.streamInfo(ctx)
	if err != nil {
		return nil, err
	}
	st := &info.State
	p := &topic.Piece{UpTo: st.LastSeq}
	switch {
	case after >= st.LastSeq:
		p.UpTo = after
		return p, nil
	case after+1 < st.FirstSeq:
		p.Lost = st.FirstSeq
	case st.NumDeleted > 0:
		// Where, nobody knows: it may be anywhere in the piece.
		defer func() { p.Lost = p.UpTo + 1 }()
	}
	config := jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: readIdle,
	}
	filters := subjects(b.prefix, names, patterns)
	if len(filters) == 1 {
		config.FilterSubject = filters[0]
	} else {
		config.FilterSubjects = filters
	}
	consumer, err := b.js.CreateConsumer(ctx, b.o.Stream, config)
	if err != nil {
		return nil, fmt.Errorf("read older history: %w", err)
	}
	defer b.forget(consumer)
	pending, size := consumer.CachedInfo().NumPending, 0
	for number := uint64(0); pending > 0; {
		batch, err := consumer.Fetch(int(min(pending, 500)), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return nil, fmt.Errorf("read older history: %w", err)
		}
		some := false
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil || meta.Sequence.Consumer != number+1 {
				return nil, errors.New("read older history: messages were lost on their way")
			}
			some = true
			number++
			pending = meta.NumPending
			if size >= historyBytes || len(p.Events) >= historyMost {
				continue // it was asked for; the next piece begins with it
			}
			p.UpTo = meta.Sequence.Stream
			a := topic.Arrival{ID: meta.Sequence.Stream, Time: meta.Timestamp.UnixMicro()}
			if eventOf(&a, b.prefix, m.Subject(), m.Headers(), m.Data()) != nil ||
				b.seq.Check(&topic.Publication{Topic: a.Topic, Event: a.Event, Close: a.End}) != nil || !wanted(a.Topic, names, patterns) {
				continue
			}
			size += len(a.Event.Data) + len(a.Event.Type) + 64
			p.Events = append(p.Events, a)
		}
		if err := batch.Error(); err != nil || !some {
			return nil, fmt.Errorf("read older history: the stream stopped in the middle: %w", errors.Join(err, ctx.Err()))
		}
		if size >= historyBytes || len(p.Events) >= historyMost {
			return p, nil
		}
	}
	p.UpTo = max(p.UpTo, st.LastSeq)
	return p, nil
}

// subjects are filters for the topics and patterns. Filters must not overlap: where they might, all
// is read.
func subjects(prefix string, names []string, patterns []topic.Pattern) []string {
	if len(patterns) > 1 || len(patterns) > 0 && len(names) > 0 || len(names) > 100 {
		return []string{prefix + ">"}
	}
	var all []string
	for _, name := range names {
		all = append(all, prefix+name)
	}
	for _, p := range patterns {
		all = append(all, prefix+p.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wanted tells whether a topic is one of those, or matches a pattern.
func wanted(name string, names []string, patterns []topic.Pattern) bool {
	return slices.Contains(names, name) || slices.ContainsFunc(patterns, func(p topic.Pattern) bool { return p.Match(name) })
}

// Await waits until this node has read the stream up to an id that a client has seen elsewhere.
// known is false where the stream has not come so far: no event of it has that id. Any goroutine;
// it waits as long as a publish may.
func (b *Backplane) Await(id uint64) (known bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), b.o.PublishTimeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	const asks = 25 // ticks after which the stream is asked: mostly the node is only milliseconds behind
	for n := 0; b.seq.NewestID() < id; n++ {
		if n == asks {
			info, err := b.streamInfo(ctx)
			if err != nil {
				return false, err
			}
			if info.State.LastSeq < id && info.Mirror == nil {
				return false, nil
			}
			// A mirror is behind its origin by nobody knows how much.
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, errors.New("this node has not read the stream so far yet")
		}
	}
	return true, nil
}
