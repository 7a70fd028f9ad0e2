package server

// The processes that upgrade_test.go starts: this test's own program, which takes over, or fails to
// at some stage. It runs before any test.

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"penstock/ring"
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

func beNext(stage string) int {
	from, err := FromEnvironment()
	if err != nil || from == nil {
		return 11
	}
	c := DefaultConfig()
	c.Listen, c.RingSize, c.DrainTime, c.Shards = []string{"127.0.0.1:0"}, 8<<20, 0, 2
	hang := func() { time.Sleep(time.Hour) }
	switch stage {
	case "goes at once":
		return 3
	case "hangs at once":
		hang()
	case "speaks another version":
		h := hello{version: handoverVersion + 1, build: "another"}
		h.code(from.link.in)
		h = hello{version: handoverVersion + 1, build: "another"}
		from.link.say(h.check())
		return 4
	case "goes with the ring", "hangs with the ring":
		var h hello
		h.code(from.link.in)
		from.link.say(nil)
		if stage == "hangs with the ring" {
			hang()
		}
		return 5
	case "goes with everything", "hangs with everything", "goes with the sockets", "refuses everything":
		p := &past{from: from}
		if stage == "goes with the sockets" {
			var h hello
			h.code(from.link.in)
			from.link.say(nil)
			cp, _ := ring.NewCopy(h.segment)
			if from.link.takePieces(cp, func() {}) != nil {
				return 12
			}
			return 6
		}
		if err := p.takeRing(time.Minute); err != nil {
			return 13
		}
		if stage == "hangs with everything" {
			hang()
		}
		if stage == "refuses everything" {
			from.link.say(os.ErrInvalid)
		}
		return 7
	case "has wrong settings":
		c.RingSize = 1
	case "needs greater segments":
		c.RingSize, c.MaxEventSize = 64<<20, 8<<20
	case "cannot listen":
		c.Listen = append(c.Listen, os.Getenv("PENSTOCK_TEST_TAKEN"))
	case "has few descriptors":
		few := &syscall.Rlimit{Cur: 30, Max: 30}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, few) != nil {
			return 14
		}
	case "succeeds":
		if os.Getenv("PENSTOCK_TEST_SHARDS") != "" {
			c.Shards = 3
		}
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
