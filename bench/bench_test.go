package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"penstock/loadtest"
)

// What a promise speaks of is there: contenders and figures of its own row.
func TestPromisesSpeakOfTheirRow(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range slices.Concat(rows(), codingRows()) {
		if seen[r.name] {
			t.Errorf("row %s twice", r.name)
		}
		seen[r.name] = true
		var labels, figures []string
		for _, c := range r.contenders {
			labels = append(labels, c.label())
		}
		for _, f := range r.figures {
			figures = append(figures, f.name)
		}
		for _, p := range r.promises {
			if !slices.Contains(figures, p.figure) || !slices.Contains(labels, p.who) || p.against != "" && !slices.Contains(labels, p.against) {
				t.Errorf("row %s: %+v speaks of what is not there; contenders %q, figures %q", r.name, p, labels, figures)
			}
		}
		cfg := base(10e9)
		r.config(&cfg)
		cfg.URL = "http://127.0.0.1:1"
		for _, c := range r.contenders {
			cfg := cfg
			if c.set != nil {
				c.set(&cfg)
			}
			if err := cfg.Check(); err != nil {
				t.Errorf("row %s, %s: %v", r.name, c.label(), err)
			}
		}
	}
	for _, sc := range scenes() {
		cfg := base(10e9)
		sc.set(&cfg)
		cfg.URL = "http://127.0.0.1:1"
		if err := cfg.Check(); err != nil {
			t.Errorf("scene %s: %v", sc.name, err)
		}
	}
}

func TestMediansAndVerdicts(t *testing.T) {
	report := func(lost uint64, cpu float64) *loadtest.Report {
		return &loadtest.Report{Most: 1, Streams: loadtest.Tally{Lost: lost}, Server: loadtest.Server{PerDelivery: cpu}}
	}
	cs := []contender{{name: "a"}, {name: "b"}, {name: "absent"}}
	rr := rowResult("x", "X", []figure{perDelivery, lost}, cs, map[string][]*loadtest.Report{
		"a": {report(0, 3), report(0, 1), report(5, 2)},
		"b": {report(0, math.NaN()), report(0, 4)},
	})
	rr.judge([]promise{
		{figure: perDelivery.name, who: "a", against: "b", bound: 0.5},
		{figure: perDelivery.name, who: "a", bound: 1.9},
		{figure: lost.name, who: "a", bound: 0},
		{figure: perDelivery.name, who: "a", least: true, bound: 2},
		{figure: perDelivery.name, who: "absent", bound: 1},
	})
	var kept []bool
	for _, v := range rr.Verdicts {
		kept = append(kept, v.Kept)
	}
	if !slices.Equal(kept, []bool{true, false, true, true}) {
		t.Errorf("%+v", rr.Verdicts)
	}
	var b strings.Builder
	rr.table(&b)
	if !strings.Contains(b.String(), "| a | 2 us (1 to 3) | 0 (0 to 5) |") {
		t.Error(b.String())
	}
}

// README's figures stand between their markers, and nothing else is touched.
func TestFiguresGoBetweenTheirMarkers(t *testing.T) {
	text := "a\n" + figuresBegin + "\nold\n" + figuresEnd + "\nb\n"
	got, err := between(text, "new\n")
	if want := "a\n" + figuresBegin + "\nnew\n" + figuresEnd + "\nb\n"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if again, err := between(got, "new\n"); err != nil || again != got {
		t.Errorf("%q, %v the second time", again, err)
	}
	if _, err := between("no markers", "new"); err == nil {
		t.Error("no error without markers")
	}
}

func TestQuantities(t *testing.T) {
	for want, q := range map[string]struct {
		v    float64
		unit string
	}{
		"5.12 M/s": {5_120_000, "/s"}, "98,000/s": {98_000, "/s"}, "10.2 KB": {10_245, "B"}, "117 B": {117, "B"},
		"0.93 us": {0.93, "us"}, "15.3 us": {15.3, "us"}, "0": {0, ""}, "12,345": {12_345, ""}, "-": {math.NaN(), "us"},
	} {
		if got := quantity(q.v, q.unit); got != want {
			t.Errorf("%v %s: %q, want %q", q.v, q.unit, got, want)
		}
	}
}
