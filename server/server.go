package server

// The wiring: New makes every part and connects them, Run waits and drains. Read New as the
// picture in doc.go.
//
// New, Run and Close are the program's to call, one after the other; the rest may be called from
// any goroutine.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"penstock/server/accept"
	"penstock/server/api"
	"penstock/server/auth"
	"penstock/server/backplane"
	"penstock/server/demo"
	"penstock/server/fanout"
	"penstock/server/topic"
	"penstock/server/tuning"
)

// A Server is a whole Penstock: it listens from New on and until Close.
type Server struct {
	config  Config                 // as it was at the start: what can't change
	changed atomic.Pointer[Config] // and as Reload has left it; nil: it has not
	log     *slog.Logger

	// What there was when New was called.
	machine *tuning.Machine
	files   tuning.Files
	room    tuning.Room

	backplane *backplane.Backplane // nil: this machine is alone
	sequencer *topic.Sequencer
	tables    *fanout.Tables // for the shards, until there are some; nil: they use the process's
	shards    *fanout.Shards
	addresses *accept.Addresses
	memory    memoryWatch
	state     *stateFile
	api       *api.API
	main      atomic.Pointer[accept.Acceptor]
	admin     *accept.Acceptor // nil without an admin address
	debug     *http.Server     // nil without a debug door
	debugAddr net.Addr

	debugListener net.Listener

	background sync.WaitGroup     // the figures, the demo, the debug door
	stop       context.CancelFunc // ends the first two
	reloading  sync.Mutex
	drainOnce  sync.Once
	drains     atomic.Bool   // it drains, or has handed over
	moving     sync.Mutex    // held while it hands over
	handed     chan struct{} // closed when it has
	past       *past         // while it takes over
	closeOnce  sync.Once
}

// How long the way down may take beyond --drain-time: with its default of 5 s all of it stays under
// the 10 s after which docker and others kill.
const (
	drainGrace = 3 * time.Second // for streams that do not end; the shards take 2.5 s at the most
	closeTime  = time.Second     // for requests in hand once the streams have ended
)

// New makes a server and opens its addresses: when it returns, connections are taken. The error is
// that of Config.Check, or names the address that can't be listened on, with its flag. log may be
// nil for slog.Default. Whoever gets a server calls Run or Close.
func New(c Config, log *slog.Logger) (*Server, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.Default()
	}
	s := newServer(c, log)
	err := s.look()
	if err == nil {
		err = s.open()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newServer(c Config, log *slog.Logger) *Server {
	return &Server{config: c, log: log, addresses: accept.NewAddresses(), handed: make(chan struct{})}
}

// open makes the parts from the ring outwards; the listeners come last.
func (s *Server) open() (err error) {
	c := &s.config
	s.machine = tuning.Here()
	s.room = s.machine.Room(s.plan(1))
	s.memory.limit.Store(s.memoryLimit())

	// What carries the events, where there are more nodes.
	if c.hasNats() && s.past == nil { // else there is one already
		if s.backplane, err = backplane.Open(s.natsOptions()); err != nil {
			return err
		}
	}

	if s.state, err = openState(c.StateFile); err != nil {
		return err
	}

	// The ring and its order.
	ring := topic.Options{
		RingSize:     int(c.RingSize),
		MaxEventSize: int(c.MaxEventSize),
		MaxTopics:    c.MaxTopics,
		Keep:         c.Keep,
		KeepSize:     int64(c.KeepSize),
		EndedKeep:    c.EndedKeep,
		MaxKeys:      c.MaxKeys,
		Shed:         c.Overload == "shed",
		PublishWait:  c.PublishWait,
		MaxWaiting:   c.MaxRequests / 2,
		Backplane:    s.backplane != nil,
		After:        s.state.newest,
	}
	if s.backplane != nil {
		ring.Behind = s.backplane.Behind
	}
	if s.past != nil {
		ring.Past, ring.Ring = &s.past.sequencer, s.past.copy
	}
	if s.sequencer, err = topic.New(ring); err != nil {
		return err
	}
	if s.past == nil { // else the file is the other process's until it has let go
		if err := s.state.begin(s.sequencer); err != nil {
			return err
		}
	}

	// The shards, which follow the ring.
	err = s.startShards(fanout.Options{
		Pin:           c.Pin,
		Sequencer:     s.sequencer,
		Heartbeat:     c.Heartbeat,
		FlushInterval: c.FlushInterval,
		FlushMaxBytes: int(c.FlushMaxBytes),
		LagMemory:     int64(c.LagMemory),
		RetryMin:      c.RetryMin,
		RetryMax:      c.RetryMax,
		MaxLag:        int64(c.MaxLag),
		MaxAge:        c.MaxAge,
		StallTimeout:  c.UserTimeout,
		CompressShare: c.CompressShare,
		CompressLevel: compressLevels[c.CompressLevel],
		Version:       Version(),
		Frozen:        s.past != nil,
		Gone:          s.addresses.Leave,
		Network:       s.addresses.Network,
		Enter:         s.addresses.Enter,
	})
	if err != nil {
		return err
	}
	if s.past != nil {
		if err := s.sequencer.Freeze(0); err != nil {
			return err
		}
		if err := s.sequencer.Load(&s.past.sequencer); err != nil {
			return err
		}
	}

	// The stream's newest part, so that whoever was on another node goes on here.
	if s.backplane != nil {
		s.backplane.Attach(s.sequencer, &sink{s.sequencer, s.shards})
	}
	if s.backplane != nil && s.past == nil {
		if err := s.fill(); err != nil {
			return err
		}
	}

	// What requests may do, and what they get.
	policy, err := auth.New(c.policy())
	if err != nil {
		return err
	}
	loopback := make([]bool, len(c.Listen))
	for i, address := range c.Listen {
		loopback[i] = IsLoopback(address)
	}
	s.api, err = api.New(api.Options{
		Sequencer:     s.sequencer,
		Backplane:     s.carrier(),
		Node:          s.nodeName(),
		Shards:        s.shards,
		Policy:        policy,
		Origins:       c.CORSOrigin,
		Loopback:      loopback,
		Codings:       c.codings(),
		AdminLoopback: IsLoopback(c.adminAddress()),
		MaxEventSize:  int(c.MaxEventSize),
		MaxBatchSize:  int(c.MaxBatchSize),
		Version:       Version(),
		Accepted:      s.accepted,
		InForce:       s.limits,
		Limits:        s.apiLimits(),
		MemoryFull:    s.memory.full,
		Files:         func() (open, limit int) { return tuning.OpenFiles(), int(min(s.files.Soft, math.MaxInt32)) },
	})
	if err != nil {
		return err
	}

	if s.backplane != nil {
		if err := s.backplane.Tell(s.api.Tell); err != nil {
			return fmt.Errorf("answer other nodes: %w", err)
		}
	}

	// What publishes by itself: the figures for the page, the demo.
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.memory.watch(ctx, s.log) })
	if s.past == nil {
		s.background.Go(func() { s.state.keep(ctx, s.sequencer, s.log) })
	} else {
		s.past.keepState = func() { s.background.Go(func() { s.state.keep(ctx, s.sequencer, s.log) }) }
	}
	s.background.Go(func() { s.api.Run(ctx) })
	if c.Demo {
		if err := s.startDemo(ctx); err != nil {
			return err
		}
	}

	// The doors.
	if c.Debug != "" {
		if err := s.openDebug(); err != nil {
			return err
		}
	}
	if address := c.adminAddress(); address != "" {
		if s.admin, err = s.listen("admin-listen", []string{address}, s.api.Admin(), nil, s.adminLimits()); err != nil {
			return err
		}
	}
	main, err := s.listen("listen", c.Listen, s.api, s.shards, s.acceptLimits())
	if err != nil {
		return err
	}
	s.main.Store(main)
	if s.past != nil {
		s.past.adopt(main, s.past.parts.main, c.Listen)
		if s.admin != nil {
			s.past.adopt(s.admin, s.past.parts.admin, []string{c.adminAddress()})
		}
	}
	return nil
}

// listen opens addresses that are served alike. Where there are no shards its handler never begins a stream.
func (s *Server) listen(name string, addresses []string, handler accept.Handler, shards accept.Joiner, limits accept.Limits) (*accept.Acceptor, error) {
	c := &s.config
	mode, err := parseMode(c.SocketMode)
	if err != nil {
		return nil, err
	}
	var doors []accept.MovedDoor
	if s.past != nil {
		doors = s.past.doors
	}
	a, err := accept.Listen(accept.Options{
		Listen:           addresses,
		Doors:            doors,
		Frozen:           s.past != nil,
		SocketMode:       mode,
		Handler:          handler,
		Shards:           shards,
		Backlog:          c.Backlog,
		Limits:           limits,
		Addresses:        s.addresses,
		MaxHere:          s.files.Connections(),
		MaxBodySize:      int(c.MaxBatchSize),
		HandshakeTimeout: c.HandshakeTimeout,
		Sockets:          c.sockets(),
		CloseTimeout:     closeTime,
		Log:              s.log,
	})
	if err != nil {
		return nil, listenError(name, err)
	}
	return a, nil
}

// listenError says which setting to look at.
func listenError(name string, err error) error {
	if refused := (*accept.SocketError)(nil); errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("--%s: %w", name, err)
}

// accepted are the counters of the main address, for the api, which may ask before it listens.
func (s *Server) accepted() accept.Stats {
	if a := s.main.Load(); a != nil {
		return a.Stats()
	}
	return accept.Stats{}
}

// startDemo publishes the demo feeds until ctx ends.
func (s *Server) startDemo(ctx context.Context) error {
	var publisher demo.Publisher = s.sequencer
	if s.backplane != nil {
		publisher = s.backplane
	}
	feeds, err := demo.New(demo.Options{Publisher: publisher})
	if err != nil {
		return err
	}
	s.background.Go(func() {
		if err := feeds.Run(ctx); err != nil {
			s.log.Error("the demo has ended", "error", err)
		}
	})
	return nil
}

// Addrs are the main addresses, with their ports, in the order of Config.Listen. They must not be
// changed. Any goroutine.
func (s *Server) Addrs() []net.Addr { return s.main.Load().Addrs() }

// Addr is the first main address, with its port.
func (s *Server) Addr() net.Addr { return s.main.Load().Addr() }

// AdminAddr is the admin address, nil where there is none.
func (s *Server) AdminAddr() net.Addr {
	if s.admin == nil {
		return nil
	}
	return s.admin.Addr()
}

// Laggards describes the n streams that are furthest behind. Any goroutine.
func (s *Server) Laggards(n int) []fanout.StreamInfo { return s.shards.Laggards(n) }

// BeforeID returns the id at the ring's tail; one more than the newest where the ring is empty.
// What is older is gone. Any goroutine.
func (s *Server) BeforeID() uint64 { return s.sequencer.BeforeID() }

// Run serves until ctx ends, then drains and closes; or until Upgrade has handed over. It returns nil.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		s.Drain()
	case <-s.handed:
	}
	s.Close()
	return nil
}

// Drain ends what there is, in the order that loses nothing: from now on the server is not ready
// and takes no new streams; publishing ends, what was begun is finished; then the streams are ended
// at a frame's border, spread over --drain-time. The addresses stay open, so that whoever asks is
// told to come back. It returns when the last stream has ended. Any goroutine; the second call
// waits for the first.
func (s *Server) Drain() { s.drain(s.current().DrainTime) }

func (s *Server) drain(spread time.Duration) {
	s.moving.Lock() // what is being handed over is not drained
	s.drains.Store(true)
	s.moving.Unlock()
	s.drainOnce.Do(func() {
		began := time.Now()
		streams := s.shards.Streams()
		log := s.log
		handed := false
		select {
		case <-s.handed:
			handed = true // what is left is the end, and that was told
		default:
		}
		if handed || s.main.Load() == nil { // or nobody was served: New tells why
			log = slog.New(slog.DiscardHandler)
		}
		log.Info("draining", "streams", streams, "over", spread.String())
		s.api.Drain()
		s.stop()
		s.sequencer.Drain()
		done := make(chan struct{})
		timer := time.AfterFunc(spread+drainGrace, func() { close(done) })
		s.shards.Drain(spread, done)
		if !timer.Stop() {
			s.log.Warn("some streams did not end and are cut", "streams", s.shards.Streams())
		}
		log.Info("drained", "after", time.Since(began).Round(time.Millisecond).String())
	})
}

// Close closes every address and ends every thread and goroutine. Streams that are still live are
// ended first, all at once. Any goroutine; the second call waits for the first.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		if s.api != nil {
			s.drain(0)
		}
		var doors sync.WaitGroup
		for _, a := range []*accept.Acceptor{s.main.Load(), s.admin} {
			if a != nil {
				a.Drain()
				doors.Go(a.Close)
			}
		}
		doors.Wait()
		if s.debug != nil {
			_ = s.debug.Close()
		}
		if s.backplane != nil {
			s.backplane.Close()
		}
		if s.tables != nil {
			s.tables.Close()
		}
		if s.shards != nil {
			s.shards.Close()
		}
		s.background.Wait()
		if s.sequencer != nil {
			s.state.end(s.sequencer, s.log)
		}
	})
}
