package loadtest

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// churning is a run in which subscribers come and go.
func churning(url string) Config {
	c := quick(url)
	c.Subscribers, c.ChurnRate, c.Away, c.Duration, c.Rate, c.Events = 20, 60, 100*time.Millisecond, time.Second, 200, 0
	return c
}

// Subscribers that leave and come back with their last id miss nothing, of a server that resumes.
func TestChurnMissesNothingWhereResumesWork(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	var missed atomic.Int64
	s.resume = func(frames []string) []string {
		missed.Add(int64(len(frames)))
		return frames
	}
	r := mustRun(t, churning(s.URL))
	if r.Streams.missing() != 0 || r.Streams.Doubled != 0 || r.Streams.Resumed < 5 || r.Streams.Resumed != r.Streams.Left || r.Streams.Blank != 0 {
		t.Errorf("%+v", r.Streams)
	}
	if want := r.Publish.Published * 20; r.Streams.Events != want || r.Resume.Count == 0 || r.Resume.Count > int64(r.Streams.Resumed) {
		t.Errorf("%d delivered, want %d; %d resumes timed of %d", r.Streams.Events, want, r.Resume.Count, r.Streams.Resumed)
	}
	// Half of it: on a busy machine a subscriber may leave again before it has read what it missed,
	// which the server then sends twice.
	if untimed := int64(r.Streams.Events) - r.Latency.Count; missed.Load() == 0 || untimed < missed.Load()/2 {
		t.Errorf("%d events have no latency, and %d were missed: what was missed while away counts as late", untimed, missed.Load())
	}
}

// A server that forgets is found out: what it did not resume is lost.
func TestChurnFindsWhatIsNotResumed(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	var skipped atomic.Int64
	s.resume = func(missed []string) []string { // all but the first of what was missed
		if len(missed) > 0 {
			skipped.Add(1)
			return missed[1:]
		}
		return nil
	}
	r := mustRun(t, churning(s.URL))
	// On a busy machine a subscriber may leave again before it has read what it was resumed
	// with: it then asks with the same id, and what the server skips twice is lost once.
	most := uint64(skipped.Load())
	if most == 0 || r.Streams.Lost > most || r.Streams.Lost < most*9/10 || r.Streams.Announced != 0 {
		t.Errorf("%d lost, want %d", r.Streams.Lost, most)
	}
}

// All leave at once and come back.
func TestStorm(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Storm, cfg.Away, cfg.Subscribers, cfg.Duration, cfg.Events = true, 50*time.Millisecond, 50, 600*time.Millisecond, 0
	r := mustRun(t, cfg)
	if r.Streams.Left != 50 || r.Streams.Resumed != 50 || r.Streams.missing() != 0 || r.Streams.Doubled != 0 {
		t.Errorf("%+v", r.Streams)
	}
}

// Those who are away when the last event is published come back for it, and so do those whose
// streams end after that.
func TestThoseAwayAtTheEndComeBack(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Storm, cfg.Subscribers, cfg.Duration, cfg.Events = true, 20, 300*time.Millisecond, 0
	cfg.Away = 2 * cfg.Duration
	var resumed atomic.Int64
	s.resume = func(missed []string) []string {
		if resumed.Add(1) > 10 {
			return missed
		}
		return append(missed[:1:1], endStream)
	}
	r := mustRun(t, cfg)
	if r.Streams.Left != 20 || r.Streams.missing() != 0 || r.Streams.Doubled != 0 || r.Streams.Ended != 10 {
		t.Errorf("%+v", r.Streams)
	}
}

// A part leaves at once and comes back; latency is that of those who stay.
func TestStormOfAPart(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Storm, cfg.StormShare, cfg.Away, cfg.Subscribers, cfg.Duration, cfg.Events = true, 0.8, 50*time.Millisecond, 50, 600*time.Millisecond, 0
	r := mustRun(t, cfg)
	if r.Streams.Left != 40 || r.Streams.Resumed != 40 || r.Streams.missing() != 0 || r.Streams.Doubled != 0 || r.Latency.Count != int64(10*r.Publish.Published) {
		t.Errorf("%d events were published, and %d deliveries timed: %+v", r.Publish.Published, r.Latency.Count, r.Streams)
	}
}

// A slow reader gets all there is in the end, and does not count as late.
func TestSlowReadersReadInTheEnd(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	for _, rate := range []int{0, 4000} {
		cfg := quick(s.URL)
		cfg.SlowShare, cfg.SlowRate, cfg.Subscribers, cfg.TopicName = 0.5, rate, 6, "slow"
		cfg.Duration, cfg.Events = 600*time.Millisecond, 0
		r := mustRun(t, cfg)
		if r.Streams.missing() != 0 || r.Streams.Events != 6*r.Publish.Published || r.Latency.Count != int64(3*r.Publish.Published) {
			t.Errorf("rate %d: %d delivered of %d to 6, %d missing, %d timed", rate, r.Streams.Events, r.Publish.Published, r.Streams.missing(), r.Latency.Count)
		}
		s.forget()
	}
}

// Each subscriber of a watchlist hears its topics and no others.
func TestWatchlists(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL + "/events/{topic}")
	cfg.PublishURL = s.URL + "/publish/{topic}"
	cfg.Topics, cfg.Watch, cfg.Publishers, cfg.Zipf, cfg.Bursts = 40, 5, 3, 1, true
	r := mustRun(t, cfg)
	if !r.OK() || r.Streams.missing() != 0 || r.Streams.Stray != 0 || r.Streams.Doubled != 0 || r.Streams.Events == 0 {
		t.Errorf("%+v, errors %v", r.Streams, r.Errors)
	}
}

// Several publishers of one topic each have their own numbers.
func TestPublishersOfOneTopic(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Publishers = 4
	r := mustRun(t, cfg)
	if r.Streams.missing() != 0 || r.Streams.Events != 10*r.Publish.Published || r.Publish.Published != 200 {
		t.Errorf("%+v %+v", r.Streams, r.Publish)
	}
}

// The report as HTML asks nobody for anything, and as JSON can be read back.
func TestReportFiles(t *testing.T) {
	t.Parallel()
	s := newFaultyServer(t)
	cfg := quick(s.URL)
	cfg.Duration, cfg.Events, cfg.Rate = 1500*time.Millisecond, 0, 100 // two rows make a chart
	cfg.Command = []string{"penstock", "loadtest", s.URL, "--fail-if", "it's<1"}
	r := mustRun(t, cfg)
	var page, text bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, outside := range []string{"src=", "href=", "@import", "url(", "<script", "<link"} {
		if strings.Contains(page.String(), outside) {
			t.Errorf("the page has %q", outside)
		}
	}
	for _, want := range []string{r.Sentence, "<svg", "Latency of deliveries", "net.core.somaxconn", "&#39;it&#39;\\&#39;&#39;s&lt;1&#39;"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if err := r.WriteText(&text); err != nil || !strings.HasSuffix(text.String(), r.Sentence+"\n") {
		t.Errorf("%v: the last line is not the sentence: %s", err, text.String())
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(b.Bytes(), &again); err != nil || again.Streams != r.Streams || again.Latency != r.Latency || again.Config.Rate != r.Config.Rate {
		t.Errorf("%v: %+v", err, again)
	}
}

// Memory does not grow with time: old rows are joined.
func TestRowsAreBounded(t *testing.T) {
	c := newCollector()
	h := newHistogram()
	events := uint64(0)
	for second := range 10_000 {
		h.Reset()
		record(h, int64(second%7+1))
		events += 3
		c.tell(&status{second: second, tally: Tally{Events: events}, latency: h, connects: emptyHistogram, firstBytes: emptyHistogram, resumes: emptyHistogram})
	}
	c.settle(1 << 62)
	if len(c.rows) > maxRows || len(c.spare) > 10 {
		t.Errorf("%d rows, %d spare histograms", len(c.rows), len(c.spare))
	}
	sum, count := uint64(0), int64(0)
	for _, w := range c.rows {
		sum += w.events
		count += w.latency.count
	}
	if sum != events || count != 10_000 || c.latency.TotalCount() != 10_000 {
		t.Errorf("%d events in rows, want %d; %d and %d latencies, want 10000", sum, events, count, c.latency.TotalCount())
	}
}
