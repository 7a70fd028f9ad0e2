package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A feed has as many events as are asked for, of the kinds that it knows.
func TestFeedsKnowTheirKinds(t *testing.T) {
	for _, kind := range []string{"trades", "html"} {
		if events, err := (&feed{Kind: kind}).events(150); err != nil || len(events) != 150 || len(events[0]) == 0 {
			t.Errorf("%s: %d events, error %v", kind, len(events), err)
		}
	}
	if _, err := (&feed{Kind: "birds"}).events(1); err == nil {
		t.Error("no error for a kind that is not known")
	}
}

// As many events are published as are due, and those that the server takes are counted.
func TestFeedPublishesWhatIsDue(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if asked.Add(1)%5 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if r.URL.Path != "/publish/"+feedTopic {
			t.Errorf("asked for %s", r.URL)
		}
	}))
	defer s.Close()
	f := &feed{Kind: "trades", Rate: 1000, Base: s.URL, Duration: 50 * time.Millisecond}
	if err := f.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n > 50 || n < 1 || f.taken != uint64(n-n/5) {
		t.Errorf("%d taken of %d that were sent", f.taken, n)
	}
}
