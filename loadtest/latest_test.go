package loadtest

import (
	"slices"
	"testing"
)

// With mode=latest what a newer event has replaced is skipped; only the last of a topic can be lost.
func TestLatestSkipsAndLosesOnlyTheLast(t *testing.T) {
	for _, c := range []struct {
		name          string
		latest        bool
		perTop        int
		came          bool
		skipped, lost uint64
	}{
		{"between", true, 1, true, 5, 0},
		{"at the end", true, 1, false, 4, 1},
		{"of another publisher", true, 2, false, 5, 0},
		{"without it", false, 1, true, 0, 5},
	} {
		b, err := newBoard(1)
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		r := &reader{plan: &plan{latest: c.latest, perTop: c.perTop}, board: b}
		r.unusual(0, 7, judgement{fresh: true, missing: 5}, c.came)
		if r.tally.Skipped != c.skipped || r.tally.Lost != c.lost {
			t.Errorf("%s: %d skipped, %d lost; want %d and %d", c.name, r.tally.Skipped, r.tally.Lost, c.skipped, c.lost)
		}
	}
}

// A query in the URL of a Penstock is that of its streams.
func TestQueryOfABareURL(t *testing.T) {
	for _, c := range []struct {
		url    string
		watch  int
		path   string
		latest bool
	}{
		{"http://127.0.0.1:1", 1, "/events/{topic}", false},
		{"http://127.0.0.1:1/?mode=latest&interval=250ms", 1, "/events/{topic}?mode=latest&interval=250ms", true},
		{"127.0.0.1:1?interval=1s", 5, "/events?topic={topic}&interval=1s", false},
		{"http://127.0.0.1:1/own?t={topic}", 2, "/own?t={topic}", false},
		{"http://127.0.0.1:1/?t={topic}", 2, "/?t={topic}", false},
	} {
		cfg, err := Scenario("watchlists")
		if err != nil {
			t.Fatal(err)
		}
		cfg.URL, cfg.Watch = c.url, c.watch
		p, err := newPlan(t.Context(), cfg, 1)
		if err != nil {
			t.Fatalf("%s: %v", c.url, err)
		}
		if p.base.path != c.path || p.latest != c.latest {
			t.Errorf("%s: %s, latest %v; want %s, %v", c.url, p.base.path, p.latest, c.path, c.latest)
		}
		if bare := c.path[:7] == "/events"; bare != (p.pub != nil) {
			t.Errorf("%s: published to: %v", c.url, p.pub != nil)
		}
	}
}

// The shares that leave in a storm, and what is watched evenly.
func TestSharesOfAStormAndOfWatching(t *testing.T) {
	p := &plan{cfg: Config{Subscribers: 11_000, StormShare: 10.0 / 11, Topics: 1000, Watch: 10, Zipf: 1, WatchEvenly: true, Seed: 1}}
	left := 0
	for n := range 11_000 {
		if p.leaves(n) {
			left++
		}
	}
	if left != 10_000 {
		t.Errorf("%d of 11,000 leave, want 10,000", left)
	}
	var popular [2]int // the busier half, the other one
	list := make([]uint32, 10)
	for n := range 1000 {
		p.watched(list, n)
		for _, topic := range list {
			popular[topic/500]++
		}
	}
	if popular[0] < 4700 || popular[0] > 5300 {
		t.Errorf("%d watch busy topics and %d others: want about as many", popular[0], popular[1])
	}
}

// Those who stay in a storm have a reader of their own, in whatever process they are, and each
// subscriber has one.
func TestWhoStaysIsReadApart(t *testing.T) {
	for _, c := range []struct {
		subscribers    int
		share          float64
		first, n, most int // a process's part, its threads
		want           []span
	}{
		{16_000, 0.9375, 0, 16_000, 1, []span{{0, 15_000}, {15_000, 1_000}}},
		{16_000, 0.9375, 0, 16_000, 2, []span{{0, 7_500}, {7_500, 7_500}, {15_000, 1_000}}},
		{16_000, 0.9375, 8_000, 8_000, 1, []span{{8_000, 7_000}, {15_000, 1_000}}},
		{16_000, 0.9375, 0, 8_000, 1, []span{{0, 8_000}}},
		{16_000, 0.9375, 15_500, 500, 3, []span{{15_500, 500}}},
		{16_000, 0, 0, 16_000, 1, []span{{0, 16_000}}},
		{16_000, 1, 0, 16_000, 1, []span{{0, 16_000}}},
		{2, 0.5, 0, 2, 4, []span{{0, 1}, {1, 1}}},
		{10, 0.001, 0, 10, 1, []span{{0, 10}}},
	} {
		p := &plan{cfg: Config{Subscribers: c.subscribers, StormShare: c.share}}
		got := p.spans(c.first, c.n, c.most)
		if !slices.Equal(got, c.want) {
			t.Errorf("%d subscribers, %v leave: %d from %d on are read as %v, want %v", c.subscribers, c.share, c.n, c.first, got, c.want)
		}
		for _, s := range got {
			if p.timed(s.first) != p.timed(s.first+s.count-1) {
				t.Errorf("%d subscribers, %v leave: of the reader %v some are timed and some are not", c.subscribers, c.share, s)
			}
		}
	}
}
