package demo

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page names what it subscribes to: the busiest symbols and all regions of this feed.
func TestPageShowsTheseTopics(t *testing.T) {
	page, err := os.ReadFile("../api/page.html")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"SYMBOLS": symbolNames()[:20], "REGIONS": regionNames()} {
		m := regexp.MustCompile(`const ` + name + ` = "([^"]*)"`).FindSubmatch(page)
		if m == nil {
			t.Errorf("page.html: no %s", name)
			continue
		}
		if got := strings.Fields(string(m[1])); !slices.Equal(got, want) {
			t.Errorf("page.html: %s are %q, want %q", name, got, want)
		}
	}
}

// regionNames are the regions of the recorded quakes, sorted: `demo.quakes.` and one of them is a
// topic of the demo.
func regionNames() []string {
	r, err := newReplay(recording, quakeSpeed)
	if err != nil {
		return nil
	}
	var names []string
	for _, q := range r.quakes {
		names = append(names, strings.TrimPrefix(q.topic, "demo.quakes."))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
