package backplane

// The backplane: its options, its connection, how it is. Any goroutine.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"penstock/server/topic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say where NATS is and how it is used. Stream, MaxEventSize, RingSize and PublishTimeout are required, and
// Servers or Embedded.
type Options struct {
	Servers []string // nats://host:port
	Stream  string
	Prefix  string // of the subjects: "auto", "none" or tokens; see DefaultPrefix

	Creds          string // file of a user's JWT and seed
	NKey           string // file of an nkey's seed
	CA, Cert, Key  string // files for TLS
	Embedded       string // the directory of a NATS server in this process
	EmbeddedListen string // host:port where others reach it; "": nobody does
	Sync           time.Duration

	PublishTimeout time.Duration // how long a publish waits for the stream, a node for NATS at its start
	MaxEventSize   int           // bytes of a frame
	RingSize       int           // bytes: how much of the stream a node reads at its start
	Recall         bool          // a node learns each topic's newest event at its start, however old
	MaxBehind      time.Duration // how far behind the stream a node may be before its publishers wait; 0: they never do
	History        int           // how many older histories are in hand at once; 0: 64
	Log            *slog.Logger  // nil: slog.Default
}

// DefaultPrefix is what stands before the topics in a stream that Penstock makes itself. With
// "auto" a stream that is there already and has other subjects has no prefix.
const DefaultPrefix = "penstock"

// A Backplane is a node's connection to its stream.
type Backplane struct {
	o        Options
	log      *slog.Logger
	conn     *nats.Conn
	js       jetstream.JetStream
	embedded *server.Server // nil: NATS is elsewhere

	prefix   string // of subjects, with its dot; or ""
	filtered bool   // the stream has other subjects as well
	seq      *topic.Sequencer
	sink     Sink

	started chan struct{} // closed when the stream begins to be read; or never will be
	starts  sync.Once
	stop    context.CancelFunc
	done    sync.WaitGroup
	filled  chan struct{} // closed when what the stream had at the start is in the ring
	fillers sync.Once

	// consume's goroutine alone.
	fresh   bool      // nothing was read before the start
	last    uint64    // the newest sequence that was read
	checked time.Time // when the stream's first sequence was asked for last
	jumped  uint64    // since then: the sequence before the first jump; 0: none

	target  uint64 // what the stream had at the start
	history history

	link     atomic.Pointer[link] // the present connection, or the last one
	behind   behind
	follows  atomic.Pointer[topic.Sequencer] // seq, once there is one
	reading  atomic.Bool                     // the stream is being read
	lastSeen atomic.Uint64                   // last
	first    atomic.Uint64                   // see First
	epoch    atomic.Int64                    // when the stream was made, nanoseconds since 1970
	pending  atomic.Uint64                   // what the stream had more, when the newest event was read
	count    counters
	warned   [kinds]atomic.Bool
}

// Open connects and finds the stream, or makes it where it is missing. The error says what to do.
// It waits for NATS for as long as a publish does. Whoever gets a Backplane calls Start, and Close.
func Open(o Options) (*Backplane, error) {
	b := &Backplane{o: o, log: o.Log, filled: make(chan struct{}), started: make(chan struct{})}
	b.behind.begin(max(o.MaxBehind/16, time.Millisecond), b.moved)
	b.setUp()
	b.link.Load().end()
	if b.log == nil {
		b.log = slog.Default()
	}
	if err := b.open(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Backplane) open() (err error) {
	options, err := b.connectOptions()
	if err != nil {
		return err
	}
	url := strings.Join(b.o.Servers, ",")
	if b.o.Embedded != "" {
		if b.embedded, err = embed(&b.o, b.log); err != nil {
			return err
		}
		url = ""
		options = append(options, nats.InProcessServer(b.embedded))
	}
	deadline := time.Now().Add(b.o.PublishTimeout)
	for {
		if b.conn, err = nats.Connect(url, options...); err == nil {
			break
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("--nats %s: %w; is it running, and may this user connect?", url, err)
		}
		time.Sleep(min(200*time.Millisecond, time.Until(deadline)))
	}
	b.setUp()
	b.js, err = jetstream.New(b.conn,
		jetstream.WithPublishAsyncMaxPending(maxInFlight),
		jetstream.WithPublishAsyncTimeout(b.o.PublishTimeout))
	if err != nil {
		return err
	}
	b.history.begin(b.o.History)
	return b.openStream(deadline)
}

// connectOptions are those of the connection. A secret comes from a file alone.
func (b *Backplane) connectOptions() ([]nats.Option, error) {
	o := &b.o
	name, _ := os.Hostname()
	options := []nats.Option{
		nats.Name("penstock " + name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.Timeout(2 * time.Second),
		// What was published while the connection is gone is refused, and must not go out later.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.link.Load().end()
			b.moved() // who waits for the reading now waits for NATS
			if err != nil {
				b.log.Warn("NATS is gone; streams stay, publishers wait or are refused", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			b.count.reconnects.Add(1)
			b.setUp()
			b.log.Info("NATS is back", "server", c.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("NATS", "error", err)
		}),
	}
	if o.Creds != "" {
		options = append(options, nats.UserCredentials(o.Creds))
	}
	if o.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("--nats-nkey %s: %w; it takes a file with a seed", o.NKey, err)
		}
		options = append(options, option)
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	return options, nil
}

// A link is one connection, until it is lost.
type link struct {
	context.Context
	end context.CancelFunc
}

// setUp notes that there is a connection.
func (b *Backplane) setUp() {
	var l link
	l.Context, l.end = context.WithCancel(context.Background())
	b.link.Store(&l)
}

// isUp tells whether there is a connection.
func (b *Backplane) isUp() bool { return b.link.Load().Err() == nil }

// whileUp is ctx that ends with the connection as well.
func (b *Backplane) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.link.Load(), func() { cancel(errNoConnection) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// awaitUp waits for a connection until ctx ends.
func (b *Backplane) awaitUp(ctx context.Context) error {
	if b.isUp() {
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !b.isUp() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errNoConnection
		}
	}
	return nil
}

var errNoConnection = errors.New("there is no connection to NATS")

// Name is what stream this is, as every process that stands on it calls it. Any goroutine.
func (b *Backplane) Name() string {
	return fmt.Sprintf("%s (subjects %s>, made at %s)", b.o.Stream, b.prefix, time.Unix(0, b.epoch.Load()).UTC().Format(time.RFC3339Nano))
}

// Ready tells why this node should not be sent new streams and events; nil where it should. Any
// goroutine.
func (b *Backplane) Ready() error {
	switch {
	case !b.isUp():
		return errNoConnection
	case !b.reading.Load():
		return fmt.Errorf("the stream %s is not being read", b.o.Stream)
	}
	return nil
}

// Close ends the reading, the connection and the embedded server. Any goroutine; once.
func (b *Backplane) Close() {
	b.starts.Do(func() { close(b.started) })
	if b.stop != nil {
		b.stop()
	}
	b.done.Wait()
	if b.conn != nil {
		b.conn.Close()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
}

// kinds of what is logged once only.
const (
	warnBadEvent = iota
	warnBadTopic
	kinds
)

// counters are what the backplane has done.
type counters struct {
	published, failed, unsure  atomic.Uint64
	read, skipped              atomic.Uint64
	reconnects, restarts, gaps atomic.Uint64
	histories, historyEvents   atomic.Uint64
	historyRefused             atomic.Uint64
}

// Stats returns the figures. Any goroutine.
func (b *Backplane) Stats() topic.BackplaneStats {
	c := &b.count
	return topic.BackplaneStats{
		Connected: b.isUp(), Server: b.conn.ConnectedServerName(), Stream: b.o.Stream, Prefix: b.prefix,
		Reading: b.reading.Load(), LastID: b.lastSeen.Load(), Pending: b.pending.Load(),
		Behind: b.behind.by(time.Now()).Seconds(), MaxBehind: b.o.MaxBehind.Seconds(),
		Read: c.read.Load(), Skipped: c.skipped.Load(),
		Stored: c.published.Load(), Failed: c.failed.Load(), Unsure: c.unsure.Load(),
		Reconnects: c.reconnects.Load(), Restarts: c.restarts.Load(), Gaps: c.gaps.Load(),
		Histories: c.histories.Load(), HistoryEvents: c.historyEvents.Load(), HistoriesRefused: c.historyRefused.Load(),
	}
}
