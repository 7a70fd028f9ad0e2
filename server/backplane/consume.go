package backplane

// Reading the stream, in its order, into the sequencer. One goroutine, but for handle: that of the
// NATS client, while consume waits.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"penstock/encode"
	"penstock/server/topic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Sink takes what is read. One goroutine at a time.
type Sink interface {
	// Append takes events in their order; what is not newer than what was there is left out. It may
	// wait. An error means that nothing more is wanted.
	Append([]topic.Arrival) error
	// Begin says, before anything else but what quiet topics had last was appended, from which id on there
	// is a history; newest tells that no topic's newest event is missing.
	Begin(since uint64, newest bool)
	// Lose says that of the events up to an id some are gone that were never appended; the stream has
	// reached an id without them, or 0.
	Lose(id, reached uint64)
	// Restart says that ids begin anew after one: it is another stream.
	Restart(after uint64)
}

const (
	readAhead   = 2000             // messages that are asked for at once
	readBeat    = 5 * time.Second  // of the reader; two that are missed begin the reading again
	readIdle    = 30 * time.Second // after which NATS forgets a reader that is gone
	waitAnew    = 3 * time.Second  // how long a stream that is gone may take to come back before it is made
	mostBackoff = 2 * time.Second
)

// Attach says where the events go, and that what is published is judged by the sequencer. Call it once,
// before Publish, which waits for Start.
func (b *Backplane) Attach(seq *topic.Sequencer, sink Sink) {
	b.seq, b.sink = seq, sink
	b.follows.Store(seq)
}

// Start begins to read the stream. One that goes on for another process begins behind the newest id
// there is. Call it once, after Attach.
func (b *Backplane) Start(goesOn bool) {
	if b.fresh = !goesOn; goesOn {
		b.last = b.seq.NewestID()
		b.lastSeen.Store(b.last)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.done.Go(func() { b.consume(ctx) })
	b.starts.Do(func() { close(b.started) })
}

// Filled is closed when the events that the stream had at the start are in the ring.
func (b *Backplane) Filled() <-chan struct{} { return b.filled }

// consume reads until ctx ends. Whatever ends a reading, the next one begins behind the last event.
func (b *Backplane) consume(ctx context.Context) {
	defer b.fillers.Do(func() { close(b.filled) })
	if b.fresh {
		b.sink.Begin(b.last, b.recall(ctx))
	}
	wait := time.Duration(0)
	var gone time.Time // since when there is no stream
	for sleep(ctx, wait) == nil {
		before := b.last
		err := b.read(ctx, &gone)
		b.reading.Store(false)
		b.moved()
		if ctx.Err() != nil || errors.Is(err, topic.ErrDraining) {
			return
		}
		b.count.restarts.Add(1)
		b.log.Info("reading the stream begins again", "stream", b.o.Stream, "after", b.last, "why", err)
		if wait = min(2*wait+50*time.Millisecond, mostBackoff); b.last > before {
			wait = 10 * time.Millisecond
		}
	}
}

// read reads the stream until something is wrong with the reader.
func (b *Backplane) read(ctx context.Context, gone *time.Time) error {
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	err := b.awaitUp(waiting)
	cancel()
	if err != nil {
		return err
	}
	ctx, cancel = b.whileUp(ctx)
	defer cancel()
	info, err := b.streamInfo(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if gone.IsZero() {
			*gone = time.Now()
			b.log.Error("the stream is gone", "stream", b.o.Stream, "made anew in", waitAnew.String())
		}
		if time.Since(*gone) < waitAnew {
			return err
		}
		info, err = b.makeStream(ctx)
	}
	if err != nil {
		return err
	}
	*gone = time.Time{}
	b.compare(info)
	if b.last >= b.target {
		b.fillers.Do(func() { close(b.filled) })
	}

	config := readerConfig()
	config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, b.last+1
	if b.filtered {
		config.FilterSubject = b.prefix + ">"
	}
	asking, asked := context.WithTimeout(ctx, 5*time.Second)
	consumer, err := b.js.CreateConsumer(asking, b.o.Stream, config)
	asked()
	if err != nil {
		return fmt.Errorf("make a reader: %w", err)
	}
	defer b.forget(consumer)
	r := &reader{b: b, ctx: ctx, broken: make(chan error, 1)}
	reading, err := consumer.Consume(r.handle,
		jetstream.PullMaxMessagesWithBytesLimit(readAhead, max(8<<20, 2*b.o.MaxEventSize)),
		jetstream.PullExpiry(2*readBeat+time.Second), jetstream.PullHeartbeat(readBeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { r.stop(err) }))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	b.reading.Store(true)
	defer func() {
		reading.Stop()
		<-reading.Closed() // after it handle is not called any more
	}()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case err := <-r.broken:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
			r.lookBehind(consumer)
		}
	}
}

// lookBehind looks whether what this node is behind by is still to come at all: what was deleted from
// the stream before it was read never does.
func (r *reader) lookBehind(consumer jetstream.Consumer) {
	was, now := r.handled, time.Now()
	r.handled = r.consumed.Load()
	if r.handled != was || r.b.behind.by(now) < time.Second {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	info, err := consumer.Info(ctx)
	if err == nil && info.NumPending == 0 && info.Delivered.Consumer == r.handled && r.consumed.Load() == r.handled && !r.busy.Load() {
		r.b.behind.over(now)
	}
}

// forget deletes a reader that is of no use any more; NATS would do so by itself a while later.
func (b *Backplane) forget(c jetstream.Consumer) {
	if !b.isUp() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = b.js.DeleteConsumer(ctx, b.o.Stream, c.CachedInfo().Name)
}

// compare holds the stream as it is against what was read of it: it may be another one, or have
// dropped what would have come next.
func (b *Backplane) compare(info *jetstream.StreamInfo) {
	st := &info.State
	b.checked, b.jumped = time.Now(), 0
	b.look(info)
	anew := info.Created.UnixNano() != b.epoch.Load()
	switch {
	case st.LastSeq < b.last:
		// Ids run backwards: it can only be another stream, or one restored from an older copy.
		from := fillFrom(st, b.o.RingSize) - 1
		b.log.Error("the stream was made anew and its sequence runs backwards; every subscriber is told by a gap",
			"stream", b.o.Stream, "was", b.last, "is", st.LastSeq)
		b.count.gaps.Add(1)
		b.sink.Restart(from)
		b.last = from
		b.behind.anew(from)
	case anew || st.FirstSeq > b.last+1:
		// Of what was before its first event nobody knows here what is missing.
		at := max(b.last, st.FirstSeq-1)
		b.log.Warn("the stream has lost events that were not read here; every subscriber is told by a gap",
			"stream", b.o.Stream, "after", b.last, "up to", at, "made anew", anew)
		b.count.gaps.Add(1)
		b.sink.Lose(at, at)
		b.last = at
		b.behind.anew(at)
	}
	b.epoch.Store(info.Created.UnixNano())
	b.lastSeen.Store(b.last)
}

// A reader is one reading.
type reader struct {
	b        *Backplane
	ctx      context.Context
	consumed atomic.Uint64 // messages of this reading
	busy     atomic.Bool   // with the newest of them
	handled  uint64        // what lookBehind has seen of them
	broken   chan error
	over     bool
	one      [1]topic.Arrival
}

// stop ends the reading.
func (r *reader) stop(err error) {
	select {
	case r.broken <- err:
	default:
	}
}

// handle takes one message. The NATS client's goroutine, one at a time.
func (r *reader) handle(m jetstream.Msg) {
	if r.over {
		return
	}
	b := r.b
	meta, err := m.Metadata()
	if err != nil {
		r.over = true
		r.stop(fmt.Errorf("a message without its sequence: %w", err))
		return
	}
	r.busy.Store(true)
	defer r.busy.Store(false)
	if n := r.consumed.Add(1); meta.Sequence.Consumer != n {
		r.over = true
		r.stop(fmt.Errorf("messages of the reader were lost: number %d instead of %d", meta.Sequence.Consumer, n))
		return
	}
	seq := meta.Sequence.Stream
	if seq <= b.last {
		return
	}
	if seq != b.last+1 {
		b.jump(r.ctx, seq)
	}
	if meta.NumPending > 0 {
		b.behind.known(seq+meta.NumPending, time.Now()) // they have greater ones, one each
	}
	if r.arrival(m, meta) {
		if err := b.sink.Append(r.one[:]); err != nil {
			r.over = true
			r.stop(err)
			return
		}
		b.count.read.Add(1)
	}
	r.one[0] = topic.Arrival{}
	b.last = seq
	b.lastSeen.Store(seq)
	b.pending.Store(meta.NumPending)
	b.behind.pass(seq)
	if seq >= b.target || meta.NumPending == 0 {
		b.fillers.Do(func() { close(b.filled) })
	}
}

// jump judges a hole in the sequence before seq: messages of other subjects, or lost ones.
func (b *Backplane) jump(ctx context.Context, seq uint64) {
	if !b.filtered {
		// All that is there is read, so what is missing was removed before it could be. Told once for all
		// that was removed by now: a stream that keeps one message for each subject is full of holes.
		if b.jumped > seq {
			return
		}
		upTo := seq - 1
		if info, err := b.streamInfo(ctx); err == nil {
			b.look(info)
			upTo = max(upTo, info.State.LastSeq)
		}
		b.jumped = upTo + 1
		b.count.gaps.Add(1)
		b.sink.Lose(upTo, 0)
		return
	}
	if b.jumped == 0 {
		b.jumped = b.last
	}
	if time.Since(b.checked) < time.Second {
		return
	}
	info, err := b.streamInfo(ctx)
	if err != nil {
		return // asked again at the next one
	}
	if first := info.State.FirstSeq; first > b.jumped+1 {
		b.count.gaps.Add(1)
		b.sink.Lose(first-1, 0)
	}
	b.checked, b.jumped = time.Now(), 0
}

// arrival makes an event of a message, in r.one; false where it can be none.
func (r *reader) arrival(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
	b := r.b
	a := &r.one[0]
	*a = topic.Arrival{ID: meta.Sequence.Stream, Time: meta.Timestamp.UnixMicro()}
	err := eventOf(a, b.prefix, m.Subject(), m.Headers(), m.Data())
	kind := warnBadTopic
	if err == nil {
		kind = warnBadEvent
		p := topic.Publication{Topic: a.Topic, Event: a.Event, Close: a.End}
		err = b.seq.Check(&p)
	}
	if err == nil {
		return true
	}
	b.count.skipped.Add(1)
	if b.warned[kind].CompareAndSwap(false, true) {
		b.log.Warn("a message in the stream can't be an event and is left out; further ones are only counted",
			"subject", m.Subject(), "sequence", a.ID, "error", err)
	}
	return false
}

// eventOf makes an event of a message's parts.
func eventOf(a *topic.Arrival, prefix, subject string, h nats.Header, data []byte) error {
	name, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return fmt.Errorf("the subject is not under %s", prefix)
	}
	a.Topic = name
	a.Event = encode.Event{Data: data}
	if len(h) == 0 {
		return nil
	}
	if h.Get(headerEnd) == "true" {
		a.End, a.Event = true, encode.Event{}
		return nil
	}
	a.Event.Type = h.Get(headerEvent)
	if text := h.Get(headerRetry); text != "" {
		retry, err := strconv.Atoi(text)
		if err != nil || retry < 0 || retry > encode.MaxRetry {
			return fmt.Errorf("header %s %q: it takes whole milliseconds, 0 to %d", headerRetry, text, encode.MaxRetry)
		}
		a.Event.Retry = retry
	}
	return nil
}
