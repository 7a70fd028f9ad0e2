package backplane

// Recalling: at its start a node learns the newest event of each topic that has none in the part of
// the stream that fills the ring, so that it knows them as one that has run for long does. consume's
// goroutine, before it reads on.

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// recallStall is how long the stream may take for the next one.
const recallStall = 5 * time.Second

// recall appends the newest events of topics that have none after b.last, in their order. whole tells
// whether these are all.
func (b *Backplane) recall(ctx context.Context) (whole bool) {
	if !b.o.Recall {
		return false
	}
	began := time.Now()
	n, err := b.recallAll(ctx)
	if err != nil {
		b.log.Warn("topics that were quiet for long are not known here until they are published to", "recalled", n, "error", err)
		return false
	}
	b.log.Debug("recalled quiet topics", "topics", n, "took", time.Since(began).Round(time.Millisecond).String())
	return true
}

func (b *Backplane) recallAll(ctx context.Context) (n uint64, err error) {
	info, err := b.streamInfo(ctx)
	if err != nil {
		return 0, err
	}
	if info.State.FirstSeq > b.last {
		return 0, nil // the ring is filled with all there is
	}
	config := readerConfig()
	config.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	config.FilterSubject = b.prefix + ">"
	consumer, err := b.js.CreateConsumer(ctx, b.o.Stream, config)
	if err != nil {
		return 0, fmt.Errorf("make a reader: %w", err)
	}
	defer b.forget(consumer)
	if consumer.CachedInfo().NumPending == 0 {
		return 0, nil
	}
	all, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(readAhead, max(8<<20, 2*b.o.MaxEventSize)), jetstream.PullExpiry(recallStall))
	if err != nil {
		return 0, err
	}
	defer all.Stop()
	r := &reader{b: b, ctx: ctx}
	for {
		m, err := all.Next(jetstream.NextMaxWait(recallStall))
		if err != nil {
			return n, err
		}
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		meta, err := m.Metadata()
		if n++; err != nil || meta.Sequence.Consumer != n {
			return n, fmt.Errorf("messages were lost on their way: %w", err)
		}
		if meta.Sequence.Stream > b.last {
			return n - 1, nil // they come in their order: what follows is read anyway
		}
		if r.arrival(m, meta) {
			if err := b.sink.Append(r.one[:]); err != nil {
				return n, err
			}
		}
		if meta.NumPending == 0 {
			return n, nil
		}
	}
}

// readerConfig is what all readers of the stream have in common.
func readerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: readIdle,
	}
}
