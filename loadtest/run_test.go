package loadtest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// A server that does all as it should gets a clean report.
func TestCleanServerIsFoundClean(t *testing.T) {
	s := newFaultyServer(t)
	r := mustRun(t, quick(s.URL))
	if !r.OK() || r.Streams.missing() != 0 || r.Streams.Doubled != 0 || r.Streams.Reordered != 0 || r.Streams.Torn != 0 || r.Streams.IDsBack != 0 {
		t.Errorf("found faults where there are none")
	}
	if want := r.Publish.Published * 10; r.Streams.Events != want || want < 10*190 {
		t.Errorf("%d deliveries of %d published to 10, want %d", r.Streams.Events, r.Publish.Published, want)
	}
}
