package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What a feed publishes is counted as others' events, all of it, and the measured part lasts as
// long as the feed does.
func TestFeedPublishesInPlaceOfTheRun(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Rate, cfg.TopicName, cfg.Duration = 0, "fed", 100*ms
	r, err := Run(t.Context(), cfg, Options{Feed: func(context.Context) error {
		for i := range 300 {
			resp, err := http.Post(s.URL+"/publish/fed0", "", strings.NewReader(fmt.Sprint("something ", i)))
			if err != nil {
				return err
			}
			resp.Body.Close()
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Streams.Foreign != 3000 || r.Streams.Events != 0 || !r.OK() || r.Streams.BytesHead == 0 || r.Streams.BytesHead >= r.Streams.BytesIn {
		t.Errorf("%+v, errors %v", r.Streams, r.Errors)
	}
}

// A feed that fails ends the run.
func TestFeedThatFailsEndsTheRun(t *testing.T) {
	t.Parallel()
	cfg := quick(newFaultyServer(t).URL)
	cfg.Rate = 0
	broken := errors.New("nothing left")
	if _, err := Run(t.Context(), cfg, Options{Feed: func(context.Context) error { return broken }}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
