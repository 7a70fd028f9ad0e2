// Command bench measures Penstock on the machine of whoever asks: go run ./bench.
//
//	go run ./bench            what is promised, beside the bare loops: bench/results/promises.md
//	go run ./bench compare    the same scenarios against each peer: bench/results/compare.md
//	go run ./bench memory     what topics, watchlists and streams cost: bench/results/memory.md
//	go run ./bench storm      everybody is reset and comes back at once: bench/results/storm.md
//	go run ./bench soak       a server under changing load for half an hour: nothing may be lost or grow
//	go run ./bench coding     what compressed streams give and cost: bench/results/coding.md
//	go run ./bench scale      200,000 streams in one process under a low limit of descriptors, and upgrades under it: bench/results/scale.md
//	go run ./bench cluster    several nodes on NATS, and a rolling restart: bench/results/cluster.md
//	go run ./bench tree       how far nodes, NATS and regions reach, reckoned: docs/scale.md
//	go run ./bench table      writes the figures into README.md and docs/capacity.md, between their markers
//
// Each trial starts a server of its own and a load test in another process; rounds alternate, so
// that a noisy machine treats all alike, and medians count.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"penstock/bench/peers"
	"penstock/loadtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A session is what all trials of one command share.
type session struct {
	peers    peers.Options
	rounds   int
	duration time.Duration
	only     []string // rows, by name; empty: all
	peerList []string // of compare; empty: all that are found
	out      string
	streams  int // of cluster, all nodes together
	rate     int // of cluster's rolling restart, events a second for each node
}

func run(ctx context.Context, args []string) error {
	command := "promises"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	switch command {
	case "load":
		return load(ctx)
	case "gzip-each":
		return gzipEach(args)
	case "hold":
		return hold(args)
	case "part":
		return loadtest.Part(os.Stdin, os.Stdout)
	}
	root, err := repository()
	if err != nil {
		return err
	}
	fs := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	s := &session{}
	s.peers.Root = root
	rows := fs.String("rows", "", "only these `rows`, joined by commas")
	names := fs.String("peers", "", "only these `peers`, joined by commas (compare)")
	extra := fs.String("serve", "", "further `flags` of penstock serve, joined by spaces")
	fs.StringVar(&s.peers.Penstock, "penstock", "", "the `binary` to measure (built from this tree when not given)")
	fs.IntVar(&s.rounds, "rounds", 3, "rounds; medians count")
	fs.DurationVar(&s.duration, "duration", 0, "of each trial's measured part (10s; of compare: so that all ends within a quarter of an hour)")
	fs.StringVar(&s.out, "out", filepath.Join(root, "bench", "results"), "`directory` of the results")
	var growth scaleOptions
	if command == "cluster" {
		fs.IntVar(&s.streams, "streams", 60_000, "`streams` of all nodes together (cluster)")
		fs.IntVar(&s.rate, "rate", 2, "events a second for each node of the rolling restart (cluster)")
	} else {
		fs.StringVar(&growth.streams, "streams", scaleStreams, "`numbers` of streams, growing, joined by commas (scale)")
		fs.DurationVar(&growth.idle, "idle", 30*time.Second, "how long each number of streams is idle (scale)")
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: not expected; commands are promises, compare, memory, coding, cluster, tree, scale, storm, soak, table", fs.Args())
	}
	s.only, s.peerList, s.peers.Extra = list(*rows), list(*names), strings.Fields(*extra)
	if s.rounds < 1 || s.duration != 0 && s.duration < time.Second {
		return errors.New("at least one round, of at least a second")
	}
	if s.duration == 0 && command == "soak" {
		s.duration = 30 * time.Minute
	}
	if s.duration == 0 && command != "compare" {
		s.duration = 10 * time.Second
	}
	if command == "tree" {
		return s.tree()
	}
	if command == "table" {
		return table(root, s.out)
	}
	if s.peers.Scratch, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.peers.Scratch)
	if s.peers.Penstock == "" {
		if s.peers.Penstock, err = build(ctx, root, s.peers.Scratch); err != nil {
			return err
		}
	}
	if s.peers.Penstock, err = filepath.Abs(s.peers.Penstock); err != nil {
		return err
	}
	switch command {
	case "promises":
		return s.promises(ctx)
	case "compare":
		return s.compare(ctx)
	case "memory":
		return s.memory(ctx)
	case "coding":
		return s.coding(ctx)
	case "cluster":
		return s.cluster(ctx)
	case "scale":
		return s.scale(ctx, growth)
	case "storm":
		return s.storm(ctx)
	case "soak":
		return s.soak(ctx)
	}
	return fmt.Errorf("%q: not a command; promises, compare, memory, coding, cluster, tree, scale, storm, soak and table are", command)
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// repository finds the root of the tree: where the module is.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: go list -m: %w; run it inside of the tree", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds Penstock as make build does.
func build(ctx context.Context, root, scratch string) (string, error) {
	out := filepath.Join(scratch, "penstock")
	version := "devel"
	if b, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(b))
	}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X penstock/server.version="+version, "-o", out, "./cmd/penstock")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build penstock: %w\n%s", err, b)
	}
	return out, nil
}

// An errand is what a load test in a process of its own is told.
type errand struct {
	Config loadtest.Config
	Feed   *feed // in place of the load test's own events; nil: those
}

// load is the load test in a process of its own: an errand in, a Report out.
func load(ctx context.Context) error {
	var e errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := loadtest.Options{Part: []string{self, "part"}}
	if e.Feed != nil {
		o.Feed = e.Feed.publish
	}
	r, err := loadtest.Run(ctx, e.Config, o)
	if err != nil {
		return err
	}
	if e.Feed != nil {
		r.Publish.Published = e.Feed.taken
	}
	return r.WriteJSON(os.Stdout)
}
