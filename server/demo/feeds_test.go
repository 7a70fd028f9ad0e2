package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/server/topic"
)

// A hand is a clock that goes forward only as far as somebody waits, and the door that the
// feeds publish through. It ends the feeds after a number of events.
type hand struct {
	now    time.Time
	events []published
	limit  int
	refuse func(n int) error // n: how many were published before; nil: none is refused
	ahead  time.Duration     // how much too late each wait ends
}

type published struct {
	at    time.Time
	topic string
	kind  string
	data  string
}

func (h *hand) Now() time.Time { return h.now }

func (h *hand) WaitUntil(ctx context.Context, t time.Time) error {
	if t.After(h.now) {
		h.now = t
	}
	h.now = h.now.Add(h.ahead)
	h.ahead = 0
	return ctx.Err()
}

func (h *hand) Publish(p *topic.Publication) (uint64, error) {
	if len(h.events) == h.limit {
		return 0, topic.ErrDraining
	}
	if h.refuse != nil {
		if err := h.refuse(len(h.events)); err != nil {
			return 0, err
		}
	}
	h.events = append(h.events, published{h.now, p.Topic, p.Event.Type, string(p.Event.Data)})
	return uint64(len(h.events)), nil
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// play runs the feeds until they have published n events.
func play(t *testing.T, seed uint64, n int) []published {
	t.Helper()
	h := &hand{now: start, limit: n}
	run(t, h, seed)
	return h.events
}

func run(t *testing.T, h *hand, seed uint64) *Feeds {
	t.Helper()
	f, err := New(Options{Publisher: h, Clock: h, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// Whoever starts the demo twice with one seed and one clock sees the same events.
func TestSameSeedSameEvents(t *testing.T) {
	one, two, other := play(t, 7, 5000), play(t, 7, 5000), play(t, 8, 5000)
	if !slices.Equal(one, two) {
		t.Error("two runs with seed 7 differ")
	}
	if slices.Equal(one, other) {
		t.Error("seeds 7 and 8 give the same events")
	}
}

// Each event is one that the server takes from anyone, is JSON on one line, and says what it is.
func TestEventsArePublishable(t *testing.T) {
	for _, e := range play(t, 1, 20000) {
		if _, err := topic.ParseName(e.topic); err != nil {
			t.Fatal(err)
		}
		var data struct {
			Symbol, Region      string
			Price               float64
			Size                int
			Magnitude           *float64
			Longitude, Latitude float64
			Time                time.Time
			Simulated, Replayed bool
		}
		if err := json.Unmarshal([]byte(e.data), &data); err != nil {
			t.Fatalf("%s: %s: %v", e.topic, e.data, err)
		}
		switch e.kind {
		case "trade":
			if e.topic != "demo.stocks."+data.Symbol || !data.Simulated || data.Price <= 0 || data.Size <= 0 || data.Time != e.at.Truncate(time.Millisecond) {
				t.Fatalf("%s at %v: %s", e.topic, e.at, e.data)
			}
		case "quake":
			if e.topic != "demo.quakes."+data.Region || !data.Replayed || data.Magnitude == nil || max(-data.Longitude, data.Longitude) > 180 || max(-data.Latitude, data.Latitude) > 90 || data.Time.Year() != 2018 {
				t.Fatalf("%s at %v: %s", e.topic, e.at, e.data)
			}
		default:
			t.Fatalf("%s: type %q", e.topic, e.kind)
		}
	}
}

// The ticker is pleasant to watch: 50 to 200 events a second on average, ACME the busiest of
// all, most of the symbols rare, quiet moments between bursts.
func TestTickerHasZipfAndBursts(t *testing.T) {
	const n = 60000
	events := play(t, 0, n)
	perTopic := make(map[string]int)
	perTenth := make(map[int64]int)
	for _, e := range events {
		if e.kind == "trade" {
			perTopic[e.topic]++
			perTenth[e.at.UnixMilli()/100]++
		}
	}
	seconds := events[n-1].at.Sub(start).Seconds()
	if rate := n / seconds; rate < 50 || rate > 200 {
		t.Errorf("%.0f events a second, want 50 to 200", rate)
	}
	for name, count := range perTopic {
		if count > perTopic["demo.stocks.ACME"] {
			t.Errorf("%s has %d trades, ACME %d: want ACME the busiest", name, count, perTopic["demo.stocks.ACME"])
		}
	}
	if share := float64(perTopic["demo.stocks.ACME"]) / n; share < 0.08 || share > 0.25 {
		t.Errorf("ACME has %.0f%% of the events, want 8 to 25%%", 100*share)
	}
	if len(perTopic) < 450 {
		t.Errorf("%d symbols were traded in %.0f s, want nearly all of the 500", len(perTopic), seconds)
	}
	most, quiet := 0, 0
	for tenth := start.UnixMilli() / 100; tenth < events[n-1].at.UnixMilli()/100; tenth++ {
		most = max(most, perTenth[tenth])
		if perTenth[tenth] <= 2 {
			quiet++
		}
	}
	if most < 30 || quiet == 0 {
		t.Errorf("busiest tenth of a second %d trades, %d with at most 2: want bursts and pauses", most, quiet)
	}
}

// A demo that runs for days shows prices that somebody could believe.
func TestPricesStayBelievable(t *testing.T) {
	ticker := newTicker(3)
	var p topic.Publication
	for range 500_000 { // more than an hour
		ticker.next(start, &p)
	}
	for i := range ticker.stocks {
		if s := &ticker.stocks[i]; s.walked < -1.2 || s.walked > 1.2 {
			t.Errorf("%s has gone from %.2f by a factor of e^%.2f", s.symbol, s.open, s.walked)
		}
	}
	if n := len(ticker.bursts); n > 100 {
		t.Errorf("%d bursts are under way at once", n)
	}
}

// Quakes come at a thousandth of their recorded distances, and from the beginning again after the last.
func TestQuakesAreReplayedOverAndOver(t *testing.T) {
	r, err := newReplay("time,magnitude,longitude,latitude,depth,place\n"+
		"1517363399650,0.31,-122.197,46.204,3.3,\"37km NNE of Amboy, Washington\"\n"+
		"1517363400650,2,8,9,10,Banda Sea\n"+
		"1517363409650,2,8,9,10,\"1km S of X, CA\"\n", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 6 {
		due := r.due()
		var p topic.Publication
		r.next(start, &p)
		got = append(got, fmt.Sprintf("%v %s", due, p.Topic))
	}
	want := []string{
		"0s demo.quakes.washington", "1ms demo.quakes.banda-sea", "10ms demo.quakes.california",
		"410ms demo.quakes.washington", "411ms demo.quakes.banda-sea", "420ms demo.quakes.california",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The whole recording is 1,679 quakes of one week, each in its region's topic.
func TestRecordingIsWhole(t *testing.T) {
	r, err := newReplay(recording, quakeSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.quakes) != 1679 {
		t.Errorf("%d quakes, want 1679", len(r.quakes))
	}
	if week := r.quakes[len(r.quakes)-1].due * quakeSpeed; week < 6*24*time.Hour || week > 7*24*time.Hour {
		t.Errorf("the recording lasts %v, want about a week", week)
	}
	regions := regionNames()
	if len(regions) < 24 || len(regions) > 80 {
		t.Errorf("%d regions, want a few dozens", len(regions))
	}
	for _, want := range []string{"alaska", "california", "japan"} {
		if !slices.Contains(regions, want) {
			t.Errorf("region %q is missing", want)
		}
	}
}

// A recording that cannot be read is an error that names the line.
func TestBadRecording(t *testing.T) {
	const header = "time,magnitude,longitude,latitude,depth,place\n"
	for _, c := range []struct{ recording, want string }{
		{"", "at least one event"},
		{header, "at least one event"},
		{header + "1,2,3,4,5,A\n0,2,3,4,5,A\n", "line 3: older"},
		{header + "x,2,3,4,5,A\n", "line 2: time"},
		{header + "1,x,3,4,5,A\n", "line 2"},
		{header + "1,2,3\n", "wrong number of fields"},
	} {
		if _, err := newReplay(c.recording, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.recording, err, c.want)
		}
	}
}

func TestRegion(t *testing.T) {
	for place, want := range map[string]string{
		"4km W of Castaic, CA":                              "california",
		"4km W of X, California":                            "california",
		"7km NW of Mogul, Nevada":                           "nevada",
		"31km S of Tomakomai, Japan":                        "japan",
		"Gulf of Alaska":                                    "alaska",
		"1km W of Punta, Dominican Republic":                "dominican-republic",
		"Pacific-Antarctic Ridge":                           "pacific-antarctic-ridge",
		"66km NNW of Charlotte Amalie, U.S. Virgin Islands": "virgin-islands",
		"":        "elsewhere",
		"å, ... ": "elsewhere",
	} {
		if got := Region(place); got != want {
			t.Errorf("Region(%q) = %q, want %q", place, got, want)
		}
	}
}

func TestSymbols(t *testing.T) {
	all := symbolNames()
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	if len(all) != 500 || len(slices.Compact(sorted)) != 500 || all[0] != "ACME" || !slices.Equal(all, symbolNames()) {
		t.Errorf("%d symbols, %d different, the first %q: want 500, ACME first, the same each time", len(all), len(slices.Compact(sorted)), all[0])
	}
}

// Refusals that pass leave the feed running; it ends without an error when the server drains,
// and with one when the refusal is for good.
func TestRefusals(t *testing.T) {
	h := &hand{now: start, limit: 100, refuse: nil}
	tries := 0
	h.refuse = func(int) error {
		tries++
		switch {
		case tries%3 == 0:
			return topic.ErrOverload
		case tries%5 == 0:
			return fmt.Errorf("topic 7: %w", topic.ErrTooManyTopics)
		}
		return nil
	}
	f := run(t, h, 1)
	if len(h.events) != 100 || int(f.refused) != tries-100 || f.refused == 0 {
		t.Errorf("%d events, %d refused after %d tries", len(h.events), f.refused, tries)
	}

	broken := errors.New("broken")
	h = &hand{now: start, limit: 100, refuse: func(int) error { return broken }}
	f, err := New(Options{Publisher: h, Clock: h})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run: %v, want what Publish said", err)
	}
}

// A machine that slept for an hour goes on from now, without an hour's events at once.
func TestLostTimeIsSkipped(t *testing.T) {
	h := &hand{now: start, limit: 1000}
	h.refuse = func(n int) error {
		if n == 500 {
			h.ahead = time.Hour
		}
		return nil
	}
	run(t, h, 1)
	woken := start.Add(time.Hour)
	i := slices.IndexFunc(h.events, func(e published) bool { return e.at.After(woken) })
	if i < 0 {
		t.Fatal("no event after the hour")
	}
	if rate := float64(len(h.events)-i) / h.events[len(h.events)-1].at.Sub(h.events[i].at).Seconds(); rate > 300 {
		t.Errorf("%.0f events a second after the hour", rate)
	}
}

// On the machine's clock the feeds end with their context, at once.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f, err := New(Options{Publisher: stopper{cancel}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(ctx); err != nil {
		t.Error(err)
	}
}

// A stopper takes one event, then ends the context.
type stopper struct{ cancel context.CancelFunc }

func (s stopper) Publish(*topic.Publication) (uint64, error) { s.cancel(); return 1, nil }

func BenchmarkNext(b *testing.B) {
	t := newTicker(1)
	var p topic.Publication
	b.ReportAllocs()
	for b.Loop() {
		t.next(start, &p)
	}
}
