package main

// The command table: figures of the results into README.md, between its markers, so that none is
// typed by hand.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Markers in README.md.
const (
	figuresBegin = "<!-- figures:begin -->"
	figuresEnd   = "<!-- figures:end -->"
)

// table writes README's figures, and those of scale.
func table(root, results string) error {
	if err := rewrite(root, results); err != nil {
		return err
	}
	var parts []string
	for _, name := range []string{"promises", "compare"} {
		b, err := os.ReadFile(filepath.Join(results, name+".json"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		var r Result
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("%s.json: %w", name, err)
		}
		parts = append(parts, r.short(name))
	}
	if len(parts) == 0 {
		return fmt.Errorf("no results in %s: go run ./bench makes them", results)
	}
	file := filepath.Join(root, "README.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := between(string(text), strings.Join(parts, "\n"))
	if err != nil {
		return fmt.Errorf("README.md: %w", err)
	}
	return os.WriteFile(file, []byte(out), 0o644)
}

// between replaces what stands between the markers.
func between(text, figures string) (string, error) {
	return inside(text, figuresBegin, figuresEnd, figures)
}

// inside replaces what stands between two markers.
func inside(text, begin, end, figures string) (string, error) {
	i := strings.Index(text, begin)
	j := strings.Index(text, end)
	if i < 0 || j < i {
		return "", fmt.Errorf("no %s ... %s in it", begin, end)
	}
	return text[:i+len(begin)] + "\n" + figures + text[j:], nil
}

// short is a result in one table: a line for each row and its first figure.
func (r *Result) short(name string) string {
	var b strings.Builder
	var names []string
	seen := map[string]bool{}
	for _, row := range r.Rows {
		for _, c := range row.Contenders {
			if n := r.column(c.Name); !seen[n] && !variant(n) {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	fmt.Fprintf(&b, "| work | figure | %s |\n| --- | --- |%s\n", strings.Join(names, " | "), strings.Repeat(" --- |", len(names)))
	for _, row := range r.Rows {
		cells := make([]string, len(names))
		for _, c := range row.Contenders {
			if i := slices.Index(names, r.column(c.Name)); i >= 0 {
				cells[i] = quantity(c.Values[0].Median, row.Units[0])
			}
		}
		if strings.Join(cells, "") != "" { // not of variants of Penstock alone
			fmt.Fprintf(&b, "| %s | %s | %s |\n", row.Title, row.Figures[0], strings.Join(cells, " | "))
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %d cores, %s; medians of %d rounds, all in [bench/results/%s.md](bench/results/%s.md). Again: `%s`\n",
		r.Date, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Rounds, name, name, r.Command)
	return b.String()
}

// variant tells whether a contender is Penstock with some setting: those stand in the results alone.
func variant(name string) bool { return strings.HasPrefix(name, "penstock, ") }

// column is the column of a contender: all floors are one, and where each row has its own kind of
// nchan, those are too.
func (r *Result) column(name string) string {
	switch {
	case strings.HasPrefix(r.Command, "make compare"):
		return name
	case strings.HasPrefix(name, "floor") || strings.HasPrefix(name, "bare-fasthttp-netpoll"):
		return "floor"
	case name == "nchan-2":
		return "nchan"
	}
	return name
}
