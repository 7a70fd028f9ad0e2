package backplane

// The stream: found, or made where it is missing. At the start, and on consume's goroutine.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What a stream that Penstock makes keeps.
const (
	keepAge   = 24 * time.Hour
	keepBytes = 1 << 30
	keyWindow = 2 * time.Minute // for how long a key is known: what local keys promise
)

// openStream finds the stream or makes it, and decides what its subjects mean and where reading
// begins.
func (b *Backplane) openStream(deadline time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(deadline), 2*time.Second))
	defer cancel()
	var info *jetstream.StreamInfo
	var err error
	for {
		if info, err = b.findStream(ctx); err == nil || !again(err) {
			break
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("--nats-stream %s: %w", b.o.Stream, err)
	}
	if err := b.judgeStream(info); err != nil {
		return err
	}
	b.epoch.Store(info.Created.UnixNano())
	b.look(info)
	b.target = info.State.LastSeq
	b.last = fillFrom(&info.State, b.o.RingSize) - 1
	b.lastSeen.Store(b.last)
	return nil
}

// again tells whether a stream that could not be had may be there a moment later: a cluster chooses
// its leaders.
func again(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// streamInfo asks for the stream as it is now.
func (b *Backplane) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := b.js.Stream(ctx, b.o.Stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// findStream finds the stream, or makes it.
func (b *Backplane) findStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := b.streamInfo(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return info, err
	}
	return b.makeStream(ctx)
}

// makeStream makes the stream. Three copies where NATS is a cluster.
//
// Its sequence begins at the time: an id of a stream that was here before, or of a Penstock
// without NATS, is less than all of its ids.
func (b *Backplane) makeStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	if b.o.Prefix == "none" {
		return nil, fmt.Errorf("there is no such stream, and without a prefix Penstock can't know its subjects; make it: nats stream add %s --subjects 'stocks.>' --storage file --defaults, or give --nats-subject-prefix", b.o.Stream)
	}
	config := jetstream.StreamConfig{
		Name:        b.o.Stream,
		Description: "Penstock's events: a subject is a topic",
		Subjects:    []string{b.wantPrefix() + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      keepAge,
		MaxBytes:    keepBytes,
		Duplicates:  keyWindow,
		AllowDirect: true,
		FirstSeq:    max(uint64(time.Now().UnixMicro()), b.lastSeen.Load()+1),
		Replicas:    3,
	}
	s, err := b.js.CreateStream(ctx, config)
	if code := errorCode(err); code == errNotClustered || code == errNoPeers || code == errTooManyReplicas {
		config.Replicas = 1
		s, err = b.js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return b.streamInfo(ctx) // another node was faster
	}
	if err != nil {
		return nil, fmt.Errorf("there is no such stream, and it could not be made: %w; make it: nats stream add %s --subjects '%s' --storage file --max-age %s --max-bytes %d --dupe-window %s --defaults",
			err, b.o.Stream, config.Subjects[0], keepAge, keepBytes, keyWindow)
	}
	b.log.Info("made the stream", "stream", b.o.Stream, "subjects", config.Subjects[0], "replicas", config.Replicas, "keeps", keepAge.String(), "bytes", keepBytes)
	return s.CachedInfo(), nil
}

// Error codes of JetStream that nats.go has no names for.
const (
	errNoPeers         = 10005 // no suitable peers for placement
	errNotClustered    = 10074 // replicas > 1 not supported in non-clustered mode
	errTooManyReplicas = 10060 // the account may have fewer
)

func errorCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// wantPrefix is the prefix that was asked for, with its dot; that of a stream of our own for "auto".
func (b *Backplane) wantPrefix() string {
	switch b.o.Prefix {
	case "none":
		return ""
	case "auto", "":
		return DefaultPrefix + "."
	}
	return b.o.Prefix + "."
}

// judgeStream decides what the stream's subjects mean.
func (b *Backplane) judgeStream(info *jetstream.StreamInfo) error {
	c := &info.Config
	prefix := b.wantPrefix()
	under := 0
	for _, subject := range c.Subjects {
		if strings.HasPrefix(subject, prefix) {
			under++
		}
	}
	if under == 0 && len(c.Subjects) > 0 && b.o.Prefix == "auto" {
		prefix, under = "", len(c.Subjects)
	}
	if under == 0 && len(c.Subjects) > 0 {
		return fmt.Errorf("--nats-subject-prefix %s: the stream %s has the subjects %s, none of them under it", b.o.Prefix, b.o.Stream, strings.Join(c.Subjects, " "))
	}
	if c.NoAck {
		return fmt.Errorf("--nats-stream %s: it acknowledges nothing (no-ack), so that a publish would not know its id", b.o.Stream)
	}
	// A mirror has no subjects of its own: its origin may have others.
	b.prefix, b.filtered = prefix, under < len(c.Subjects) || len(c.Subjects) == 0 && prefix != ""
	return nil
}

// fillFrom is the sequence from which on the newest part of a stream fills a ring, about.
func fillFrom(state *jetstream.StreamState, ringSize int) uint64 {
	if state.Msgs == 0 {
		return state.LastSeq + 1
	}
	// Both cost something beside the data: an entry's header, a stored message's.
	const beside = 64
	average := state.Bytes/state.Msgs + beside
	room := uint64(ringSize) / 10 * 8 / average
	if room >= state.LastSeq-state.FirstSeq {
		return state.FirstSeq
	}
	return state.LastSeq - room + 1
}
