package backplane_test

// Upgrades of nodes: another process goes on where this one has stopped reading the stream.

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	nextNats   = "PENSTOCK_TEST_NEXT_NATS"   // the URL for a process that takes over; "none"
	nextStream = "PENSTOCK_TEST_NEXT_STREAM" // and the stream
)

// takeOver is the process that takes over, where this one was started as one.
func takeOver() {
	url := os.Getenv(nextNats)
	if url == "" {
		return
	}
	from, err := server.FromEnvironment()
	if err != nil || from == nil {
		os.Exit(11)
	}
	c := servertest.Config()
	c.PublishTimeout = 500 * time.Millisecond
	if url != "none" {
		c.Nats, c.NatsStream = []string{url}, os.Getenv(nextStream)
	}
	s, err := server.TakeOver(c, slog.New(slog.DiscardHandler), from)
	if err != nil {
		os.Exit(8)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_ = s.Run(ctx)
	os.Exit(0)
}

func successor(url, stream string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nextNats+"="+url, nextStream+"="+stream)
	return cmd
}

// Another process takes over from a node: its streams go on with every event, those published here and
// elsewhere meanwhile, in order and once; publishers are told to come back at the worst.
func TestAnotherProcessTakesOverFromANode(t *testing.T) {
	n := startNATS(t)
	node, other := servertest.Start(t, On(n)), servertest.Start(t, On(n))
	quiet := node.Publish(t, "quiet", "x")
	all := []*servertest.Subscriber{
		node.Subscribe(t, "news"), node.Subscribe(t, "*"), node.Subscribe(t, "news", servertest.WithHeader("Accept-Encoding", "gzip")),
		other.Subscribe(t, "news"),
	}
	var mu sync.Mutex
	var ids []uint64
	stop := make(chan struct{})
	var publishers sync.WaitGroup
	for i, at := range []*servertest.Server{node, node, other} {
		publishers.Go(func() {
			for number := 0; ; number++ {
				select {
				case <-stop:
					return
				default:
				}
				id, err := at.TryPublish("news", strconv.Itoa(i)+" "+strconv.Itoa(number))
				switch {
				case err == nil:
					mu.Lock()
					ids = append(ids, id)
					mu.Unlock()
				case at == other || !strings.Contains(err.Error(), "503") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset"):
					t.Errorf("a publisher sees: %v", err)
				}
			}
		})
	}
	published := func() int { mu.Lock(); defer mu.Unlock(); return len(ids) }
	servertest.WaitUntil(t, "events", func() bool { return published() > 100 })
	cmd := successor(n.url(), "PENSTOCK")
	if err := node.Upgrade(t.Context(), cmd, func() {}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }() // nobody waits for it but the server, which has ended
	more := published() + 100
	servertest.WaitUntil(t, "more events", func() bool { return published() > more })
	close(stop)
	publishers.Wait()
	last := publishUntilTaken(t, node, "news", "by the new one")
	ids = append(ids, last)
	slices.Sort(ids)
	for _, who := range all {
		who.WaitID(t, last)
		got := idsOf(who)
		if who.Ended() || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: ended %v, %d", who, who.Ended(), got)
		}
		for _, id := range ids {
			if _, ok := slices.BinarySearch(got, id); !ok {
				t.Fatalf("%s lacks %d", who, id)
			}
		}
		if slices.ContainsFunc(who.Events(), func(e servertest.Event) bool { return e.Type == "gap" }) {
			t.Errorf("%s: a gap", who)
		}
	}
	resumed := node.Subscribe(t, "*", servertest.After(quiet))
	resumed.WaitID(t, last)
	if got := idsOf(resumed); got[0] != ids[0] || len(got) < len(ids) {
		t.Errorf("resumed: %d events from %d on; want %d from %d on", len(got), got[0], len(ids), ids[0])
	}
}

// A process that would stand on something else is refused, and nothing has happened.
func TestUpgradeToAnotherStreamIsRefused(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	_, js := client(t, n)
	makeStream(t, js, func(c *jetstream.StreamConfig) { c.Name, c.Subjects = "ANOTHER", []string{"another.>"} })
	node := servertest.Start(t, On(n))
	alice := node.Subscribe(t, "news")
	for _, tt := range []struct {
		from        *servertest.Server
		url, stream string
		want        string
	}{
		{node, "none", "", "here is no --nats"},
		{node, n.url(), "ANOTHER", "would on ANOTHER"},
		{node, "nats://127.0.0.1:1", "PENSTOCK", "is it running"},
		{servertest.Start(t), n.url(), "PENSTOCK", "the other process is without"},
		{servertest.Start(t, func(c *server.Config) { c.NatsEmbedded = t.TempDir() }), n.url(), "PENSTOCK", "--nats-embedded"},
	} {
		if err := tt.from.Upgrade(t.Context(), successor(tt.url, tt.stream), func() { t.Error("it is told as done") }); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("to %s %s: %v; want %q", tt.url, tt.stream, err, tt.want)
		}
	}
	alice.WaitID(t, node.Publish(t, "news", "after it"))
}
