package loadtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "part" { // this binary, as a part of a run of its own
		if err := Part(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// Spread over processes, a run finds the same: the parts share what was published and their
// figures are one report.
func TestProcessesMakeOneReport(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	s.deliver = func(subscriber, n int, frame string) []string {
		if n == 50 {
			return nil
		}
		return []string{frame}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := quick(s.URL)
	cfg.Processes, cfg.Threads = 3, 2
	r, err := Run(t.Context(), cfg, Options{Part: []string{self, "part"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (r.Publish.Published - 1) * 10; r.Streams.Events != want || r.Streams.Lost != 10 || r.Latency.Count != int64(want) || !r.OK() {
		t.Errorf("%d delivered, %d in the histogram, %d lost, errors %v; want %d and 10 lost", r.Streams.Events, r.Latency.Count, r.Streams.Lost, r.Errors, want)
	}
	if r.Client.Processes != 4 || r.Client.Readers != 6 {
		t.Errorf("%d processes, %d readers", r.Client.Processes, r.Client.Readers)
	}
}

// A server that does all as it should gets a clean report.
func TestCleanServerIsFoundClean(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	r := mustRun(t, quick(s.URL))
	if !r.OK() || r.Streams.missing() != 0 || r.Streams.Doubled != 0 || r.Streams.Reordered != 0 || r.Streams.Torn != 0 || r.Streams.IDsBack != 0 {
		t.Errorf("found faults where there are none")
	}
	if want := uint64(2000); r.Publish.Published != 200 || r.Streams.Events != want {
		t.Errorf("%d deliveries of %d published to 10, want %d", r.Streams.Events, r.Publish.Published, want)
	}
}
