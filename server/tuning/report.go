package tuning

// What the checks have found, worst first: as text for people, as JSON, as a file for sysctl.d.
// Plain data once it is made: any goroutine.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says what a finding means for the plan. As text it is fails, slows, advice, unknown or
// fine.
type Severity int

// From harmless to grave.
const (
	Fine    Severity = iota
	Unknown          // it can't be read here
	Advice           // it fits; another value is better, or matters to somebody else on this machine
	Slows            // it fits, and bad moments are worse than they need be
	Fails            // the plan does not fit
)

var severities = []string{"fine", "unknown", "advice", "slows", "fails"}

// String is the word for it.
func (s Severity) String() string { return severities[s] }

// MarshalText is the word for it.
func (s Severity) MarshalText() ([]byte, error) { return []byte(severities[s]), nil }

// A Sysctl is a setting of the kernel, and the value that it should have.
type Sysctl struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A Finding is what one check says.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Now      string   `json:"now"`    // "unknown" where it can't be read
	Needed   string   `json:"needed"` // "" where nothing is
	Why      string   `json:"why"`
	Note     string   `json:"note,omitempty"`    // what is to be said of this machine
	Command  string   `json:"command,omitempty"` // how to set it; a line each
	Sysctl   []Sysctl `json:"sysctl,omitempty"`
	Holds    *int     `json:"holds,omitempty"` // how many streams this allows, where it bounds them
}

// A Report is what all checks say of a plan.
type Report struct {
	Connections int       `json:"connections"`
	Fits        bool      `json:"fits"`
	Holds       int       `json:"holds"`         // how many streams fit; 0 where nothing that bounds them is known
	BoundBy     string    `json:"bound_by"`      // the id of the finding that bounds them, "" where none does
	System      string    `json:"system"`        // cores, memory, kernel
	Findings    []Finding `json:"findings"`      // worst first, otherwise in the order of the checks
	Set         []Change  `json:"set,omitempty"` // what Apply did
}

// Check looks at a machine for a plan. It changes nothing.
func Check(m *Machine, p Plan) Report {
	r := Report{Connections: p.Connections, Fits: true, System: m.system()}
	for _, c := range checks {
		v := c.look(m, p)
		f := Finding{
			ID: c.id, Severity: v.severity, What: c.what, Now: cmp.Or(v.now, "unknown"), Needed: v.needed,
			Why: c.why, Note: v.note, Command: v.command, Sysctl: v.set,
		}
		if v.bounds {
			f.Holds = &v.most
			if r.BoundBy == "" || v.most < r.Holds {
				r.Holds, r.BoundBy = v.most, f.ID
			}
		}
		r.Fits = r.Fits && f.Severity != Fails
		r.Findings = append(r.Findings, f)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return int(b.Severity - a.Severity) })
	return r
}

// Worst returns the findings of at least that severity.
func (r *Report) Worst(s Severity) []Finding {
	n := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Severity < s })
	if n < 0 {
		n = len(r.Findings)
	}
	return r.Findings[:n]
}

// Verdict says in a line whether the plan fits.
func (r *Report) Verdict() string {
	slow := len(r.Worst(Slows)) - len(r.Worst(Fails))
	switch {
	case !r.Fits && r.Holds < r.Connections && r.BoundBy != "":
		return fmt.Sprintf("%s do not fit: %s allows %s", plural(r.Connections, "stream"), r.BoundBy, count(r.Holds))
	case !r.Fits:
		return fmt.Sprintf("%s do not fit", plural(r.Connections, "stream"))
	case slow == 1:
		return fmt.Sprintf("%s fit; one setting makes bad moments worse than they need be", plural(r.Connections, "stream"))
	case slow > 1:
		return fmt.Sprintf("%s fit; %d settings make bad moments worse than they need be", plural(r.Connections, "stream"), slow)
	}
	return fmt.Sprintf("%s fit", plural(r.Connections, "stream"))
}

// textWidth is how wide a report's lines are.
const textWidth = 100

// WriteText writes the report for people: what is to be done first, then a line for each thing that
// is fine, the verdict last.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s\n\n", plural(r.Connections, "stream"), r.System)
	grave := r.Worst(Advice)
	for _, f := range grave {
		fmt.Fprintf(&b, "%-8s%s: %s\n", f.Severity, f.ID, f.What)
		line := "now " + f.Now
		if f.Needed != "" {
			line += ", needed " + f.Needed
		}
		wrap(&b, "        ", line)
		if f.Note != "" {
			wrap(&b, "        ", f.Note)
		}
		wrap(&b, "        ", "why: "+f.Why)
		for line := range strings.Lines(f.Command) {
			fmt.Fprintf(&b, "        $ %s\n", strings.TrimSuffix(line, "\n"))
		}
		b.WriteString("\n")
	}
	rest := r.Findings[len(grave):]
	id, now := 0, 0
	for _, f := range rest {
		id, now = max(id, len(f.ID)), max(now, len(f.Now))
	}
	for _, f := range rest {
		line := fmt.Sprintf("%-8s%-*s  %-*s  %s", f.Severity, id, f.ID, now, f.Now, f.Needed)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for _, c := range r.Set {
		fmt.Fprintf(&b, "\n%s", c)
	}
	if len(r.Set) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%s\n", r.Verdict())
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap writes a text in lines of at most textWidth, each behind the indent.
func wrap(b *strings.Builder, indent, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > textWidth {
			b.WriteString(indent + line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	b.WriteString(indent + line + "\n")
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteSysctl writes a file for /etc/sysctl.d with what has to change, and why; advice is left out.
func (r *Report) WriteSysctl(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s on %s\n# Made by: penstock tune --connections %d --format sysctl\n# Load it: sysctl --system\n", plural(r.Connections, "stream"), r.System, r.Connections)
	n := 0
	for _, f := range r.Worst(Slows) {
		if len(f.Sysctl) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", f.What)
		var why strings.Builder
		wrap(&why, "# ", f.Why)
		fmt.Fprintf(&b, "%s# now %s, needed %s\n", why.String(), f.Now, f.Needed)
		for _, s := range f.Sysctl {
			fmt.Fprintf(&b, "%s = %s\n", s.Key, s.Value)
			n++
		}
	}
	if n == 0 {
		b.WriteString("\n# Nothing has to change.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
