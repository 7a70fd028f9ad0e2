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
	for name, want := range map[string][]string{"SYMBOLS": Symbols()[:20], "REGIONS": Regions()} {
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
