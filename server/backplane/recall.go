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
	// Not Messages, which drops what comes faster than it is taken.
	r := &recalling{reader: reader{b: b, ctx: ctx, broken: make(chan error, 1)}}
	reading, err := consumer.Consume(r.handle,
		jetstream.PullMaxMessagesWithBytesLimit(readAhead, max(8<<20, 2*b.o.MaxEventSize)),
		jetstream.PullExpiry(2*readBeat+time.Second), jetstream.PullHeartbeat(readBeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { r.stop(err) }))
	if err != nil {
		return 0, err
	}
	defer func() { n = r.recalled }()
	defer func() {
		reading.Stop()
		<-reading.Closed() // after it handle is not called any more
	}()
	select {
	case err := <-r.broken:
		return 0, err // nil: it has all
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// A recalling is a reader of each topic's newest message.
type recalling struct {
	reader
	recalled uint64
}

// handle takes one message. The NATS client's goroutine, one at a time.
func (r *recalling) handle(m jetstream.Msg) {
	if r.over {
		return
	}
	end := func(err error) {
		r.over = true
		r.stop(err)
	}
	meta, err := m.Metadata()
	switch n := r.consumed.Add(1); {
	case err != nil:
		end(fmt.Errorf("a message without its sequence: %w", err))
		return
	case meta.Sequence.Consumer != n:
		end(fmt.Errorf("messages of the reader were lost: number %d instead of %d", meta.Sequence.Consumer, n))
		return
	case meta.Sequence.Stream > r.b.last:
		end(nil) // they come in their order: what follows is read anyway
		return
	}
	if r.arrival(m, meta) {
		if err := r.b.sink.Append(r.one[:]); err != nil {
			end(err)
			return
		}
		r.recalled++
	}
	if meta.NumPending == 0 {
		end(nil)
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
