package server

// The processes that upgrade_test.go starts: this test's own program, which takes over, or fails to
// at some stage. It runs before any test.

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"penstock/server/accept"
	"penstock/server/fanout"
)

// NextStage tells this program, by its environment, to be a process that takes over: which fails at
// that stage.
const NextStage = "PENSTOCK_TEST_NEXT_STAGE"

// BeNext is such a process, where it was started as one.
func BeNext() {
	stage, ok := os.LookupEnv(NextStage)
	if !ok {
		return
	}
	os.Exit(beNext(stage))
}

// Of the process that takes over, by its environment.
const (
	NextShards      = "PENSTOCK_TEST_SHARDS"      // --shards
	NextConnections = "PENSTOCK_TEST_CONNECTIONS" // --max-connections
	NextAddress     = "PENSTOCK_TEST_TAKEN"       // an address that can't be listened on
)

func beNext(stage string) int {
	from, err := FromEnvironment()
	if err != nil || from == nil {
		return 11
	}
	c := DefaultConfig()
	c.Listen, c.RingSize, c.DrainTime, c.Shards = []string{"127.0.0.1:0"}, 8<<20, 0, 2
	if n, err := strconv.Atoi(os.Getenv(NextShards)); err == nil {
		c.Shards = n
	}
	if n, err := strconv.Atoi(os.Getenv(NextConnections)); err == nil {
		c.MaxConnections = n
	}
	switch stage {
	case "succeeds":
	case "has wrong settings":
		c.RingSize = 1
	case "needs greater segments":
		c.RingSize, c.MaxEventSize = 64<<20, 8<<20
	case "cannot listen":
		c.Listen = append(c.Listen, os.Getenv(NextAddress))
	case "has other nodes":
		c.Nats = []string{"nats://127.0.0.1:1"}
	case "has few descriptors":
		few := &syscall.Rlimit{Cur: 30, Max: 30}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, few) != nil {
			return 14
		}
	default:
		return failAt(stage, c, from)
	}
	s, err := TakeOver(c, slog.New(slog.DiscardHandler), from)
	if err != nil {
		return 8
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_ = s.Run(ctx)
	return 0
}

// failAt is a process that goes no further than that stage.
func failAt(stage string, c Config, from *Predecessor) int {
	hang := func() {
		time.Sleep(time.Hour)
		runtime.KeepAlive(from) // its conversation stays open
	}
	l := from.link
	s := newServer(c, slog.New(slog.DiscardHandler))
	if err := s.look(); err != nil {
		return 12
	}
	p := &past{from: from, tables: s.tables}
	rooms := s.rooms()
	switch stage {
	case "goes at once":
		return 3
	case "hangs at once":
		hang()
	case "speaks another version":
		h := hello{version: handoverVersion + 1, build: "another"}
		h.code(l.in)
		h = hello{version: handoverVersion + 1, build: "another"}
		l.say(h.check())
		return 4
	case "tells no doors":
		p.tables = nil
		_ = p.greet(rooms, time.Minute)
		return 5
	case "goes with the ring", "hangs with the ring":
		if p.greet(rooms, time.Minute) != nil {
			return 12
		}
		if stage == "hangs with the ring" {
			hang()
		}
		return 5
	case "goes with the sockets":
		if p.greet(rooms, time.Minute) != nil || l.takePieces(p.copy, func() {}) != nil {
			return 12
		}
		return 6
	case "goes amid the sockets", "hangs amid the sockets":
		if p.greet(rooms, time.Minute) != nil || l.takePieces(p.copy, func() {}) != nil {
			return 12
		}
		p.parts.main, p.parts.admin = new(accept.Moved), new(accept.Moved)
		p.parts.code(l.in)
		if _, err := fanout.ReceiveSockets(from.sockets, p.parts.sockets, time.Now().Add(time.Minute)); err != nil {
			return 12
		}
		p.sequencer.Code(l.in)
		p.streams.Code(l.in)
		l.in.Word(wordSent) // they are all on their way, and nobody takes them
		if stage == "hangs amid the sockets" {
			hang()
		}
		return 6
	case "a table is full":
		// The rooms are told as they were.
		files, err := os.ReadDir("/proc/self/fd")
		few := &syscall.Rlimit{Cur: uint64(len(files)) + 6, Max: uint64(len(files)) + 6}
		if err != nil || syscall.Setrlimit(syscall.RLIMIT_NOFILE, few) != nil {
			return 14
		}
		if err := p.take(rooms, time.Minute); err != nil {
			l.say(err)
		}
		return 8
	}
	if err := p.take(rooms, time.Minute); err != nil {
		return 13
	}
	switch stage {
	case "hangs with everything":
		hang()
	case "refuses everything":
		l.say(os.ErrInvalid)
	}
	return 7
}
