package main

// Results: medians of rounds, what is held against what, as JSON and Markdown.

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"penstock/loadtest"
)

// A Result is what a command found. Written to bench/results/NAME.json and NAME.md.
type Result struct {
	Title   string           `json:"title"`
	Date    string           `json:"date"`
	Version string           `json:"version"` // of Penstock
	Command string           `json:"command"`
	Rounds  int              `json:"rounds"`
	Seconds float64          `json:"seconds"` // of each trial, where the row does not say otherwise
	Machine loadtest.Machine `json:"machine"`
	Rows    []RowResult      `json:"rows"`
	Skipped []string         `json:"skipped"` // who and why
	Notes   []string         `json:"notes"`
}

// A RowResult is a row of work.
type RowResult struct {
	Name       string            `json:"name"`
	Title      string            `json:"title"`
	Figures    []string          `json:"figures"`
	Units      []string          `json:"units"`
	Contenders []ContenderResult `json:"contenders"`
	Verdicts   []Verdict         `json:"verdicts"`
	Others     float64           `json:"others"` // cores that other processes used, at most
	Steal      float64           `json:"steal"`
}

// A ContenderResult has a spread for each of the row's figures.
type ContenderResult struct {
	Name   string   `json:"name"`
	Failed bool     `json:"failed,omitempty"` // not one stream began
	Values []Spread `json:"values"`
	Errors []string `json:"errors,omitempty"`
	Limits []string `json:"limits,omitempty"`
}

// A Spread is the rounds' median and extremes.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// A Verdict says whether a promise was kept.
type Verdict struct {
	Text string `json:"text"`
	Kept bool   `json:"kept"`
	Aim  bool   `json:"aim,omitempty"`
}

func spread(values []float64) Spread {
	v := slices.Clone(values)
	v = slices.DeleteFunc(v, math.IsNaN)
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	return Spread{m, v[0], v[len(v)-1]}
}

// rowResult sums a row's reports up, contenders in their order.
func rowResult(name, title string, figures []figure, cs []contender, reports map[string][]*loadtest.Report) RowResult {
	out := RowResult{Name: name, Title: title}
	for _, f := range figures {
		out.Figures, out.Units = append(out.Figures, f.name), append(out.Units, f.unit)
	}
	for _, c := range cs {
		rs := reports[c.label()]
		if len(rs) == 0 {
			continue
		}
		cr := ContenderResult{Name: c.label(), Failed: true}
		for _, r := range rs {
			if r.Most > 0 || r.Config.Subscribers == 0 {
				cr.Failed = false
			}
		}
		for _, f := range figures {
			var v []float64
			for _, r := range rs {
				v = append(v, f.of(r))
			}
			cr.Values = append(cr.Values, spread(v))
		}
		for _, r := range rs {
			out.Others, out.Steal = max(out.Others, r.Shares.Others), max(out.Steal, r.Shares.Steal)
			for reason, n := range r.Errors {
				cr.Errors = append(cr.Errors, fmt.Sprintf("%d: %s", n, reason))
			}
			for _, l := range r.Limits {
				kind, _, _ := strings.Cut(l, " (") // figures in brackets differ from round to round
				if !slices.Contains(cr.Limits, kind) {
					cr.Limits = append(cr.Limits, kind)
				}
			}
		}
		out.Contenders = append(out.Contenders, cr)
	}
	return out
}

// value answers a contender's median.
func (r *RowResult) value(name, figure string) (float64, bool) {
	i := slices.Index(r.Figures, figure)
	for _, c := range r.Contenders {
		if c.Name == name && i >= 0 && !c.Failed {
			return c.Values[i].Median, true
		}
	}
	return 0, false
}

// judge holds the promises against the medians.
func (r *RowResult) judge(ps []promise) {
	for _, p := range ps {
		v, ok := r.value(p.who, p.figure)
		if !ok {
			continue
		}
		i := slices.Index(r.Figures, p.figure)
		word := map[bool]string{false: "at most", true: "at least"}[p.least]
		bound, text := p.bound, fmt.Sprintf("%s, %s: %s %s", p.who, p.figure, word, quantity(p.bound, r.Units[i]))
		if p.against != "" {
			other, ok := r.value(p.against, p.figure)
			if !ok {
				continue
			}
			bound = other * p.bound
			text = fmt.Sprintf("%s, %s: %s %v times that of %s: %.2f times", p.who, p.figure, word, p.bound, p.against, v/other)
		} else {
			text += ": " + quantity(v, r.Units[i])
		}
		kept := v <= bound
		if p.least {
			kept = v >= bound
		}
		r.Verdicts = append(r.Verdicts, Verdict{text, kept, p.aim})
	}
}

// quantity writes a figure with about three digits.
func quantity(v float64, unit string) string {
	var s string
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case unit == "/s" && v >= 1e6:
		return fmt.Sprintf("%.2f M/s", v/1e6)
	case unit == "B" && v >= 10_000:
		return fmt.Sprintf("%.1f KB", v/1e3)
	case v == math.Trunc(v) || v >= 100:
		s = thousands(v)
	case v >= 10:
		s = fmt.Sprintf("%.1f", v)
	default:
		s = fmt.Sprintf("%.2f", v)
	}
	if unit == "/s" {
		return s + "/s"
	}
	if unit != "" {
		s += " " + unit
	}
	return s
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// write writes NAME.json and NAME.md.
func (r *Result) write(dir, name string) error { return writeBoth(dir, name, r, r.markdown()) }

// writeBoth writes results for programs, NAME.json, and for people, NAME.md.
func writeBoth(dir, name string, results any, markdown string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(markdown), 0o644)
}

// markdown is the result for people.
func (r *Result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", r.Title)
	fmt.Fprintf(&b, "%s, Penstock %s, on %s: %s, %d cores, %.0f GB, %s. Medians of %d rounds, contenders in turn; server and load in processes of their own, over loopback. Again: `%s`\n\n",
		r.Date, r.Version, "Linux", r.Machine.CPU, r.Machine.Cores, float64(r.Machine.Memory)/1e9, r.Machine.Kernel, r.Rounds, r.Command)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "## %s\n\n", row.Title)
		row.table(&b)
		for _, v := range row.Verdicts {
			word := "kept"
			if !v.Kept {
				word = "**not kept**"
			}
			if v.Aim {
				word = map[bool]string{true: "reached (an aim)", false: "not reached (an aim)"}[v.Kept]
			}
			fmt.Fprintf(&b, "- %s: %s\n", v.Text, word)
		}
		if len(row.Verdicts) > 0 {
			b.WriteByte('\n')
		}
		for _, c := range row.Contenders {
			for _, e := range c.Errors {
				fmt.Fprintf(&b, "- %s, errors: %s\n", c.Name, e)
			}
		}
		if row.Others > 0.1 || row.Steal > 0.05 {
			fmt.Fprintf(&b, "- not alone: other processes used up to %.2f cores, the host took up to %.2f\n\n", row.Others, row.Steal)
		}
	}
	if len(r.Skipped) > 0 {
		b.WriteString("## Left out\n\n")
		for _, s := range r.Skipped {
			fmt.Fprintf(&b, "- %s\n", s)
		}
		b.WriteByte('\n')
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// table is a row's contenders.
func (r *RowResult) table(b *strings.Builder) {
	fmt.Fprintf(b, "| |")
	for _, f := range r.Figures {
		fmt.Fprintf(b, " %s |", f)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(r.Figures)) + "\n")
	for _, c := range r.Contenders {
		fmt.Fprintf(b, "| %s |", c.Name)
		for i, v := range c.Values {
			if c.Failed {
				b.WriteString(" failed |")
				continue
			}
			fmt.Fprintf(b, " %s", quantity(v.Median, r.Units[i]))
			if v.Least != v.Most {
				fmt.Fprintf(b, " (%s to %s)", quantity(v.Least, ""), quantity(v.Most, ""))
			}
			b.WriteString(" |")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// today is the date of a result.
func today() string { return time.Now().UTC().Format(time.DateOnly) }
