package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is computed lies on the line through the last two steps, and is marked.
func TestComputedFiguresGoOnWithTheGrowth(t *testing.T) {
	r := Scale{Steps: []ScaleStep{
		{Streams: 10_000, Resident: 9e9},
		{Streams: 100_000, Resident: 30e6, PerStream: 100, Kernel: 9000, Connect: 8, Idle: 0.08, Broadcast: 1},
		{Streams: 200_000, Resident: 40e6, PerStream: 100, Kernel: 9000, Connect: 16, Idle: 0.16, Broadcast: 2},
	}}
	c := r.compute(500_000)
	for name, got := range map[string][2]float64{
		"resident": {c.Resident, 70e6}, "a stream": {c.PerStream, 100}, "kernel": {c.Kernel, 9000},
		"connect": {c.Connect, 40}, "idle": {c.Idle, 0.40}, "broadcast": {c.Broadcast, 5},
	} {
		if math.Abs(got[0]-got[1]) > 1e-6*got[1] {
			t.Errorf("%s: %v, want %v", name, got[0], got[1])
		}
	}
	r.Computed = []ScaleStep{c}
	if table := r.table(); strings.Count(table, "(computed)") != 1 || !strings.Contains(table, "| 500,000 (computed) | 70 MB |") {
		t.Errorf("the table is\n%s", table)
	}
}

func TestStreamsOfStepsGrow(t *testing.T) {
	if steps, err := counts("1000, 20000"); err != nil || len(steps) != 2 || steps[1] != 20_000 {
		t.Errorf("%v, %v", steps, err)
	}
	for _, text := range []string{"", "0", "x", "2000,1000", "1000,1000", "4000000"} {
		if _, err := counts(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// What stands in the repository is what its figures say: nothing was typed by hand.
func TestScaleIsWrittenFromItsFigures(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(root, "bench", "results")
	if _, err := os.Stat(filepath.Join(results, "scale.json")); err != nil {
		t.Skip("not measured yet")
	}
	scratch := t.TempDir()
	for _, dir := range []string{"docs", "results"} {
		if err := os.Mkdir(filepath.Join(scratch, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"bench/results/scale.json": "results/scale.json", "docs/capacity.md": "docs/capacity.md", "docs/upgrade.md": "docs/upgrade.md"} {
		b, err := os.ReadFile(filepath.Join(root, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(scratch, to), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := rewrite(scratch, filepath.Join(scratch, "results")); err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{"bench/results/scale.md": "results/scale.md", "docs/capacity.md": "docs/capacity.md", "docs/upgrade.md": "docs/upgrade.md"} {
		a, _ := os.ReadFile(filepath.Join(root, was))
		b, _ := os.ReadFile(filepath.Join(scratch, is))
		if string(a) != string(b) {
			t.Errorf("%s is not what bench/results/scale.json says: go run ./bench table", was)
		}
	}
}
