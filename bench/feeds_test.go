package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A feed is the same each time, of the recording where there is one, and as many as are due.
func TestFeedsAreTheSameEachTime(t *testing.T) {
	t.Setenv("PENSTOCK_TRADES", "")
	for _, kind := range []string{"trades", "html"} {
		f := &feed{Kind: kind}
		a, err := f.events(1500)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := f.events(1500)
		if len(a) != 1500 || !bytes.Equal(bytes.Join(a, nil), bytes.Join(b, nil)) || bytes.Equal(a[0], a[1]) {
			t.Errorf("%s: %d events, %.60q and %.60q", kind, len(a), a[0], b[0])
		}
	}
	file := filepath.Join(t.TempDir(), "trades.csv")
	for text, want := range map[string]string{
		"1605499846,15993.5,0.026472,ANY\n1605499847,15994.96,0.227,ANY\n": "",
		"":                 "no lines in it",
		"a,b\n":            "line 1: 2 fields",
		"1,2,3,4\nx,2,3,4": "line 2: ",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		events, err := trades(5, file)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", text, err, want)
		case want == "" && (err != nil || len(events) != 5 || !strings.Contains(string(events[3]), `"p":"15994.96","q":"0.227"`)):
			t.Errorf("%q: %q, error %v", text, events, err)
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
